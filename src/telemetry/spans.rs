//! The spans of a request, made from its record after the response: one SERVER span and a CLIENT span per attempt,
//! with the names of the stable OpenTelemetry semantic conventions for HTTP.

use std::borrow::Cow;

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::mask::{Masking, shortened};
use super::record::{Attempt, CacheResult, RequestRecord};
use crate::clock::Timestamp;

/// Methods that may be a span's name; anything else could be a client's invention (RFC 9110, RFC 5789, RFC 10008).
const KNOWN_METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "CONNECT", "TRACE",
];

/// The spans of one request: first the SERVER span, then its children in the order of the attempts.
pub fn of_request(route: Option<&str>, record: &RequestRecord, masking: &Masking) -> Vec<SpanData> {
    let mut spans = Vec::with_capacity(1 + record.attempts.len());
    spans.push(server_span(route, record, masking));
    let attempts = record.attempts.iter().enumerate();
    spans.extend(attempts.map(|(index, attempt)| client_span(index, attempt, record)));
    spans
}

fn server_span(route: Option<&str>, record: &RequestRecord, masking: &Masking) -> SpanData {
    let failed = record.status >= 500 || record.error.is_some();
    SpanData {
        parent_span_id: record.trace.parent_id.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: record.trace.parent_id.is_some(),
        name: match route {
            Some(route) => format!("{} {route}", method_name(record)).into(),
            None => method_name(record).into(),
        },
        attributes: server_attributes(route, record, masking),
        events: server_events(record),
        status: if failed { Status::error("") } else { Status::Unset },
        ..span(
            record,
            record.trace.span_id,
            SpanKind::Server,
            record.started,
            record.ended,
        )
    }
}

fn server_attributes(route: Option<&str>, record: &RequestRecord, masking: &Masking) -> Vec<KeyValue> {
    let (path, query) = (record.uri.path(), record.uri.query());
    let default_port = if record.scheme == "https" { 443 } else { 80 };
    let (host, port) = split_authority(record.authority.to_str().unwrap_or_default());
    let mut attributes = method_attributes(record);
    attributes.extend([
        text("url.scheme", record.scheme),
        text("url.path", shortened(path).to_owned()),
        text("server.address", shortened(host).to_owned()),
        KeyValue::new("server.port", i64::from(port.unwrap_or(default_port))),
        text("client.address", record.client.ip().to_string()),
        text("network.protocol.version", protocol_version(record.version)),
        text("outrigger.cache.result", record.cache.as_str()),
        text("outrigger.cache.reason", record.reason),
        KeyValue::new("outrigger.cache.stored", record.stored),
    ]);
    if let Some(query) = query {
        attributes.push(text("url.query", masking.query(query)));
    }
    if let Some(route) = route {
        attributes.push(text("http.route", route.to_owned()));
    }
    if record.status != 0 {
        attributes.push(KeyValue::new(
            "http.response.status_code",
            i64::from(record.status),
        ));
    }
    if record.aborted {
        attributes.push(KeyValue::new("outrigger.aborted", true));
    }
    if record.warm_up {
        attributes.push(KeyValue::new("outrigger.warm_up", true));
    }
    attributes.extend(error_type(
        record.error,
        Some(record.status).filter(|status| *status >= 500),
    ));
    attributes
}

/// What the cache did, at the moment when the decision showed: the first attempt, or the response head.
fn server_events(record: &RequestRecord) -> SpanEvents {
    let first_attempt = record.attempts.first().map(|attempt| attempt.started);
    let decided = first_attempt.or(record.first_byte).unwrap_or(record.ended);
    let mut events = SpanEvents::default();
    events.events.push(Event::new(
        "outrigger.cache.lookup",
        decided.to_system_time(),
        vec![
            text("outrigger.cache.result", record.cache.as_str()),
            text("outrigger.cache.reason", record.reason),
        ],
        0,
    ));
    if record.cache == CacheResult::Collapsed {
        events.events.push(Event::new(
            "outrigger.cache.collapse",
            decided.to_system_time(),
            Vec::new(),
            0,
        ));
    }
    events
}

fn client_span(index: usize, attempt: &Attempt, record: &RequestRecord) -> SpanData {
    let (host, port) = split_authority(&attempt.endpoint);
    let mut attributes = method_attributes(record);
    attributes.extend([
        text("server.address", host.to_owned()),
        text("outrigger.upstream", attempt.upstream.to_string()),
    ]);
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    attributes.extend(
        attempt
            .status
            .map(|status| KeyValue::new("http.response.status_code", i64::from(status))),
    );
    if index > 0 {
        let resent = i64::try_from(index).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new("http.request.resend_count", resent));
    }
    let refused = attempt.status.filter(|status| *status >= 400);
    attributes.extend(error_type(attempt.error, refused));
    let failed = attempt.error.is_some() || refused.is_some();
    let mut events = SpanEvents::default();
    if let Some(first_byte) = attempt.first_byte {
        events.events.push(Event::new(
            "outrigger.first_byte",
            first_byte.to_system_time(),
            Vec::new(),
            0,
        ));
    }
    SpanData {
        parent_span_id: SpanId::from_bytes(record.trace.span_id),
        name: method_name(record).into(),
        attributes,
        events,
        status: if failed { Status::error("") } else { Status::Unset },
        ..span(
            record,
            attempt.span_id,
            SpanKind::Client,
            attempt.started,
            attempt.ended,
        )
    }
}

/// A span without parent, name, attributes and events.
fn span(
    record: &RequestRecord,
    id: [u8; 8],
    kind: SpanKind,
    started: Timestamp,
    ended: Timestamp,
) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(record.trace.trace_id),
            SpanId::from_bytes(id),
            // Whatever the head decided: what gets here was chosen to be kept.
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: kind,
        name: Cow::Borrowed(""),
        start_time: started.to_system_time(),
        end_time: ended.to_system_time(),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("outrigger").build(),
    }
}

fn method_name(record: &RequestRecord) -> &'static str {
    let method = record.method.as_str();
    KNOWN_METHODS
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("HTTP")
}

fn method_attributes(record: &RequestRecord) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(16);
    match method_name(record) {
        "HTTP" => {
            attributes.push(text("http.request.method", "_OTHER"));
            let original = shortened(record.method.as_str()).to_owned();
            attributes.push(text("http.request.method_original", original));
        }
        known => attributes.push(text("http.request.method", known)),
    }
    attributes
}

/// The kind of error, or else the status that counts as one.
fn error_type(error: Option<&'static str>, status: Option<u16>) -> Option<KeyValue> {
    let kind = error
        .map(Value::from)
        .or_else(|| status.map(|status| Value::from(status.to_string())))?;
    Some(KeyValue::new("error.type", kind))
}

fn text(key: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(key, value)
}

fn protocol_version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "0.9",
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// Host without brackets, and port if there is one.
fn split_authority(authority: &str) -> (&str, Option<u16>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {

    use super::super::fixture;
    use super::*;
    use crate::config::model::Mask;

    fn masking() -> Masking {
        Masking::new(&Mask {
            headers: Vec::new(),
            query: vec!["*".to_owned()],
        })
    }

    fn attribute(span: &SpanData, key: &str) -> Option<String> {
        let found = span
            .attributes
            .iter()
            .find(|attribute| attribute.key.as_str() == key)?;
        Some(found.value.to_string())
    }

    #[test]
    fn a_request_is_a_server_span_with_a_child_per_attempt() {
        let mut record = fixture::record();
        record.attempts = vec![fixture::failed_attempt(), fixture::attempt()];
        let spans = of_request(Some("chat"), &record, &masking());
        assert_eq!(spans.len(), 3);
        let [server, failed, good] = &spans[..] else {
            panic!("three spans")
        };
        assert_eq!(server.name, "POST chat");
        assert_eq!(server.span_kind, SpanKind::Server);
        assert_eq!(server.parent_span_id, SpanId::from_bytes([7; 8]));
        assert!(server.parent_span_is_remote);
        assert_eq!(server.start_time, record.started.to_system_time());
        assert_eq!(server.end_time, record.ended.to_system_time());
        assert_eq!(attribute(server, "url.path").as_deref(), Some("/v1/chat"));
        assert_eq!(attribute(server, "url.query").as_deref(), Some("key=REDACTED"));
        assert_eq!(attribute(server, "server.port").as_deref(), Some("8080"));
        assert_eq!(
            attribute(server, "http.response.status_code").as_deref(),
            Some("200")
        );
        assert_eq!(server.events[0].name, "outrigger.cache.lookup");
        for child in [failed, good] {
            assert_eq!(child.span_kind, SpanKind::Client);
            assert_eq!(child.parent_span_id, server.span_context.span_id());
            assert_eq!(child.span_context.trace_id(), server.span_context.trace_id());
        }
        assert_eq!(attribute(failed, "error.type").as_deref(), Some("connect"));
        assert_eq!(attribute(good, "http.request.resend_count").as_deref(), Some("1"));
        assert!(!format!("{spans:?}").contains("canary"));
    }

    #[test]
    fn invented_methods_never_name_a_span() {
        let mut record = fixture::record();
        record.method = http::Method::from_bytes(b"BREW").unwrap();
        let spans = of_request(None, &record, &masking());
        assert_eq!(spans[0].name, "HTTP");
        assert_eq!(
            attribute(&spans[0], "http.request.method").as_deref(),
            Some("_OTHER")
        );
        assert_eq!(
            attribute(&spans[0], "http.request.method_original").as_deref(),
            Some("BREW")
        );
    }

    #[test]
    fn errors_and_collapsed_requests_show() {
        let mut record = fixture::record();
        record.status = 503;
        record.cache = CacheResult::Collapsed;
        let spans = of_request(Some("chat"), &record, &masking());
        assert_eq!(attribute(&spans[0], "error.type").as_deref(), Some("503"));
        assert_eq!(spans[0].status, Status::error(""));
        assert_eq!(spans[0].events[1].name, "outrigger.cache.collapse");
    }

    #[test]
    fn authorities_are_split() {
        assert_eq!(split_authority("hub:80"), ("hub", Some(80)));
        assert_eq!(split_authority("hub"), ("hub", None));
        assert_eq!(split_authority("[::1]:80"), ("::1", Some(80)));
        assert_eq!(split_authority("::1"), ("::1", None));
        let mut record = fixture::record();
        record.authority = http::HeaderValue::from_static("hub");
        let spans = of_request(None, &record, &masking());
        assert_eq!(attribute(&spans[0], "server.port").as_deref(), Some("80"));
    }
}

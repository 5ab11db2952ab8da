//! What receivers are sent.

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use serde_json::{Value, json};

use super::book::Notice;
use super::machine::Phase;
use crate::clock::Timestamp;
use crate::config::Severity;
use crate::config::alerts::{Form, Receiver};

/// How long Alertmanager takes an alert for firing after it was last reminded: four times the time between reminders, as
/// Prometheus does.
const ALERTMANAGER_LIFE: std::time::Duration = std::time::Duration::from_secs(4 * 60);

/// The request that tells `receiver` of `notices`: of exactly one, except for Alertmanager. None if the receiver's URL
/// cannot be extended.
pub fn request(receiver: &Receiver, notices: &[Notice], now: Timestamp) -> Option<Request<Bytes>> {
    let url = receiver.url.url.reveal();
    let first = notices.first()?;
    let (url, body) = match &receiver.form {
        Form::Webhook(_) => (url.clone(), webhook(first)),
        Form::Slack => (url.clone(), slack(first)),
        Form::Alertmanager => (
            alertmanager_url(url)?,
            notices.iter().map(|notice| alertmanager(notice, now)).collect(),
        ),
    };
    let body = Bytes::from(body.to_string());
    let mut request = Request::new(body.clone());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("outrigger/", env!("CARGO_PKG_VERSION"))),
    );
    if let Form::Webhook(Some(signing)) = &receiver.form {
        let signature = signature(signing.key.reveal(), now.as_secs(), &body);
        headers.insert("outrigger-signature", HeaderValue::from_str(&signature).ok()?);
    }
    Some(request)
}

/// `t=UNIX_SECONDS,v1=HEX`: the HMAC-SHA256 (RFC 2104) of the seconds, a point and the body.
fn signature(key: &[u8], seconds: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    format!("t={seconds},v1={}", hex::encode(context.sign()))
}

fn webhook(notice: &Notice) -> Value {
    let mut body = json!({
        "id": notice.id,
        "rule": notice.rule,
        "severity": notice.severity,
        "state": notice.state,
        "started_at": time(notice.started_at),
        "value": notice.value,
        "labels": notice.labels,
        "summary": notice.summary,
    });
    if let (Some(ended), Value::Object(body)) = (notice.ended_at, &mut body) {
        body.insert("ended_at".to_owned(), time(ended));
    }
    body
}

/// An alert of the API v2: `postableAlert` in its OpenAPI document. Without an end it would be over after the receiver's
/// own time, which is not known here.
fn alertmanager(notice: &Notice, now: Timestamp) -> Value {
    let ends = notice
        .ended_at
        .unwrap_or_else(|| now.plus(ALERTMANAGER_LIFE).as_micros());
    let mut annotations = json!({"summary": notice.summary, "outrigger_id": notice.id});
    if let (Some(value), Value::Object(annotations)) = (notice.value, &mut annotations) {
        annotations.insert("value".to_owned(), Value::String(value.to_string()));
    }
    json!({
        "labels": notice.labels,
        "annotations": annotations,
        "startsAt": time(notice.started_at),
        "endsAt": time(ends),
    })
}

fn slack(notice: &Notice) -> Value {
    let (mark, word) = match (notice.state, notice.severity) {
        (Phase::Resolved, _) => (":white_check_mark:", "resolved"),
        (_, Severity::Critical) => (":rotating_light:", "CRITICAL"),
        (_, Severity::Error) => (":red_circle:", "ERROR"),
        (_, Severity::Warning) => (":warning:", "WARNING"),
        (_, Severity::Info) => (":information_source:", "INFO"),
    };
    let value = notice.value.map(|value| format!(" (value {value:.4})"));
    let text = format!(
        "{mark} *{}* {word}: {}{}",
        escaped(&notice.rule),
        escaped(&notice.summary),
        value.unwrap_or_default()
    );
    json!({ "text": text })
}

/// The three characters that Slack gives a meaning to.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn alertmanager_url(url: &Uri) -> Option<Uri> {
    let mut parts = url.clone().into_parts();
    let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// RFC 3339, in UTC.
fn time(micros: u64) -> Value {
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
    Value::String(moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_implementations() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            signature(b"0123456789abcdef", 1_700_000_000, br#"{"a":1}"#),
            "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23"
        );
    }
}

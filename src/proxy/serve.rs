//! serve: answers from a stored response (RFC 9110 sections 13 and 14, RFC 9111 section 4).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::{Answer, in_memory};
use super::body::Source;
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::multipart::{Pieces, slice};
use super::replay::Replay;
use crate::cache::conditional::{self, ConditionalAnswer};
use crate::cache::entry::Entry;
use crate::cache::parts::part_answer;
use crate::cache::range::{self, RangeAnswer};
use crate::cache::reuse::Failure;
use crate::cache::status::{CacheStatus, Outcome};
use crate::clock::Timestamp;
use crate::config;
use crate::telemetry::record::CacheResult;

/// Answers from a fresh entry.
pub(crate) fn fresh(exchange: &mut Exchange, request: &Inbound, entry: &Arc<Entry>) -> Answer {
    exchange.record.cache = CacheResult::Hit;
    exchange.record.reason = "fresh";
    let now = exchange.record.started;
    let value = CacheStatus::Hit {
        ttl: entry.life().ttl_seconds(now),
    }
    .to_value();
    stored(exchange, request, entry, now).cache_status(Some(value))
}

/// Answers from a stale entry; `why` says what allows it.
pub(crate) fn stale(
    exchange: &mut Exchange,
    request: &Inbound,
    entry: &Arc<Entry>,
    why: &'static str,
) -> Answer {
    exchange.record.cache = CacheResult::Stale;
    exchange.record.reason = why;
    let now = exchange.worker.state.clock.now();
    let value = CacheStatus::Hit {
        ttl: entry.life().ttl_seconds(now),
    }
    .to_value();
    stored(exchange, request, entry, now).cache_status(Some(value))
}

/// Answers from a stale entry because the origin failed.
pub(crate) fn stale_if_error(
    exchange: &mut Exchange,
    request: &Inbound,
    entry: &Arc<Entry>,
    failure: Failure,
) -> Answer {
    let value = exchange.forwarded(None, Outcome::StaleOnError(failure));
    exchange.record.cache = CacheResult::Stale;
    exchange.record.reason = failure.as_str();
    let now = exchange.worker.state.clock.now();
    stored(exchange, request, entry, now).cache_status(value)
}

/// Answers from an entry that the origin has just confirmed by an answer with this status.
pub(crate) fn revalidated(
    exchange: &mut Exchange,
    request: &Inbound,
    entry: &Arc<Entry>,
    by: StatusCode,
) -> Answer {
    exchange.record.cache = CacheResult::Revalidated;
    exchange.record.reason = "revalidated";
    exchange.record.stored = true;
    let value = exchange.forwarded(Some(by), Outcome::Stored);
    let now = exchange.worker.state.clock.now();
    stored(exchange, request, entry, now).cache_status(value)
}

fn stored(exchange: &mut Exchange, request: &Inbound, entry: &Entry, now: Timestamp) -> Answer {
    if !exchange.record.warm_up {
        entry.count_hit();
    }
    exchange.saved(entry);
    let mut headers = entry.headers();
    headers.insert(AGE, HeaderValue::from(entry.life().age(now).as_secs()));
    shape(exchange, request, entry, headers)
}

/// A complete response as the client asked for it: whole, a range, or not modified.
fn shape(exchange: &Exchange, request: &Inbound, entry: &Entry, mut headers: HeaderMap) -> Answer {
    let (asked, status) = (&request.head.headers, entry.status());
    if let Some((part, spans)) = part_answer(entry, asked) {
        // A precondition is about the representation, of which this is a part.
        if conditional::evaluate(asked, StatusCode::OK, &headers, entry.stored_at())
            == ConditionalAnswer::NotModified
        {
            headers.remove(CONTENT_RANGE);
            return not_modified(headers);
        }
        return parts(
            exchange,
            headers,
            &entry.body(),
            part.span.start,
            &spans,
            part.total,
        );
    }
    if conditional::evaluate(asked, status, &headers, entry.stored_at()) == ConditionalAnswer::NotModified {
        return not_modified(headers);
    }
    if entry.is_event_stream() {
        return Answer::new(status, headers, Source::Replay(Box::new(replay(exchange, entry))));
    }
    let body = entry.body();
    // A range applies to GET alone (RFC 9110, section 14.2).
    if request.head.method == Method::GET && asked.contains_key(RANGE) {
        match range::answer(asked, status, &headers, body.len() as u64) {
            RangeAnswer::Parts { spans, total } => {
                return parts(exchange, headers, &body, 0, &spans, total);
            }
            RangeAnswer::Unsatisfiable { total } => {
                headers.remove(CONTENT_TYPE);
                headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
                headers.insert(CONTENT_RANGE, range::unsatisfied(total));
                return Answer::new(StatusCode::RANGE_NOT_SATISFIABLE, headers, Source::Empty);
            }
            RangeAnswer::Full => {}
        }
    }
    if !headers.contains_key(CONTENT_LENGTH) && !body_forbidden(status) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len() as u64));
    }
    Answer::new(status, headers, in_memory(body))
}

/// A 206 with the octets `spans` of the content, of which `body` holds those from number `from` on (RFC 9110, section
/// 15.3.7).
fn parts(
    exchange: &Exchange,
    mut headers: HeaderMap,
    body: &Bytes,
    from: u64,
    spans: &[Range<u64>],
    total: u64,
) -> Answer {
    let source = if let [span] = spans {
        headers.insert(CONTENT_RANGE, range::content_range(span, total));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(span.end - span.start));
        in_memory(slice(body, from, span))
    } else {
        // Random, so that nobody can have put it into the content.
        let ids = &exchange.worker.ids;
        let boundary = hex::encode([ids.span_id(), ids.span_id()].concat());
        let content_type = format!("multipart/byteranges; boundary={boundary}");
        let of_parts = headers.remove(CONTENT_TYPE);
        let pieces = Pieces::new(body, from, spans, total, of_parts.as_ref(), &boundary);
        headers.remove(CONTENT_RANGE);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(pieces.left()));
        if let Ok(content_type) = HeaderValue::try_from(content_type) {
            headers.insert(CONTENT_TYPE, content_type);
        }
        Source::Pieces(Box::new(pieces))
    };
    Answer::new(StatusCode::PARTIAL_CONTENT, headers, source)
}

/// A stored event stream as the route replays it.
fn replay(exchange: &Exchange, entry: &Entry) -> Replay {
    let pace = exchange.route.as_ref().map(|route| route.config.stream.replay);
    match pace {
        Some(config::Replay::Recorded) => Replay::recorded(entry),
        Some(config::Replay::Instant) | None => Replay::instant(entry),
    }
}

/// A 304 keeps what RFC 9110 (section 15.4.5) wants in it and drops what describes a body.
pub(crate) fn not_modified(mut headers: HeaderMap) -> Answer {
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_TYPE);
    headers.remove(http::header::CONTENT_ENCODING);
    Answer::new(StatusCode::NOT_MODIFIED, headers, Source::Empty)
}

fn body_forbidden(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

//! A request's record, and an output that can be looked at, for the tests of this folder. The word `canary` stands wherever a client's secret could.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;

use super::record::{Attempt, CacheResult, RequestRecord, TraceContext};
use crate::clock::Timestamp;

pub(super) const STARTED: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A POST to `/v1/chat`, a miss that was stored, 40 ms in all, 30 of them upstream.
pub(super) fn record() -> RequestRecord {
    RequestRecord {
        started: STARTED,
        first_byte: Some(STARTED.plus(Duration::from_millis(20))),
        ended: STARTED.plus(Duration::from_millis(40)),
        client: "192.0.2.7:5000".parse().unwrap(),
        principal: None,
        method: Method::POST,
        scheme: "http",
        authority: http::HeaderValue::from_static("hub.local:8080"),
        uri: http::Uri::from_static("/v1/chat?key=canary"),
        version: http::Version::HTTP_11,
        status: 200,
        cache: CacheResult::Miss,
        level: None,
        reason: "uri-miss",
        stored: true,
        tokens: None,
        filled: None,
        bytes_in: 10,
        bytes_out: 20,
        attempts: vec![attempt()],
        trace: TraceContext {
            trace_id: [1; 16],
            parent_id: Some([7; 8]),
            span_id: [2; 8],
            sampled: true,
        },
        error: None,
        aborted: false,
        warm_up: false,
    }
}

/// A good answer after 30 ms.
pub(super) fn attempt() -> Attempt {
    Attempt {
        upstream: Arc::from("hub"),
        endpoint: Arc::from("10.0.0.1:8000"),
        span_id: [3; 8],
        started: STARTED.plus(Duration::from_millis(5)),
        first_byte: Some(STARTED.plus(Duration::from_millis(15))),
        ended: STARTED.plus(Duration::from_millis(35)),
        status: Some(200),
        error: None,
    }
}

/// A connection refused at another endpoint.
pub(super) fn failed_attempt() -> Attempt {
    Attempt {
        endpoint: Arc::from("10.0.0.2:8000"),
        span_id: [4; 8],
        first_byte: None,
        ended: STARTED.plus(Duration::from_millis(5)),
        status: None,
        error: Some("connect"),
        ..attempt()
    }
}

/// Keeps what is written; clones share it.
#[derive(Clone, Default)]
pub(super) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

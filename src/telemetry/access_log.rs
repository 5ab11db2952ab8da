//! The access log: one JSON line per request on standard output, written by a thread of its own.
//!
//! A worker only formats the line and offers it to a bounded queue. When standard output is slow, lines are dropped
//! and counted; a request never waits for its log line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use serde::Serialize;

use super::mask::{Masking, shortened};
use super::record::RequestRecord;

/// Lines that may wait.
const QUEUE_LINES: usize = 8192;
/// Bytes that may wait.
const QUEUE_BYTES: usize = 4 << 20;

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it has been written.
    Flush(tokio::sync::oneshot::Sender<()>),
}

/// The workers' end of the access log.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the thread that writes to `output` until the log is dropped; lines lost are counted in `dropped`.
    ///
    /// A thread and not a task: it blocks for as long as standard output does.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(output: Box<dyn Write + Send>, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            lines,
            output: io::BufWriter::with_capacity(64 << 10, output),
            queued_bytes: Arc::clone(&queued_bytes),
            dropped: Arc::clone(&dropped),
        };
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            queue,
            queued_bytes,
            dropped,
        })
    }

    /// Offers the line of one request.
    pub fn write(&self, route: &str, record: &RequestRecord, masking: &Masking) {
        let mut line = Vec::with_capacity(512);
        if serde_json::to_writer(&mut line, &Line::new(route, record, masking)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        line.push(b'\n');
        let bytes = line.len();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= QUEUE_BYTES;
        if !fits || self.queue.try_send(Message::Line(line)).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was offered before has been written, at most `limit`. Returns whether it has.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, written) = tokio::sync::oneshot::channel();
        self.queue.try_send(Message::Flush(done)).is_ok()
            && tokio::time::timeout(limit, written)
                .await
                .is_ok_and(|written| written.is_ok())
    }
}

struct Writer {
    lines: Receiver<Message>,
    output: io::BufWriter<Box<dyn Write + Send>>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self) {
        while let Some(message) = self.next() {
            match message {
                Message::Line(line) => {
                    let written = self.output.write_all(&line);
                    self.queued_bytes.fetch_sub(line.len(), Ordering::AcqRel);
                    self.count_failure(&written);
                }
                Message::Flush(done) => {
                    let flushed = self.output.flush();
                    self.count_failure(&flushed);
                    // Whoever asked may have stopped waiting.
                    done.send(()).unwrap_or_default();
                }
            }
        }
    }

    /// The next message; what is buffered is written out before waiting for one.
    fn next(&mut self) -> Option<Message> {
        match self.lines.try_recv() {
            Ok(message) => Some(message),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let flushed = self.output.flush();
                self.count_failure(&flushed);
                self.lines.recv().ok()
            }
        }
    }

    fn count_failure(&self, result: &io::Result<()>) {
        if result.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The fields of a line. No header value is among them.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, when the request head had been read.
    time: String,
    client: std::net::IpAddr,
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    route: &'a str,
    status: u16,
    cache: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    stored: bool,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttfb_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    attempts: usize,
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    aborted: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warm_up: bool,
}

impl<'a> Line<'a> {
    fn new(route: &'a str, record: &'a RequestRecord, masking: &Masking) -> Self {
        let (path, query) = (record.uri.path(), record.uri.query());
        let last = record.attempts.last();
        Self {
            time: rfc3339(record.started.as_micros()),
            client: record.client.ip(),
            method: shortened(record.method.as_str()),
            scheme: record.scheme,
            host: shortened(record.authority.to_str().unwrap_or_default()),
            path: shortened(path),
            query: query.map(|query| masking.query(query)),
            route,
            status: record.status,
            cache: record.cache.as_str(),
            reason: record.reason,
            stored: record.stored,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            duration_ms: milliseconds(record.ended.since(record.started)),
            ttfb_ms: record
                .first_byte
                .map(|first| milliseconds(first.since(record.started))),
            upstream: last.map(|attempt| &*attempt.upstream),
            endpoint: last.map(|attempt| &*attempt.endpoint),
            attempts: record.attempts.len(),
            trace_id: hex::encode(record.trace.trace_id),
            span_id: hex::encode(record.trace.span_id),
            error: record.error,
            aborted: record.aborted,
            warm_up: record.warm_up,
        }
    }
}

fn rfc3339(micros: u64) -> String {
    let time = i64::try_from(micros)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    format!("{:.6}", time.unwrap_or(jiff::Timestamp::MAX))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::fixture::{self, Captured};
    use super::*;
    use crate::config::model::Mask;

    /// Standard output whose reader has stopped: a write waits for the other end of the channel to go away.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(0)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn masking() -> Masking {
        Masking::new(&Mask {
            headers: Vec::new(),
            query: vec!["*".to_owned()],
        })
    }

    #[tokio::test]
    async fn a_request_is_one_json_line_without_secrets() {
        let captured = Captured::default();
        let log = AccessLog::start(Box::new(captured.clone()), Arc::default()).unwrap();
        log.write("chat", &fixture::record(), &masking());
        assert!(log.flush(Duration::from_secs(30)).await);
        let text = captured.text();
        assert!(text.ends_with('\n') && !text.contains("canary"), "{text}");
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        let expected = serde_json::json!({
            "time": "2023-11-14T22:13:20.000000Z", "client": "192.0.2.7", "method": "POST", "scheme": "http",
            "host": "hub.local:8080", "path": "/v1/chat", "query": "key=REDACTED", "route": "chat", "status": 200,
            "cache": "miss", "reason": "uri-miss", "stored": true, "bytes_in": 10, "bytes_out": 20,
            "duration_ms": 40.0, "ttfb_ms": 20.0, "upstream": "hub", "endpoint": "10.0.0.1:8000", "attempts": 1,
            "trace_id": "01010101010101010101010101010101", "span_id": "0202020202020202", "aborted": false,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_no_time() {
        let (_reader, stuck) = mpsc::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let log = AccessLog::start(Box::new(Stuck(stuck)), Arc::clone(&dropped)).unwrap();
        let mut record = fixture::record();
        record.uri = "/".repeat(4000).parse().unwrap();
        for _ in 0..3 * QUEUE_BYTES / 2048 {
            log.write("chat", &record, &masking());
        }
        assert!(dropped.load(Ordering::Relaxed) > 1000);
        assert!(log.queued_bytes.load(Ordering::Relaxed) <= QUEUE_BYTES);
    }
}

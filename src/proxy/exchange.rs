//! One request and everything that becomes known about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::error::ProxyError;
use super::inbound::Inbound;
use super::tokens;
use super::worker::Worker;
use crate::cache;
use crate::cache::entry::Entry;
use crate::cache::flight::Head;
use crate::cache::observer::Observer;
use crate::cache::status::{ForwardReason, Forwarded, Outcome};
use crate::cache::verdict::{BypassReason, MissReason, RefuseReason};
use crate::config::Usage;
use crate::control::state::{ActiveRoute, Snapshot};
use crate::telemetry::connections::ActiveRequest;
use crate::telemetry::record::{Attempt, CacheResult, RequestRecord};
use crate::telemetry::usage::{TokenRecord, TokenSource};

/// One request on its way. Dropping it records the request, whatever became of it.
pub(crate) struct Exchange {
    /// The thread that serves it.
    pub(crate) worker: Arc<Worker>,
    /// The configuration it began with.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Its route, once found.
    pub(crate) route: Option<Arc<ActiveRoute>>,
    /// What will be told about it.
    pub(crate) record: RequestRecord,
    /// Bytes of the request body, counted where they are read; none without a body.
    pub(crate) received: Option<Arc<AtomicU64>>,
    /// The head of the flight that answers.
    flight: Option<Arc<Head>>,
    /// Looks at a body that comes straight from the upstream, where its tokens are counted.
    observer: Option<Box<Observer>>,
    /// Why the origin is asked, once that is known.
    forwarded: Option<ForwardReason>,
    complete: bool,
    /// None for a warm-up, which nobody waits for.
    _active: Option<ActiveRequest>,
}

impl Exchange {
    /// Begins with the request head.
    pub(crate) fn begin(worker: &Arc<Worker>, request: &Inbound) -> Box<Self> {
        let state = &worker.state;
        let now = state.clock.now();
        Box::new(Self {
            snapshot: state.snapshot.load_full(),
            route: None,
            flight: None,
            observer: None,
            forwarded: None,
            _active: (!request.warm_up).then(|| state.telemetry.request_started()),
            record: RequestRecord {
                started: now,
                first_byte: None,
                ended: now,
                client: request.origin.client,
                principal: None,
                method: request.head.method.clone(),
                scheme: request.origin.scheme,
                authority: request.authority.clone(),
                uri: request.head.uri.clone(),
                version: request.head.version,
                status: 0,
                cache: CacheResult::None,
                level: None,
                reason: "",
                stored: false,
                tokens: None,
                filled: None,
                bytes_in: 0,
                bytes_out: 0,
                attempts: Vec::new(),
                trace: state.telemetry.trace(&request.head.headers, &worker.ids),
                error: None,
                aborted: false,
                warm_up: request.warm_up,
            },
            received: None,
            complete: false,
            worker: Arc::clone(worker),
        })
    }

    /// Notes that the cache takes no part, and why.
    pub(crate) fn bypassed(&mut self, reason: BypassReason) {
        self.record.cache = CacheResult::Bypass;
        self.record.reason = reason.as_str();
        self.forwarded = Some(ForwardReason::Bypass(reason));
    }

    /// Notes that the origin is asked, and why.
    pub(crate) fn missed(&mut self, reason: MissReason) {
        self.record.cache = CacheResult::Miss;
        self.record.reason = reason.as_str();
        self.forwarded = Some(ForwardReason::Miss(reason));
    }

    /// Notes that no other request's fill answers this one after all.
    pub(crate) fn on_its_own(&mut self) {
        if self.record.cache == CacheResult::Collapsed {
            self.record.cache = CacheResult::Miss;
        }
    }

    /// Notes that another request's fill answered this one only as far as it kept up, and the tries to get the rest.
    pub(crate) fn went_on_alone(&mut self, attempts: Vec<Attempt>) {
        // Who is left behind reads a body that has outgrown what is stored, and is spared no fetch.
        self.flight = None;
        self.record.stored = false;
        self.refused(RefuseReason::TooLarge);
        if let (Some(fill), Some(own)) = (self.record.attempts.last_mut(), attempts.first()) {
            fill.ended = own.started;
        }
        self.record.attempts.extend(attempts);
    }

    /// Notes that the response is not kept, and why.
    pub(crate) fn refused(&mut self, reason: RefuseReason) {
        self.record.reason = reason.as_str();
    }

    /// Notes that the answer comes from the flight with this head.
    pub(crate) fn aboard(&mut self, head: &Arc<Head>) {
        self.record.stored = true;
        self.flight = Some(Arc::clone(head));
    }

    /// Notes that the answer comes from this entry, so that nobody has to be paid for it.
    pub(crate) fn saved(&mut self, entry: &Entry) {
        if self.record.method != Method::HEAD
            && !self.record.warm_up
            && self.counts_tokens()
            && let Some(usage) = entry.usage()
        {
            self.count(&usage, TokenSource::Cache);
        }
    }

    /// Notes that the answer, with this head, comes straight from the upstream.
    pub(crate) fn observe(&mut self, status: StatusCode, headers: &HeaderMap) {
        let counts = self.record.method != Method::HEAD && self.counts_tokens();
        if let Some(route) = self.route.as_ref().filter(|_| counts) {
            self.observer = Observer::of_pass(&route.config, status, headers);
        }
    }

    /// A part of the body goes out.
    pub(crate) fn sent(&mut self, data: &[u8]) {
        self.record.bytes_out += data.len() as u64;
        if let Some(observer) = &mut self.observer {
            observer.push(data, self.record.started);
        }
    }

    fn counts_tokens(&self) -> bool {
        let route = self.route.as_ref();
        route.is_some_and(|route| route.config.usage != Usage::Off)
    }

    fn count(&mut self, usage: &cache::usage::Usage, source: TokenSource) {
        self.record.tokens = self.priced(usage, source);
    }

    fn priced(&self, usage: &cache::usage::Usage, source: TokenSource) -> Option<Box<TokenRecord>> {
        let route = self.route.as_ref()?;
        Some(Box::new(tokens::priced(
            &self.snapshot,
            &route.config,
            usage,
            source,
        )))
    }

    /// What the body has shown changes what is told about the request.
    fn learn(&mut self) {
        if let Some(observer) = self.observer.take()
            && let Some(usage) = observer.finish(self.complete).usage
        {
            self.count(&usage, TokenSource::Upstream);
        }
        let Some(head) = self.flight.take() else { return };
        let Some(epilogue) = head.epilogue() else { return };
        if let Some(reason) = epilogue.refused {
            self.record.stored = false;
            self.record.reason = reason.as_str();
        }
        let Some(usage) = &epilogue.usage else { return };
        if self.record.cache != CacheResult::Collapsed {
            // What the flight fetched is counted by its fill.
            self.record.filled = self.priced(usage, TokenSource::Upstream);
        } else if self.complete && !self.record.warm_up {
            // Who only read along was spared a fetch.
            self.count(usage, TokenSource::Cache);
        }
    }

    /// The `Cache-Status` of a forwarded request; none before it was looked up.
    pub(crate) fn forwarded(&self, status: Option<StatusCode>, outcome: Outcome) -> Option<HeaderValue> {
        let forwarded = Forwarded {
            reason: self.forwarded?,
            status,
            outcome,
            collapsed: self.record.cache == CacheResult::Collapsed,
        };
        Some(self.worker.cache_status.of(forwarded))
    }

    /// Notes what went wrong.
    pub(crate) fn failed(&mut self, error: &ProxyError) {
        self.record.error = Some(error.kind());
        self.record.reason = error.kind();
    }

    /// Notes that the last byte has been handed on.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = self.worker.state.clock.now();
        self.record.ended = now;
        // The last attempt's body was streamed on until now.
        if let Some(last) = self
            .record
            .attempts
            .last_mut()
            .filter(|last| last.first_byte.is_some())
        {
            last.ended = now;
        }
        if let Some(received) = &self.received {
            self.record.bytes_in = received.load(Ordering::Relaxed);
        }
        self.record.aborted = !self.complete;
        self.learn();
        let metrics = self.route.as_ref().map(|route| &*route.metrics);
        self.worker.state.telemetry.record(metrics, &self.record);
    }
}

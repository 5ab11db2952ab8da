//! One request and everything that becomes known about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, StatusCode};

use super::error::ProxyError;
use super::inbound::Inbound;
use super::worker::Worker;
use crate::cache::flight::Head;
use crate::cache::status::{CacheStatus, ForwardReason, Forwarded, Outcome};
use crate::cache::verdict::{BypassReason, MissReason, RefuseReason};
use crate::control::state::{ActiveRoute, Snapshot};
use crate::telemetry::connections::ActiveRequest;
use crate::telemetry::record::{CacheResult, RequestRecord};

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
    /// The head of the flight that answers, when its body is looked at.
    flight: Option<Arc<Head>>,
    /// Why the origin is asked, once that is known.
    forwarded: Option<ForwardReason>,
    complete: bool,
    _active: ActiveRequest,
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
            forwarded: None,
            _active: state.telemetry.request_started(),
            record: RequestRecord {
                started: now,
                first_byte: None,
                ended: now,
                client: request.origin.client,
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
                bytes_in: 0,
                bytes_out: 0,
                attempts: Vec::new(),
                trace: state.telemetry.trace(&request.head.headers, &worker.ids),
                error: None,
                aborted: false,
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

    /// Notes that the response is not kept, and why.
    pub(crate) fn refused(&mut self, reason: RefuseReason) {
        self.record.reason = reason.as_str();
    }

    /// Notes that the answer comes from the flight with this head.
    pub(crate) fn aboard(&mut self, head: &Arc<Head>) {
        self.record.stored = true;
        self.flight = head.is_observed().then(|| Arc::clone(head));
    }

    /// What the body of the flight has shown changes what is told about the request.
    fn learn(&mut self) {
        let epilogue = self.flight.as_ref().and_then(|head| head.epilogue());
        if let Some(reason) = epilogue.and_then(|epilogue| epilogue.refused) {
            self.record.stored = false;
            self.record.reason = reason.as_str();
        }
    }

    /// The `Cache-Status` of a forwarded request; none before it was looked up.
    pub(crate) fn forwarded(&self, status: Option<StatusCode>, outcome: Outcome) -> Option<HeaderValue> {
        let collapsed = self.record.cache == CacheResult::Collapsed;
        let forwarded = |reason| {
            CacheStatus::Forwarded(Forwarded {
                reason,
                status,
                outcome,
                collapsed,
            })
        };
        self.forwarded.map(|reason| forwarded(reason).to_value())
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

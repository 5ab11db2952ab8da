//! fill: one task per flight. It asks the origin, decides whether the response may be kept, and hands the bytes to
//! everyone aboard as they arrive.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::oneshot;

use super::error::ProxyError;
use super::forward::{Outgoing, Payload, forward};
use super::headers;
use super::interim::InterimSender;
use super::relay::Arrival;
use super::worker::Worker;
use crate::cache::age::Times;
use crate::cache::control::RequestControl;
use crate::cache::entry::Entry;
use crate::cache::flight::{FlightError, Grounds, Leader};
use crate::cache::observer::Observer;
use crate::cache::policy::{self, RequestFacts, Stored};
use crate::cache::purge::Moment;
use crate::cache::request::Keyed;
use crate::cache::reuse::{self, Failure};
use crate::cache::vary::Nominated;
use crate::cache::verdict::RefuseReason;
use crate::cache::{conditional, date};
use crate::clock::Timestamp;
use crate::control::state::ActiveRoute;
use crate::telemetry::record::{Attempt, TraceContext};
use crate::upstream::{ErrorKind, ExchangeKind, UpstreamBody};

/// A fill to be run.
pub(crate) struct Fill {
    /// Where it runs.
    pub(crate) worker: Arc<Worker>,
    /// The route.
    pub(crate) route: Arc<ActiveRoute>,
    /// What it fills.
    pub(crate) keyed: Arc<Keyed>,
    /// Method towards the upstream.
    pub(crate) method: Method,
    /// Target.
    pub(crate) uri: Uri,
    /// Version of the request that caused it.
    pub(crate) version: Version,
    /// Header fields as the client sent them; `Vary` is about these.
    pub(crate) asked: HeaderMap,
    /// Header fields for the upstream.
    pub(crate) headers: HeaderMap,
    /// Body for the upstream.
    pub(crate) body: Bytes,
    /// What the exchange needs from its connection.
    pub(crate) kind: ExchangeKind,
    /// What is validated.
    pub(crate) stale: Option<Arc<Entry>>,
    /// Whether it ends when nobody waits for it any more.
    pub(crate) cancel: bool,
    /// Where the origin's interim responses go: to the client of the request that caused it, if it waits.
    pub(crate) interims: Option<InterimSender>,
    /// The trace of the request that caused it.
    pub(crate) trace: TraceContext,
    /// For consistent hashing.
    pub(crate) hash_key: Vec<u8>,
    /// What it had seen of the purge log when it began.
    pub(crate) moment: Moment,
}

/// What the request that caused a fill is told.
pub(crate) struct Report {
    /// The tries.
    pub(crate) attempts: Vec<Attempt>,
    /// How the answer comes.
    pub(crate) outcome: Led,
}

/// How the answer of a fill comes to the request that caused it.
pub(crate) enum Led {
    /// Directly, its header fields being the client's already: it may not be kept or shared.
    Through(Box<Response<UpstreamBody>>, RefuseReason),
    /// Through the flight.
    Flight,
}

impl Fill {
    /// Runs to the end, or until nobody waits for it and it may be cancelled.
    pub(crate) async fn run(self, leader: Leader, report: Option<oneshot::Sender<Report>>) {
        let mut attempts = Vec::new();
        let requested = self.worker.state.clock.now();
        let outgoing = Outgoing {
            head: &|| self.head(),
            payload: Payload::Whole(self.body.clone()),
            kind: self.kind,
            interims: self.interims.as_ref(),
        };
        let asked = forward(
            &self.worker,
            &self.route,
            &self.trace,
            &self.hash_key,
            outgoing,
            &mut attempts,
        );
        let result = tokio::select! {
            biased;
            () = leader.abandoned(), if self.cancel => return,
            result = asked => result,
        };
        let times = Times {
            requested,
            received: self.worker.state.clock.now(),
        };
        let tell = |outcome| match report {
            // The client may have left; then nobody needs the report.
            Some(report) => drop(report.send(Report { attempts, outcome })),
            None => self.worker.state.telemetry.record_attempts(&attempts),
        };
        match self.judge(result, times) {
            Next::Answer(entry, grounds) => {
                leader.publish(entry, grounds);
                tell(Led::Flight);
            }
            Next::Failed(error) => {
                leader.fail(FlightError {
                    kind: error.kind(),
                    status: error.status().as_u16(),
                });
                tell(Led::Flight);
            }
            Next::Through(response, reason) => {
                let cache = &self.worker.state.cache;
                match &self.stale {
                    Some(old) if replaces(response.status()) => cache.remove(&self.keyed.key, old),
                    _ => {}
                }
                // A failing origin says nothing about the key, and what is kept may have to stand in for it yet.
                if self.stale.is_none() || !response.status().is_server_error() {
                    cache.hit_for_miss.remember(*self.keyed.key.primary());
                }
                leader.decline();
                tell(Led::Through(response, reason));
            }
            Next::Stream(arrival) => {
                let head = Arc::new(arrival.head(&self.method));
                leader.begin(Arc::clone(&head), self.window());
                tell(Led::Flight);
                self.stream(leader, *arrival, &head).await;
            }
        }
    }

    /// Decides from the response head how the fill goes on.
    fn judge(&self, result: Result<Response<UpstreamBody>, ProxyError>, times: Times) -> Next {
        if let Some(failure) = failure(&result)
            && let Some(entry) = self.stale_if_error(failure, times.received)
        {
            return Next::Answer(entry, Grounds::OriginFailed(failure));
        }
        let response = match result {
            Ok(response) => response,
            Err(error) => return Next::Failed(error),
        };
        let (mut head, body) = response.into_parts();
        headers::from_upstream(&mut head.headers, head.version);
        date::ensure_date(&mut head.headers, times.received);
        if let Some(old) = self
            .stale
            .as_ref()
            .filter(|_| head.status == StatusCode::NOT_MODIFIED)
        {
            return Next::Answer(self.confirmed(old, &head.headers, times), Grounds::Confirmed);
        }
        match self.may_store(head.status, &head.headers, times) {
            Ok((stored, nominated)) => Next::Stream(Box::new(Arrival {
                observer: Observer::of_fill(&self.route.config, head.status, &head.headers, times.received),
                status: head.status,
                headers: head.headers,
                body,
                stored,
                nominated,
                times,
            })),
            Err(reason) => Next::Through(Box::new(Response::from_parts(head, body)), reason),
        }
    }

    fn window(&self) -> usize {
        let bytes = self
            .route
            .config
            .cache
            .as_ref()
            .map_or(0, |rules| rules.max_object);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn head(&self) -> Request<()> {
        let mut head = Request::new(());
        *head.method_mut() = self.method.clone();
        *head.uri_mut() = self.uri.clone();
        *head.version_mut() = self.version;
        *head.headers_mut() = self.headers.clone();
        head
    }

    /// What may be served when the origin fails. What an unsafe request has invalidated must be validated before it
    /// is sent again (RFC 9111, section 4.4).
    fn stale_if_error(&self, failure: Failure, now: Timestamp) -> Option<Arc<Entry>> {
        let stale = self.stale.as_ref()?;
        if self.worker.state.cache.is_invalidated(stale) {
            return None;
        }
        reuse::may_use_on_error(stale.life(), &self.control(), failure, now).then(|| Arc::clone(stale))
    }

    fn control(&self) -> RequestControl {
        let honour = self
            .route
            .config
            .cache
            .as_ref()
            .is_some_and(|rules| rules.client_control);
        if honour {
            RequestControl::of(&self.asked)
        } else {
            RequestControl::default()
        }
    }

    /// A 304 came: the stored response gets new header fields and a new life (RFC 9111, section 4.3.4).
    fn confirmed(&self, old: &Arc<Entry>, fresh: &HeaderMap, times: Times) -> Arc<Entry> {
        let merged = conditional::merge_not_modified(&old.headers(), fresh);
        let cache = &self.worker.state.cache;
        match self.may_store(old.status(), &merged, times) {
            Ok((stored, _)) => cache.refresh(&self.keyed.key, old, &merged, &stored, self.moment, times),
            // The origin confirms the body and forbids keeping it: it answers those aboard, and nobody after.
            Err(_) => {
                cache.remove(&self.keyed.key, old);
                Arc::clone(old)
            }
        }
    }

    fn may_store(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        times: Times,
    ) -> Result<(Stored, Nominated), RefuseReason> {
        let rules = self.route.config.cache.as_ref().ok_or(RefuseReason::ReadOnly)?;
        let facts = RequestFacts {
            method: &self.method,
            headers: &self.asked,
            partitioned: self.keyed.partitioned,
        };
        let stored = policy::may_store(rules, &facts, status, headers, times)?;
        let nominated = Nominated::of(headers, &self.asked).ok_or(RefuseReason::VaryStar)?;
        Ok((stored, nominated))
    }
}

/// How the origin failed, if it did (RFC 5861, section 4; RFC 9111, section 4.2.4).
fn failure(result: &Result<Response<UpstreamBody>, ProxyError>) -> Option<Failure> {
    match result {
        Ok(response) => matches!(response.status().as_u16(), 500 | 502 | 503 | 504).then_some(Failure::Error),
        Err(ProxyError::Upstream(
            ErrorKind::Connect
            | ErrorKind::ConnectTimeout
            | ErrorKind::FirstByteTimeout
            | ErrorKind::IdleTimeout
            | ErrorKind::TotalTimeout
            | ErrorKind::Reset
            | ErrorKind::NoEndpoint,
        )) => Some(Failure::Disconnected),
        Err(_) => Some(Failure::Error),
    }
}

/// Whether an answer that is not stored still takes the place of what is: it tells that the resource has changed or
/// gone, which a server's error and a request to come back later do not.
fn replaces(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(
            status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
        )
}

/// How a fill goes on after the response head.
enum Next {
    /// This entry is the answer.
    Answer(Arc<Entry>, Grounds),
    /// There is none.
    Failed(ProxyError),
    /// The response may not be kept or shared.
    Through(Box<Response<UpstreamBody>>, RefuseReason),
    /// The body comes.
    Stream(Box<Arrival>),
}

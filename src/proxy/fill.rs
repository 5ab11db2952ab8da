//! fill: one task per flight. It asks the origin, decides whether the response may be kept, and hands the bytes to
//! everyone aboard as they arrive.

use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::oneshot;

use super::error::ProxyError;
use super::failure::{failed, failed_so, failure, replaces};
use super::forward::{Outgoing, Payload, forward};
use super::headers;
use super::interim::InterimSender;
use super::relay::Arrival;
use super::worker::Worker;
use crate::cache::age::{Times, initial_age};
use crate::cache::conditional::{self, HeadSays, head_says};
use crate::cache::confirm::Confirmation;
use crate::cache::control::RequestControl;
use crate::cache::digest::KeyDigest;
use crate::cache::entry::{Entry, Refreshed};
use crate::cache::failures::Failed;
use crate::cache::flight::{FlightError, Grounds, Leader};
use crate::cache::life::Life;
use crate::cache::observer::Observer;
use crate::cache::partition::credentials;
use crate::cache::policy::{self, RequestFacts, Stored};
use crate::cache::purge::Moment;
use crate::cache::range::Part;
use crate::cache::request::{Errand, Keyed};
use crate::cache::reuse::Failure;
use crate::cache::vary::Nominated;
use crate::cache::verdict::RefuseReason;
use crate::cache::{date, fields};
use crate::clock::Timestamp;
use crate::control::state::ActiveRoute;
use crate::telemetry::record::{Attempt, TraceContext};
use crate::upstream::{ExchangeKind, RequestBody, UpstreamBody};

/// A fill to be run.
pub(crate) struct Fill {
    /// Where it runs.
    pub(crate) worker: Arc<Worker>,
    /// The route.
    pub(crate) route: Arc<ActiveRoute>,
    /// What it fills.
    pub(crate) keyed: Arc<Keyed>,
    /// What it fetches of that.
    pub(crate) errand: Errand,
    /// The key of its flight.
    pub(crate) flight: KeyDigest,
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
            make: &|body| self.request(body),
            encoded: &[],
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
        let waits = report.is_some();
        let tell = |outcome| match report {
            // The client may have left; then nobody needs the report.
            Some(report) => drop(report.send(Report { attempts, outcome })),
            None => self.worker.state.telemetry.record_attempts(&attempts),
        };
        match self.judge(result, times) {
            Next::Answer(entry, grounds) => {
                match grounds {
                    Grounds::OriginFailed(failure) => {
                        let error = FlightError::UPSTREAM_ERROR;
                        self.back_off(&leader, waits, error, Some(failure));
                    }
                    Grounds::Confirmed(_) | Grounds::Found(_) => self.recovered(),
                }
                leader.publish(entry, grounds);
                tell(Led::Flight);
            }
            Next::Failed(error, failure) => {
                let error = FlightError {
                    kind: error.kind(),
                    status: error.status().as_u16(),
                };
                self.back_off(&leader, waits, error, Some(failure));
                leader.fail(error);
                tell(Led::Flight);
            }
            Next::Through(response, reason) => {
                self.let_through(leader, waits, &response);
                tell(Led::Through(response, reason));
            }
            Next::Stream(arrival) => {
                self.recovered();
                let head = Arc::new(arrival.head(&self.method));
                leader.begin(Arc::clone(&head), self.window());
                tell(Led::Flight);
                self.stream(leader, *arrival, &head).await;
            }
        }
    }

    /// Decides from the response head how the fill goes on.
    fn judge(&self, result: Result<Response<UpstreamBody>, ProxyError>, times: Times) -> Next {
        let failure = failure(&result);
        if let Some(failure) = failure
            && let Some(entry) = self.stale_if_error(failure, times.received)
        {
            return Next::Answer(entry, Grounds::OriginFailed(failure));
        }
        let response = match result {
            Ok(response) => response,
            Err(error) => return Next::Failed(error, failure.unwrap_or(Failure::Error)),
        };
        let (mut head, body) = response.into_parts();
        headers::from_upstream(&mut head.headers, head.version);
        date::ensure_date(&mut head.headers, times.received);
        if let Some(old) = self
            .stale
            .as_ref()
            .filter(|_| head.status == StatusCode::NOT_MODIFIED)
        {
            let entry = self.confirmed(old, &head.headers, times);
            return Next::Answer(entry, Grounds::Confirmed(head.status));
        }
        if let Some(entry) = self.confirmed_by_head(&head, times) {
            return Next::Answer(entry, Grounds::Confirmed(head.status));
        }
        match self.may_store(&self.method, head.status, &head.headers, times) {
            Ok((stored, nominated)) => Next::Stream(Box::new(Arrival {
                observer: self.observer(&head, times),
                part: Part::of(&head.headers).filter(|_| head.status == StatusCode::PARTIAL_CONTENT),
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

    /// An answer that is for the one who fetched alone. The others learn what it means for them.
    fn let_through(&self, leader: Leader, waits: bool, response: &Response<UpstreamBody>) {
        let (cache, status) = (&self.worker.state.cache, response.status());
        match &self.stale {
            Some(old) if replaces(status) && self.tells(old, response) => cache.remove(&self.keyed.key, old),
            _ => {}
        }
        if !failed(status) {
            self.recovered();
            // What is kept says that the key is cacheable, whatever this one request was refused.
            if self.errand != Errand::Head && (self.stale.is_none() || replaces(status)) {
                cache.hit_for_miss.remember(self.flight);
            }
            leader.decline();
        } else if status == StatusCode::TOO_MANY_REQUESTS && self.is_of_its_own_credentials() {
            // The bound is on those credentials: others may ask.
            leader.decline();
        } else {
            // The answer itself may be for nobody else; that there was none worth having is for all who waited.
            let error = FlightError {
                status: status.as_u16(),
                ..FlightError::UPSTREAM_ERROR
            };
            let failure = failed_so(status).then_some(Failure::Error);
            self.back_off(&leader, waits, error, failure);
            leader.fail(error);
        }
    }

    /// Remembers a failure before anybody learns of it. `waits` tells whether a request waits for this fill beside
    /// those who joined it.
    fn back_off(&self, leader: &Leader, waits: bool, error: FlightError, failure: Option<Failure>) {
        let failed = Failed {
            error,
            failure,
            shared: leader.readers() > usize::from(waits),
        };
        self.worker.state.cache.failures.remember(self.flight, failed);
    }

    fn recovered(&self) {
        self.worker.state.cache.failures.forget(&self.flight);
    }

    /// Whether it carries credentials that are not part of its key, so that others who wait may have other ones.
    fn is_of_its_own_credentials(&self) -> bool {
        !self.keyed.partitioned && credentials(&self.asked).next().is_some()
    }

    pub(super) fn window(&self) -> usize {
        let bytes = self
            .route
            .config
            .cache
            .as_ref()
            .map_or(0, |rules| rules.max_object);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn request(&self, body: RequestBody) -> Box<Request<RequestBody>> {
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// What may be served when the origin fails.
    fn stale_if_error(&self, failure: Failure, now: Timestamp) -> Option<Arc<Entry>> {
        let stale = self.stale.as_ref()?;
        let cache = &self.worker.state.cache;
        let may = cache.may_stand_in(stale, &self.control(), failure, now);
        may.then(|| Arc::clone(stale))
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
        // What a HEAD confirms is the answer to a GET.
        let method = match self.errand {
            Errand::Head => &Method::GET,
            Errand::Whole | Errand::Part => &self.method,
        };
        match self.may_store(method, old.status(), &merged, times) {
            Ok((stored, nominated)) => {
                let confirmation = Confirmation {
                    route: &self.route.config,
                    asked: &self.asked,
                    asked_body: &self.body,
                    headers: &merged,
                    stored: &stored,
                    nominated,
                    moment: self.moment,
                    times,
                };
                cache.refresh(&self.keyed.key, old, &confirmation)
            }
            // The origin confirms the body and forbids keeping it: it answers those aboard, with the fields that forbid
            // it to their caches too, and nobody after.
            Err(_) => {
                cache.remove(&self.keyed.key, old);
                old.refreshed(Refreshed {
                    full_key: old.full_key(),
                    tags: &[],
                    nominated: old.nominated().clone(),
                    headers: &fields::storable(&merged, &[]),
                    life: Life::over(times.received.minus(initial_age(&merged, times))),
                    moment: self.moment,
                    public: old.public(),
                    stored_at: times.requested,
                    fetch_time: times.received.since(times.requested),
                })
            }
        }
    }

    /// The answer to a HEAD may confirm what is stored as well (RFC 9111, section 4.3.5).
    fn confirmed_by_head(&self, head: &Parts, times: Times) -> Option<Arc<Entry>> {
        let old = self.stale.as_ref().filter(|_| self.errand == Errand::Head)?;
        let same = head.status == StatusCode::OK
            && old.status() == StatusCode::OK
            && head_says(&old.headers(), old.body_len(), &head.headers) == HeadSays::Same;
        same.then(|| self.confirmed(old, &head.headers, times))
    }

    /// Whether a response that is not stored tells that `old` is not what it was.
    fn tells(&self, old: &Entry, response: &Response<UpstreamBody>) -> bool {
        self.errand != Errand::Head
            || response.status() != old.status()
            || head_says(&old.headers(), old.body_len(), response.headers()) == HeadSays::Changed
    }

    /// A part of a body tells nothing.
    fn observer(&self, head: &Parts, times: Times) -> Option<Box<Observer>> {
        if head.status == StatusCode::PARTIAL_CONTENT {
            return None;
        }
        Observer::of_fill(&self.route.config, head.status, &head.headers, times.received)
    }

    fn may_store(
        &self,
        method: &Method,
        status: StatusCode,
        headers: &HeaderMap,
        times: Times,
    ) -> Result<(Stored, Nominated), RefuseReason> {
        let rules = self.route.config.cache.as_ref().ok_or(RefuseReason::ReadOnly)?;
        let facts = RequestFacts {
            method,
            headers: &self.asked,
            partitioned: self.keyed.partitioned,
            for_part: self.errand == Errand::Part,
        };
        let stored = policy::may_store(rules, &facts, status, headers, times)?;
        let nominated = Nominated::of(headers, &self.asked).ok_or(RefuseReason::VaryStar)?;
        Ok((stored, nominated))
    }
}

/// How a fill goes on after the response head.
enum Next {
    /// This entry is the answer.
    Answer(Arc<Entry>, Grounds),
    /// There is none.
    Failed(ProxyError, Failure),
    /// The response may not be kept or shared.
    Through(Box<Response<UpstreamBody>>, RefuseReason),
    /// The body comes.
    Stream(Box<Arrival>),
}

//! relay: the body of a fill on its way to everyone aboard and, once it is whole, to the cache.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;

use super::error::ProxyError;
use super::fill::Fill;
use super::tokens;
use crate::cache::age::Times;
use crate::cache::engine;
use crate::cache::entry::Notes;
use crate::cache::flight::{Epilogue, FlightError, Head, Leader};
use crate::cache::observer::{Observed, Observer};
use crate::cache::policy::Stored;
use crate::cache::range::Part;
use crate::cache::usage::Usage;
use crate::cache::vary::Nominated;
use crate::cache::verdict::RefuseReason;
use crate::telemetry::usage::TokenSource;
use crate::upstream::UpstreamBody;

/// A storable response whose body is still to come.
pub(super) struct Arrival {
    pub(super) status: StatusCode,
    /// Which part of the content it holds, if it is a 206.
    pub(super) part: Option<Part>,
    pub(super) headers: HeaderMap,
    pub(super) body: UpstreamBody,
    pub(super) stored: Stored,
    pub(super) nominated: Nominated,
    pub(super) times: Times,
    /// Looks at the body, where something of it counts.
    pub(super) observer: Option<Box<Observer>>,
}

impl Arrival {
    pub(super) fn head(&self, method: &Method) -> Head {
        let public = self.stored.public;
        let (headers, nominated) = (self.headers.clone(), self.nominated.clone());
        Head::new(method, self.status, headers, nominated, public)
    }
}

/// How a body ended.
enum End {
    /// Whole, perhaps with trailers.
    Whole(Option<HeaderMap>),
    /// The origin broke it off.
    Broken(FlightError),
    /// Nobody needs the rest.
    Abandoned,
}

impl Fill {
    /// Hands the body to everyone aboard and, once it is complete, to the cache.
    pub(super) async fn stream(&self, leader: Leader, mut arrival: Arrival, head: &Head) {
        let end = self.relay(&leader, &mut arrival).await;
        let observed = match arrival.observer.take() {
            Some(observer) => observer.finish(matches!(end, End::Whole(_))),
            None => Observed::default(),
        };
        self.count(observed.usage.as_ref());
        // Said before any reader learns of the end.
        let conclude = |refused| {
            let usage = observed.usage.clone();
            head.conclude(Epilogue { refused, usage });
        };
        let refused = observed.refused.or_else(|| unfit(&leader, &end));
        if refused.is_some() {
            conclude(refused);
        }
        if refused == Some(RefuseReason::TooLarge) {
            let hit_for_miss = &self.worker.state.cache.hit_for_miss;
            hit_for_miss.remember_by_body(self.flight);
        }
        match end {
            End::Abandoned => {}
            End::Broken(error) => leader.fail(error),
            End::Whole(Some(trailers)) => {
                leader.finish_with_trailers(trailers, |_chunks| {});
            }
            End::Whole(None) if refused.is_some() => {
                leader.finish(|_chunks| {});
            }
            End::Whole(None) => {
                let keep = |chunks: &[Bytes]| conclude(self.keep(arrival, &observed, chunks).err());
                leader.finish(keep);
            }
        }
    }

    /// Hands on what comes until it ends.
    async fn relay(&self, leader: &Leader, arrival: &mut Arrival) -> End {
        let clock = &self.worker.state.clock;
        let mut trailers = None;
        loop {
            let frame = tokio::select! {
                biased;
                () = leader.abandoned(), if self.cancel => return End::Abandoned,
                frame = arrival.body.frame() => frame,
            };
            match frame {
                None => return End::Whole(trailers),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(observer) = &mut arrival.observer {
                            observer.push(&data, clock.now());
                        }
                        if !leader.push(data).await {
                            return End::Abandoned;
                        }
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    let error = ProxyError::Upstream(error.kind);
                    return End::Broken(FlightError {
                        kind: error.kind(),
                        status: error.status().as_u16(),
                    });
                }
            }
        }
    }

    /// Counts what the origin has been paid for, whoever reads it.
    fn count(&self, usage: Option<&Usage>) {
        if let Some(usage) = usage {
            let state = &self.worker.state;
            let route = &self.route.config;
            let record = tokens::priced(&state.snapshot.load(), route, usage, TokenSource::Upstream);
            state.telemetry.record_tokens(&self.route.metrics, &record);
        }
    }

    /// Stores a whole body.
    fn keep(&self, arrival: Arrival, observed: &Observed, chunks: &[Bytes]) -> Result<(), RefuseReason> {
        let usage = observed.usage.as_ref().map(Usage::encode).unwrap_or_default();
        let fill = engine::Fill {
            route: &self.route.config,
            key: &self.keyed.key,
            tenant: self.keyed.tenant,
            asked: &self.asked,
            asked_body: &self.body,
            status: arrival.status,
            headers: &arrival.headers,
            notes: Notes {
                pace: &observed.pace,
                usage: &usage,
            },
            nominated: arrival.nominated,
            stored: &arrival.stored,
            previous: self.stale.as_deref(),
            moment: self.moment,
            began: arrival.times.requested,
            fetch_time: self.worker.state.clock.now().since(arrival.times.requested),
        };
        let cache = &self.worker.state.cache;
        match &arrival.part {
            Some(part) => cache.store_part(&fill, part, chunks, self.window() as u64),
            None => cache.store(&fill, chunks),
        }
        .map(drop)
    }
}

/// Why a body that ended so is not stored, whatever is in it.
fn unfit(leader: &Leader, end: &End) -> Option<RefuseReason> {
    match end {
        End::Abandoned | End::Broken(_) => Some(RefuseReason::Incomplete),
        // An entry cannot hold trailers.
        End::Whole(Some(_)) => Some(RefuseReason::Trailers),
        End::Whole(None) if leader.has_outgrown() => Some(RefuseReason::TooLarge),
        End::Whole(None) => (!leader.is_complete()).then_some(RefuseReason::Incomplete),
    }
}

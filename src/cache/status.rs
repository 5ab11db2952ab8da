//! `Cache-Status` (RFC 9211).

use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::reuse::Failure;
use super::verdict::{BypassReason, MissReason, RefuseReason};

/// What the cache did with a request, for `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered without asking the origin.
    Hit {
        /// Seconds of freshness left; negative when stale.
        ttl: i64,
    },
    /// The origin was asked.
    Forwarded(Forwarded),
}

/// How a request was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Why.
    pub reason: ForwardReason,
    /// What the origin answered; none when there was no answer.
    pub status: Option<StatusCode>,
    /// What became of the answer.
    pub outcome: Outcome,
    /// Whether another request's fetch answered this one.
    pub collapsed: bool,
}

/// Why a request was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardReason {
    /// No entry could answer.
    Miss(MissReason),
    /// The cache took no part.
    Bypass(BypassReason),
}

/// What became of the origin's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was handed on; nothing more to say.
    Passed,
    /// It was stored, or it confirmed what is stored.
    Stored,
    /// It was not stored.
    Refused(RefuseReason),
    /// There was an error or none, and a stale entry was served in its place.
    StaleOnError(Failure),
}

impl CacheStatus {
    /// The member of the list that is ours.
    pub fn to_value(self) -> HeaderValue {
        // Room for nearly all, so that the value itself is the only allocation.
        let mut text = Text::new();
        push(&mut text, "outrigger");
        match self {
            Self::Hit { ttl } => {
                push(&mut text, "; hit; ttl=");
                push(&mut text, itoa::Buffer::new().format(ttl));
            }
            Self::Forwarded(forwarded) => forwarded.write(&mut text),
        }
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("outrigger"))
    }

    /// Appends our member behind those of the caches nearer to the origin (RFC 9211, section 2).
    pub fn append_to(self, headers: &mut HeaderMap) {
        headers.append(header::CACHE_STATUS, self.to_value());
    }
}

/// Makes values and remembers the last: nearly all requests that are passed on get the same.
#[derive(Debug, Default)]
pub struct LastValue(Mutex<Option<(Forwarded, HeaderValue)>>);

impl LastValue {
    /// The value that tells how a request was forwarded.
    pub fn of(&self, forwarded: Forwarded) -> HeaderValue {
        let mut last = self.0.lock();
        match &*last {
            Some((before, value)) if *before == forwarded => value.clone(),
            _ => {
                let value = CacheStatus::Forwarded(forwarded).to_value();
                *last = Some((forwarded, value.clone()));
                value
            }
        }
    }
}

impl Forwarded {
    fn write(self, text: &mut Text) {
        push(text, "; fwd=");
        push(text, self.reason.token());
        if let Some(status) = self.status {
            push(text, "; fwd-status=");
            push(text, status.as_str());
        }
        if self.outcome == Outcome::Stored {
            push(text, "; stored");
        }
        if self.collapsed {
            push(text, "; collapsed");
        }
        if let Some(detail) = self.detail() {
            push(text, "; detail=");
            push(text, detail);
        }
    }

    /// The reason that the standard parameters do not tell: of the outcome, else of the forwarding.
    fn detail(self) -> Option<&'static str> {
        match (self.outcome, self.reason) {
            (Outcome::Refused(reason), _) => Some(reason.as_str()),
            (Outcome::StaleOnError(failure), _) => Some(failure.as_str()),
            (_, ForwardReason::Miss(reason)) => {
                Some(reason.as_str()).filter(|name| *name != self.reason.token())
            }
            (_, ForwardReason::Bypass(reason)) => {
                Some(reason.as_str()).filter(|name| *name != self.reason.token())
            }
        }
    }
}

/// A value that is being written.
type Text = SmallVec<[u8; 128]>;

fn push(text: &mut Text, part: &str) {
    text.extend_from_slice(part.as_bytes());
}

impl ForwardReason {
    /// The value of `fwd` (RFC 9211, section 2.2).
    pub const fn token(self) -> &'static str {
        match self {
            Self::Miss(MissReason::Uri | MissReason::Purged | MissReason::Invalidated) => "uri-miss",
            Self::Miss(MissReason::Vary) => "vary-miss",
            Self::Miss(MissReason::Stale | MissReason::Unreachable) => "stale",
            Self::Miss(MissReason::Request) | Self::Bypass(BypassReason::RequestNoStore) => "request",
            Self::Bypass(BypassReason::Method) => "method",
            Self::Miss(MissReason::WriteOnly) | Self::Bypass(_) => "bypass",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(reason: ForwardReason, outcome: Outcome) -> CacheStatus {
        CacheStatus::Forwarded(Forwarded {
            reason,
            status: Some(StatusCode::OK),
            outcome,
            collapsed: false,
        })
    }

    #[test]
    fn the_remembered_value_is_the_one_that_is_asked_for() {
        let last = LastValue::default();
        let off = Forwarded {
            reason: ForwardReason::Bypass(BypassReason::RouteOff),
            status: Some(StatusCode::OK),
            outcome: Outcome::Passed,
            collapsed: false,
        };
        let failed = Forwarded { status: None, ..off };
        for asked in [off, off, failed, off, failed, failed] {
            assert_eq!(last.of(asked), CacheStatus::Forwarded(asked).to_value());
        }
    }

    #[test]
    fn values() {
        use ForwardReason::{Bypass, Miss};
        let table = [
            (CacheStatus::Hit { ttl: 123 }, "outrigger; hit; ttl=123"),
            (CacheStatus::Hit { ttl: -7 }, "outrigger; hit; ttl=-7"),
            (
                forwarded(Miss(MissReason::Uri), Outcome::Stored),
                "outrigger; fwd=uri-miss; fwd-status=200; stored",
            ),
            (
                forwarded(Miss(MissReason::Vary), Outcome::Passed),
                "outrigger; fwd=vary-miss; fwd-status=200",
            ),
            (
                forwarded(Miss(MissReason::Purged), Outcome::Stored),
                "outrigger; fwd=uri-miss; fwd-status=200; stored; detail=purged",
            ),
            (
                forwarded(Miss(MissReason::Unreachable), Outcome::Stored),
                "outrigger; fwd=stale; fwd-status=200; stored; detail=replicas-unreachable",
            ),
            (
                forwarded(Miss(MissReason::Stale), Outcome::StaleOnError(Failure::Error)),
                "outrigger; fwd=stale; fwd-status=200; detail=stale-if-error",
            ),
            (
                forwarded(
                    Miss(MissReason::Stale),
                    Outcome::StaleOnError(Failure::Disconnected),
                ),
                "outrigger; fwd=stale; fwd-status=200; detail=stale-if-disconnected",
            ),
            (
                forwarded(Miss(MissReason::Request), Outcome::Refused(RefuseReason::NoStore)),
                "outrigger; fwd=request; fwd-status=200; detail=no-store",
            ),
            (
                forwarded(Miss(MissReason::WriteOnly), Outcome::Stored),
                "outrigger; fwd=bypass; fwd-status=200; stored; detail=write-only",
            ),
            (
                forwarded(Bypass(BypassReason::Method), Outcome::Passed),
                "outrigger; fwd=method; fwd-status=200",
            ),
            (
                forwarded(Bypass(BypassReason::RequestNoStore), Outcome::Passed),
                "outrigger; fwd=request; fwd-status=200; detail=request-no-store",
            ),
            (
                forwarded(Bypass(BypassReason::NoTenant), Outcome::Passed),
                "outrigger; fwd=bypass; fwd-status=200; detail=no-tenant",
            ),
            (
                CacheStatus::Forwarded(Forwarded {
                    reason: Miss(MissReason::Uri),
                    status: None,
                    outcome: Outcome::Passed,
                    collapsed: true,
                }),
                "outrigger; fwd=uri-miss; collapsed",
            ),
        ];
        for (status, expected) in table {
            assert_eq!(status.to_value(), expected);
        }
    }

    #[test]
    fn caches_nearer_to_the_origin_stay_in_front() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CACHE_STATUS,
            HeaderValue::from_static("origin-cache; hit"),
        );
        CacheStatus::Hit { ttl: 1 }.append_to(&mut headers);
        let lines: Vec<&HeaderValue> = headers.get_all(header::CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["origin-cache; hit", "outrigger; hit; ttl=1"]);
    }
}

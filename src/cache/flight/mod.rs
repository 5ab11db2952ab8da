//! Flights: one fill per key, streamed to everyone who waits for it.
//!
//! A request that misses *boards*. The first one leads: its fill task owns the [`Leader`] and feeds it with head and
//! chunks. The others follow, and read the same bytes from the beginning as they arrive. The leader's own client
//! reads through a [`Follower`] too, so that a fill does not depend on the client that began it.
//!
//! ```text
//! waiting -> streaming -> finished | failed | lost
//!         -> entry | declined | failed | lost
//! ```
//!
//! Invariant: a flight leaves the table only after its entry is stored. Who boards, leads and then looks the key up
//! once more has therefore either found the entry or is the only one to fill it.
//!
//! Invariant: the body of a flight ends cleanly only if the leader finished it, and in as many bytes as announced.

mod leader;
mod reader;
mod shared;
mod state;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;

pub use self::leader::{Finished, Leader};
pub use self::reader::{Boarded, FlightReader, Follower};
use self::shared::Flight;
use super::digest::KeyDigest;
use super::digest_hash::DigestHash;
use super::purge::Moment;
use super::reuse::Failure;
use super::usage::Usage;
use super::vary::Nominated;
use super::verdict::RefuseReason;
use crate::clock::Timestamp;
use crate::telemetry::record::LevelId;

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;

type Shard = HashMap<KeyDigest, Arc<Flight>, DigestHash>;

/// The flights of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Flights(Arc<[Mutex<Shard>; SHARDS]>);

/// When a fill began. Its response may be older than whatever changed after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// What it had seen of the purge log.
    pub moment: Moment,
    /// The time, by the clock of the process that fills.
    pub at: Timestamp,
}

/// The place of a request that missed.
#[derive(Debug)]
pub enum Ticket {
    /// It fills. Before asking the origin it looks the key up once more: the last flight may have just ended.
    Lead(Leader),
    /// It waits for another's fill.
    Follow(Follower),
}

/// Why a flight ended with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// The origin has confirmed it by an answer with this status.
    Confirmed(StatusCode),
    /// The origin failed, and it may stand in.
    OriginFailed(Failure),
    /// It was stored a moment before the flight began, or this level below memory had it. Others have to look whether
    /// they may use it.
    Found(Option<LevelId>),
}

/// The head of a response in flight.
#[derive(Clone)]
pub struct Head {
    /// Status of the response.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The request headers that `Vary` nominated, with the values of the leader's request. A follower whose values
    /// differ must not use the response.
    pub nominated: Nominated,
    /// May be given to everyone although the leader's request had credentials.
    pub public: bool,
    /// Bytes of the body, if known.
    body_len: Option<u64>,
    epilogue: OnceLock<Box<Epilogue>>,
}

/// What the body showed by its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epilogue {
    /// Why it is not stored after all.
    pub refused: Option<RefuseReason>,
    /// What it says about its tokens.
    pub usage: Option<Usage>,
}

impl Head {
    /// The head of a response to a request with `method`.
    pub fn new(
        method: &Method,
        status: StatusCode,
        headers: HeaderMap,
        nominated: Nominated,
        public: bool,
    ) -> Self {
        let body_len = body_len(method, status, &headers);
        Self {
            status,
            headers,
            nominated,
            public,
            body_len,
            epilogue: OnceLock::new(),
        }
    }

    /// Tells what the body showed: to be said before its readers learn of its end.
    pub fn conclude(&self, epilogue: Epilogue) {
        let _first_counts = self.epilogue.set(Box::new(epilogue));
    }

    /// What the body showed; none before its end.
    pub fn epilogue(&self) -> Option<&Epilogue> {
        self.epilogue.get().map(|epilogue| &**epilogue)
    }

    /// Bytes of the body: those of a valid `Content-Length`, or none at all where a response has no body (RFC 9110,
    /// section 6.4.1).
    pub fn body_len(&self) -> Option<u64> {
        self.body_len
    }
}

impl fmt::Debug for Head {
    /// No header values: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("status", &self.status)
            .field("body_len", &self.body_len)
            .finish_non_exhaustive()
    }
}

/// Why a flight gave no whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fill ended early: {kind}")]
pub struct FlightError {
    /// The stable name of what happened.
    pub kind: &'static str,
    /// Status for those who have not yet got a head.
    pub status: u16,
}

impl FlightError {
    /// The leader was dropped: cancelled or panicked.
    pub const LOST: Self = Self {
        kind: "fill-lost",
        status: 502,
    };
    /// The body ended before or after its announced length.
    pub const WRONG_LENGTH: Self = Self {
        kind: "wrong-length",
        status: 502,
    };
    /// The origin answered with an error that cannot be shared itself.
    pub const UPSTREAM_ERROR: Self = Self {
        kind: "upstream-error",
        status: 502,
    };
    /// The reader was so slow that others had to wait for it.
    pub const LEFT_BEHIND: Self = Self {
        kind: "left-behind",
        status: 502,
    };
    /// The flight has no body for this reader: it was declined or ended with an entry.
    pub const NO_BODY: Self = Self {
        kind: "no-body",
        status: 502,
    };
}

impl Default for Flights {
    fn default() -> Self {
        Self::new()
    }
}

impl Flights {
    /// A table without flights.
    pub fn new() -> Self {
        Self(Arc::new(std::array::from_fn(|_| Mutex::default())))
    }

    /// Joins the flight for `key`, or begins one.
    ///
    /// A flight under the same digest for another full key is not joined; the request leads a flight of its own that
    /// nobody can join. One whose beginning is `outdated` is left to those aboard, and a new one takes its place.
    pub fn board(
        &self,
        key: &KeyDigest,
        full_key: &[u8],
        now: Beginning,
        outdated: impl FnOnce(Beginning) -> bool,
    ) -> Ticket {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(key) {
            if flight.full_key() != full_key {
                return Ticket::Lead(self.alone(key, full_key, now));
            }
            if !outdated(flight.began())
                && let Some(seat) = flight.join()
            {
                return Ticket::Follow(Follower::new(seat));
            }
        }
        let flight = Flight::new(*key, full_key, now);
        shard.insert(*key, Arc::clone(&flight));
        Ticket::Lead(Leader::new(flight, self.clone()))
    }

    /// Begins a flight that nobody can join.
    pub fn alone(&self, key: &KeyDigest, full_key: &[u8], now: Beginning) -> Leader {
        Leader::new(Flight::new(*key, full_key, now), self.clone())
    }

    /// Flights that can be joined.
    pub fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `flight` out of the table, unless another has taken its place.
    fn remove(&self, flight: &Arc<Flight>) {
        let mut shard = self.shard(flight.key()).lock();
        if shard
            .get(flight.key())
            .is_some_and(|listed| Arc::ptr_eq(listed, flight))
        {
            shard.remove(flight.key());
        }
    }

    fn shard(&self, key: &KeyDigest) -> &Mutex<Shard> {
        // The last byte: the first ones choose the bucket in the shard.
        let [.., last] = key.0;
        &self.0[usize::from(last) % SHARDS]
    }
}

/// See [`Head::body_len`]. Several or odd lengths count as unknown.
fn body_len(method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    let without_body = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
    if method == Method::HEAD || status.is_informational() || without_body.contains(&status) {
        return Some(0);
    }
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else {
        return None;
    };
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;

//! The one event of a request: filled in along the way, emitted when the last byte has left.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Uri};

use super::usage::TokenRecord;
use crate::clock::Timestamp;

/// How the cache took part, as the metric label `cache`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// Answered from a fresh entry.
    Hit,
    /// Answered from a stale entry.
    Stale,
    /// Answered from an entry the origin has just confirmed.
    Revalidated,
    /// Fetched; could have been an entry.
    Miss,
    /// Fetched by another request for the same key.
    Collapsed,
    /// Fetched; the cache took no part.
    #[default]
    Bypass,
    /// Not forwarded: refused or failed here.
    None,
}

impl CacheResult {
    /// Every value, for tables of metric handles.
    pub const ALL: [Self; 7] = [
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Miss,
        Self::Collapsed,
        Self::Bypass,
        Self::None,
    ];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
            Self::None => "none",
        }
    }
}

/// A cache level, as [`Telemetry::level`](super::Telemetry::level) numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LevelId(u8);

impl LevelId {
    /// The level at `index` of the metric tables.
    pub(super) fn from_index(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// Its index in the metric tables.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A W3C trace context: the caller's, or one begun here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// Trace id.
    pub trace_id: [u8; 16],
    /// The caller's span id, if there is a caller.
    pub parent_id: Option<[u8; 8]>,
    /// The id of our SERVER span.
    pub span_id: [u8; 8],
    /// Whether the head of the trace decided to keep it.
    pub sampled: bool,
}

/// One try to get an answer from an endpoint.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// `host:port` as configured.
    pub endpoint: Arc<str>,
    /// The id of this attempt's CLIENT span; it is the parent in the `traceparent` sent on.
    pub span_id: [u8; 8],
    /// When it began.
    pub started: Timestamp,
    /// When the response head was there.
    pub first_byte: Option<Timestamp>,
    /// When it was over.
    pub ended: Timestamp,
    /// Status of the answer; none when there was no answer.
    pub status: Option<u16>,
    /// The kind of failure, a stable name.
    pub error: Option<&'static str>,
}

/// Everything worth telling about one request.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// When the head had been read.
    pub started: Timestamp,
    /// When the response head was handed on.
    pub first_byte: Option<Timestamp>,
    /// When the last byte had been handed on.
    pub ended: Timestamp,
    /// The client's address (after trusted proxies).
    pub client: SocketAddr,
    /// A part of the digest of what identifies the principal; none without. Never what it is made of.
    pub principal: Option<u64>,
    /// Method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host and port asked for.
    pub authority: HeaderValue,
    /// The target as received, unmasked: whoever writes it out masks the query.
    pub uri: Uri,
    /// `HTTP/1.1` and the like.
    pub version: http::Version,
    /// Status sent; 0 when the client left before the head.
    pub status: u16,
    /// How the cache took part.
    pub cache: CacheResult,
    /// The level that decided; none when no level was asked.
    pub level: Option<LevelId>,
    /// Why: a name of `cache::verdict`, or of the error.
    pub reason: &'static str,
    /// Whether the response was put into the cache.
    pub stored: bool,
    /// The tokens of the answer, when they are counted with this request: those of a fill are counted by the fill.
    pub tokens: Option<Box<TokenRecord>>,
    /// The tokens of the answer, when the fill that this request led has counted them: for its spans alone.
    pub filled: Option<Box<TokenRecord>>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Tries, in order.
    pub attempts: Vec<Attempt>,
    /// Trace.
    pub trace: TraceContext,
    /// The kind of error made here, a stable name.
    pub error: Option<&'static str>,
    /// Whether the client left, or the answer broke, before its end.
    pub aborted: bool,
    /// Whether there is no client: it warms the cache up.
    pub warm_up: bool,
}

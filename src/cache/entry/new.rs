//! What an entry is made of.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::Notes;
use crate::cache::life::Life;
use crate::cache::purge::Moment;
use crate::cache::vary::Nominated;
use crate::clock::Timestamp;

/// What an entry is made of.
pub struct NewEntry<'a> {
    /// The whole cache key, compared on every lookup.
    pub full_key: &'a [u8],
    /// `route:METHOD host/path?query`; what globs and URLs of purges are compared with.
    pub label: &'a str,
    /// The route that filled it.
    pub route: Arc<str>,
    /// The tenant it belongs to.
    pub tenant: Option<[u8; 32]>,
    /// Tags for purges.
    pub tags: &'a [&'a str],
    /// The request headers that `Vary` nominated.
    pub nominated: Nominated,
    /// Status of the response.
    pub status: StatusCode,
    /// Headers to be stored.
    pub headers: &'a HeaderMap,
    /// What is known of the body beside it.
    pub notes: Notes<'a>,
    /// The body in pieces.
    pub body: &'a [Bytes],
    /// How long it may be used.
    pub life: Life,
    /// What the fill had seen of the purge log when it began: before the request was sent to the origin.
    pub moment: Moment,
    /// May be given to everyone although the request had credentials.
    pub public: bool,
    /// Must not be kept below the memory level unless it is encrypted there.
    pub sensitive: bool,
    /// When it was made.
    pub stored_at: Timestamp,
    /// How long the fetch took, from the request to the end of the response.
    pub fetch_time: Duration,
}

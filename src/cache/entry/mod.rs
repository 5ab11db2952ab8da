//! A stored response.
//!
//! Invariant: everything of variable length lies in one allocation of exactly the needed size. The buffers that
//! the response was read into are larger than the response and would stay alive with any slice of them.

mod block;
mod new;
mod notes;
mod refreshed;
#[cfg(test)]
pub(super) mod sample;
mod stored;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub use self::block::Tags;
pub(super) use self::block::heap_bytes;
use self::block::{Frames, HeaderLines, framed_len, put_frame};
pub use self::new::NewEntry;
pub use self::notes::Notes;
pub use self::refreshed::Refreshed;
use super::flight::Beginning;
use super::life::Life;
use super::purge::{Moment, Purged};
use super::stream;
use super::usage::Usage;
use super::vary::Nominated;
use crate::clock::Timestamp;

/// Room left in a header map for the fields that every answer gets (`Age`, `Via`, `Cache-Status` and the like).
const SPARE_HEADERS: usize = 8;

/// The control block that `Bytes` allocates when it is first shared.
const SHARED_BYTES: usize = 32;

/// The two counters in front of every value in an `Arc`.
pub(super) const ARC_COUNTERS: usize = 2 * size_of::<usize>();

/// A stored response. Immutable but for its hit counter and what is known of purges.
pub struct Entry {
    /// Full key, label, framed tags, framed header names and values, framed notes, body.
    bytes: Bytes,
    label_at: usize,
    tags_at: usize,
    headers_at: usize,
    notes_at: usize,
    body_at: usize,
    /// Distinct header names.
    header_names: usize,
    nominated: Nominated,
    route: Arc<str>,
    tenant: Option<[u8; 32]>,
    status: StatusCode,
    public: bool,
    sensitive: bool,
    event_stream: bool,
    life: Life,
    moment: Moment,
    stored_at: Timestamp,
    fetch_time: Duration,
    hits: AtomicU64,
    /// Version of the purge log up to which `mark` is true; 0 for an entry that was filled elsewhere and has not been
    /// compared with this process's log.
    checked: AtomicU64,
    mark: AtomicU8,
}

impl Entry {
    /// Copies everything into one allocation.
    pub fn build(new: NewEntry<'_>) -> Arc<Self> {
        let label_at = new.full_key.len();
        let tags_at = label_at + new.label.len();
        let headers_at = tags_at + new.tags.iter().map(|tag| framed_len(tag.len())).sum::<usize>();
        let header_bytes = |(name, value): (&HeaderName, &HeaderValue)| {
            framed_len(name.as_str().len()) + framed_len(value.len())
        };
        let notes_at = headers_at + new.headers.iter().map(header_bytes).sum::<usize>();
        let body_at = notes_at + new.notes.len();
        let len = body_at + new.body.iter().map(Bytes::len).sum::<usize>();

        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(new.full_key);
        bytes.extend_from_slice(new.label.as_bytes());
        for tag in new.tags {
            put_frame(&mut bytes, tag.as_bytes());
        }
        for (name, value) in new.headers {
            put_frame(&mut bytes, name.as_str().as_bytes());
            put_frame(&mut bytes, value.as_bytes());
        }
        new.notes.write(&mut bytes);
        for piece in new.body {
            bytes.extend_from_slice(piece);
        }
        debug_assert_eq!(bytes.len(), len, "the allocation is exact");

        Arc::new(Self {
            bytes: bytes.into(),
            label_at,
            tags_at,
            headers_at,
            notes_at,
            body_at,
            header_names: new.headers.keys_len(),
            nominated: new.nominated,
            route: new.route,
            tenant: new.tenant,
            status: new.status,
            public: new.public,
            sensitive: new.sensitive,
            event_stream: stream::is_event_stream(new.headers),
            life: new.life,
            moment: new.moment,
            stored_at: new.stored_at,
            fetch_time: new.fetch_time,
            hits: AtomicU64::new(0),
            checked: AtomicU64::new(new.moment.version()),
            mark: AtomicU8::new(0),
        })
    }

    /// Status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// How long it may be used.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// The stored headers, with room for a few more. Values are slices of the entry, not copies.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::try_with_capacity(self.header_names + SPARE_HEADERS).unwrap_or_default();
        for (name, value) in self.header_lines() {
            let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name),
                HeaderValue::from_maybe_shared(self.bytes.slice_ref(value)),
            ) else {
                continue;
            };
            if headers.try_append(name, value).is_err() {
                break;
            }
        }
        headers
    }

    /// The first value of a stored header, without building the map.
    pub fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        self.header_lines()
            .find_map(|(stored, value)| (stored == name).then_some(value))
    }

    /// Every value of a stored header, in order.
    pub fn header_all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.header_lines()
            .filter(|(stored, _)| *stored == name.as_str().as_bytes())
            .map(|(_, value)| value)
    }

    /// The stored `ETag`.
    pub fn etag(&self) -> Option<&[u8]> {
        self.header(&ETAG)
    }

    /// The stored `Last-Modified`.
    pub fn last_modified(&self) -> Option<&[u8]> {
        self.header(&LAST_MODIFIED)
    }

    /// The body: a slice of the entry, not a copy.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body_at..)
    }

    /// Whether it is an event stream.
    pub fn is_event_stream(&self) -> bool {
        self.event_stream
    }

    /// The pace of an event stream; empty when it is not known.
    pub fn pace(&self) -> &[u8] {
        self.notes().pace
    }

    /// What it says about its tokens.
    pub fn usage(&self) -> Option<Usage> {
        match self.notes().usage {
            [] => None,
            usage => Usage::decode(usage),
        }
    }

    fn notes(&self) -> Notes<'_> {
        Notes::read(self.part(self.notes_at, self.body_at))
    }

    /// The same as a slice of the entry that outlives the reference.
    pub fn shared_pace(&self) -> Bytes {
        match self.pace() {
            [] => Bytes::new(),
            pace => self.bytes.slice_ref(pace),
        }
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> usize {
        self.bytes.len() - self.body_at
    }

    /// Whether its body is what these pieces make together.
    pub fn has_body(&self, pieces: &[Bytes]) -> bool {
        let mut rest = self.part(self.body_at, self.bytes.len());
        for piece in pieces {
            match rest.strip_prefix(&**piece) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// The whole cache key.
    pub fn full_key(&self) -> &[u8] {
        self.part(0, self.label_at)
    }

    /// `route:METHOD host/path?query`.
    pub fn label(&self) -> &str {
        std::str::from_utf8(self.part(self.label_at, self.tags_at)).unwrap_or_default()
    }

    /// Tags for purges.
    pub fn tags(&self) -> Tags<'_> {
        Tags(Frames(self.part(self.tags_at, self.headers_at)))
    }

    /// The request headers that `Vary` nominated.
    pub fn nominated(&self) -> &Nominated {
        &self.nominated
    }

    /// The route that filled it.
    pub fn route(&self) -> &Arc<str> {
        &self.route
    }

    /// The tenant it belongs to.
    pub fn tenant(&self) -> Option<&[u8; 32]> {
        self.tenant.as_ref()
    }

    /// May be given to everyone although the request had credentials.
    pub fn public(&self) -> bool {
        self.public
    }

    /// Must not be kept below the memory level unless it is encrypted there.
    pub fn sensitive(&self) -> bool {
        self.sensitive
    }

    /// What its fill had seen, when it began, of the order of purges that all replicas share.
    pub fn position(&self) -> u64 {
        self.moment.position()
    }

    /// Whether it was filled by this process, so that its times are of this process's clock.
    pub fn is_own(&self) -> bool {
        self.moment.is_own()
    }

    /// When its fill began, by the clock of the process that filled it, and what it had seen of purges.
    pub fn began(&self) -> Beginning {
        Beginning {
            at: self.stored_at,
            moment: self.moment,
        }
    }

    /// When it was made.
    pub fn stored_at(&self) -> Timestamp {
        self.stored_at
    }

    /// How long the last fetch or validation took.
    pub fn fetch_time(&self) -> Duration {
        self.fetch_time
    }

    /// How often it was used.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Counts one use.
    pub fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a soft purge was noticed: it is stale whatever its life says.
    pub fn soft_purged(&self) -> bool {
        self.mark() == Purged::Soft
    }

    /// Bytes of memory it occupies: its allocation, this struct, and what hangs on it, each rounded up as the
    /// allocator does. The share of the table that finds it is not included.
    pub fn weight(&self) -> u64 {
        const FIXED: usize = heap_bytes(ARC_COUNTERS + size_of::<Entry>()) + SHARED_BYTES;
        u64::try_from(FIXED + heap_bytes(self.bytes.len()) + self.nominated.heap_bytes()).unwrap_or(u64::MAX)
    }

    /// What is known of purges, true up to [`Entry::checked`].
    pub(super) fn mark(&self) -> Purged {
        Purged::from_rank(self.mark.load(Ordering::Acquire))
    }

    /// Version of the purge log up to which the mark is true.
    pub(super) fn checked(&self) -> u64 {
        self.checked.load(Ordering::Acquire)
    }

    /// Takes note of what the purge log says up to `version`. A mark is never taken back, and is set before the
    /// version, so that no reader sees the version without the mark.
    pub(super) fn note(&self, purged: Purged, version: u64) -> Purged {
        let before = self.mark.fetch_max(purged.rank(), Ordering::AcqRel);
        self.checked.fetch_max(version, Ordering::AcqRel);
        Purged::from_rank(before.max(purged.rank()))
    }

    fn header_lines(&self) -> HeaderLines<'_> {
        HeaderLines(Frames(self.part(self.headers_at, self.notes_at)))
    }

    fn part(&self, from: usize, to: usize) -> &[u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }
}

impl fmt::Debug for Entry {
    /// Neither key nor contents: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("route", &self.route)
            .field("status", &self.status)
            .field("body_len", &self.body_len())
            .field("life", &self.life)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

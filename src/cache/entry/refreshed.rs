//! A stored response that the origin has confirmed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderMap;

use super::{Entry, NewEntry};
use crate::cache::life::Life;
use crate::cache::purge::Moment;
use crate::cache::vary::Nominated;
use crate::clock::Timestamp;

/// What changes of a stored response when the origin confirms it.
pub struct Refreshed<'a> {
    /// The key under which it lives now.
    pub full_key: &'a [u8],
    /// Tags for purges.
    pub tags: &'a [&'a str],
    /// Request header values that the merged `Vary` names.
    pub nominated: Nominated,
    /// The merged headers.
    pub headers: &'a HeaderMap,
    /// How long it may be used.
    pub life: Life,
    /// What the validation had seen of the purge log when it began.
    pub moment: Moment,
    /// May be given to everyone although the request had credentials.
    pub public: bool,
    /// When the validation began.
    pub stored_at: Timestamp,
    /// How long it took.
    pub fetch_time: Duration,
}

impl Entry {
    /// The same response after the origin confirmed it (RFC 9111, section 4.3.4). Purges before `new.moment` no longer
    /// count.
    pub fn refreshed(&self, new: Refreshed<'_>) -> Arc<Self> {
        let entry = Self::build(NewEntry {
            full_key: new.full_key,
            label: self.label(),
            route: Arc::clone(&self.route),
            tenant: self.tenant,
            tags: new.tags,
            nominated: new.nominated,
            status: self.status,
            headers: new.headers,
            notes: self.notes(),
            body: &[self.body()],
            life: new.life,
            moment: new.moment,
            public: new.public,
            sensitive: self.sensitive,
            stored_at: new.stored_at,
            fetch_time: new.fetch_time,
        });
        entry.hits.store(self.hits(), Ordering::Relaxed);
        entry
    }
}

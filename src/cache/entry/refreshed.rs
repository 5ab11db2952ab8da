//! An entry after the origin has confirmed it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderMap;

use super::{Entry, NewEntry};
use crate::cache::life::Life;
use crate::clock::Timestamp;

/// What a confirmation changes of an entry.
pub struct Refreshed<'a> {
    /// The merged headers.
    pub headers: &'a HeaderMap,
    /// Tags for purges.
    pub tags: &'a [&'a str],
    /// How long it may be used from now on.
    pub life: Life,
    /// Position of the purge log when the validation began.
    pub position: u64,
    /// When that was.
    pub stored_at: Timestamp,
    /// How long it took.
    pub fetch_time: Duration,
}

impl Entry {
    /// The same response after the origin confirmed it (RFC 9111, section 4.3.4). Purges before that no longer count.
    pub fn refreshed(&self, new: Refreshed<'_>) -> Arc<Self> {
        let entry = Self::build(NewEntry {
            full_key: self.full_key(),
            label: self.label(),
            route: Arc::clone(&self.route),
            tenant: self.tenant,
            tags: new.tags,
            nominated: self.nominated.clone(),
            status: self.status,
            headers: new.headers,
            notes: self.notes(),
            body: &[self.body()],
            life: new.life,
            position: new.position,
            public: self.public,
            stored_at: new.stored_at,
            fetch_time: new.fetch_time,
        });
        entry.hits.store(self.hits(), Ordering::Relaxed);
        entry
    }
}

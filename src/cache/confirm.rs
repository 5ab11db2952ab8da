//! What becomes of a stored response that the origin has confirmed (RFC 9111, sections 4.3.4 and 4.3.5), or ended.

use std::sync::Arc;

use http::HeaderMap;

use super::adaptive::adapt;
use super::age::Times;
use super::digest::KeyDigest;
use super::engine::Cache;
use super::entry::{Entry, Refreshed};
use super::policy::Stored;
use super::search::SearchRule;
use super::tags::tags_of;
use super::{fields, key};
use crate::config;

/// What the origin's confirmation of an entry says (RFC 9111, sections 4.3.4 and 4.3.5).
pub struct Confirmation<'a> {
    /// The route that asked for it.
    pub route: &'a config::Route,
    /// Header fields of the request that caused it.
    pub asked: &'a HeaderMap,
    /// Its body.
    pub asked_body: &'a [u8],
    /// The entry's header fields, with those that came now.
    pub headers: &'a HeaderMap,
    /// What the policy allows by these.
    pub stored: &'a Stored,
    /// The purge log's position when it was asked for.
    pub position: u64,
    /// When that was, and when it came.
    pub times: Times,
}

/// The digest under which an entry is kept.
fn home(entry: &Entry) -> KeyDigest {
    key::digest(entry.full_key())
}

impl Cache {
    /// Replaces `old` by what its confirmation made of it. Returns the new entry, kept or not.
    pub fn refresh(&self, old: &Arc<Entry>, confirmed: &Confirmation<'_>) -> Arc<Entry> {
        let Confirmation { stored, times, .. } = confirmed;
        let tags = confirmed.route.cache.as_ref().map_or_else(Vec::new, |rules| {
            tags_of(rules, confirmed.headers, confirmed.asked, confirmed.asked_body)
        });
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let entry = old.refreshed(Refreshed {
            headers: &fields::storable(confirmed.headers, &stored.strip),
            tags: &tags,
            life: adapt(stored, Some(old), |_| true),
            position: confirmed.position,
            stored_at: times.requested,
            fetch_time: times.received.since(times.requested),
        });
        // With another rule for its query its place would be another one, too.
        if SearchRule::of(&old.headers()) != SearchRule::of(confirmed.headers) {
            self.remove(old);
        } else if let Some(memory) = &self.memory {
            memory.put(&home(old), Arc::clone(&entry));
        }
        entry
    }

    /// Takes out one entry that must not be used again.
    pub fn remove(&self, entry: &Arc<Entry>) {
        if let Some(memory) = &self.memory {
            memory.remove_entry(&home(entry), entry);
        }
    }
}

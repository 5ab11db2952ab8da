//! What becomes of a stored response that the origin has confirmed (RFC 9111, sections 4.3.4 and 4.3.5), or ended.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;

use super::adaptive::adapt;
use super::age::Times;
use super::digest::KeyDigest;
use super::engine::Cache;
use super::entry::{Entry, Refreshed};
use super::fields;
use super::key::Key;
use super::policy::Stored;
use super::purge::Moment;
use super::search::SearchRule;
use super::tags::tags_of;
use super::vary::Nominated;
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
    /// Request header values that their `Vary` names.
    pub nominated: Nominated,
    /// What had been seen of the purge log when it was asked for.
    pub moment: Moment,
    /// When that was, and when it came.
    pub times: Times,
}

/// The key under which `entry`, found for a request with `key`, is kept: that one, or one that was made of it.
fn holder<'k>(key: &'k Key, entry: &Entry) -> Cow<'k, Key> {
    let is_kept = |key: &Key| key.home(entry.full_key()).is_some();
    if is_kept(key) {
        return Cow::Borrowed(key);
    }
    let rule = SearchRule::of(&entry.headers());
    let under_rule = rule.and_then(|rule| key.under(&rule)).filter(is_kept);
    Cow::Owned(under_rule.unwrap_or_else(|| key.of_part()))
}

impl Cache {
    /// Replaces `old`, found by `key`, by what its confirmation made of it. Returns the new entry, kept or not.
    pub fn refresh(&self, key: &Key, old: &Arc<Entry>, confirmed: &Confirmation<'_>) -> Arc<Entry> {
        let Confirmation { stored, times, .. } = confirmed;
        let tags = confirmed.route.cache.as_ref().map_or_else(Vec::new, |rules| {
            tags_of(rules, confirmed.headers, confirmed.asked, confirmed.asked_body)
        });
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let holder = holder(key, old);
        let nominated = confirmed.nominated.clone();
        // What was for everyone and no longer is belongs from now on to whom it was confirmed for.
        let withdrawn = !stored.public && holder.public().is_some() && old.full_key() == holder.full(true);
        let full_key = if withdrawn {
            holder.full(false)
        } else {
            old.full_key()
        };
        // With another rule for its query its place would be another one, too.
        let moved = SearchRule::of(&old.headers()) != SearchRule::of(confirmed.headers);
        if withdrawn || moved || nominated != *old.nominated() {
            self.remove(key, old);
        }
        let entry = old.refreshed(Refreshed {
            full_key,
            tags: &tags,
            nominated,
            headers: &fields::storable(confirmed.headers, &stored.strip),
            life: adapt(stored, Some(old), |_| true),
            moment: confirmed.moment,
            public: stored.public,
            stored_at: times.requested,
            fetch_time: times.received.since(times.requested),
        });
        if let (Some(memory), Some(home), false) = (&self.memory, holder.home(full_key), moved)
            && let Some(slot) = memory.put(home, Arc::clone(&entry))
        {
            self.tiers.put(home, &slot);
        }
        entry
    }

    /// Takes out one entry, found by `key`, that must not be used again.
    pub fn remove(&self, key: &Key, entry: &Arc<Entry>) {
        let holder = holder(key, entry);
        if let (Some(memory), Some(home)) = (&self.memory, holder.home(entry.full_key())) {
            match memory.remove_entry(home, entry) {
                Some(rest) => self.tiers.put(home, &rest),
                None => self.tiers.remove(home),
            }
        }
    }

    /// The digest under which `entry`, found by `key`, is kept.
    pub fn home(&self, key: &Key, entry: &Entry) -> KeyDigest {
        let holder = holder(key, entry);
        *holder.home(entry.full_key()).unwrap_or(key.primary())
    }
}

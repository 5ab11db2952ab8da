//! Looking below memory, and telling the levels there what memory has learned.

use std::sync::Arc;

use super::control::RequestControl;
use super::digest::KeyDigest;
use super::engine::{Cache, Lookup, Request};
use super::entry::Entry;
use super::key::Key;
use super::purge::Purged;
use super::replication::Turn;
use super::request::control;
use super::slot::Slot;
use super::tiers::Found;
use crate::config::RouteCache;
use crate::telemetry::record::LevelId;

/// What a look-up below memory came to.
#[derive(Debug)]
pub struct Below {
    /// How it may be used.
    pub lookup: Lookup,
    /// The level that had it.
    pub level: LevelId,
}

impl Cache {
    /// Whether there are levels below memory.
    pub fn has_levels_below(&self) -> bool {
        !self.tiers.is_empty()
    }

    /// Looks below memory for what may answer the request; none if no level has anything for its key. What is found is
    /// in memory afterwards, and soon in the levels above the one that had it.
    ///
    /// One level is asked after the other, each at most once, and by one request at a time for each key.
    pub async fn look_below(&self, rules: &RouteCache, request: &Request<'_>) -> Option<Below> {
        if self.tiers.is_empty() || !rules.read {
            return None;
        }
        let control = control(rules, request.headers);
        let look = Box::pin(self.walk(request, &control, true));
        let found = self.tiers.once(request.key.primary(), look).await;
        self.judged(request, &control, &found)
    }

    /// What [`Cache::look_below`] would find, for an onlooker: nothing is kept, and nothing counts as a look-up of a
    /// request.
    pub async fn peek_below(&self, rules: &RouteCache, request: &Request<'_>) -> Option<Below> {
        if self.tiers.is_empty() || !rules.read {
            return None;
        }
        let control = control(rules, request.headers);
        let found = Box::pin(self.walk(request, &control, false)).await;
        self.judged(request, &control, &found)
    }

    fn judged(&self, request: &Request<'_>, control: &RequestControl, found: &Found) -> Option<Below> {
        let level = found.level?;
        let lookup = self.find(
            |memory, digest| found.slot(request.key, digest).or_else(|| memory.peek(digest)),
            request,
            control,
            self.tiers.clock().now(),
        );
        Some(Below { lookup, level })
    }

    /// Asks for the turn to fetch what is kept under `key`, alone among the replicas. None if nobody would find it in the
    /// level that they share, or if that level cannot say: then everyone fetches.
    pub async fn ask_for_turn(&self, rules: &RouteCache, key: &Key) -> Option<Turn> {
        let replication = self.replication.as_ref()?;
        let tier = self
            .tiers
            .iter()
            .find(|tier| tier.level.name() == replication.level())?;
        if !tier.is_readable() || (rules.sensitive && !tier.encrypts()) {
            return None;
        }
        replication.ask_for_turn(&tier.level_key(key.primary())).await
    }

    /// Whether something under `key` is still on its way to a level.
    pub fn is_being_written(&self, key: &Key) -> bool {
        let digests = [Some(key.primary()), key.public()];
        let mut digests = digests.into_iter().flatten();
        digests.any(|digest| self.tiers.iter().any(|tier| tier.is_being_written(digest)))
    }

    async fn walk(&self, request: &Request<'_>, control: &RequestControl, keep: bool) -> Found {
        let (own, public) = (request.key.primary(), request.key.public());
        let mut found = Found::default();
        for (index, tier) in self.tiers.iter().enumerate() {
            if !tier.is_readable() {
                continue;
            }
            let shared = async {
                match public {
                    Some(digest) => tier.find(digest).await,
                    None => None,
                }
            };
            let slots = tokio::join!(tier.find(own), shared);
            let mut anything = false;
            let both = [
                (Some(own), slots.0, &mut found.own),
                (public, slots.1, &mut found.shared),
            ];
            for (digest, slot, place) in both {
                let (Some(digest), Some(slot)) = (digest, slot) else {
                    continue;
                };
                let Some(slot) = self.usable(digest, &slot) else {
                    // Others may know better: this process only knows for sure what it has read in order.
                    if keep && self.purges.is_settled() {
                        self.tiers.remove(digest);
                    }
                    continue;
                };
                *place = Some(match (&self.memory, keep) {
                    (Some(memory), true) => memory.adopt(digest, &slot),
                    _ => slot,
                });
                anything = true;
            }
            if anything {
                found.level = Some(tier.id);
            }
            let answers = anything
                && self
                    .judged(request, control, &found)
                    .is_some_and(|below| !matches!(below.lookup, Lookup::Miss { .. }));
            if keep {
                tier.metrics.looked_up(answers);
            }
            if answers {
                if keep {
                    self.fill_above(index, request.key, &found);
                }
                break;
            }
        }
        found
    }

    fn fill_above(&self, below: usize, key: &Key, found: &Found) {
        for digest in [Some(key.primary()), key.public()].into_iter().flatten() {
            if let Some(slot) = found.slot(key, digest) {
                self.tiers.put_above(below, digest, &slot);
            }
        }
    }

    /// The variants that no purge has taken away for good; none if no variant is left.
    fn usable(&self, digest: &KeyDigest, slot: &Arc<Slot>) -> Option<Arc<Slot>> {
        let is_usable = |entry: &Entry| self.purges.is_purged(entry, digest) != Purged::Hard;
        if slot.variants().all(|entry| is_usable(entry)) {
            return Some(Arc::clone(slot));
        }
        slot.filtered(is_usable).map(Arc::new)
    }
}

impl Found {
    /// What was found under `digest`, which is one of the two of `key`.
    fn slot(&self, key: &Key, digest: &KeyDigest) -> Option<Arc<Slot>> {
        if digest == key.primary() {
            self.own.clone()
        } else {
            self.shared.clone()
        }
    }
}

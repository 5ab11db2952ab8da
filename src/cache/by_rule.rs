//! Responses that say which parameters of their query count (`No-Vary-Search`): where they are kept, and how they are
//! found.

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;

use super::control::RequestControl;
use super::digest::KeyDigest;
use super::engine::{Cache, Fill, Lookup, Request};
use super::key::Key;
use super::memory::Memory;
use super::purge::target_of;
use super::search::SearchRule;
use super::slot::Slot;
use crate::clock::Timestamp;

impl Cache {
    /// `found`, or what is stored for an equivalent query.
    pub(super) fn or_by_rule(
        &self,
        slot: impl Fn(&Memory, &KeyDigest) -> Option<Arc<Slot>>,
        found: Lookup,
        request: &Request<'_>,
        control: &RequestControl,
        now: Timestamp,
    ) -> Lookup {
        let Lookup::Miss { stale, .. } = &found else {
            return found;
        };
        let Some((key, since)) = self.equivalent(request.key) else {
            return found;
        };
        let equivalent = self.find(
            slot,
            &Request {
                key: &key,
                ..*request
            },
            control,
            now,
        );
        let better = match &equivalent {
            Lookup::Fresh(entry) | Lookup::Part(entry) | Lookup::Refresh(entry) => entry.stored_at() >= since,
            Lookup::Miss {
                stale: Some(entry), ..
            } => stale.is_none() && entry.stored_at() >= since,
            Lookup::Miss { stale: None, .. } => false,
        };
        if better { equivalent } else { found }
    }

    /// The key under which equivalent queries share what is stored, and since when; none where each has its own.
    pub fn equivalent(&self, key: &Key) -> Option<(Key, Timestamp)> {
        let label = self.searches.is_used().then(|| key.label())?;
        let known = self.searches.of(target_of(&label))?;
        Some((key.under(&known.rule)?, known.since))
    }

    /// The key under which the response of `fill` is kept. A rule of the response is in force from now on.
    pub(super) fn key_by_rule<'k>(&self, fill: &Fill<'k>) -> Cow<'k, Key> {
        let rule = SearchRule::of(fill.headers).filter(|_| fill.status != StatusCode::PARTIAL_CONTENT);
        match rule.and_then(|rule| Some((fill.key.under(&rule)?, rule))) {
            Some((key, rule)) => {
                self.searches
                    .learn(target_of(&fill.key.label()), rule, fill.began);
                Cow::Owned(key)
            }
            None => Cow::Borrowed(fill.key),
        }
    }
}

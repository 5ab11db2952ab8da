//! Everything that was played before, and so what may and what must answer.

use super::origin::Contact;
use super::steps::{Ask, Rules, Share};
use super::stored::Stored;

/// Everything that has happened in a sequence. Nothing is ever forgotten.
pub(super) struct World {
    pub(super) rules: &'static Rules,
    /// Numbers what happens.
    pub(super) clock: usize,
    pub(super) stored: Vec<Stored>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) purges: Vec<Purge>,
    pub(super) changes: Vec<Change>,
}

/// An exchange with the origin, as far as it disturbs what is stored.
pub(super) struct Exchange {
    pub(super) order: usize,
    /// As if it were stored.
    pub(super) response: Stored,
    pub(super) full: bool,
    pub(super) kept: bool,
}

pub(super) struct Purge {
    pub(super) order: usize,
    pub(super) target: Option<usize>,
    pub(super) soft: bool,
}

/// A successful unsafe request.
pub(super) struct Change {
    pub(super) order: usize,
    pub(super) at: u64,
    pub(super) target: usize,
}

/// How a stored response may answer, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Never,
    /// Once the origin has confirmed it, or when the origin fails.
    Validated,
    Stale,
    Fresh,
}

impl World {
    pub(super) fn new(rules: &'static Rules) -> Self {
        Self {
            rules,
            clock: 0,
            stored: Vec::new(),
            exchanges: Vec::new(),
            purges: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// How a stored response may answer at `now` (RFC 9111, section 4).
    pub(super) fn use_of(&self, stored: &Stored, ask: &Ask, now: u64) -> Use {
        let rules = self.rules;
        if stored.asked.target != ask.target
            || !stored.is_for(rules, ask)
            || !stored.is_selected_by(ask)
            || !stored.is_storable(rules)
            || self.purges_since(stored).any(|purge| !purge.soft)
        {
            return Use::Never;
        }
        let changed = self
            .changes
            .iter()
            .any(|change| change.target == ask.target && change.order > stored.order);
        let too_old = ask
            .wants(rules, "max-age")
            .is_some_and(|most| stored.age(now) > most);
        if changed
            || self.purges_since(stored).next().is_some()
            || stored.needs_validation(rules)
            || ask.refuses_stored(rules)
            || too_old
        {
            return Use::Validated;
        }
        let wanted = ask.wants(rules, "min-fresh");
        // A heuristic may give parts of a second.
        let grain = u64::from(rules.heuristic);
        let left = stored.left_or_none(rules, now).saturating_add_unsigned(grain);
        if left > 0 && wanted.is_none_or(|wanted| left.unsigned_abs() >= wanted) {
            return Use::Fresh;
        }
        let stale_for = left.unsigned_abs();
        let accepted = ask
            .wants(rules, "max-stale")
            .is_some_and(|most| stale_for <= most)
            && stored.may_be_stale(rules);
        if left <= 0 && wanted.is_none() && (accepted || stale_for <= stored.while_revalidate(rules)) {
            return Use::Stale;
        }
        Use::Validated
    }

    pub(super) fn purges_since(&self, stored: &Stored) -> impl Iterator<Item = &Purge> {
        let (order, target) = (stored.order, stored.asked.target);
        self.purges
            .iter()
            .filter(move |purge| purge.order > order && purge.target.is_none_or(|purged| purged == target))
    }

    /// Whether it may be used because the origin failed (RFC 5861, section 4; RFC 9111, section 4.2.4).
    pub(super) fn may_stand_in(&self, stored: &Stored, ask: &Ask, status: Option<u16>, now: u64) -> bool {
        let rules = self.rules;
        let changed = self
            .changes
            .iter()
            .any(|change| change.target == ask.target && change.order > stored.order);
        if self.use_of(stored, ask, now) == Use::Never
            || changed
            || stored.needs_validation(rules)
            || ask.refuses_stored(rules)
        {
            return false;
        }
        let stale_for = stored.left_or_none(rules, now).min(0).unsigned_abs();
        let asked = ask
            .wants(rules, "stale-if-error")
            .max(ask.wants(rules, "max-stale"))
            .unwrap_or(0);
        stale_for == 0
            || stale_for <= stored.if_error(rules)
            || (stored.may_be_stale(rules) && (status.is_none() || stale_for <= asked))
    }

    /// A more recent response that answers as well must be preferred (RFC 9111, section 4).
    pub(super) fn newer(&self, stored: &Stored, ask: &Ask, now: u64) -> Option<&Stored> {
        self.stored.iter().find(|other| {
            let dated = |one: &Stored| {
                one.fields
                    .get("date")
                    .is_none_or(|date| date == &super::origin::date(one.received))
            };
            other.began > stored.began
                && other.kept
                && dated(other)
                && dated(stored)
                && self.use_of(other, ask, now) == Use::Fresh
                && self.is_at_hand(other, ask)
        })
    }

    /// Whether a cache that is worth its name finds it for this request.
    pub(super) fn is_at_hand(&self, stored: &Stored, ask: &Ask) -> bool {
        let shared = self.rules.share == Share::All || (stored.whole && stored.is_public());
        let changed = |change: &&Change| change.target == stored.asked.target && change.at >= stored.began;
        stored.kept
            && (shared || stored.asked.principal() == ask.principal())
            && !self.changes.iter().any(|change| changed(&change))
            && !self
                .exchanges
                .iter()
                .any(|later| self.disturbs(later, stored, ask))
    }

    /// Whether a later exchange may have taken the place of what is stored.
    pub(super) fn disturbs(&self, later: &Exchange, stored: &Stored, ask: &Ask) -> bool {
        let response = &later.response;
        let seen = self.rules.share == Share::All
            || response.asked.principal() == ask.principal()
            || stored.is_for(self.rules, &response.asked)
            || response.is_public();
        let other_variant = later.full
            && later.kept
            && response.fields.get("vary") == stored.fields.get("vary")
            && !response.is_selected_by(ask);
        later.order > stored.order && response.asked.target == stored.asked.target && seen && !other_variant
    }

    /// The response that must answer without the origin, if there is one.
    pub(super) fn certain_hit(&self, ask: &Ask, now: u64) -> Option<&Stored> {
        let rules = self.rules;
        if ask.wants(rules, "no-store").is_some() || ask.wants(rules, "max-age") == Some(0) {
            return None;
        }
        let grain = i64::from(rules.heuristic);
        self.stored.iter().find(|stored| {
            let left = stored.left(rules, now).unwrap_or(0);
            let wanted = ask
                .wants(rules, "min-fresh")
                .map_or(0, |wanted| i64::try_from(wanted).unwrap());
            self.is_at_hand(stored, ask)
                && self.use_of(stored, ask, now) == Use::Fresh
                && left > grain
                && left >= wanted + grain
        })
    }

    /// The response that must stand in for an origin that fails, if there is one.
    pub(super) fn must_stand_in(&self, ask: &Ask, now: u64) -> Option<&Stored> {
        let rules = self.rules;
        if ask.wants(rules, "no-store").is_some() || ask.refuses_stored(rules) {
            return None;
        }
        self.stored.iter().find(|stored| {
            let left = stored.left(rules, now).unwrap_or(0);
            self.is_at_hand(stored, ask)
                && self.use_of(stored, ask, now) > Use::Never
                && self.purges_since(stored).next().is_none()
                && !stored.needs_validation(rules)
                && left <= 0
                && left.unsigned_abs() < stored.if_error(rules)
                && !self.is_tied(stored, ask, now)
        })
    }

    /// Whether the request's own response and one for everyone are of the same moment: then a cache may choose either, and
    /// has only that one to stand in.
    fn is_tied(&self, stored: &Stored, ask: &Ask, now: u64) -> bool {
        let elsewhere = |other: &&Stored| other.asked.principal() != stored.asked.principal();
        self.rules.share == Share::Safe
            && self
                .stored
                .iter()
                .filter(elsewhere)
                .any(|other| other.began == stored.began && self.use_of(other, ask, now) > Use::Never)
    }

    pub(super) fn wants_only_cached(&self, ask: &Ask) -> bool {
        // Who asks for no storing is not looked up.
        ask.wants(self.rules, "only-if-cached").is_some() && ask.wants(self.rules, "no-store").is_none()
    }

    /// Whether it is of any use to keep, or at least allowed.
    pub(super) fn is_worth_keeping(&self, stored: &Stored) -> bool {
        stored.is_storable(self.rules)
            && stored
                .left(self.rules, stored.received)
                .is_some_and(|left| left > 0)
    }

    /// What a 304 to this exchange may be about.
    pub(super) fn confirmed_by<'a>(
        &'a self,
        ask: &'a Ask,
        contact: &'a Contact,
        now: u64,
    ) -> impl Iterator<Item = &'a Stored> {
        self.stored.iter().filter(move |stored| {
            stored.is_validated_by(&contact.asked) && self.use_of(stored, ask, now) > Use::Never
        })
    }
}

pub(super) fn is_failure(status: Option<u16>) -> bool {
    matches!(status, None | Some(500 | 502 | 503 | 504))
}

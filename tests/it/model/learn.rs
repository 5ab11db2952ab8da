//! What a step that was judged changes.

use super::origin::Contact;
use super::stage::Played;
use super::steps::{Ask, Share};
use super::stored::Stored;
use super::world::{Change, Exchange, Use, World, is_failure};

/// How long a key that proved uncacheable is not filled, in seconds.
const HIT_FOR_MISS: u64 = 10;

impl World {
    pub(super) fn learn(&mut self, ask: &Ask, played: &Played, served: Option<Stored>) {
        for contact in &played.contacts {
            self.clock += 1;
            let order = self.clock;
            let fetched = response(ask, contact, order);
            match (contact.method.as_str(), contact.status) {
                (_, None) => continue,
                ("GET", Some(304)) => self.learn_confirmed(ask, contact, played, served.as_ref()),
                // The answer to HEAD may change what is stored, and need not (RFC 9111, section 4.3.5).
                ("HEAD", _) => {
                    let same = |stored: &&Stored| {
                        let equal = |name: &&str| {
                            let received = contact.fields.get(*name);
                            received.is_none() || received == stored.fields.get(*name)
                        };
                        contact.status == Some(304) || ["etag", "last-modified"].iter().all(equal)
                    };
                    let known = self
                        .stored
                        .iter()
                        .filter(|stored| self.use_of(stored, ask, played.from) > Use::Never);
                    // It may be as well of the request that had it confirmed.
                    let asked = Ask {
                        method: "GET",
                        ..ask.clone()
                    };
                    let updated: Vec<Stored> = known
                        .filter(same)
                        .map(|stored| stored.confirmed(contact, order))
                        .flat_map(|now| {
                            let own = Stored {
                                asked: asked.clone(),
                                ..now.clone()
                            };
                            [now, own]
                        })
                        .collect();
                    self.stored.extend(updated);
                }
                ("GET", _) => {
                    // An error of the origin is not kept where something may stand in for it.
                    let stands_in = |stored: &Stored| self.use_of(stored, ask, played.from) > Use::Never;
                    let kept = self.is_kept(&fetched)
                        && !(is_failure(contact.status) && self.stored.iter().any(stands_in));
                    self.stored.push(Stored {
                        kept,
                        ..fetched.clone()
                    });
                }
                (_, Some(200..=399)) => {
                    let located = self.located(contact);
                    for target in located.into_iter().chain([ask.target]) {
                        self.changes.push(Change {
                            order,
                            at: contact.answered,
                            target,
                        });
                    }
                }
                _ => {}
            }
            let kept = self
                .stored
                .last()
                .is_some_and(|last| last.order == order && last.kept);
            self.exchanges.push(Exchange {
                order,
                full: contact.method == "GET" && contact.status != Some(304),
                kept,
                response: fetched,
            });
        }
    }

    fn learn_confirmed(&mut self, ask: &Ask, contact: &Contact, played: &Played, served: Option<&Stored>) {
        let order = self.clock;
        let candidates: Vec<Stored> = self.confirmed_by(ask, contact, played.from).cloned().collect();
        for old in candidates {
            let mut now = old.confirmed(contact, order);
            let known = served.is_some_and(|served| served.body == old.body && served.mark() == old.mark());
            now.kept = known && old.kept && self.is_kept(&now);
            // It is as well of the request that had it confirmed, and of that alone if it is not for both.
            let asked = Ask {
                method: "GET",
                ..ask.clone()
            };
            let confirmed = Stored { asked, ..now.clone() };
            let confirmed = Stored {
                kept: confirmed.kept && confirmed.is_storable(self.rules),
                ..confirmed
            };
            now.kept = confirmed.kept && now.is_for(self.rules, ask) && now.is_selected_by(ask);
            self.stored.push(confirmed);
            self.stored.push(now);
        }
    }

    /// Whether a cache that is worth its name has it now.
    fn is_kept(&self, fetched: &Stored) -> bool {
        let remembered = |earlier: &&Exchange| {
            !earlier.kept
                && earlier.response.asked.target == fetched.asked.target
                && (self.rules.share == Share::All
                    || earlier.response.asked.principal() == fetched.asked.principal())
                && earlier.response.received + HIT_FOR_MISS >= fetched.began
        };
        self.is_worth_keeping(fetched)
            && !fetched.needs_validation(self.rules)
            && !self.exchanges.iter().any(|earlier| remembered(&earlier))
    }

    fn located(&self, contact: &Contact) -> Option<usize> {
        let location = contact.fields.get("location")?;
        let segment = format!("/{}/", self.rules.name);
        let rest = location.strip_prefix(&segment)?;
        super::steps::TARGETS.iter().position(|target| *target == rest)
    }
}

/// What an exchange brought, as if it were stored.
pub(super) fn response(ask: &Ask, contact: &Contact, order: usize) -> Stored {
    let method = if contact.method == "GET" {
        "GET"
    } else {
        ask.method
    };
    Stored {
        order,
        asked: Ask {
            method,
            ..ask.clone()
        },
        status: contact.status.unwrap_or(0),
        fields: contact.fields.clone(),
        body: contact.mark().to_owned(),
        began: contact.began,
        received: contact.answered,
        kept: false,
        whole: true,
    }
}

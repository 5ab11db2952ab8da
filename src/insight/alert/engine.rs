//! All alerts at one moment: evaluates the rules, moves the states, decides what is told.
//!
//! Invariant: of an alert each receiver is told once that it fires and once that it is over, whatever happens between:
//! inhibition, silence and acknowledgement hold back the first, and nothing holds back the second.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::book::{Acknowledgement, Alert, Book, Change, MAX_SILENCES, Notice, Silence, id};
use super::evaluate::Evaluation;
use super::machine::{Phase, Said};
use super::rule::{Rule, rules};
use super::source::Source;
use crate::clock::Timestamp;
use crate::config::{Alerts, Severity};

/// Rules, their alerts, and what is to be told.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Alerts>,
    rules: Vec<Rule>,
    book: Book,
    dropped: u64,
}

/// An alert as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<'a> {
    /// Its rule.
    pub rule: &'a Rule,
    /// Its state.
    pub alert: &'a Alert,
    /// Identifier; empty when inactive.
    pub id: String,
    /// Whether a more severe alert about the same holds it back.
    pub inhibited: bool,
    /// The silence that holds it back.
    pub silence: Option<&'a str>,
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such alert that is pending or fires, or no such silence.
    #[error("there is none with this identifier")]
    Unknown,
    /// A silence ends before it begins, or has ended.
    #[error("a silence ends after it begins, and in the future")]
    Ended,
    /// Too many silences.
    #[error("there are {MAX_SILENCES} silences; delete one")]
    TooMany,
}

impl Engine {
    /// Goes on with `book`, by the rules of `config`.
    pub fn new(config: Arc<Alerts>, book: Book, now: Timestamp) -> Self {
        let mut engine = Self {
            config: Arc::clone(&config),
            rules: Vec::new(),
            book,
            dropped: 0,
        };
        engine.reconfigure(config, now);
        engine
    }

    /// Takes over other rules. What fired by a rule that is gone, or has another condition now, is over.
    pub fn reconfigure(&mut self, config: Arc<Alerts>, now: Timestamp) {
        self.rules = rules(&config);
        self.config = config;
        let mut before = std::mem::take(&mut self.book.alerts);
        let mut gone = Vec::new();
        for rule in &self.rules {
            let condition = rule.expr.to_string();
            let alert = match before.remove(&*rule.name) {
                Some(alert) if alert.condition == condition => alert,
                other => {
                    gone.extend(other);
                    Alert {
                        condition,
                        ..Alert::default()
                    }
                }
            };
            self.book.alerts.insert(rule.name.to_string(), alert);
        }
        gone.extend(before.into_values());
        for mut alert in gone {
            self.tell_the_end(&mut alert, now);
        }
        let receivers = &self.config.receivers;
        self.book
            .waiting
            .retain(|name, _| receivers.iter().any(|receiver| *receiver.name == **name));
    }

    /// Evaluates every rule. Returns whether something changed that must be remembered.
    pub fn tick(&mut self, now: Timestamp, source: &dyn Source) -> bool {
        let evaluation = Evaluation {
            source,
            objectives: &self.config.objectives,
            now,
        };
        let mut changed = false;
        for rule in &self.rules {
            let said = match evaluation.judge(&rule.expr.condition) {
                Ok(judged) => Said::Judged {
                    holds: judged.holds,
                    value: judged.value,
                },
                Err(unhealthy) => Said::Nothing(unhealthy),
            };
            let Some(alert) = self.book.alerts.get_mut(&*rule.name) else {
                continue;
            };
            let before = alert.standing.phase;
            alert.standing = alert.standing.after(&rule.policy, now, said);
            let phase = alert.standing.phase;
            // What counts towards the next state is remembered, too.
            changed |= matches!(phase, Phase::Pending | Phase::Firing);
            if before == phase {
                continue;
            }
            changed = true;
            if !matches!(before, Phase::Pending) && matches!(phase, Phase::Pending | Phase::Firing) {
                alert.acknowledged = None;
            }
            let change = Change {
                id: id(&rule.name, alert.standing.started),
                rule: rule.name.to_string(),
                severity: rule.severity,
                state: phase,
                at: now.as_secs(),
                value: alert.standing.value,
            };
            self.book.remember(change);
        }
        self.tell(now) || changed
    }

    /// Puts into the queues what receivers do not know yet.
    fn tell(&mut self, now: Timestamp) -> bool {
        let mut told = false;
        for index in 0..self.rules.len() {
            let rule = &self.rules[index];
            let name = rule.name.to_string();
            let labels = rule.labels();
            let held_back = self.is_inhibited(rule) || self.silence(&labels, now).is_some();
            let Some(mut alert) = self.book.alerts.remove(&name) else {
                continue;
            };
            let rule = &self.rules[index];
            match alert.standing.phase {
                Phase::Firing if !held_back && alert.acknowledged.is_none() && alert.notice.is_none() => {
                    let all = self.config.receivers.iter().map(|receiver| &receiver.name);
                    let wanted: Vec<String> = match &rule.receivers {
                        Some(names) => names.iter().map(ToString::to_string).collect(),
                        None => all.map(ToString::to_string).collect(),
                    };
                    let notice = Notice {
                        number: 0,
                        id: id(&name, alert.standing.started),
                        rule: name.clone(),
                        severity: rule.severity,
                        state: Phase::Firing,
                        started_at: alert.standing.started,
                        ended_at: None,
                        value: alert.standing.value,
                        labels,
                        summary: rule.summary.clone(),
                    };
                    for receiver in &wanted {
                        self.queue(receiver, notice.clone());
                    }
                    (alert.told, alert.notice) = (wanted, Some(notice));
                    told = true;
                }
                Phase::Firing => {}
                _ => told |= self.tell_the_end(&mut alert, now),
            }
            self.book.alerts.insert(name, alert);
        }
        told
    }

    /// Tells those who know that `alert` fires that it is over.
    fn tell_the_end(&mut self, alert: &mut Alert, now: Timestamp) -> bool {
        let Some(fired) = alert.notice.take() else {
            return false;
        };
        let notice = Notice {
            state: Phase::Resolved,
            ended_at: Some(now.as_micros()),
            value: alert.standing.value,
            ..fired
        };
        for receiver in std::mem::take(&mut alert.told) {
            self.queue(&receiver, notice.clone());
        }
        true
    }

    fn queue(&mut self, receiver: &str, notice: Notice) {
        let number = self.book.next;
        self.book.next += 1;
        let pushed_out = self.book.queue(receiver, Notice { number, ..notice });
        self.dropped += u64::from(pushed_out);
    }

    /// Whether a more severe rule about the same fires.
    fn is_inhibited(&self, rule: &Rule) -> bool {
        self.rules.iter().any(|other| {
            other.subject == rule.subject
                && other.severity > rule.severity
                && self.phase(&other.name) == Phase::Firing
        })
    }

    fn silence(&self, labels: &BTreeMap<String, String>, now: Timestamp) -> Option<&str> {
        let mut silences = self.book.silences.iter();
        let found = silences.find(|silence| silence.holds_back(labels, now));
        found.map(|silence| silence.id.as_str())
    }

    fn phase(&self, rule: &str) -> Phase {
        self.book
            .alerts
            .get(rule)
            .map_or(Phase::Inactive, |alert| alert.standing.phase)
    }

    /// Every rule with its alert, by name.
    pub fn alerts(&self, now: Timestamp) -> impl Iterator<Item = Shown<'_>> {
        self.rules.iter().filter_map(move |rule| {
            let alert = self.book.alerts.get(&*rule.name)?;
            let id = match alert.standing.phase {
                Phase::Inactive => String::new(),
                _ => id(&rule.name, alert.standing.started),
            };
            Some(Shown {
                rule,
                alert,
                id,
                inhibited: alert.standing.phase == Phase::Firing && self.is_inhibited(rule),
                silence: self.silence(&rule.labels(), now),
            })
        })
    }

    /// How many alerts there are of each severity in each state.
    pub fn counts(&self) -> Vec<(Severity, Phase, u64)> {
        let of = |severity, phase| {
            let matching = self.rules.iter().filter(|rule| rule.severity == severity);
            matching.filter(|rule| self.phase(&rule.name) == phase).count() as u64
        };
        let pairs = Severity::ALL
            .into_iter()
            .flat_map(|severity| Phase::ALL.map(|phase| (severity, phase)));
        pairs
            .map(|(severity, phase)| (severity, phase, of(severity, phase)))
            .collect()
    }

    /// Somebody takes over an alert: it is told nobody else, until it is over.
    ///
    /// # Errors
    /// When there is no pending or firing alert with this identifier.
    pub fn acknowledge(&mut self, id: &str, by: Acknowledgement) -> Result<(), Refused> {
        let mut alerts = self.book.alerts.iter_mut();
        let found = alerts.find(|(rule, alert)| {
            matches!(alert.standing.phase, Phase::Pending | Phase::Firing)
                && super::book::id(rule, alert.standing.started) == id
        });
        let (_, alert) = found.ok_or(Refused::Unknown)?;
        alert.acknowledged = Some(by);
        Ok(())
    }

    /// Adds a silence, and forgets those that ended a week ago.
    ///
    /// # Errors
    /// When it is over already, or there are too many.
    pub fn silence_with(&mut self, silence: Silence, now: Timestamp) -> Result<(), Refused> {
        const WEEK: u64 = 7 * 24 * 60 * 60;
        if silence.ends_at <= silence.starts_at || silence.ends_at <= now.as_secs() {
            return Err(Refused::Ended);
        }
        self.book
            .silences
            .retain(|old| old.ends_at.saturating_add(WEEK) > now.as_secs());
        if self.book.silences.len() >= MAX_SILENCES {
            return Err(Refused::TooMany);
        }
        self.book.silences.push(silence);
        Ok(())
    }

    /// Removes a silence.
    ///
    /// # Errors
    /// When there is none with this identifier.
    pub fn unsilence(&mut self, id: &str) -> Result<(), Refused> {
        let before = self.book.silences.len();
        self.book.silences.retain(|silence| silence.id != id);
        match self.book.silences.len() < before {
            true => Ok(()),
            false => Err(Refused::Unknown),
        }
    }

    /// What is remembered.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The rules and receivers in force.
    pub fn config(&self) -> &Arc<Alerts> {
        &self.config
    }

    /// Notices that were pushed out of full queues.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The next notice for `receiver` with a number below `below`.
    pub fn next_for(&self, receiver: &str, below: u64) -> Option<&Notice> {
        let notice = self.book.waiting.get(receiver)?.front()?;
        (notice.number < below).then_some(notice)
    }

    /// A notice was delivered, or given up.
    pub fn done(&mut self, receiver: &str, number: u64) {
        if let Some(waiting) = self.book.waiting.get_mut(receiver) {
            waiting.retain(|notice| notice.number != number);
        }
    }

    /// What `receiver` has been told to fire, and what is not waiting for it: what an Alertmanager is reminded of.
    pub fn firing_for(&self, receiver: &str) -> Vec<Notice> {
        let waiting = self.book.waiting.get(receiver);
        let is_waiting = |notice: &Notice| {
            let mut queue = waiting.into_iter().flatten();
            queue.any(|other| other.id == notice.id)
        };
        let alerts = self.book.alerts.values();
        alerts
            .filter(|alert| alert.told.iter().any(|name| name == receiver))
            .filter_map(|alert| alert.notice.clone())
            .filter(|notice| !is_waiting(notice))
            .collect()
    }
}

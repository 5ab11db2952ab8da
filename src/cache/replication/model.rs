//! What replicas share, as an obviously right model in memory: for the simulation, and to compare the scripts with.

use std::collections::BTreeMap;

use super::super::purge::{Batch, Id, Shipped};
use super::protocol::{Answer, Call, Followed, barrier, decode, encode};

/// The shared place.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Its clock, in microseconds.
    pub(super) now: u64,
    /// Name and beginning of the incarnation.
    pub(super) incarnation: Option<(Id, u64)>,
    last: u64,
    /// Records with their texts, by position.
    pub(super) log: BTreeMap<u64, (Id, String)>,
    /// Where a record was placed, in this incarnation and the ones that it goes on from.
    placed: BTreeMap<Id, u64>,
    changed: BTreeMap<u16, u64>,
    replicas: BTreeMap<Id, (u64, u64)>,
    /// Records that are kept.
    max_records: usize,
    /// Records of one answer.
    page: usize,
    /// How long a replica is remembered.
    lifetime: u64,
}

impl Model {
    /// An empty place.
    pub(super) fn new(now: u64, max_records: usize, page: usize) -> Self {
        Self {
            now,
            max_records,
            page,
            lifetime: 10_000_000,
            ..Self::default()
        }
    }

    /// Loses everything but its settings.
    pub(super) fn lose(&mut self) {
        *self = Self::new(self.now, self.max_records, self.page);
    }

    /// Does what `replica` asks.
    pub(super) fn answer(&mut self, replica: Id, call: &Call) -> Answer {
        match call {
            Call::Begin {
                replaces,
                incarnation,
                after,
            } => self.begin(*replaces, *incarnation, *after),
            Call::Follow {
                incarnation,
                anchor,
                position,
            } => {
                let Some((id, began)) = self.incarnation else {
                    return Answer::Lost;
                };
                if *incarnation != Some(id) {
                    return Answer::Incarnation { id, began };
                }
                let first = self.log.keys().next().copied().unwrap_or_default();
                let (mut from, mut gap) = (0, false);
                if let Some(anchor) = anchor {
                    match self.log.get(&anchor.position) {
                        Some((id, _)) if *id == anchor.id => from = anchor.position + 1,
                        _ if first > anchor.position => gap = true,
                        _ => return Answer::RolledBack,
                    }
                }
                if self.last < *position {
                    return Answer::RolledBack;
                }
                self.followed(replica, from, gap, first, *position)
            }
            Call::Publish {
                incarnation,
                records,
                changed,
            } => {
                let Some((id, began)) = self.incarnation else {
                    return Answer::Lost;
                };
                if *incarnation != id {
                    return Answer::Incarnation { id, began };
                }
                let before = self.last;
                let mut places = Vec::new();
                for record in records {
                    if let Some(position) = self.placed.get(&record.id) {
                        places.push(*position);
                        continue;
                    }
                    self.last = self.now.max(self.last + 1);
                    let text = encode(&record.selector, record.mode);
                    self.log.insert(self.last, (record.id, text));
                    self.placed.insert(record.id, self.last);
                    places.push(self.last);
                }
                if self.last > before {
                    while self.log.len() > self.max_records {
                        self.log.pop_first();
                    }
                    if self.placed.len() > 2 * self.max_records {
                        self.placed.clear();
                    }
                }
                if !changed.is_empty() {
                    self.last = self.now.max(self.last + 1);
                    self.changed
                        .extend(changed.iter().map(|bucket| (*bucket, self.last)));
                }
                Answer::Published {
                    last: self.last,
                    places,
                }
            }
        }
    }

    fn begin(&mut self, replaces: Option<Id>, incarnation: Id, after: u64) -> Answer {
        if let Some((id, began)) = self.incarnation
            && replaces != Some(id)
        {
            return Answer::Incarnation { id, began };
        }
        let began = self.now.max(after + 1).max(self.last + 1);
        self.last = began;
        self.log.insert(began, (incarnation, barrier()));
        self.replicas.clear();
        self.incarnation = Some((incarnation, began));
        Answer::Incarnation {
            id: incarnation,
            began,
        }
    }

    fn followed(&mut self, replica: Id, from: u64, gap: bool, first: u64, position: u64) -> Answer {
        let records: Vec<Shipped> = self
            .log
            .range(from..)
            .take(self.page)
            .map(|(position, (id, text))| {
                let (mode, selector) = decode(text.as_bytes());
                Shipped {
                    id: *id,
                    position: *position,
                    selector,
                    mode,
                }
            })
            .collect();
        let now = self.now;
        self.replicas.insert(replica, (position, now + self.lifetime));
        self.replicas.retain(|_, (_, expires)| *expires >= now);
        Answer::Followed(Followed {
            batch: Batch {
                first,
                gap,
                end: (records.len() < self.page).then_some(self.last),
                records,
            },
            changed: self
                .changed
                .iter()
                .filter(|(_, at)| **at > position)
                .map(|(bucket, at)| (*bucket, *at))
                .collect(),
            replicas: self
                .replicas
                .iter()
                .map(|(id, (position, _))| (*id, *position))
                .collect(),
        })
    }
}

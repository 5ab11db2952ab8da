//! The cache of the process: levels, flights and the purge log together.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use super::adaptive::adapt;
use super::control::RequestControl;
use super::digest::KeyDigest;
use super::entry::{Entry, NewEntry, Notes};
use super::failures::Failures;
use super::fields;
use super::flight::{Beginning, Flights, Leader, Ticket};
use super::groups;
use super::invalidation::Invalidations;
use super::key::Key;
use super::memory::Memory;
use super::negative::NegativeMemory;
use super::policy::Stored;
use super::purge::{Moment, PurgeLog, Purged, target_of};
use super::replication::Replication;
use super::reuse::{self, Failure, Use};
use super::search::SearchRules;
use super::sketch::UseSketch;
use super::slot::{Selected, Slot};
use super::tags::tags_of;
use super::tiers::Tiers;
use super::vary::Nominated;
use super::verdict::{MissReason, RefuseReason};
use crate::clock::{Clock, Timestamp};
use crate::config;

/// How long a key that proved uncacheable is fetched without waiting for others.
const HIT_FOR_MISS: Duration = Duration::from_secs(10);
/// Keys remembered as uncacheable.
const HIT_FOR_MISS_KEYS: u64 = 65_536;

/// The cache of the process. Shared by all workers.
#[derive(Debug)]
pub struct Cache {
    /// The first level; none when the configuration has no level.
    pub memory: Option<Memory>,
    /// The levels below it.
    pub tiers: Arc<Tiers>,
    /// What was purged, in order.
    pub purges: Arc<PurgeLog>,
    /// Fills under way.
    pub flights: Flights,
    /// Keys that proved uncacheable a moment ago.
    pub hit_for_miss: NegativeMemory,
    /// Keys whose fetch failed a moment ago.
    pub failures: Failures,
    /// Which parameters of queries count, where responses say so.
    pub searches: SearchRules,
    /// Targets that unsafe methods have changed.
    pub invalidations: Arc<Invalidations>,
    /// What keeps them and `purges` in step with other replicas, if there are any.
    pub replication: Option<Arc<Replication>>,
    /// How often keys missed, for routes that store only what is used again; made for the first of them.
    uses: OnceLock<UseSketch>,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Lookup {
    /// Usable as it is.
    Fresh(Arc<Entry>),
    /// A stored part that holds what the request asks for, usable as it is.
    Part(Arc<Entry>),
    /// Usable now, but due for validation behind the client's back.
    Refresh(Arc<Entry>),
    /// Not usable without the origin.
    Miss {
        /// Why.
        reason: MissReason,
        /// What may be validated, or served if the origin fails.
        stale: Option<Arc<Entry>>,
    },
}

/// A request as the cache looks it up.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its key.
    pub key: &'a Key,
    /// Its method.
    pub method: &'a Method,
    /// Its header fields; `Vary` is about these.
    pub headers: &'a HeaderMap,
}

/// A response on its way into the cache.
pub struct Fill<'a> {
    /// The route that fetched it.
    pub route: &'a config::Route,
    /// The key of the request that caused the fill.
    pub key: &'a Key,
    /// The tenant, when the route shares by tenant.
    pub tenant: Option<[u8; 32]>,
    /// Header fields of that request.
    pub asked: &'a HeaderMap,
    /// Its body.
    pub asked_body: &'a [u8],
    /// Status of the response.
    pub status: StatusCode,
    /// Its headers, without hop-by-hop fields.
    pub headers: &'a HeaderMap,
    /// What is known of its body beside it.
    pub notes: Notes<'a>,
    /// Request header values that its `Vary` names.
    pub nominated: Nominated,
    /// What the policy allowed.
    pub stored: &'a Stored,
    /// The stale entry in whose place it comes.
    pub previous: Option<&'a Entry>,
    /// What the fill had seen of the purge log when it began.
    pub moment: Moment,
    /// When the fill began.
    pub began: Timestamp,
    /// How long it took.
    pub fetch_time: Duration,
}

impl Cache {
    /// An empty cache over the configured memory level.
    pub fn new(levels: &config::Cache, purges: PurgeLog, clock: Clock) -> Self {
        Self {
            memory: levels.memory.as_ref().map(Memory::new),
            tiers: Arc::new(Tiers::none(clock.clone())),
            invalidations: Arc::new(invalidations_of(&purges, Invalidations::default())),
            purges: Arc::new(purges),
            flights: Flights::new(),
            hit_for_miss: NegativeMemory::new(HIT_FOR_MISS_KEYS, HIT_FOR_MISS, clock.clone()),
            failures: Failures::new(clock),
            searches: SearchRules::default(),
            replication: None,
            uses: OnceLock::new(),
        }
    }

    /// This cache with these levels below memory, and with what is known of invalidations before the process began.
    pub fn over(self, tiers: Arc<Tiers>, invalidations: Invalidations) -> Self {
        Self {
            tiers,
            invalidations: Arc::new(invalidations_of(&self.purges, invalidations)),
            ..self
        }
    }

    /// Looks in memory for an entry that may answer the request: of the request's own partition, or an explicitly public
    /// one if that answers better or is more recent; and a whole response rather than a part of it.
    pub fn lookup(&self, request: &Request<'_>, control: &RequestControl, now: Timestamp) -> Lookup {
        let found = self.find(Memory::get, request, control, now);
        let found = self.or_by_rule(Memory::get, found, request, control, now);
        self.or_part(Memory::get, found, request, control, now)
    }

    /// The same for an onlooker: it does not count as a use where the level can tell.
    pub fn peek(&self, request: &Request<'_>, control: &RequestControl, now: Timestamp) -> Lookup {
        let found = self.find(Memory::peek, request, control, now);
        let found = self.or_by_rule(Memory::peek, found, request, control, now);
        self.or_part(Memory::peek, found, request, control, now)
    }

    pub(super) fn find(
        &self,
        slot: impl Fn(&Memory, &KeyDigest) -> Option<Arc<Slot>>,
        request: &Request<'_>,
        control: &RequestControl,
        now: Timestamp,
    ) -> Lookup {
        let own = self.judge(&slot, request, false, control, now);
        if request.key.public().is_none() {
            return own;
        }
        let shared = self.judge(&slot, request, true, control, now);
        if is_preferred(&shared, &own) { shared } else { own }
    }

    fn judge(
        &self,
        slot: impl Fn(&Memory, &KeyDigest) -> Option<Arc<Slot>>,
        request: &Request<'_>,
        public: bool,
        control: &RequestControl,
        now: Timestamp,
    ) -> Lookup {
        let miss = |reason| Lookup::Miss { reason, stale: None };
        let key = request.key;
        let digest = if public { key.public() } else { Some(key.primary()) };
        let (Some(memory), Some(digest)) = (&self.memory, digest) else {
            return miss(MissReason::Uri);
        };
        let Some(slot) = slot(memory, digest) else {
            return miss(MissReason::Uri);
        };
        // The unpartitioned slot also holds answers to anonymous requests; those are not for everyone.
        let wanted =
            |entry: &Entry| (!public || entry.public()) && entry.nominated().matches(request.headers);
        let entry = match slot.select(key.full(public), wanted) {
            Selected::Found(entry) => entry,
            // What is not public is not there for this request, whatever it varies on.
            Selected::OtherVariant if public && !slot.variants().any(|entry| entry.public()) => {
                return miss(MissReason::Uri);
            }
            Selected::OtherVariant => return miss(MissReason::Vary),
            Selected::Empty => return miss(MissReason::Uri),
        };
        self.use_of(entry, digest, control, now)
    }

    /// How `entry`, which is kept under `digest`, may be used.
    pub fn use_of(
        &self,
        entry: Arc<Entry>,
        digest: &KeyDigest,
        control: &RequestControl,
        now: Timestamp,
    ) -> Lookup {
        match self.purges.is_purged(&entry, digest) {
            Purged::Hard => {
                return Lookup::Miss {
                    reason: MissReason::Purged,
                    stale: None,
                };
            }
            Purged::Soft => {
                return Lookup::Miss {
                    reason: MissReason::Purged,
                    stale: Some(entry),
                };
            }
            Purged::No => {}
        }
        if self.is_invalidated(&entry) {
            return Lookup::Miss {
                reason: MissReason::Invalidated,
                stale: Some(entry),
            };
        }
        if self.purges.is_capped(&entry, now) {
            return Lookup::Miss {
                reason: MissReason::Unreachable,
                stale: Some(entry),
            };
        }
        match reuse::may_use(entry.life(), control, now) {
            Use::Fresh | Use::StaleAccepted => Lookup::Fresh(entry),
            Use::StaleWhileRevalidate => Lookup::Refresh(entry),
            Use::Validate(reason) => Lookup::Miss {
                reason,
                stale: Some(entry),
            },
        }
    }

    /// Whether `entry` may be served because the origin failed. What an unsafe request has invalidated must be
    /// validated before it is sent again (RFC 9111, section 4.4).
    pub fn may_stand_in(
        &self,
        entry: &Entry,
        control: &RequestControl,
        failure: Failure,
        now: Timestamp,
    ) -> bool {
        !self.is_invalidated(entry) && reuse::may_use_on_error(entry.life(), control, failure, now)
    }

    /// Counts one use of `key` that nothing stored could answer; how many there were lately, with this one.
    pub fn count_use(&self, key: &Key) -> u16 {
        self.uses.get_or_init(UseSketch::new).count(key.primary())
    }

    /// Joins the flight that fetches the request's response, or begins one.
    ///
    /// A flight that began before a purge, or before an unsafe request changed the target, is not joined: whoever
    /// asks after that must not get an older answer. Any purge counts, and any group that was invalidated, for the
    /// tags and groups of a response that has not come yet are unknown.
    pub fn board(&self, request: &Request<'_>, now: Timestamp) -> Ticket {
        let beginning = self.beginning(now);
        let (digest, full_key) = (request.key.primary(), request.key.full(false));
        self.flights.board(digest, full_key, beginning, |began| {
            began.moment.version() != beginning.moment.version()
                || self.invalidations.covers(target_of(&request.key.label()), began)
                || self.invalidations.any_group_since(began)
        })
    }

    /// Begins a flight that nobody can join.
    pub fn fly_alone(&self, request: &Request<'_>, now: Timestamp) -> Leader {
        let (digest, full_key) = (request.key.primary(), request.key.full(false));
        self.flights.alone(digest, full_key, self.beginning(now))
    }

    /// Whether an unsafe request has changed the target of `entry`, or a group that it is in, since its fill began.
    pub fn is_invalidated(&self, entry: &Entry) -> bool {
        let (target, began) = (target_of(entry.label()), entry.began());
        if self.invalidations.covers(target, began) {
            return true;
        }
        // Hardly ever: hits do not pay for the groups.
        self.invalidations.any_group_since(began) && {
            let authority = target.split('/').next().unwrap_or_default();
            let groups = groups::read(entry.header_all(&groups::CACHE_GROUPS));
            groups
                .iter()
                .any(|group| self.invalidations.covers_group(authority, group, began))
        }
    }

    fn beginning(&self, now: Timestamp) -> Beginning {
        Beginning {
            moment: self.purges.moment(),
            at: now,
        }
    }

    /// Stores a complete response, unless what is stored already is from a later fill.
    ///
    /// # Errors
    /// Why the level does not take it.
    pub fn store(&self, fill: &Fill<'_>, body: &[bytes::Bytes]) -> Result<Arc<Entry>, RefuseReason> {
        let memory = self.memory.as_ref().ok_or(RefuseReason::ReadOnly)?;
        let key = self.key_by_rule(fill);
        let (digest, public) = match key.public() {
            Some(shared) if fill.stored.public => (shared, true),
            _ => (key.primary(), fill.stored.public),
        };
        let label = key.label();
        let rules = fill.route.cache.as_ref();
        let tags = rules.map_or_else(Vec::new, |rules| {
            tags_of(rules, fill.headers, fill.asked, fill.asked_body)
        });
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let headers = fields::storable(fill.headers, &fill.stored.strip);
        let entry = Entry::build(NewEntry {
            full_key: key.full(key.public().is_some() && public),
            label: &label,
            route: Arc::clone(&fill.route.name),
            tenant: fill.tenant,
            tags: &tags,
            nominated: fill.nominated.clone(),
            status: fill.status,
            headers: &headers,
            notes: fill.notes,
            body,
            life: adapt(fill.stored, fill.previous, |old| {
                old.status() == fill.status && old.has_body(body)
            }),
            moment: fill.moment,
            public,
            sensitive: rules.is_some_and(|rules| rules.sensitive),
            stored_at: fill.began,
            fetch_time: fill.fetch_time,
        });
        if !memory.has_room_for(&entry) {
            return Err(RefuseReason::TooLarge);
        }
        if let Some(slot) = memory.put(digest, Arc::clone(&entry)) {
            self.tiers.put(digest, &slot);
        }
        Ok(entry)
    }
}

/// Whether a request is better answered by what is for everyone than by its own: the one that needs the origin less, and
/// of two alike the more recent (RFC 9111, section 4).
fn is_preferred(shared: &Lookup, own: &Lookup) -> bool {
    match (shared, own) {
        (Lookup::Fresh(theirs), Lookup::Fresh(mine))
        | (Lookup::Refresh(theirs), Lookup::Refresh(mine))
        | (
            Lookup::Miss {
                stale: Some(theirs), ..
            },
            Lookup::Miss {
                stale: Some(mine), ..
            },
        ) => theirs.stored_at() > mine.stored_at(),
        (_, Lookup::Fresh(_)) => false,
        (Lookup::Fresh(_), _) => true,
        (_, Lookup::Refresh(_)) => false,
        (Lookup::Refresh(_), _) => true,
        (Lookup::Miss { .. }, Lookup::Miss { reason, .. }) => *reason == MissReason::Uri,
        // Parts are looked for when neither has anything.
        (Lookup::Part(_), _) | (_, Lookup::Part(_)) => false,
    }
}

/// The table of invalidations beside `purges`: other replicas are told of what is in it if they share the log.
fn invalidations_of(purges: &PurgeLog, table: Invalidations) -> Invalidations {
    if purges.is_shared() {
        table.replicated()
    } else {
        table
    }
}

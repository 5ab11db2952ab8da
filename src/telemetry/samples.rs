//! Figures that their owners keep anyway and that are read only when somebody scrapes: cache levels, endpoints by
//! state, the purge log.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::DescriptorEncoder;

use super::families;

/// State of one cache level, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelSample {
    /// Entries kept.
    pub entries: Option<u64>,
    /// Bytes kept, keys and overhead included.
    pub bytes: Option<u64>,
    /// Entries that had to make room, since the start.
    pub evictions: Option<u64>,
}

/// State of the purge log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PurgeLogSample {
    /// Position of the last purge that was applied.
    pub position: u64,
    /// How replication is doing; none without replicas.
    pub replication: Option<ReplicationSample>,
}

/// State of the replication of purges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicationSample {
    /// Whether the purges of all replicas are known.
    pub up: bool,
    /// Seconds since they were.
    pub lag: f64,
    /// Own purges that others cannot know of yet.
    pub unpublished: u64,
    /// Other replicas that were heard of lately.
    pub replicas: u64,
    /// Shared logs joined since the start.
    pub incarnations: u64,
}

/// Endpoints of one upstream in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCount {
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// A stable name: `healthy`, `unhealthy`, `draining`.
    pub state: &'static str,
    /// How many.
    pub endpoints: u64,
}

type Read<T> = Box<dyn Fn() -> T + Send + Sync>;

/// The readers that the owners have registered.
#[derive(Default)]
pub(super) struct Samples {
    levels: RwLock<Vec<(Arc<str>, Read<LevelSample>)>>,
    upstreams: RwLock<Option<Read<Vec<EndpointCount>>>>,
    purge_log: RwLock<Option<Read<PurgeLogSample>>>,
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples").finish_non_exhaustive()
    }
}

impl Samples {
    /// Reads level `name` from now on with `read`, in place of an earlier reader of that name.
    pub(super) fn watch_level(&self, name: &str, read: Read<LevelSample>) {
        let mut levels = self.levels.write();
        levels.retain(|(level, _)| &**level != name);
        levels.push((Arc::from(name), read));
    }

    pub(super) fn watch_upstreams(&self, read: Read<Vec<EndpointCount>>) {
        *self.upstreams.write() = Some(read);
    }

    pub(super) fn watch_purge_log(&self, read: Read<PurgeLogSample>) {
        *self.purge_log.write() = Some(read);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let levels: Vec<_> = self
            .levels
            .read()
            .iter()
            .map(|(name, read)| (Arc::clone(name), read()))
            .collect();
        let mut samples = families::CACHE_ENTRIES.describe(encoder)?;
        for (level, entries) in known(&levels, |sample| sample.entries) {
            families::gauge(&mut samples, [("level", level)], entries as f64)?;
        }
        let mut samples = families::CACHE_BYTES.describe(encoder)?;
        for (level, bytes) in known(&levels, |sample| sample.bytes) {
            families::gauge(&mut samples, [("level", level)], bytes as f64)?;
        }
        let mut samples = families::CACHE_EVICTIONS.describe(encoder)?;
        for (level, evictions) in known(&levels, |sample| sample.evictions) {
            families::counter(&mut samples, [("level", level)], evictions)?;
        }
        let counts = self
            .upstreams
            .read()
            .as_ref()
            .map(|read| read())
            .unwrap_or_default();
        let mut samples = families::UPSTREAM_ENDPOINTS.describe(encoder)?;
        for count in counts {
            let labels = [("upstream", &*count.upstream), ("state", count.state)];
            families::gauge(&mut samples, labels, count.endpoints as f64)?;
        }
        let log = self
            .purge_log
            .read()
            .as_ref()
            .map_or_else(PurgeLogSample::default, |read| read());
        let mut samples = families::PURGE_LOG_POSITION.describe(encoder)?;
        families::gauge(&mut samples, [], log.position as f64)?;
        encode_replication(log.replication, encoder)
    }
}

fn encode_replication(sample: Option<ReplicationSample>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    type Figure = fn(&ReplicationSample) -> f64;
    let gauges: [(&families::Family, Figure); 4] = [
        (&families::PURGE_REPLICATION_UP, |sample| {
            f64::from(u8::from(sample.up))
        }),
        (&families::PURGE_REPLICATION_LAG, |sample| sample.lag),
        (&families::PURGE_REPLICATION_UNPUBLISHED, |sample| {
            sample.unpublished as f64
        }),
        (&families::PURGE_REPLICATION_REPLICAS, |sample| {
            sample.replicas as f64
        }),
    ];
    for (family, figure) in gauges {
        let mut samples = family.describe(encoder)?;
        if let Some(sample) = &sample {
            families::gauge(&mut samples, [], figure(sample))?;
        }
    }
    let mut samples = families::PURGE_REPLICATION_INCARNATIONS.describe(encoder)?;
    match sample {
        Some(sample) => families::counter(&mut samples, [], sample.incarnations),
        None => Ok(()),
    }
}

fn known(
    levels: &[(Arc<str>, LevelSample)],
    pick: impl Fn(&LevelSample) -> Option<u64>,
) -> impl Iterator<Item = (&str, u64)> {
    levels
        .iter()
        .filter_map(move |(level, sample)| Some((&**level, pick(sample)?)))
}

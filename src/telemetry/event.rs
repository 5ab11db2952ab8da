//! What the rest of the product tells, other than requests.

use super::reload::ReloadResult;
use super::warm::WarmEvent;

/// Something that happened, other than a request.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The first configuration is in force.
    ConfigLoaded {
        /// Its hash.
        hash: &'a str,
    },
    /// A reload ended.
    ConfigReloaded {
        /// How.
        result: ReloadResult,
        /// Hash of the configuration in force now.
        hash: &'a str,
        /// Number of configurations taken over so far.
        generation: u64,
        /// The problems of a refused one; the fields that wait for a restart of an applied one.
        detail: &'a str,
    },
    /// Entries were purged.
    Purged {
        /// What was given: `key`, `prefix`, `glob`, `tag`, `route`, `tenant`, `all`.
        scope: &'static str,
        /// Entries that matched.
        matched: u64,
        /// Position in the purge log; none as long as replicas cannot know of it.
        position: Option<u64>,
    },
    /// A level below memory failed and is given a rest, or does its work again.
    Level {
        /// Its name.
        level: &'a str,
        /// Why it rests; none when it is back.
        trouble: Option<&'a str>,
    },
    /// Something happened to a warm-up.
    Warm(WarmEvent<'a>),
    /// Something happened to the audit log.
    Audited {
        /// `recorded`, `failed`, `suppressed`, `broken`.
        result: &'static str,
    },
    /// A request was refused before routing.
    RequestRefused {
        /// Why, a stable name.
        reason: &'static str,
    },
}

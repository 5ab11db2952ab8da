//! What is stored, entry by entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::problem::{self, Problem};
use crate::cache::control::RequestControl;
use crate::cache::digest::KeyDigest;
use crate::cache::engine::{Cache, Lookup};
use crate::cache::entry::Entry;
use crate::cache::purge::{Facts, Selector};
use crate::clock::Timestamp;
use crate::telemetry::mask::Masking;

/// Entries of one page when the caller does not say.
const PAGE: usize = 100;
/// Most entries of one page.
const MAX_PAGE: usize = 1_000;
/// Longest pattern.
const MAX_PATTERN: usize = 8 * 1024;
/// Bytes of tags that are listed with one entry.
const MAX_TAGS: usize = 2 * 1024;

/// One stored response.
#[derive(Serialize, ToSchema)]
pub(super) struct Stored {
    /// The level that has it.
    level: String,
    /// Digest of its key as hex, as `keys` of a purge take it.
    key: String,
    /// `route:METHOD host/path?query`, the query masked as in logs.
    label: String,
    /// The route that filled it.
    route: String,
    /// Status of the response.
    status: u16,
    /// Current age, seconds.
    age: u64,
    /// Freshness left, seconds; negative when stale.
    ttl: i64,
    /// Whether it is not fresh any more: too old, purged, or invalidated.
    stale: bool,
    /// Why: `stale`, `stale-while-revalidate`, `purged` or `invalidated`; none while it is fresh.
    reason: Option<&'static str>,
    /// Bytes of memory, keys and overhead included.
    bytes: u64,
    /// Bytes of the body.
    body_bytes: u64,
    /// Times it has answered.
    hits: u64,
    /// Whether every principal may have it.
    public: bool,
    /// Names of the request fields that its `Vary` nominates.
    varies_on: Vec<String>,
    /// Tags, as far as they have no more than 2 KiB together.
    tags: Vec<String>,
    /// Tags that are not listed.
    tags_left_out: usize,
}

impl Stored {
    /// Describes `entry`, which `level` keeps under `digest`.
    pub(super) fn of(
        cache: &Cache,
        level: &str,
        digest: &KeyDigest,
        entry: &Arc<Entry>,
        masking: &Masking,
        now: Timestamp,
    ) -> Self {
        let reason = match cache.use_of(Arc::clone(entry), digest, &RequestControl::default(), now) {
            Lookup::Fresh(_) | Lookup::Part(_) => None,
            Lookup::Refresh(_) => Some("stale-while-revalidate"),
            Lookup::Miss { reason, .. } => Some(reason.as_str()),
        };
        let mut left = MAX_TAGS;
        let tags: Vec<String> = entry
            .tags()
            .map_while(|tag| {
                left = left.checked_sub(tag.len())?;
                Some(tag.to_owned())
            })
            .collect();
        Self {
            level: level.to_owned(),
            key: hex::encode(digest.0),
            label: masking.target(entry.label()),
            route: entry.route().to_string(),
            status: entry.status().as_u16(),
            age: entry.life().age(now).as_secs(),
            ttl: entry.life().ttl_seconds(now),
            stale: reason.is_some(),
            reason,
            bytes: entry.weight(),
            body_bytes: entry.body_len() as u64,
            hits: entry.hits(),
            public: entry.public(),
            varies_on: entry
                .nominated()
                .names()
                .map(|name| name.as_str().to_owned())
                .collect(),
            tags_left_out: entry.tags().count() - tags.len(),
            tags,
        }
    }
}

/// Which entries are listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only those of this route.
    route: Option<String>,
    /// Only those whose label fits this glob: `*` matches any run of characters, `?` one. It is compared with labels
    /// as they are listed, so that a pattern cannot find out a masked value.
    pattern: Option<String>,
    /// Entries of one page, 1 to 1000; 100 when absent.
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

/// A page of entries.
#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    /// The entries, in the order of their keys, which is none that means anything.
    entries: Vec<Stored>,
    /// What to give as `after` for the next page; none after the last.
    next: Option<String>,
}

/// Lists what is stored, page by page. What comes or goes between two pages may be missed; a variant may be listed
/// again when another one of its response has come.
#[utoipa::path(get, path = "/api/v1/performance/cache/entries", tag = "cache", params(Wanted),
    responses((status = 200, body = Page), (status = 400, body = Problem)))]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    problem::Query(wanted): problem::Query<Wanted>,
) -> Result<Json<Page>, Problem> {
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request("`limit` is 1 to 1000"));
    }
    if wanted
        .pattern
        .as_ref()
        .is_some_and(|pattern| pattern.len() > MAX_PATTERN)
    {
        return Err(Problem::bad_request("`pattern` is longer than 8192 bytes"));
    }
    let after = match &wanted.after {
        None => None,
        Some(cursor) => Some(
            position(cursor).ok_or_else(|| Problem::bad_request("`after` is not the `next` of a page"))?,
        ),
    };
    // Every entry is looked at, which must not hold up other admin requests.
    tokio::task::spawn_blocking(move || page(&context, &wanted, limit, after))
        .await
        .map(Json)
        .map_err(|error| Problem::internal(error.to_string()))
}

/// Where an entry stands in the list: by the digest of its key, then by its place among the variants.
type Position = (KeyDigest, usize);

fn page(context: &Context, wanted: &Wanted, limit: usize, after: Option<Position>) -> Page {
    let (state, snapshot) = (&context.state, context.state.snapshot.load_full());
    let masking = state.telemetry.masking();
    let (Some(memory), Some(level)) = (&state.cache.memory, &snapshot.config.cache.memory) else {
        return Page {
            entries: Vec::new(),
            next: None,
        };
    };
    let pattern = wanted.pattern.clone().map(Selector::Glob);
    let fits = |digest: &KeyDigest, entry: &Entry| {
        let of_route = wanted
            .route
            .as_ref()
            .is_none_or(|route| **entry.route() == **route);
        of_route
            && pattern.as_ref().is_none_or(|pattern| {
                let label = &masking.target(entry.label());
                pattern.matches(&Facts {
                    label,
                    ..Facts::of(entry, digest)
                })
            })
    };
    // One more than a page tells whether there is another.
    let mut first: BTreeMap<Position, Arc<Entry>> = BTreeMap::new();
    let mut last_seen: Option<Position> = None;
    memory.for_each(|digest, entry| {
        let variant = match last_seen {
            Some((seen, variant)) if seen == *digest => variant + 1,
            _ => 0,
        };
        let at = (*digest, variant);
        last_seen = Some(at);
        let beyond = first.len() > limit && first.last_key_value().is_some_and(|(last, _)| at > *last);
        if !beyond && after.is_none_or(|after| at > after) && fits(digest, entry) {
            first.insert(at, Arc::clone(entry));
            if first.len() > limit + 1 {
                first.pop_last();
            }
        }
    });
    let mut next = None;
    if first.len() > limit {
        first.pop_last();
        next = first.last_key_value().map(|(last, _)| cursor(last));
    }
    let now = state.clock.now();
    let describe = |((digest, _), entry): (&Position, &Arc<Entry>)| {
        Stored::of(&state.cache, &level.name, digest, entry, &masking, now)
    };
    Page {
        entries: first.iter().map(describe).collect(),
        next,
    }
}

fn cursor((digest, variant): &Position) -> String {
    format!("{}.{variant}", hex::encode(digest.0))
}

fn position(cursor: &str) -> Option<Position> {
    let (digest, variant) = cursor.split_once('.')?;
    Some((digest.parse().ok()?, variant.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let at = (KeyDigest([7; 32]), 3);
        assert_eq!(position(&cursor(&at)), Some(at));
        for bad in [
            "",
            ".",
            "07.1",
            &format!("{}.x", "07".repeat(32)),
            &"07".repeat(32),
        ] {
            assert_eq!(position(bad), None, "{bad}");
        }
    }
}

//! A slot as a payload: how many variants, then each of them, the newest first.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::{MAX_SKEW, NotSealed, Refused};
use crate::cache::entry::Entry;
use crate::cache::slot::{MAX_VARIANTS, Slot};
use crate::clock::Timestamp;

/// How long an entry that can be validated is kept after it could last be used.
const GRACE: Duration = Duration::from_secs(3600);

/// Longest life of a value: that of a record in the purge log.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A payload.
pub(super) struct Written {
    pub(super) payload: Vec<u8>,
    /// How long any of its variants is of use.
    pub(super) ttl: Duration,
}

/// Writes the variants of `slot` that are of use after `now`, as many as `most` bytes hold.
pub(super) fn write(slot: &Slot, most: usize, now: Timestamp) -> Result<Written, NotSealed> {
    let mut useful = slot
        .variants()
        .map(|entry| (entry, remaining(entry, now)))
        .filter(|(_, remaining)| !remaining.is_zero())
        .peekable();
    let Some((newest, _)) = useful.peek() else {
        return Err(NotSealed::Expired);
    };
    let mut payload = Vec::with_capacity(usize::try_from(newest.weight()).unwrap_or_default().min(most));
    payload.push(0);
    let mut ttl = Duration::ZERO;
    for (entry, remaining) in useful.take(MAX_VARIANTS) {
        let before = payload.len();
        if before.saturating_add(entry.body_len()) > most {
            break;
        }
        entry.write(&mut payload);
        if payload.len() > most {
            payload.truncate(before);
            break;
        }
        payload[0] += 1;
        ttl = ttl.max(remaining);
    }
    match payload[0] {
        0 => Err(NotSealed::TooLarge),
        _ => Ok(Written { payload, ttl }),
    }
}

/// Reads what [`write`] wrote.
pub(super) fn read(payload: &[u8], now: Timestamp) -> Result<Slot, Refused> {
    let (count, mut rest) = payload.split_first().ok_or(Refused::Payload)?;
    if usize::from(*count) > MAX_VARIANTS {
        return Err(Refused::Payload);
    }
    let mut variants = Vec::with_capacity((*count).into());
    let latest = now.plus(MAX_SKEW);
    for _ in 0..*count {
        let entry = Entry::read(&mut rest).ok_or(Refused::Payload)?;
        // Otherwise it would be fresh for that much longer.
        if entry.stored_at() > latest || entry.life().generated_at > latest {
            return Err(Refused::Future);
        }
        variants.push(entry);
    }
    if !rest.is_empty() {
        return Err(Refused::Payload);
    }
    Slot::from_variants(variants).ok_or(Refused::Payload)
}

/// Bytes of the bodies that a compressor can make smaller.
pub(super) fn compressible(slot: &Slot) -> u64 {
    slot.variants()
        .filter(|entry| is_compressible(entry))
        .map(|entry| entry.body_len() as u64)
        .sum()
}

/// Whether its body is text, by its type. What has a content coding is compressed already.
fn is_compressible(entry: &Entry) -> bool {
    let content_type = entry.header(&CONTENT_TYPE).unwrap_or_default();
    entry.header(&CONTENT_ENCODING).is_none() && is_text(content_type)
}

fn is_text(content_type: &[u8]) -> bool {
    const OTHERS: [&str; 8] = [
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
        "application/javascript",
        "application/xml",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "application/wasm",
    ];
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim_ascii();
    let begins = |with: &str| {
        essence
            .get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    let ends = |with: &str| {
        let start = essence.len().saturating_sub(with.len());
        essence[start..].eq_ignore_ascii_case(with.as_bytes())
    };
    let is = |other: &&str| essence.eq_ignore_ascii_case(other.as_bytes());
    begins("text/") || ends("+json") || ends("+xml") || OTHERS.iter().any(is)
}

/// How long `entry` is of use after `now`: fresh, stale in the place of an answer that does not come, or as what the
/// origin confirms.
fn remaining(entry: &Entry, now: Timestamp) -> Duration {
    let life = entry.life();
    let stale = match life.must_revalidate || life.always_validate {
        true => Duration::ZERO,
        false => life
            .stale_while_revalidate
            .max(life.stale_if_error)
            .max(life.stale_if_disconnected),
    };
    let validated = match entry.etag().is_some() || entry.last_modified().is_some() {
        true => GRACE,
        false => Duration::ZERO,
    };
    let until = life.fresh_until().plus(stale.max(validated));
    until.since(now).min(LONGEST)
}

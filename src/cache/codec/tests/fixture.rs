//! Codecs, keyrings and slots for the tests of the codec.

use std::path::PathBuf;
use std::sync::Arc;

use http::StatusCode;
use zeroize::Zeroizing;

pub(super) use super::super::*;
use crate::cache::entry::{Entry, NewEntry, Notes, sample};
use crate::cache::fixture::headers;
use crate::cache::life::Life;
use crate::cache::purge::Moment;
use crate::cache::usage::Usage;
use crate::config::keyring::{KeySecret, RingKey};
use crate::telemetry::usage::Tokens;

/// The moment at which the tests seal and open.
pub(super) const NOW: Timestamp = Timestamp::from_secs(10);

pub(super) const DIGEST: KeyDigest = KeyDigest([7; 32]);

/// A ring with these keys; the same name makes the same secret.
pub(super) fn ring(ids: &[&str]) -> Keyring {
    let secret = |name: &str| KeySecret::new(Zeroizing::new(*blake3::hash(name.as_bytes()).as_bytes()));
    Keyring {
        file: PathBuf::from("keyring.yaml"),
        index: secret("index"),
        keys: ids
            .iter()
            .map(|id| RingKey {
                id: (*id).into(),
                secret: secret(id),
            })
            .collect(),
    }
}

pub(super) fn compress(algorithm: Compression) -> Compress {
    Compress {
        algorithm,
        min_size: 1024,
    }
}

/// A codec for objects of a MiB.
pub(super) fn codec(algorithm: Compression, keyring: Option<&Keyring>) -> Codec {
    Codec::new(compress(algorithm), keyring, 1 << 20)
}

/// Every combination of compression and seal.
pub(super) fn codecs() -> Vec<Codec> {
    [Compression::Off, Compression::Zstd, Compression::Lz4]
        .into_iter()
        .flat_map(|algorithm| [codec(algorithm, None), codec(algorithm, Some(&ring(&["a"])))])
        .collect()
}

/// Everything of an entry but its hits and what is known of purges.
pub(super) fn facts(entry: &Arc<Entry>) -> impl PartialEq + std::fmt::Debug + use<> {
    let texts = (
        entry.full_key().to_vec(),
        entry.label().to_owned(),
        entry.route().clone(),
        entry.tags().map(str::to_owned).collect::<Vec<_>>(),
    );
    let rest = (
        (entry.tenant().copied(), entry.nominated().clone(), entry.status()),
        (
            entry.headers(),
            entry.pace().to_vec(),
            entry.usage(),
            entry.body(),
        ),
        (
            *entry.life(),
            entry.position(),
            entry.stored_at(),
            entry.fetch_time(),
        ),
        (entry.public(), entry.sensitive(), entry.is_event_stream()),
        (entry.weight(), entry.hits(), entry.checked(), entry.mark()),
    );
    (texts, rest)
}

pub(super) fn slot_facts(slot: &Slot) -> impl PartialEq + std::fmt::Debug + use<> {
    (slot.variants().map(facts).collect::<Vec<_>>(), slot.weight())
}

/// Describes an entry: what a test says nothing about is as of a small JSON answer that is fresh for a minute.
pub(super) struct Answer<'a> {
    pub(super) full_key: &'a [u8],
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) language: &'a str,
    pub(super) body: &'a [u8],
    pub(super) life: Life,
    pub(super) position: u64,
    pub(super) sensitive: bool,
}

impl Default for Answer<'_> {
    fn default() -> Self {
        Self {
            full_key: b"key of a tenant's request",
            headers: &[("content-type", "application/json"), ("etag", "\"1\"")],
            language: "de",
            body: br#"{"hello": "world"}"#,
            life: Life {
                generated_at: Timestamp::from_secs(5),
                fresh_for: Duration::from_secs(60),
                stale_while_revalidate: Duration::from_secs(30),
                stale_if_error: Duration::from_millis(1_500),
                stale_if_disconnected: Duration::from_secs(300),
                must_revalidate: false,
                always_validate: false,
                adapted: Some(Duration::from_nanos(61_000_000_001)),
            },
            position: 4,
            sensitive: false,
        }
    }
}

impl Answer<'_> {
    pub(super) fn entry(&self) -> Arc<Entry> {
        let usage = Usage {
            model: "gpt".to_owned(),
            tokens: Tokens {
                input: 300,
                output: 2,
                cached_input: 1,
                cache_write: 3,
            },
        };
        Entry::build(NewEntry {
            full_key: self.full_key,
            label: "chat:POST hub.local/v1/chat?page=2",
            route: "chat".into(),
            tenant: Some([9; 32]),
            tags: &["model", ""],
            nominated: sample::nominated("accept-language", self.language),
            status: StatusCode::OK,
            headers: &headers(self.headers),
            notes: Notes {
                pace: &[8, 100, 11, 0xc8, 1],
                usage: &usage.encode(),
            },
            body: &[Bytes::copy_from_slice(self.body)],
            life: self.life,
            moment: Moment::elsewhere(self.position),
            public: true,
            sensitive: self.sensitive,
            stored_at: Timestamp::from_micros(5_000_001),
            fetch_time: Duration::from_millis(17),
        })
    }

    pub(super) fn slot(&self) -> Slot {
        Slot::new(self.entry())
    }
}

/// A slot with two variants.
pub(super) fn two_variants() -> Slot {
    let english = Answer {
        language: "en",
        ..Answer::default()
    };
    let german = Answer {
        body: br#"{"hallo": "welt"}"#,
        ..Answer::default()
    };
    english.slot().with(german.entry(), u64::MAX)
}

/// The value of `slot`.
pub(super) fn sealed(codec: &Codec, slot: &Slot) -> Bytes {
    codec.seal(&DIGEST, slot, NOW).unwrap().value
}

/// Why `value` is not opened.
#[track_caller]
pub(super) fn refusal(codec: &Codec, value: impl Into<Bytes>) -> Refused {
    codec.open(&DIGEST, &value.into(), NOW).unwrap_err()
}

//! Codecs, keyrings and slots for the tests of the codec.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::*;
use crate::cache::entry::Entry;
use crate::config::keyring::{KeySecret, RingKey};

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

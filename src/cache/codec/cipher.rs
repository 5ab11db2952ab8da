//! What makes a value tamper-evident, and secret where the level has a keyring.
//!
//! Each value is encrypted by a key of its own, which is made of a key of the ring and 24 random bytes. So no count of
//! values under one key of the ring comes near the limit that random 96-bit nonces have (NIST SP 800-38D, section 8.3:
//! 2^32 under one key), and the nonce can be fixed. The same derivation yields a commitment to the key, since
//! AES-GCM alone does not tell that it was opened by the key that sealed it.

use std::borrow::Cow;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::head::{Head, KeyUse, MAX_HEAD, TAG};
use super::{NotSealed, Refused, VERSION};
use crate::cache::digest::KeyDigest;
use crate::cache::level::LevelKey;
use crate::config::Compression;
use crate::config::keyring::{KeySecret, Keyring, RingKey};

/// Random bytes that make the key of a value: as many that no two values ever share them.
pub(super) const SALT: usize = 24;

/// Bytes that tell a key from others.
pub(super) const COMMITMENT: usize = 16;

/// Names values where there is no keyring. No secret: who can read such a level can read everything in it.
const OPEN_INDEX: &str = "outrigger 2026 names of values in a level without encryption";

/// Each key seals one value.
const NONCE: [u8; 12] = [0; 12];

/// What a value is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding<'a> {
    pub(super) key: &'a LevelKey,
    pub(super) digest: &'a KeyDigest,
}

impl Binding<'_> {
    /// Checksum over two parts, keyed by what the value is bound to. `what` separates uses and has a fixed length.
    pub(super) fn mac<const N: usize>(&self, what: &[u8; 4], head: &[u8], body: &[u8]) -> [u8; N] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        // The digest has a fixed length, and a head tells its own.
        hasher
            .update(what)
            .update(&self.digest.0)
            .update(head)
            .update(body);
        let mut mac = [0; N];
        hasher.finalize_xof().fill(&mut mac);
        mac
    }

    /// What is sealed with a body and not written: the head, which has the version, and the keys.
    fn associated(&self, head: &[u8]) -> Vec<u8> {
        [&self.key.0, &self.digest.0, head].concat()
    }
}

/// Seals and opens bodies.
pub(super) struct Seal {
    index: KeySecret,
    /// In the order in which they were made; empty without a keyring.
    keys: Vec<RingKey>,
}

impl Seal {
    pub(super) fn new(keyring: Option<&Keyring>) -> Self {
        match keyring {
            Some(keyring) => Self {
                index: keyring.index.clone(),
                keys: keyring.keys.clone(),
            },
            None => Self {
                index: KeySecret::new(Zeroizing::new(blake3::derive_key(OPEN_INDEX, b""))),
                keys: Vec::new(),
            },
        }
    }

    pub(super) fn encrypts(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Versions do not see each other's values, so that an upgrade does not make replicas remove them in turn.
    pub(super) fn level_key(&self, digest: &KeyDigest) -> LevelKey {
        let mut hasher = blake3::Hasher::new_keyed(self.index.reveal());
        hasher.update(&[VERSION]).update(&digest.0);
        LevelKey(*hasher.finalize().as_bytes())
    }

    /// Makes a value of `body`, which is `payload` bytes long without its `compression`.
    pub(super) fn seal(
        &self,
        binding: &Binding<'_>,
        compression: Compression,
        payload: usize,
        body: &[u8],
    ) -> Result<Vec<u8>, NotSealed> {
        let mut value = Vec::with_capacity(MAX_HEAD + body.len() + TAG);
        let Some(key) = self.keys.last() else {
            Head::write(compression, payload, None, binding, &mut value);
            let checksum: [u8; TAG] = binding.mac(b"body", &value, body);
            value.extend_from_slice(body);
            value.extend_from_slice(&checksum);
            return Ok(value);
        };
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| NotSealed::Cipher)?;
        let derived = Derived::of(&key.secret, &salt);
        let key = KeyUse {
            id: &key.id,
            salt: &salt,
            commitment: &derived.commitment,
        };
        Head::write(compression, payload, Some(key), binding, &mut value);
        let associated = binding.associated(&value);
        let head = value.len();
        value.extend_from_slice(body);
        let tag = derived
            .cipher()
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(NONCE);
                cipher
                    .seal_in_place_separate_tag(nonce, Aad::from(&associated), &mut value[head..])
                    .ok()
            })
            .ok_or(NotSealed::Cipher)?;
        value.extend_from_slice(tag.as_ref());
        Ok(value)
    }

    /// The body of a value whose head is verified.
    pub(super) fn open<'v>(
        &self,
        binding: &Binding<'_>,
        head: &Head<'_>,
        body: &'v [u8],
        tag: &[u8; TAG],
    ) -> Result<Cow<'v, [u8]>, Refused> {
        let Some(used) = head.key else {
            if self.encrypts() {
                return Err(Refused::NotEncrypted);
            }
            return match binding.mac(b"body", head.bytes, body) == *tag {
                true => Ok(Cow::Borrowed(body)),
                false => Err(Refused::Checksum),
            };
        };
        let key = self.keys.iter().find(|key| *key.id == *used.id);
        let derived = Derived::of(&key.ok_or(Refused::UnknownKey)?.secret, used.salt);
        if derived.commitment != *used.commitment {
            // The ring has another key by this name.
            return Err(Refused::UnknownKey);
        }
        let associated = binding.associated(head.bytes);
        let mut opened = vec![0; body.len()];
        let nonce = Nonce::assume_unique_for_key(NONCE);
        derived
            .cipher()
            .and_then(|cipher| {
                cipher
                    .open_separate_gather(nonce, Aad::from(&associated), body, tag, &mut opened)
                    .ok()
            })
            .ok_or(Refused::Checksum)?;
        Ok(Cow::Owned(opened))
    }
}

/// What a key of the ring and a salt make.
struct Derived {
    key: Zeroizing<[u8; 32]>,
    commitment: [u8; COMMITMENT],
}

impl Derived {
    fn of(secret: &KeySecret, salt: &[u8; SALT]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(secret.reveal());
        hasher.update(b"outrigger value").update(salt);
        let mut output = hasher.finalize_xof();
        let mut derived = Self {
            key: Zeroizing::new([0; 32]),
            commitment: [0; COMMITMENT],
        };
        output.fill(&mut *derived.key);
        output.fill(&mut derived.commitment);
        derived
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &*self.key)
            .map(LessSafeKey::new)
            .ok()
    }
}

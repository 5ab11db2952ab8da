//! Hashing of keys that already are hashes.

use std::hash::{BuildHasher, Hasher};

/// Takes the first eight bytes of a [`super::digest::KeyDigest`] as its hash: a digest is uniform, hashing it again
/// would only cost time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestHash;

impl BuildHasher for DigestHash {
    type Hasher = FirstEight;

    fn build_hasher(&self) -> FirstEight {
        FirstEight(0)
    }
}

/// See [`DigestHash`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstEight(u64);

impl Hasher for FirstEight {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length that arrays write before their bytes; the same for every digest.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::KeyDigest;
    use super::*;

    #[test]
    fn the_hash_is_the_first_eight_bytes() {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_le_bytes());
        assert_eq!(DigestHash.hash_one(KeyDigest(bytes)), 0x0123_4567_89ab_cdef);
    }
}

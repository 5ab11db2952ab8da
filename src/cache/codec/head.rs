//! The head of a value.

use super::cipher::{Binding, COMMITMENT, SALT};
use super::{Refused, VERSION};
use crate::config::Compression;

/// The first byte is no text, so that nothing that a person could write begins so.
const MAGIC: [u8; 4] = [0x8f, b'O', b'R', b'G'];

/// Magic, version, seal, compression, length of the key id, bytes of the payload.
const FIXED: usize = 12;

/// Bytes of the check at the end of a head.
pub(super) const CHECK: usize = 8;

/// Bytes of the checksum or tag at the end of a value.
pub(super) const TAG: usize = 16;

/// Bytes of the longest key id that a keyring may have.
const MAX_ID: usize = 64;

/// Bytes of the longest head.
pub(super) const MAX_HEAD: usize = FIXED + MAX_ID + SALT + COMMITMENT + CHECK;

/// Which key encrypted a value, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyUse<'a> {
    /// The key's id.
    pub(super) id: &'a str,
    /// What makes the value's own key of it.
    pub(super) salt: &'a [u8; SALT],
    /// Tells that it is this key and no other.
    pub(super) commitment: &'a [u8; COMMITMENT],
}

/// The head of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) compression: Compression,
    /// Bytes of the payload, before compression.
    pub(super) payload: usize,
    /// None if the value is not encrypted.
    pub(super) key: Option<KeyUse<'a>>,
    /// All bytes of the head.
    pub(super) bytes: &'a [u8],
}

impl<'a> Head<'a> {
    /// Appends a head.
    pub(super) fn write(
        compression: Compression,
        payload: usize,
        key: Option<KeyUse<'_>>,
        binding: &Binding<'_>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        let id = key.map_or("", |key| key.id);
        out.extend_from_slice(&[
            VERSION,
            u8::from(key.is_some()),
            match compression {
                Compression::Off => 0,
                Compression::Zstd => 1,
                Compression::Lz4 => 2,
            },
            u8::try_from(id.len()).unwrap_or(u8::MAX),
        ]);
        out.extend_from_slice(&u32::try_from(payload).unwrap_or(u32::MAX).to_le_bytes());
        if let Some(key) = key {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(key.salt);
            out.extend_from_slice(key.commitment);
        }
        let check: [u8; CHECK] = binding.mac(b"head", &out[start..], b"");
        out.extend_from_slice(&check);
    }

    /// Reads the head of `value`; what follows it is the second part. The head is not verified yet.
    pub(super) fn read(value: &'a [u8]) -> Result<(Self, &'a [u8]), Refused> {
        let (fixed, rest) = value.split_first_chunk::<FIXED>().ok_or(Refused::Truncated)?;
        let [m0, m1, m2, m3, version, seal, compression, id, p0, p1, p2, p3] = *fixed;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(Refused::Format);
        }
        if version != VERSION {
            return Err(Refused::Version);
        }
        let compression = match compression {
            0 => Compression::Off,
            1 => Compression::Zstd,
            2 => Compression::Lz4,
            _ => return Err(Refused::Format),
        };
        let (key, rest) = match (seal, id) {
            (0, 0) => (None, rest),
            (1, 1..) => {
                let (id, rest) = rest.split_at_checked(id.into()).ok_or(Refused::Truncated)?;
                let (salt, rest) = rest.split_first_chunk().ok_or(Refused::Truncated)?;
                let (commitment, rest) = rest.split_first_chunk().ok_or(Refused::Truncated)?;
                let id = std::str::from_utf8(id).map_err(|_| Refused::Format)?;
                (Some(KeyUse { id, salt, commitment }), rest)
            }
            _ => return Err(Refused::Format),
        };
        let (_, body) = rest.split_first_chunk::<CHECK>().ok_or(Refused::Truncated)?;
        let head = Self {
            compression,
            payload: usize::try_from(u32::from_le_bytes([p0, p1, p2, p3])).map_err(|_| Refused::TooLarge)?,
            key,
            bytes: &value[..value.len() - body.len()],
        };
        Ok((head, body))
    }

    /// Whether the head was written for this key. That tells damage from a key which is not in the ring; the seal covers the
    /// head as well.
    pub(super) fn verify(&self, binding: &Binding<'_>) -> Result<(), Refused> {
        let (written, check) = self.bytes.split_last_chunk::<CHECK>().ok_or(Refused::Truncated)?;
        match binding.mac(b"head", written, b"") == *check {
            true => Ok(()),
            false => Err(Refused::Checksum),
        }
    }
}

//! What a disk level writes: a value and the end of its life, under a key.

use std::io::{Read, Write};

use bytes::Bytes;
use foyer::{Code, Error, Result};

use crate::clock::Timestamp;

/// A key as foyer writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordKey(pub(super) [u8; 32]);

/// A value and the end of its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) until: Timestamp,
    pub(super) value: Bytes,
}

impl Code for RecordKey {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        writer.write_all(&self.0).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        let mut key = [0; 32];
        reader.read_exact(&mut key).map_err(Error::io_error)?;
        Ok(Self(key))
    }

    fn estimated_size(&self) -> usize {
        self.0.len()
    }
}

impl Code for Record {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        let until = self.until.as_micros().to_le_bytes();
        writer.write_all(&until).map_err(Error::io_error)?;
        writer.write_all(&self.value).map_err(Error::io_error)
    }

    /// Reads to the end, which is where foyer's checked length of the record is: there is no length to be believed.
    fn decode(reader: &mut impl Read) -> Result<Self> {
        let mut until = [0; 8];
        reader.read_exact(&mut until).map_err(Error::io_error)?;
        let mut value = Vec::new();
        reader.read_to_end(&mut value).map_err(Error::io_error)?;
        Ok(Self {
            until: Timestamp::from_micros(u64::from_le_bytes(until)),
            value: value.into(),
        })
    }

    fn estimated_size(&self) -> usize {
        8 + self.value.len()
    }
}

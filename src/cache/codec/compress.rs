//! Compression of payloads, and its bounded reverse.

use std::borrow::Cow;

use parking_lot::Mutex;
use zstd::bulk;

use super::{MAX_RATIO, Refused};
use crate::config::Compression;

/// The fastest of zstd's levels that are meant for general use; answers are compressed once, but in a hurry.
const LEVEL: i32 = 1;

/// Contexts for compression that are kept for the next value; one takes up to a megabyte and a half.
const COMPRESSORS: usize = 2;

/// The same for decompression, where one takes a tenth of that.
const DECOMPRESSORS: usize = 8;

/// Compresses and decompresses. zstd's contexts are large, so they are used again.
#[derive(Default)]
pub(super) struct Compressor {
    compressors: Mutex<Vec<bulk::Compressor<'static>>>,
    decompressors: Mutex<Vec<bulk::Decompressor<'static>>>,
}

impl Compressor {
    /// `payload` compressed; none if that saves less than a sixteenth, or so much that it would not be
    /// [decompressed](Self::decompress).
    pub(super) fn compress(&self, algorithm: Compression, payload: &[u8]) -> Option<Vec<u8>> {
        let compressed = match algorithm {
            Compression::Off => return None,
            Compression::Zstd => {
                let kept = self.compressors.lock().pop();
                let mut compressor = match kept {
                    Some(compressor) => compressor,
                    None => bulk::Compressor::new(LEVEL).ok()?,
                };
                let compressed = compressor.compress(payload).ok()?;
                keep(&self.compressors, compressor, COMPRESSORS);
                compressed
            }
            Compression::Lz4 => lz4_flex::block::compress(payload),
        };
        let saves = compressed.len() + payload.len() / 16 < payload.len();
        (saves && payload.len() <= compressed.len().saturating_mul(MAX_RATIO)).then_some(compressed)
    }

    /// The payload of `length` bytes that `body` is. Allocates no more than that, and not before the ratio is known.
    pub(super) fn decompress<'b>(
        &self,
        algorithm: Compression,
        body: &'b [u8],
        length: usize,
    ) -> Result<Cow<'b, [u8]>, Refused> {
        if length > body.len().saturating_mul(MAX_RATIO) {
            return Err(Refused::Ratio);
        }
        let payload = match algorithm {
            Compression::Off => Cow::Borrowed(body),
            Compression::Zstd => {
                let kept = self.decompressors.lock().pop();
                let mut decompressor = match kept {
                    Some(decompressor) => decompressor,
                    None => bulk::Decompressor::new().map_err(|_| Refused::Compression)?,
                };
                // Never grows, whatever the frames say.
                let mut payload = Vec::with_capacity(length);
                let written = decompressor.decompress_to_buffer(body, &mut payload);
                keep(&self.decompressors, decompressor, DECOMPRESSORS);
                written.map_err(|_| Refused::Compression)?;
                Cow::Owned(payload)
            }
            Compression::Lz4 => {
                let mut payload = vec![0; length];
                let written = lz4_flex::block::decompress_into(body, &mut payload);
                payload.truncate(written.map_err(|_| Refused::Compression)?);
                Cow::Owned(payload)
            }
        };
        match payload.len() == length {
            true => Ok(payload),
            false => Err(Refused::Compression),
        }
    }
}

fn keep<T>(kept: &Mutex<Vec<T>>, context: T, most: usize) {
    let mut kept = kept.lock();
    if kept.len() < most {
        kept.push(context);
    }
}

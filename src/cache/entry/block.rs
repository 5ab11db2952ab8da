//! The parts of an entry whose number varies: tags and header lines, each behind its length.

use std::mem::size_of;

/// The tags of an entry.
#[derive(Clone, Debug)]
pub struct Tags<'a>(pub(super) Frames<'a>);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0.next().and_then(|tag| std::str::from_utf8(tag).ok())
    }
}

/// Names and values of the header block.
pub(super) struct HeaderLines<'a>(pub(super) Frames<'a>);

impl<'a> Iterator for HeaderLines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }
}

/// Parts, each after its length in four bytes.
#[derive(Clone, Debug)]
pub(super) struct Frames<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        self.0 = rest;
        Some(part)
    }
}

/// Bytes that a part takes with its length.
pub(super) const fn framed_len(len: usize) -> usize {
    size_of::<u32>() + len
}

/// Appends one part. HTTP heads are bounded far below the 4 GiB that the length can tell.
pub(super) fn put_frame(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(part);
}

/// What an allocation of `len` bytes takes from the heap: jemalloc's size classes, four to each power of two and 16
/// bytes apart up to 128. glibc's rounding is finer.
pub(in crate::cache) const fn heap_bytes(len: usize) -> usize {
    match len {
        0 => 0,
        1..=128 => len.next_multiple_of(16),
        _ => len.next_multiple_of(1 << ((len - 1).ilog2() - 2)),
    }
}

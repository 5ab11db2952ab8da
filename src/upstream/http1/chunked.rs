//! Chunked bodies (RFC 9112, section 7.1), decoded strictly: what another reader could take differently is an error.

use bytes::{Buf, Bytes};
use http::HeaderMap;

use super::fields::{self, Names};

/// Digits of a chunk's size: more than any body needs, and no overflow.
const MAX_DIGITS: u8 = 15;
/// Bytes of chunk extensions in one body.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Bytes of the trailer section, and its fields.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_FIELDS: usize = 64;

/// How far a chunked body was decoded.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    extensions: usize,
}

#[derive(Debug)]
enum State {
    /// In the size of a chunk.
    Size { size: u64, digits: u8 },
    /// In the extension of a chunk.
    Extension { size: u64 },
    /// After the CR of a size line.
    SizeEnd { size: u64 },
    /// In the data of a chunk.
    Data { left: u64 },
    /// Before the CR behind the data.
    DataCr,
    /// Before the LF behind the data.
    DataLf,
    /// In the trailer section, of which this was read.
    Trailers(Vec<u8>),
}

/// A part of the decoded body.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Data, never empty.
    Data(Bytes),
    /// The end, and the trailers if there are any.
    End(Option<HeaderMap>),
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            state: State::SIZE,
            extensions: 0,
        }
    }
}

impl State {
    const SIZE: Self = Self::Size { size: 0, digits: 0 };
}

impl Chunked {
    /// The next piece; none when all of `bytes` is used. What is behind the end is left in `bytes`.
    ///
    /// # Errors
    /// What is wrong with the framing.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Piece>, &'static str> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Data { left } => {
                    let length = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= length as u64;
                    if *left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Some(Piece::Data(bytes.split_to(length))));
                }
                State::Trailers(read) => {
                    if let Some(trailers) = take_trailers(read, bytes)? {
                        return Ok(Some(Piece::End(trailers)));
                    }
                }
                _ => {
                    let octet = bytes.get_u8();
                    self.step(octet)?;
                }
            }
        }
        Ok(None)
    }

    fn step(&mut self, octet: u8) -> Result<(), &'static str> {
        self.state = match (&self.state, octet) {
            (State::Size { size, digits }, _) if octet.is_ascii_hexdigit() => {
                if *digits == MAX_DIGITS {
                    return Err("a chunk size too large");
                }
                let digit = char::from(octet).to_digit(16).unwrap_or_default();
                State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err("a chunk without a size"),
            (State::Size { size, .. }, b'\r') => State::SizeEnd { size: *size },
            (State::Size { size, .. }, b';' | b' ' | b'\t') => State::Extension { size: *size },
            (State::Extension { size }, b'\r') => State::SizeEnd { size: *size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extensions += 1;
                if self.extensions > MAX_EXTENSIONS {
                    return Err("chunk extensions too large");
                }
                State::Extension { size: *size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers(Vec::new()),
            (State::SizeEnd { size }, b'\n') => State::Data { left: *size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SIZE,
            _ => return Err("malformed chunks"),
        };
        Ok(())
    }
}

/// Reads on in the trailer section. Some at its end, with the fields if there are any.
fn take_trailers(read: &mut Vec<u8>, bytes: &mut Bytes) -> Result<Option<Option<HeaderMap>>, &'static str> {
    while !bytes.is_empty() {
        let octet = bytes.get_u8();
        read.push(octet);
        if octet == b'\n' && (read == b"\r\n" || read.ends_with(b"\r\n\r\n")) {
            return parse_trailers(std::mem::take(read)).map(Some);
        }
        if read.len() >= MAX_TRAILERS {
            return Err("trailers too large");
        }
    }
    Ok(None)
}

fn parse_trailers(read: Vec<u8>) -> Result<Option<HeaderMap>, &'static str> {
    if read == b"\r\n" {
        return Ok(None);
    }
    let read = Bytes::from(read);
    match fields::parse(&read, 0, MAX_TRAILER_FIELDS, &mut Names::default(), |_, _| {
        Ok(true)
    }) {
        // A bare LF could have ended the section earlier for the parser than for us.
        Ok(Some((fields, length))) if length == read.len() => Ok(Some(fields)),
        _ => Err("malformed trailers"),
    }
}

//! Chunked bodies, byte by byte (RFC 9112, section 7.1).

use super::class;
use super::head;
use super::malformed::Malformed;
use super::scanner::WireLimits;

/// Digits of a chunk size that fit into 64 bits.
const SIZE_DIGITS: u8 = 16;
/// Bytes of chunk extensions in one body; nobody uses them, and without a bound they are free payload.
const EXTENSION_MAX: usize = 1024;
/// Bytes of one trailer section.
const TRAILER_MAX: usize = 8 * 1024;
/// Fields that decide framing or routing and so must not come after the fact (RFC 9110, section 6.5.1).
const TRAILER_FORBIDDEN: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"upgrade"];

/// Where in a chunked body the scanner is.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    size: u64,
    digits: u8,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    /// The trailer line so far.
    line: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    End,
}

impl Chunked {
    /// Reads on. Gives the bytes that belong to the body, and whether it has ended; or how many bytes were good
    /// and what is wrong with the next.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &WireLimits,
    ) -> Result<(usize, bool), (usize, Malformed)> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if matches!(self.state, State::Data) {
                let taken = (bytes.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                at += taken;
                self.size -= taken as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(*byte, limits).map_err(|reason| (at, reason))?;
            at += 1;
            if matches!(self.state, State::End) {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    fn step(&mut self, byte: u8, limits: &WireLimits) -> Result<State, Malformed> {
        match self.state {
            State::Size => self.size(byte),
            State::Extension => self.extension(byte),
            State::SizeLf if byte == b'\n' => {
                self.digits = 0;
                Ok(if self.size == 0 {
                    State::Trailer
                } else {
                    State::Data
                })
            }
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size),
            State::DataCr | State::DataLf => Err(Malformed::ChunkEnd),
            State::Trailer => self.trailer(byte),
            State::TrailerLf if byte == b'\n' => self.trailer_line(limits),
            State::SizeLf | State::TrailerLf => Err(Malformed::BareCr),
            State::Data | State::End => Ok(State::End),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, Malformed> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(State::SizeLf),
            b';' if self.digits > 0 => return self.extension(byte),
            b'\n' => return Err(Malformed::BareLf),
            _ => return Err(Malformed::ChunkSize),
        };
        if self.digits == SIZE_DIGITS {
            return Err(Malformed::ChunkSize);
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn extension(&mut self, byte: u8) -> Result<State, Malformed> {
        match byte {
            b'\r' => return Ok(State::SizeLf),
            b'\n' => return Err(Malformed::BareLf),
            b';' | b'=' => {}
            _ if class::is(byte, class::TOKEN) => {}
            _ => return Err(Malformed::ChunkExtension),
        }
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_MAX {
            Err(Malformed::ChunkExtension)
        } else {
            Ok(State::Extension)
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        self.trailer_bytes += 1;
        match byte {
            b'\r' => Ok(State::TrailerLf),
            b'\n' => Err(Malformed::BareLf),
            _ if self.trailer_bytes > TRAILER_MAX => Err(Malformed::Trailer),
            _ => {
                self.line.push(byte);
                Ok(State::Trailer)
            }
        }
    }

    fn trailer_line(&mut self, limits: &WireLimits) -> Result<State, Malformed> {
        if self.line.is_empty() {
            return Ok(State::End);
        }
        self.trailer_fields += 1;
        let (name, _) = head::field(&self.line)?;
        let forbidden = TRAILER_FORBIDDEN
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other));
        if forbidden || self.trailer_fields > limits.headers {
            return Err(Malformed::Trailer);
        }
        self.line.clear();
        Ok(State::Trailer)
    }
}

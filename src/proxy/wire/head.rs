//! Request heads, line by line.

use std::ops::Range;

use super::authority::Authority;
use super::class;
use super::malformed::Malformed;
use super::scanner::WireLimits;
use super::target;

/// Longest method and version with their separators, bytes.
const REQUEST_LINE_EXTRA: usize = 64;
/// Empty lines that may come before a request line (RFC 9112, section 2.2).
const LEADING_LINES: u8 = 2;
/// Most digits of a length: what fits into 64 bits for sure.
const LENGTH_DIGITS: usize = 19;

/// How far one head has been read. It always looks at the head from its first byte on.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    line_start: usize,
    searched: usize,
    leading_lines: u8,
    facts: Option<Facts>,
}

/// A well-formed head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes, the empty line included.
    pub(super) length: usize,
    /// What follows it.
    pub(super) framing: Framing,
    /// Whether it asks for another protocol.
    pub(super) upgrade: bool,
}

/// How a request body is delimited (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes, perhaps none.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What the lines so far have said.
#[derive(Debug)]
struct Facts {
    http_11: bool,
    absolute: Option<target::Absolute>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    fields: usize,
}

impl HeadScan {
    /// Reads on. `bytes` begins where the head begins. None until the head is complete.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &WireLimits) -> Result<Option<Head>, Malformed> {
        while let Some(line) = self.next_line(bytes, limits)? {
            let text = &bytes[line.clone()];
            match &mut self.facts {
                None if text.is_empty() && self.leading_lines < LEADING_LINES => self.leading_lines += 1,
                None => self.facts = Some(request_line(text, line.start, limits.target())?),
                Some(facts) if text.is_empty() => {
                    return facts.finish(bytes, self.line_start).map(Some);
                }
                Some(facts) => facts.field(text, line.start, limits)?,
            }
        }
        Ok(None)
    }

    /// The next line without its end. Whatever is wrong with it is found at the same byte however the bytes arrive.
    fn next_line(&mut self, bytes: &[u8], limits: &WireLimits) -> Result<Option<Range<usize>>, Malformed> {
        let (end, oversize) = match self.facts {
            None => (
                self.line_start + limits.target() + REQUEST_LINE_EXTRA,
                Malformed::TargetTooLong,
            ),
            Some(_) => (limits.head_bytes, Malformed::HeadTooLarge),
        };
        let window = &bytes[..end.min(bytes.len())];
        let Some(rest) = window.get(self.searched..) else {
            return Err(oversize);
        };
        let Some(found) = memchr::memchr2(b'\r', b'\n', rest) else {
            self.searched = window.len();
            return if window.len() == end {
                Err(oversize)
            } else {
                Ok(None)
            };
        };
        let at = self.searched + found;
        if window[at] == b'\n' {
            return Err(Malformed::BareLf);
        }
        match window.get(at + 1) {
            Some(b'\n') => {
                let line = self.line_start..at;
                self.line_start = at + 2;
                self.searched = self.line_start;
                Ok(Some(line))
            }
            Some(_) => Err(Malformed::BareCr),
            None if window.len() == end => Err(oversize),
            None => {
                self.searched = at;
                Ok(None)
            }
        }
    }
}

impl Facts {
    fn field(&mut self, line: &[u8], start: usize, limits: &WireLimits) -> Result<(), Malformed> {
        self.fields += 1;
        if self.fields > limits.headers {
            return Err(Malformed::TooManyHeaders);
        }
        let (name, value) = field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(line, value, start),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, line: &[u8], value: &[u8], start: usize) -> Result<(), Malformed> {
        if self.host.is_some() {
            return Err(Malformed::HostRepeated);
        }
        if Authority::parse(value).is_none() {
            return Err(Malformed::Host);
        }
        // The value ends where trailing whitespace begins, so its place follows from its length.
        let trailing = line
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        let end = start + line.len() - trailing;
        self.host = Some(end - value.len()..end);
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.length.is_some() || value.contains(&b',') {
            return Err(Malformed::ContentLengthRepeated);
        }
        if value.is_empty() || value.len() > LENGTH_DIGITS || !value.iter().all(u8::is_ascii_digit) {
            return Err(Malformed::ContentLength);
        }
        self.length = Some(
            value
                .iter()
                .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
        );
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.chunked || !self.http_11 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// Draws the conclusions at the empty line. `bytes` begins where the head begins, `length` is where it ends.
    fn finish(&self, bytes: &[u8], length: usize) -> Result<Head, Malformed> {
        if self.http_11 && self.host.is_none() {
            return Err(Malformed::HostMissing);
        }
        if let (Some(absolute), Some(host)) = (&self.absolute, &self.host) {
            let target = Authority::parse(&bytes[absolute.authority.clone()]).ok_or(Malformed::Host)?;
            let host = Authority::parse(&bytes[host.clone()]).ok_or(Malformed::Host)?;
            if !target.same(&host, absolute.default_port) {
                return Err(Malformed::HostMismatch);
            }
        }
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Malformed::LengthAndEncoding),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        // HTTP/1.0 has no Upgrade (RFC 9110, section 7.8).
        Ok(Head {
            length,
            framing,
            upgrade: self.upgrade && self.http_11,
        })
    }
}

/// Splits a field line into its name and its value without surrounding whitespace.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let name_end = line
        .iter()
        .position(|byte| !class::is(*byte, class::TOKEN))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    let Some((b':', value)) = rest.split_first() else {
        return Err(match rest.first() {
            Some(b' ' | b'\t') if name.is_empty() => Malformed::ObsFold,
            Some(b' ' | b'\t') if rest.trim_ascii_start().first() == Some(&b':') => {
                Malformed::SpaceBeforeColon
            }
            _ => Malformed::HeaderName,
        });
    };
    if name.is_empty() {
        return Err(Malformed::HeaderName);
    }
    if !class::all_value(value) {
        return Err(Malformed::HeaderValue);
    }
    // Only space and tab are left of what `trim_ascii` takes for whitespace.
    Ok((name, value.trim_ascii()))
}

fn request_line(line: &[u8], start: usize, target_max: usize) -> Result<Facts, Malformed> {
    // Both are a few bytes away from their ends, too near for `memchr` to pay.
    let method_end = line
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or(Malformed::RequestLine)?;
    let target_end = line
        .iter()
        .rposition(|byte| *byte == b' ')
        .ok_or(Malformed::RequestLine)?;
    if method_end == target_end {
        return Err(Malformed::RequestLine);
    }
    let (method, target, version) = (
        &line[..method_end],
        &line[method_end + 1..target_end],
        &line[target_end + 1..],
    );
    if method.is_empty() || !class::all(method, class::TOKEN) {
        return Err(Malformed::Method);
    }
    let http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Malformed::Version);
        }
        _ => return Err(Malformed::RequestLine),
    };
    if method.eq_ignore_ascii_case(b"CONNECT") || method.eq_ignore_ascii_case(b"TRACE") {
        return Err(Malformed::MethodRefused);
    }
    if target.len() > target_max {
        return Err(Malformed::TargetTooLong);
    }
    let offset = start + method_end + 1;
    let absolute = target::check(method, target)?.map(|absolute| target::Absolute {
        authority: absolute.authority.start + offset..absolute.authority.end + offset,
        ..absolute
    });
    Ok(Facts {
        http_11,
        absolute,
        host: None,
        length: None,
        chunked: false,
        upgrade: false,
        fields: 0,
    })
}

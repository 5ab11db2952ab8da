//! Follows the requests of a connection and tells which bytes may be passed on.

use super::chunked::Chunked;
use super::head::{Framing, HeadScan};
use super::malformed::Malformed;
use super::target::TARGET_MAX;
use crate::config::ListenerLimits;

/// Bounds of one request head.
#[derive(Clone, Copy, Debug)]
pub struct WireLimits {
    /// Bytes, from the first of the request line to the last of the empty line.
    pub head_bytes: usize,
    /// Header fields.
    pub headers: usize,
}

impl WireLimits {
    /// Longest target.
    pub(super) fn target(&self) -> usize {
        TARGET_MAX.min(self.head_bytes)
    }
}

impl From<&ListenerLimits> for WireLimits {
    fn from(limits: &ListenerLimits) -> Self {
        Self {
            head_bytes: limits.header_bytes,
            headers: limits.headers,
        }
    }
}

/// A state machine over the bytes of one connection.
///
/// The caller shows it every byte that was not released yet, from the first; the result does not depend on how the
/// bytes are cut into pieces.
#[derive(Debug)]
pub struct Scanner {
    limits: WireLimits,
    state: State,
    /// The message being read asks for another protocol.
    upgrade: bool,
    requests: u64,
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Length(u64),
    Chunked(Chunked),
    AwaitAnswer,
    Failed(Malformed),
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Bytes, from the first shown, that are well-formed and complete enough to be passed on. The caller shows the
    /// rest again.
    pub release: usize,
    /// Why it went no further.
    pub stop: Stop,
    /// Number of the request at which it stopped, from 0.
    pub request: u64,
    /// Where the head of that request begins in the bytes shown; none when it was released by an earlier scan.
    pub head_at: Option<usize>,
}

/// Why a scan went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All bytes are used, or the head that has begun is not complete.
    NeedMore,
    /// The last request asks for another protocol. What follows cannot be read before the answer is known: after a
    /// 101 it is not HTTP/1 (RFC 9110, section 7.8). [`Scanner::resume`] goes on with the next request.
    AwaitAnswer,
    /// The request is malformed; nothing after it can be trusted.
    Malformed(Malformed),
}

impl Scanner {
    /// A scanner at the beginning of a connection.
    pub fn new(limits: WireLimits) -> Self {
        Self {
            limits,
            state: State::Head(HeadScan::default()),
            upgrade: false,
            requests: 0,
        }
    }

    /// Looks at `bytes`, which begin with the first byte that was not released.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        let mut head_at = None;
        let stop = loop {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Failed(reason) => break Stop::Malformed(*reason),
                State::AwaitAnswer => break Stop::AwaitAnswer,
                _ if rest.is_empty() => break Stop::NeedMore,
                State::Head(scan) => match scan.advance(rest, &self.limits) {
                    Ok(None) => break Stop::NeedMore,
                    Ok(Some(head)) => {
                        head_at = Some(at);
                        at += head.length;
                        self.requests += 1;
                        self.upgrade = head.upgrade;
                        self.state = match head.framing {
                            Framing::Length(length) => State::Length(length),
                            Framing::Chunked => State::Chunked(Chunked::default()),
                        };
                        if matches!(self.state, State::Length(0)) {
                            self.end_of_message();
                        }
                    }
                    Err(reason) => {
                        self.state = State::Failed(reason);
                        let stop = Stop::Malformed(reason);
                        return Scan {
                            release: at,
                            stop,
                            request: self.requests,
                            head_at: Some(at),
                        };
                    }
                },
                State::Length(left) => {
                    let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    at += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.end_of_message();
                    }
                }
                State::Chunked(body) => match body.advance(rest, &self.limits) {
                    Ok((taken, ended)) => {
                        at += taken;
                        if ended {
                            self.end_of_message();
                        }
                    }
                    Err((taken, reason)) => {
                        at += taken;
                        self.state = State::Failed(reason);
                    }
                },
            }
        };
        let request = match self.state {
            State::Head(_) => self.requests,
            _ => self.requests.saturating_sub(1),
        };
        Scan {
            release: at,
            stop,
            request,
            head_at,
        }
    }

    /// Goes on with the next request after [`Stop::AwaitAnswer`].
    pub fn resume(&mut self) {
        if matches!(self.state, State::AwaitAnswer) {
            self.state = State::Head(HeadScan::default());
        }
    }

    /// Requests whose heads were complete.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether the next byte belongs to a request body.
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    fn end_of_message(&mut self) {
        self.state = if self.upgrade {
            State::AwaitAnswer
        } else {
            State::Head(HeadScan::default())
        };
    }
}

#[cfg(test)]
mod tests;

//! What is known about one client connection while it is open.
//!
//! The connection's own task writes here, the sweeper of its worker reads; every field is an atomic, and none is
//! more exact than the sweeper's tick needs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::Response;
use http::request::Parts;

use super::forwarding::Peer;
use super::interim::InterimQueue;
use super::listener::Place;
use super::progress::Progress;
use super::sweep::Overdue;
use super::tracked::InboundBody;
use super::wire::Malformed;
use crate::clock::{CoarseClock, Timestamp};
use crate::config;

/// An error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer. An error in it resets the stream or closes the connection without a clean end.
    type Body: http_body::Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static;

    /// Answers the request of this head and body. When `rejected` is given, they stand in for a malformed one (on HTTP/1 nothing of it
    /// is the client's) and the answer should say why; the connection closes after it.
    ///
    /// The future is dropped when the client goes away.
    fn handle(
        &self,
        connection: Arc<ConnectionState>,
        head: Box<Parts>,
        body: InboundBody,
        rejected: Option<Malformed>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// An open socket's hold on its connection: while it lives the connection counts as open and is swept.
#[derive(Debug)]
pub struct Open {
    state: Arc<ConnectionState>,
    _place: Option<Place>,
}

impl Open {
    /// Opens `state`, which takes `place` among the listener's connections.
    pub fn new(state: Arc<ConnectionState>, place: Option<Place>) -> Self {
        Self { state, _place: place }
    }

    /// The connection.
    pub fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.closed.store(true, Relaxed);
    }
}

/// Who is connected, and what the connection is doing.
#[derive(Debug)]
pub struct ConnectionState {
    peer: Peer,
    listener: Arc<config::Listener>,
    tls: bool,
    clock: CoarseClock,
    /// The first malformed request and its number; there is no second.
    refused: OnceLock<(u64, Malformed)>,
    /// Requests handed to the handler.
    begun: AtomicU64,
    /// Requests the handler has answered (the head of the response exists).
    answered: AtomicU64,
    /// Bytes behind an upgrade request wait until its answer is known.
    answer_awaited: AtomicBool,
    interims: InterimQueue,
    upgraded: AtomicBool,
    /// A response is under way that the end of the connection delimits.
    owes_end: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    progress: Progress,
    stage: AtomicU8,
    ended: AtomicU8,
    closed: AtomicBool,
    waker: AtomicWaker,
}

/// How far the worker is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Open,
    /// The next answer is the last: `Connection: close`, or GOAWAY.
    Draining,
    /// Idle connections close now.
    Closing,
}

impl Stage {
    pub(super) const fn code(self) -> u8 {
        self as u8
    }

    pub(super) const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Open,
            1 => Self::Draining,
            _ => Self::Closing,
        }
    }
}

impl ConnectionState {
    /// A connection that has just been accepted.
    pub fn new(peer: SocketAddr, listener: Arc<config::Listener>, clock: CoarseClock) -> Self {
        let now = clock.now().as_micros();
        let progress = Progress::default();
        progress.head_since.store(now, Relaxed);
        progress.active_at.store(now, Relaxed);
        Self {
            peer: Peer::new(peer),
            tls: listener.tls.is_some(),
            listener,
            clock,
            refused: OnceLock::new(),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            answer_awaited: AtomicBool::new(false),
            interims: InterimQueue::default(),
            upgraded: AtomicBool::new(false),
            owes_end: AtomicBool::new(false),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            progress,
            stage: AtomicU8::new(Stage::Open.code()),
            ended: AtomicU8::new(0),
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer.address()
    }

    /// The peer, with what its requests are sent on with.
    pub(super) fn forwarded_peer(&self) -> &Peer {
        &self.peer
    }

    /// The listener as it was configured when the connection was accepted.
    pub fn listener(&self) -> &Arc<config::Listener> {
        &self.listener
    }

    /// Whether the client speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Bytes received so far, without TLS.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Bytes sent so far, without TLS.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    /// Why the sweeper ended this connection, if it did.
    pub fn ended(&self) -> Option<Overdue> {
        Overdue::from_code(self.ended.load(Relaxed))
    }

    /// Ends the connection: its task drops the socket, an upgraded one's reads fail.
    pub fn end(&self, reason: Overdue) {
        self.ended.store(reason.code(), Relaxed);
        self.waker.wake();
    }

    /// Tells the connection how far its worker is on the way out.
    pub fn advance_to(&self, stage: Stage) {
        if self.stage.fetch_max(stage.code(), Relaxed) < stage.code() {
            self.waker.wake();
        }
    }

    pub(super) fn has_reached(&self, stage: Stage) -> bool {
        self.stage.load(Relaxed) >= stage.code()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(super) fn wake_later(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Has the connection's task look at everything again.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }
}

/// Requests and their answers, in order.
impl ConnectionState {
    /// Takes the number of the next request, from 0, and the reason if that request is refused.
    pub(super) fn next_request(&self) -> Option<Malformed> {
        let number = self.begun.fetch_add(1, Relaxed);
        self.refused
            .get()
            .filter(|(refused, _)| *refused == number)
            .map(|(_, reason)| *reason)
    }

    /// Requests handed to the handler so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// The interim responses to the present request.
    pub(super) fn interims(&self) -> &InterimQueue {
        &self.interims
    }

    pub(super) fn answer_is_known(&self, upgraded: bool) {
        if upgraded {
            self.upgraded.store(true, Relaxed);
        }
        self.answered.fetch_add(1, Relaxed);
    }

    pub(super) fn refuse(&self, number: u64, reason: Malformed) {
        // Nothing is read after the first refusal, so there is no second.
        let first = self.refused.set((number, reason));
        debug_assert!(first.is_ok(), "one refusal per connection");
    }

    /// Whether the first `requests` requests have been answered.
    pub(super) fn has_answered(&self, requests: u64) -> bool {
        self.answered.load(Relaxed) >= requests
    }

    pub(super) fn await_answer(&self, awaited: bool) {
        self.answer_awaited.store(awaited, Relaxed);
    }

    pub(super) fn is_answer_awaited(&self) -> bool {
        self.answer_awaited.load(Relaxed)
    }

    /// Notes that a response is under way whose end only the end of the connection tells, or that it is complete.
    pub(super) fn owe_end(&self, owed: bool) {
        self.owes_end.store(owed, Relaxed);
    }

    /// Whether closing the connection now would make an incomplete response look complete.
    pub(super) fn owes_end(&self) -> bool {
        self.owes_end.load(Relaxed)
    }

    /// Whether the connection has left HTTP/1.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }
}

/// The meters. Each has one writer, so plain loads and stores do.
impl ConnectionState {
    pub(super) fn received(&self, bytes: usize) {
        add(&self.bytes_in, bytes);
        self.progress.active_at.store(self.now(), Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        add(&self.bytes_out, bytes);
        self.progress.active_at.store(self.now(), Relaxed);
        self.progress.blocked_since.store(0, Relaxed);
    }

    pub(super) fn write_blocked(&self) {
        if self.progress.blocked_since.load(Relaxed) == 0 {
            self.progress.blocked_since.store(self.now(), Relaxed);
        }
    }

    pub(super) fn head_begun(&self) {
        if self.progress.head_since.load(Relaxed) == 0 {
            self.progress.head_since.store(self.now(), Relaxed);
        }
    }

    pub(super) fn head_ended(&self) {
        self.progress.head_since.store(0, Relaxed);
    }

    /// Whether the client owes a head: its first, or the rest of one that has begun.
    pub(super) fn is_head_awaited(&self) -> bool {
        self.progress.head_since.load(Relaxed) != 0
    }

    pub(super) fn body_begins(&self) {
        if self.progress.bodies.fetch_add(1, Relaxed) == 0 {
            self.progress.body_received.store(0, Relaxed);
            self.progress.body_waited.store(0, Relaxed);
        }
    }

    pub(super) fn body_ends(&self) {
        self.progress.bodies.fetch_sub(1, Relaxed);
    }

    pub(super) fn body_received(&self, bytes: usize) {
        add(&self.progress.body_received, bytes);
    }

    pub(super) fn body_awaited(&self, awaited: bool) {
        let bodies = &self.progress.bodies_awaited;
        if awaited {
            bodies.fetch_add(1, Relaxed)
        } else {
            bodies.fetch_sub(1, Relaxed)
        };
    }

    pub(super) fn work_begins(&self) {
        self.progress.working.fetch_add(1, Relaxed);
    }

    pub(super) fn work_ends(&self) {
        self.progress.working.fetch_sub(1, Relaxed);
    }

    /// What the connection has to be ended for at `now`, `elapsed` after the sweeper last looked.
    pub(super) fn overdue(&self, now: Timestamp, elapsed: Duration) -> Option<Overdue> {
        self.progress.overdue(&self.listener.limits, now, elapsed)
    }

    fn now(&self) -> u64 {
        self.clock.now().as_micros()
    }
}

fn add(counter: &AtomicU64, bytes: usize) {
    counter.store(counter.load(Relaxed) + bytes as u64, Relaxed);
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::clock::Clock;

    /// A listener with the default limits.
    pub(in crate::proxy) fn listener() -> config::Listener {
        config::Listener {
            name: "http".into(),
            bind: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            limits: config::ListenerLimits {
                connections: 100,
                headers: 100,
                header_bytes: 64 * 1024,
                header_timeout: Duration::from_secs(10),
                body_min_rate: 500,
                idle_timeout: Duration::from_secs(75),
                max_body: 1 << 20,
                h2_streams: 100,
            },
            trusted_proxies: Vec::new(),
        }
    }

    /// A connection that was opened at the 1000th second.
    pub(in crate::proxy) fn open() -> Open {
        let clock = CoarseClock::new(&Clock::manual(Timestamp::from_secs(1000)));
        let peer = "192.0.2.1:1234".parse().unwrap();
        Open::new(
            Arc::new(ConnectionState::new(peer, Arc::new(listener()), clock)),
            None,
        )
    }
}

#[cfg(test)]
mod tests;

//! The filling side of a flight.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::super::entry::Entry;
use super::reader::Follower;
use super::shared::Flight;
use super::state::{Phase, State};
use super::{FlightError, Flights, Grounds, Head};

/// Time between two looks at who holds up whom.
const TICK: Duration = Duration::from_millis(100);
/// Looks that found somebody held up by a slower reader, after which the slower one is let go: a second in all.
const PATIENCE: u32 = 10;

/// Feeds a flight; owned by the fill task.
///
/// Dropped without an end, its flight is lost: those who wait for the head may board again, one of them leads, and
/// bodies end with an error.
#[derive(Debug)]
pub struct Leader {
    flight: Arc<Flight>,
    flights: Flights,
    /// Looks that found somebody held up.
    held_up: AtomicU32,
    ended: bool,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It was complete and was given to be stored.
    Whole,
    /// Readers have it, but it outgrew the window (or was for one client alone) and is not stored.
    NotKept,
    /// It did not have its announced length: readers see an error, nothing is stored.
    WrongLength,
}

impl Leader {
    pub(super) fn new(flight: Arc<Flight>, flights: Flights) -> Self {
        Self {
            flight,
            flights,
            held_up: AtomicU32::new(0),
            ended: false,
        }
    }

    /// A place for the leader's own client; to be taken before the body begins.
    pub fn follow(&self) -> Follower {
        Follower::new(self.flight.join_as_own())
    }

    /// The head has arrived. Up to `window` bytes of body are kept for storing and for those who join later; a
    /// longer body streams on to its present readers, with at most that many bytes between the first and the last:
    /// a slow one may hold up the others for a second in all, then it is left behind.
    pub fn begin(&self, head: Arc<Head>, window: usize) {
        self.flight.change(|state| state.begin(head, window));
    }

    /// The head has arrived, and the response is for the leader's own client alone: all others are declined.
    pub fn begin_alone(&self, head: Arc<Head>) {
        self.flights.remove(&self.flight);
        self.flight.change(|state| state.begin_alone(head));
    }

    /// Adds a piece of the body, once there is room for it. False when going on is of no use: nobody reads, and the
    /// body is too large to be stored.
    ///
    /// Not cancel safe: the piece is lost with the future.
    pub async fn push(&self, mut chunk: Bytes) -> bool {
        while !chunk.is_empty() {
            let placed = poll_fn(|context| self.flight.poll_push(&mut chunk, context));
            match tokio::time::timeout(TICK, placed).await {
                Ok(true) => self.flights.remove(&self.flight),
                Ok(false) => {}
                Err(_elapsed) if self.flight.somebody_starves() => {
                    if self.held_up.fetch_add(1, Ordering::Relaxed) + 1 >= PATIENCE {
                        self.flight.leave_behind();
                    }
                }
                Err(_elapsed) => {}
            }
        }
        self.flight.look(State::is_of_use)
    }

    /// Whether as many bytes have come as the head announced.
    pub fn is_complete(&self) -> bool {
        self.flight.look(State::has_announced_length)
    }

    /// Whether the body outgrew what is kept of it.
    pub fn has_outgrown(&self) -> bool {
        !self.flight.look(State::is_whole)
    }

    /// The body is complete. If it was kept, `store` gets it before any reader learns of the end, and before another
    /// flight for this key can begin.
    pub fn finish(self, store: impl FnOnce(&[Bytes])) -> Finished {
        self.land(None, store)
    }

    /// The same with trailers.
    pub fn finish_with_trailers(self, trailers: HeaderMap, store: impl FnOnce(&[Bytes])) -> Finished {
        self.land(Some(trailers), store)
    }

    /// The fill failed: those without a head get this error as their answer, bodies end with it.
    pub fn fail(mut self, error: FlightError) {
        self.crash(error, Phase::Failed(error));
    }

    /// The response cannot be shared: everyone fetches on their own.
    pub fn decline(mut self) {
        self.crash(FlightError::NO_BODY, Phase::Declined);
    }

    /// The answer is this entry, on these grounds.
    pub fn publish(mut self, entry: Arc<Entry>, grounds: Grounds) {
        self.ended = true;
        self.flight
            .change(|state| state.phase = Phase::Entry(entry, grounds));
        self.flights.remove(&self.flight);
    }

    /// Waits until nobody reads. Resolves at once when nobody has ever followed.
    pub async fn abandoned(&self) {
        poll_fn(|context| self.flight.poll_abandoned(context)).await;
    }

    /// How many wait for the head or read the body.
    pub fn readers(&self) -> usize {
        self.flight.look(State::readers)
    }

    fn land(mut self, trailers: Option<HeaderMap>, store: impl FnOnce(&[Bytes])) -> Finished {
        if !self.has_begun() || !self.flight.look(State::has_announced_length) {
            let error = FlightError::WRONG_LENGTH;
            self.crash(error, Phase::Failed(error));
            return Finished::WrongLength;
        }
        let body = self.flight.look(State::whole_body);
        if let Some(body) = &body {
            store(body);
        }
        self.ended = true;
        self.flight.change(|state| state.finish(Ok(trailers)));
        self.flights.remove(&self.flight);
        if body.is_some() {
            Finished::Whole
        } else {
            Finished::NotKept
        }
    }

    /// Ends the flight without a whole response. It leaves the table first: who boards again finds another one.
    fn crash(&mut self, body_error: FlightError, phase: Phase) {
        self.ended = true;
        self.flights.remove(&self.flight);
        if self.has_begun() {
            self.flight.change(|state| state.finish(Err(body_error)));
        } else {
            self.flight.change(|state| state.phase = phase);
        }
    }

    fn has_begun(&self) -> bool {
        self.flight
            .look(|state| matches!(state.phase, Phase::Streaming(_)))
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.ended {
            self.crash(FlightError::LOST, Phase::Lost);
        }
    }
}

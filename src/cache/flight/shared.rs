//! The border between the leader and the readers of a flight.
//!
//! They may live on different runtimes, so the state is behind one short lock. Invariant: who waits has left a waker
//! under the same lock under which it found nothing, and no waker is called under the lock.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::digest::KeyDigest;
use super::Beginning;
use super::state::{Phase, Piece, State, keep_waker};

/// One fill.
pub(super) struct Flight {
    key: KeyDigest,
    full_key: Box<[u8]>,
    began: Beginning,
    state: Mutex<State>,
}

impl Flight {
    pub(super) fn new(key: KeyDigest, full_key: &[u8], began: Beginning) -> Arc<Self> {
        Arc::new(Self {
            key,
            full_key: full_key.into(),
            began,
            state: Mutex::new(State::new()),
        })
    }

    pub(super) fn key(&self) -> &KeyDigest {
        &self.key
    }

    pub(super) fn full_key(&self) -> &[u8] {
        &self.full_key
    }

    pub(super) fn began(&self) -> Beginning {
        self.began
    }

    /// A seat for another request, if it may join.
    pub(super) fn join(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.state.lock();
        state.is_joinable().then(|| Seat {
            flight: Arc::clone(self),
            id: state.enter(false),
        })
    }

    /// A seat for the leader's own client.
    pub(super) fn join_as_own(self: &Arc<Self>) -> Seat {
        Seat {
            flight: Arc::clone(self),
            id: self.state.lock().enter(true),
        }
    }

    /// What the state says; nobody is woken.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Changes the state and wakes every reader.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let wakers = state.waiting_readers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes the chunk as soon as there is room for it; pending until then. The answer tells whether the body has just
    /// outgrown the window; then the chunk may still be waiting.
    pub(super) fn poll_push(&self, chunk: &mut Bytes, context: &Context<'_>) -> Poll<bool> {
        let mut state = self.state.lock();
        let outgrown = state.outgrows(chunk.len());
        if !state.has_room(chunk.len()) {
            if outgrown {
                // The caller must hear of it now: nobody may join any more.
                return Poll::Ready(true);
            }
            keep_waker(&mut state.pushing, context);
            return Poll::Pending;
        }
        let wakers = if state.accept(mem::take(chunk)) {
            state.waiting_readers()
        } else {
            Vec::new()
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Poll::Ready(outgrown)
    }

    /// Whether a reader waits for what the leader cannot place.
    pub(super) fn somebody_starves(&self) -> bool {
        self.look(State::somebody_starves)
    }

    /// Lets go of those who hold up the others.
    pub(super) fn leave_behind(&self) {
        let mut state = self.state.lock();
        let wakers = state.leave_behind();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready when there is no reader (any more).
    pub(super) fn poll_abandoned(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.readers() == 0 {
            return Poll::Ready(());
        }
        keep_waker(&mut state.watching, context);
        Poll::Pending
    }
}

impl fmt::Debug for Flight {
    /// Neither key nor contents: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A reader's place in a flight; leaving it tells the leader.
#[derive(Debug)]
pub(super) struct Seat {
    flight: Arc<Flight>,
    id: u64,
}

impl Seat {
    /// The phase of the flight as this seat may see it, once it is no longer waiting.
    pub(super) fn poll_phase(&self, context: &Context<'_>) -> Poll<Phase> {
        let mut state = self.flight.state.lock();
        match state.phase_for(self.id) {
            Phase::Waiting => {
                state.wait(self.id, context);
                Poll::Pending
            }
            phase => Poll::Ready(phase),
        }
    }

    /// Bytes of the body, if a head has told.
    pub(super) fn body_len(&self) -> Option<u64> {
        self.flight.look(State::body_len)
    }

    /// The next piece of the body.
    pub(super) fn poll_piece(&self, context: &Context<'_>) -> Poll<Piece> {
        let mut state = self.flight.state.lock();
        let Some(piece) = state.next_piece(self.id) else {
            state.wait(self.id, context);
            return Poll::Pending;
        };
        let pushing = state.pushing.take();
        drop(state);
        pushing.into_iter().for_each(Waker::wake);
        Poll::Ready(piece)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.flight.state.lock();
        let left = state.leave(self.id);
        let watching = if state.readers() == 0 {
            state.watching.take()
        } else {
            None
        };
        let wakers = [state.pushing.take(), watching];
        drop(state);
        drop(left);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

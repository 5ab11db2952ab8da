//! The state of a flight, as a plain machine without locks or tasks: what has arrived, and who has read how much.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::HeaderMap;

use super::super::entry::Entry;
use super::{FlightError, Grounds, Head};

/// Bytes that a flight for one client alone holds for it.
const WINDOW_ALONE: usize = 256 * 1024;

/// How far the head has come.
#[derive(Clone)]
pub(super) enum Phase {
    Waiting,
    Streaming(Arc<Head>),
    Entry(Arc<Entry>, Grounds),
    Declined,
    Failed(FlightError),
    Lost,
}

/// How a body ended: with or without trailers, or early.
pub(super) type End = Result<Option<HeaderMap>, FlightError>;

/// What a reader gets next.
pub(super) enum Piece {
    Chunk {
        bytes: Bytes,
        /// The body ends with it, without trailers.
        last: bool,
    },
    Trailers(HeaderMap),
    End,
    Failed(FlightError),
}

/// See the head of this file.
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) end: Option<End>,
    /// What has arrived and may still be read.
    chunks: VecDeque<Chunk>,
    /// Number of the first of `chunks`, counted from the beginning of the body.
    first: usize,
    /// The chunk that completes a body of known length: readers get it when the flight is finished, so that no client
    /// has a whole response whose entry is not stored yet.
    last_chunk: Option<Bytes>,
    /// Bytes in `chunks` and `last_chunk`.
    held: usize,
    /// Bytes that have arrived.
    total: u64,
    /// Bytes that are held for readers. While no more have arrived, all of them are kept for late joiners.
    window: usize,
    /// All chunks are still there.
    whole: bool,
    seats: HashMap<u64, SeatState>,
    next_seat: u64,
    /// Seats that may read.
    readers: usize,
    /// The leader, waiting for readers to make room.
    pub(super) pushing: Option<Waker>,
    /// The leader, waiting for the last reader to leave.
    pub(super) watching: Option<Waker>,
}

struct Chunk {
    bytes: Bytes,
    /// Readers that have not read it.
    unread: usize,
}

struct SeatState {
    /// Number of the next chunk to read.
    next: usize,
    /// Belongs to the leader's own client.
    own: bool,
    /// The response is not for it; it does not count as a reader.
    declined: bool,
    /// It was too slow for the others; it does not count as a reader any more.
    left_behind: bool,
    waker: Option<Waker>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Waiting,
            end: None,
            chunks: VecDeque::new(),
            first: 0,
            last_chunk: None,
            held: 0,
            total: 0,
            window: 0,
            whole: true,
            seats: HashMap::new(),
            next_seat: 0,
            readers: 0,
            pushing: None,
            watching: None,
        }
    }

    /// Whether another request may take a seat: it can read from the beginning, and shares no failure that it had
    /// no part in.
    pub(super) fn is_joinable(&self) -> bool {
        match self.phase {
            Phase::Waiting | Phase::Entry(..) => true,
            Phase::Streaming(_) => self.whole && !matches!(self.end, Some(Err(_))),
            Phase::Declined | Phase::Failed(_) | Phase::Lost => false,
        }
    }

    /// Takes a seat. It is declined if the beginning of the body is gone.
    pub(super) fn enter(&mut self, own: bool) -> u64 {
        let declined = self.first > 0;
        if !declined {
            self.readers += 1;
            self.chunks.iter_mut().for_each(|chunk| chunk.unread += 1);
        }
        let id = self.next_seat;
        self.next_seat += 1;
        self.seats.insert(
            id,
            SeatState {
                next: 0,
                own,
                declined,
                left_behind: false,
                waker: None,
            },
        );
        id
    }

    /// Leaves a seat; what it held is returned, to be dropped after the lock.
    pub(super) fn leave(&mut self, seat: u64) -> Option<impl Sized + use<>> {
        let seat = self.seats.remove(&seat)?;
        if !seat.declined && !seat.left_behind {
            self.readers -= 1;
            self.unread_no_more(seat.next);
        }
        Some(seat)
    }

    /// Whether a reader has read everything there is and waits for more.
    pub(super) fn somebody_starves(&self) -> bool {
        let end = self.first + self.chunks.len();
        self.seats
            .values()
            .any(|seat| !seat.declined && !seat.left_behind && seat.next >= end)
    }

    /// Lets go of the readers that hold the oldest chunk; their wakers.
    pub(super) fn leave_behind(&mut self) -> Vec<Waker> {
        let (first, mut nexts, mut wakers) = (self.first, Vec::new(), Vec::new());
        let slow = |seat: &&mut SeatState| !seat.declined && !seat.left_behind && seat.next <= first;
        for seat in self.seats.values_mut().filter(slow) {
            seat.left_behind = true;
            nexts.push(seat.next);
            wakers.extend(seat.waker.take());
        }
        for next in nexts {
            self.readers -= 1;
            self.unread_no_more(next);
        }
        wakers
    }

    /// A reader that would have read on from the chunk number `next` is gone.
    fn unread_no_more(&mut self, next: usize) {
        for chunk in self.chunks.iter_mut().skip(next.saturating_sub(self.first)) {
            chunk.unread = chunk.unread.saturating_sub(1);
        }
        self.drop_read();
    }

    /// Seats that may read.
    pub(super) fn readers(&self) -> usize {
        self.readers
    }

    /// Whether chunks serve a purpose: the whole body can be stored, or somebody reads.
    pub(super) fn is_of_use(&self) -> bool {
        self.whole || self.readers > 0
    }

    /// The head has arrived.
    pub(super) fn begin(&mut self, head: Arc<Head>, window: usize) {
        self.window = window;
        self.phase = Phase::Streaming(head);
    }

    /// The head has arrived, for the leader's own client alone.
    pub(super) fn begin_alone(&mut self, head: Arc<Head>) {
        debug_assert!(self.chunks.is_empty(), "nothing comes before the head");
        self.begin(head, WINDOW_ALONE);
        self.seats.values_mut().for_each(|seat| seat.declined = !seat.own);
        self.readers = self.seats.values().filter(|seat| seat.own).count();
        self.stop_keeping();
    }

    /// Stops keeping the body if `len` bytes more outgrow the window; whether it did.
    pub(super) fn outgrows(&mut self, len: usize) -> bool {
        let outgrown = self.whole && self.held.saturating_add(len) > self.window;
        if outgrown {
            self.stop_keeping();
        }
        outgrown
    }

    /// Whether `len` bytes more may be held. A chunk larger than the window passes when nothing else is held.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.held == 0 || self.held.saturating_add(len) <= self.window || self.last_chunk.is_some()
    }

    /// Takes a chunk; whether readers can read it now.
    pub(super) fn accept(&mut self, chunk: Bytes) -> bool {
        self.total = self
            .total
            .saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if self.last_chunk.is_some() {
            // Too much: the flight will fail, and nobody may see a whole body.
            return false;
        }
        self.held += chunk.len();
        if self.body_len().is_some_and(|announced| announced <= self.total) {
            self.last_chunk = Some(chunk);
            return false;
        }
        self.keep(chunk);
        true
    }

    /// Whether as many bytes have arrived as were announced.
    pub(super) fn has_announced_length(&self) -> bool {
        self.body_len().is_none_or(|announced| announced == self.total)
    }

    /// Whether all of the body is kept so far.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The whole body; none if it outgrew the window.
    pub(super) fn whole_body(&self) -> Option<Vec<Bytes>> {
        self.whole.then(|| {
            let kept = self.chunks.iter().map(|chunk| chunk.bytes.clone());
            kept.chain(self.last_chunk.clone()).collect()
        })
    }

    /// The body ended.
    pub(super) fn finish(&mut self, end: End) {
        if let Some(bytes) = self.last_chunk.take()
            && end.is_ok()
        {
            self.keep(bytes);
        }
        self.end = Some(end);
    }

    /// Bytes of the body, if a head has told.
    pub(super) fn body_len(&self) -> Option<u64> {
        match &self.phase {
            Phase::Streaming(head) => head.body_len(),
            _ => None,
        }
    }

    /// The phase as a seat may see it.
    pub(super) fn phase_for(&self, seat: u64) -> Phase {
        if self.seats.get(&seat).is_none_or(|seat| seat.declined) {
            Phase::Declined
        } else {
            self.phase.clone()
        }
    }

    /// The next piece for a seat; none if it has to wait.
    pub(super) fn next_piece(&mut self, seat: u64) -> Option<Piece> {
        if self.seats.get(&seat).is_none_or(|seat| seat.declined) {
            return Some(Piece::Failed(FlightError::NO_BODY));
        }
        if self.seats.get(&seat).is_some_and(|seat| seat.left_behind) {
            return Some(Piece::Failed(FlightError::LEFT_BEHIND));
        }
        match self.phase {
            Phase::Waiting => return None,
            Phase::Streaming(_) => {}
            Phase::Failed(error) => return Some(Piece::Failed(error)),
            Phase::Lost => return Some(Piece::Failed(FlightError::LOST)),
            Phase::Declined | Phase::Entry(..) => return Some(Piece::Failed(FlightError::NO_BODY)),
        }
        if let Some((bytes, more_to_read)) = self.read(seat) {
            let last = !more_to_read && matches!(self.end, Some(Ok(None)));
            return Some(Piece::Chunk { bytes, last });
        }
        self.end.as_ref().map(|end| match end {
            Ok(None) => Piece::End,
            Ok(Some(trailers)) => Piece::Trailers(trailers.clone()),
            Err(error) => Piece::Failed(*error),
        })
    }

    /// Wakes the task of `context` at the next change that is of interest to `seat`.
    pub(super) fn wait(&mut self, seat: u64, context: &Context<'_>) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            keep_waker(&mut seat.waker, context);
        }
    }

    /// Everyone who waits, to be woken after the lock.
    pub(super) fn waiting_readers(&mut self) -> Vec<Waker> {
        self.seats
            .values_mut()
            .filter_map(|seat| seat.waker.take())
            .collect()
    }

    /// From now on chunks are dropped when everyone has read them.
    fn stop_keeping(&mut self) {
        self.whole = false;
        self.drop_read();
    }

    fn keep(&mut self, bytes: Bytes) {
        self.chunks.push_back(Chunk {
            bytes,
            unread: self.readers,
        });
        self.drop_read();
    }

    /// The next chunk for a seat, and whether there is one more.
    fn read(&mut self, seat: u64) -> Option<(Bytes, bool)> {
        let seat = self.seats.get_mut(&seat)?;
        let at = seat.next.checked_sub(self.first)?;
        let more_to_read = at + 1 < self.chunks.len();
        let chunk = self.chunks.get_mut(at)?;
        seat.next += 1;
        chunk.unread = chunk.unread.saturating_sub(1);
        let bytes = chunk.bytes.clone();
        self.drop_read();
        Some((bytes, more_to_read))
    }

    fn drop_read(&mut self) {
        while !self.whole && self.chunks.front().is_some_and(|chunk| chunk.unread == 0) {
            if let Some(chunk) = self.chunks.pop_front() {
                self.held -= chunk.bytes.len();
                self.first += 1;
            }
        }
    }
}

/// Puts the waker of `context` into `place`.
pub(super) fn keep_waker(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

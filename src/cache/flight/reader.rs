//! The reading side of a flight.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::super::entry::Entry;
use super::shared::Seat;
use super::state::{Phase, Piece};
use super::{FlightError, Grounds, Head};

/// Waits for the head of a flight. Counts as a reader until it is dropped.
#[derive(Debug)]
pub struct Follower {
    seat: Seat,
}

/// What became of a flight, as far as a follower can tell before the body.
#[derive(Clone, Debug)]
pub enum Boarded {
    /// A response streams; [`Follower::into_reader`] reads it.
    Streaming(Arc<Head>),
    /// There is an entry to answer from.
    Entry(Arc<Entry>, Grounds),
    /// The response cannot be shared: fetch without a flight.
    Declined,
    /// The fill failed; the same answer for everyone.
    Failed(FlightError),
    /// The leader is gone: board again.
    Lost,
}

impl Follower {
    pub(super) fn new(seat: Seat) -> Self {
        Self { seat }
    }

    /// Waits for the head, or for what came instead. Without a time limit: that is the caller's. Cancel safe.
    pub async fn boarded(&mut self) -> Boarded {
        match poll_fn(|context| self.seat.poll_phase(context)).await {
            Phase::Streaming(head) => Boarded::Streaming(head),
            Phase::Entry(entry, grounds) => Boarded::Entry(entry, grounds),
            Phase::Declined => Boarded::Declined,
            Phase::Failed(error) => Boarded::Failed(error),
            // Waiting is never ready.
            Phase::Lost | Phase::Waiting => Boarded::Lost,
        }
    }

    /// The body from its beginning. Fails with [`FlightError::NO_BODY`] if the flight does not stream.
    pub fn into_reader(self) -> FlightReader {
        FlightReader {
            seat: Some(self.seat),
            consumed: 0,
        }
    }
}

/// The body of a flight. It ends with an error, never cleanly, if the fill did not end well.
#[derive(Debug)]
pub struct FlightReader {
    /// None after the end, so that a reader that is done holds no one up.
    seat: Option<Seat>,
    consumed: u64,
}

impl Body for FlightReader {
    type Data = Bytes;
    type Error = FlightError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FlightError>>> {
        let this = self.get_mut();
        let Some(seat) = &this.seat else {
            return Poll::Ready(None);
        };
        let (frame, ended) = match ready!(seat.poll_piece(context)) {
            Piece::Chunk { bytes, last } => {
                this.consumed = this
                    .consumed
                    .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                (Some(Ok(Frame::data(bytes))), last)
            }
            Piece::Trailers(trailers) => (Some(Ok(Frame::trailers(trailers))), true),
            Piece::End => (None, true),
            Piece::Failed(error) => (Some(Err(error)), true),
        };
        if ended {
            this.seat = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.seat.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(seat) = &self.seat else {
            return SizeHint::with_exact(0);
        };
        match seat.body_len() {
            Some(len) => SizeHint::with_exact(len.saturating_sub(self.consumed)),
            None => SizeHint::default(),
        }
    }
}

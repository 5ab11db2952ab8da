//! An exchange whose answer came before all of its request was sent.
//!
//! Usually whoever reads the answer drives the connection. Here that could be a deadlock: a client that sends its whole
//! body before it reads anything waits for us to take the rest, while we wait for it to take the answer. So a task sends
//! the rest, and reads the answer as long as somebody takes that.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use super::Http1Connection;
use crate::tasks::Tasks;
use crate::upstream::connect::Failure;
use crate::upstream::error::ErrorKind;

/// The rest of the exchange. Dropping it closes the connection, which is not used again.
pub(in crate::upstream) struct Driven {
    items: mpsc::Receiver<Item>,
}

/// A frame of the body, or none at its end.
type Item = Result<Option<Frame<Bytes>>, Failure>;

impl Http1Connection {
    /// Has the rest of the exchange driven by a task of its own.
    pub(in crate::upstream) fn into_driven(self: Box<Self>, tasks: &Tasks) -> Driven {
        let (sender, items) = mpsc::channel(1);
        tasks.spawn("upstream early answer", drive(self, sender));
        Driven { items }
    }
}

impl Driven {
    /// The next frame of the response body; none after its end.
    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.items.poll_recv(cx).map(|item| match item {
            Some(item) => item.transpose(),
            // The task was ended before the body was.
            None => Some(Err(ErrorKind::Reset.into())),
        })
    }
}

async fn drive(mut connection: Box<Http1Connection>, items: mpsc::Sender<Item>) {
    loop {
        let sending = poll_fn(|cx| match connection.poll_upload(cx) {
            Poll::Ready(Err(failure)) => Poll::Ready(failure),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        });
        let place = tokio::select! {
            biased;
            place = items.reserve() => place,
            failure = sending => {
                // Whoever reads the answer is told when there is a place; if nobody does, nobody need be.
                drop(items.send(Err(failure)).await);
                return;
            }
        };
        let Ok(place) = place else { return };
        let reading = poll_fn(|cx| match connection.poll_upload(cx) {
            Poll::Ready(Err(failure)) => Poll::Ready(Some(Err(failure))),
            Poll::Ready(Ok(())) | Poll::Pending => connection.poll_frame(cx),
        });
        let item = tokio::select! {
            biased;
            () = items.closed() => return,
            frame = reading => frame.transpose(),
        };
        let goes_on = matches!(item, Ok(Some(_)));
        place.send(item);
        if !goes_on {
            return;
        }
    }
}

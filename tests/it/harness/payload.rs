//! Bodies: whole ones, scripted ones, and reading them to the end.

use std::fmt::Display;
use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc;

/// A body of a request or an answer.
pub(crate) type Payload = UnsyncBoxBody<Bytes, io::Error>;

/// The most a test reads of one body.
const MOST: usize = 256 * 1024 * 1024;

/// A body that is there at once.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Payload {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body whose frames the test sends one by one; dropping the sender ends it cleanly.
pub(crate) fn channel() -> (BodySender, Payload) {
    let (sender, mut receiver) = mpsc::channel(1);
    let frames = stream::poll_fn(move |context| receiver.poll_recv(context));
    (BodySender(sender), BodyExt::boxed_unsync(StreamBody::new(frames)))
}

/// The test's end of a scripted body.
#[derive(Debug)]
pub(crate) struct BodySender(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl BodySender {
    /// Sends a chunk. Returns false when nobody reads the body any more.
    pub(crate) async fn chunk(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Ends the body with trailers.
    pub(crate) async fn trailers(self, trailers: HeaderMap) {
        self.0
            .send(Ok(Frame::trailers(trailers)))
            .await
            .expect("the body is still read");
    }

    /// Breaks the body off: the connection is reset instead of ended.
    pub(crate) async fn abort(self) {
        self.0
            .send(Err(io::Error::other("aborted by the test")))
            .await
            .expect("the body is still read");
    }

    /// Waits until nobody reads the body any more.
    pub(crate) async fn abandoned(&self) {
        self.0.closed().await;
    }
}

/// Reads a body to its end: its bytes and trailers, or how it broke.
pub(crate) async fn read_all<B>(mut body: B) -> Result<(Bytes, Option<HeaderMap>), String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let mut bytes = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame
            .map_err(|error| format!("the body broke after {} bytes: {error}", bytes.len()))?
            .into_data()
        {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(other) => trailers = other.into_trailers().ok(),
        }
        if bytes.len() > MOST {
            return Err(format!("the body is longer than {MOST} bytes"));
        }
    }
    Ok((bytes.freeze(), trailers))
}

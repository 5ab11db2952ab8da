//! An HTTP/2 connection to an endpoint and the task that drives it.

use std::future::Future;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::connect::{Failure, Transport};
use super::error::ErrorKind;
use super::request::SentBody;
use crate::tasks::Tasks;

/// Bytes of one response head.
const MAX_HEAD_BYTES: u32 = 64 * 1024;

/// Starts HTTP/2 on an open connection. The connection closes when the last sender and stream are gone.
pub(super) async fn start_http2(
    transport: Transport,
    tasks: &Tasks,
) -> Result<http2::SendRequest<SentBody>, Failure> {
    let (sender, connection) = http2::Builder::new(Spawner(tasks.clone()))
        .max_header_list_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(transport))
        .await
        .map_err(|error| Failure::new(ErrorKind::Protocol, error))?;
    // It does not look at the group's token: that would cost every exchange a few looks at what changes once.
    tasks.spawn_to_end(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// Lets hyper spawn the tasks of HTTP/2 streams into the worker's group.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("upstream http2 stream", future);
    }
}

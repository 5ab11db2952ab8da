//! One open HTTP connection and the task that drives it.

use std::future::Future;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::connect::{Failure, Transport};
use super::error::ErrorKind;
use super::request::SentBody;
use crate::tasks::Tasks;

/// Bytes of one response head; more is a protocol error. Header fields are bounded by hyper's default of 100, for
/// which it needs no allocation.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// An HTTP/1.1 connection that carries one exchange at a time. Dropping it closes the socket at once, whatever is
/// under way on it; that is how an exchange nobody wants any more is cancelled.
pub(super) struct Http1Connection {
    /// Where requests go in.
    pub(super) sender: http1::SendRequest<SentBody>,
    /// The timer of all its exchanges.
    pub(super) alarm: Alarm,
    /// Whether it has carried an exchange before.
    pub(super) reused: bool,
    driver: AbortHandle,
    detached: bool,
}

impl Http1Connection {
    /// Starts HTTP/1.1 on an open connection.
    pub(super) async fn start(transport: Transport, tasks: &Tasks) -> Result<Self, Failure> {
        let (sender, connection) = http1::Builder::new()
            .writev(false)
            .max_header_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(transport))
            .await
            .map_err(|error| Failure::new(ErrorKind::Connect, error))?;
        let driver = drive(connection.with_upgrades(), tasks);
        Ok(Self {
            sender,
            alarm: Alarm::new(Instant::now()),
            reused: false,
            driver,
            detached: false,
        })
    }

    /// Leaves the socket to whoever takes the upgraded connection.
    pub(super) fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for Http1Connection {
    fn drop(&mut self) {
        if !self.detached {
            self.driver.abort();
        }
    }
}

/// Starts HTTP/2 on an open connection. The connection closes when the last sender and stream are gone.
pub(super) async fn start_http2(
    transport: Transport,
    tasks: &Tasks,
) -> Result<http2::SendRequest<SentBody>, Failure> {
    let (sender, connection) = http2::Builder::new(Spawner(tasks.clone()))
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .handshake(TokioIo::new(transport))
        .await
        .map_err(|error| Failure::new(ErrorKind::Protocol, error))?;
    drive(connection, tasks);
    Ok(sender)
}

/// Runs a connection until it ends or its user aborts it; then the bodies that travel on it end with an error.
///
/// It does not look at the group's token: that would cost every exchange a few looks at what changes once.
fn drive<F>(connection: F, tasks: &Tasks) -> AbortHandle
where
    F: Future<Output = hyper::Result<()>> + Send + 'static,
{
    let driven = async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    };
    tasks.spawn_to_end(driven).abort_handle()
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

//! An origin that speaks exact bytes: for answers that no HTTP library would send.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outrigger::tasks::Tasks;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// Hands each accepted connection to a script; ends with the value.
pub(crate) struct RawOrigin {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl RawOrigin {
    /// Runs `script` on every connection. The connection closes when the script drops it.
    pub(crate) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let tasks = Tasks::new();
        let (count, group) = (Arc::clone(&accepted), tasks.clone());
        tasks.spawn("raw origin", async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::AcqRel);
                group.spawn("raw origin connection", script(stream));
            }
        });
        Self {
            address,
            accepted,
            tasks,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have come.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// Reads a request head, up to and including the empty line; what was read when the peer left before it.
    pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).expect("a readable head")
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

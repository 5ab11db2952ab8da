//! Tests of a served connection, from the client's side of a socket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::proxy::connection::{BoxError, testing};
use crate::proxy::listener::{Acceptor, SharedListener, bind};
use crate::proxy::sweep::Sweeper;
use crate::proxy::tls::{self, ReloadingTls};
use crate::proxy::wire::Malformed;

/// Answers by path, and counts.
#[derive(Clone, Default)]
struct Site {
    tasks: Tasks,
    calls: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    response
}

#[expect(clippy::disallowed_methods, reason = "the body is bounded")]
async fn whole<B>(body: B) -> Result<Bytes, BoxError>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    Ok(Limited::new(body, 2 << 20).collect().await?.to_bytes())
}

impl Handler for Site {
    type Body = Body;

    async fn handle(
        &self,
        connection: Arc<ConnectionState>,
        head: Box<Parts>,
        body: InboundBody,
        rejected: Option<Malformed>,
    ) -> Response<Body> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let _dropped = CountDrop(Arc::clone(&self.dropped));
        if let Some(reason) = rejected {
            return text(reason.status(), reason.as_str());
        }
        let mut request = Request::from_parts(*head, body);
        match request.uri().path() {
            "/hang" => std::future::pending().await,
            "/body" => match whole(request.into_body()).await {
                Ok(body) => text(StatusCode::OK, body),
                Err(error) => {
                    let reason = Malformed::behind(error.as_ref()).map_or("broken", Malformed::as_str);
                    text(StatusCode::BAD_REQUEST, reason)
                }
            },
            "/broken" => {
                let first = Ok(Frame::data(Bytes::from_static(b"begun")));
                let frames = futures_util::stream::iter([first]).chain(futures_util::stream::once(async {
                    tokio::task::yield_now().await;
                    Err(BoxError::from("the upstream broke off"))
                }));
                Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
            }
            "/hints" => {
                connection.interims().open(connection.begun());
                for hint in ["/1", "/2"] {
                    let head = || format!("HTTP/1.1 103 Early Hints\r\nlink: <{hint}>\r\n\r\n").into();
                    assert!(connection.interims().offer(connection.begun(), head));
                }
                text(StatusCode::OK, "hinted")
            }
            "/large" => text(StatusCode::OK, vec![b'x'; 1 << 20]),
            "/upgrade" => {
                let upgrade = hyper::upgrade::on(&mut request);
                self.tasks.spawn("echo", async move {
                    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                    drop(tokio::io::copy(&mut reader, &mut writer).await);
                });
                let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response
            }
            path => text(StatusCode::OK, path.to_owned()),
        }
    }
}

struct Running {
    site: Site,
    address: std::net::SocketAddr,
    clock: Clock,
    sweeper: Sweeper,
}

fn run() -> Running {
    run_with(testing::listener())
}

fn run_with(listener: config::Listener) -> Running {
    let site = Site::default();
    let clock = Clock::manual(Timestamp::from_secs(1000));
    let sweeper = Sweeper::new(clock.clone());
    let socket = bind(&listener, 1).unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    let tls = listener
        .tls
        .clone()
        .map(|files| Arc::new(ReloadingTls::load(&files).unwrap()));
    let acceptor = Acceptor {
        shared: Arc::new(SharedListener::new(Arc::new(listener), tls)),
        sweeper: sweeper.clone(),
        handler: site.clone(),
        tasks: site.tasks.clone(),
    };
    site.tasks.spawn_to_end(async move {
        acceptor
            .accept_loop(socket, CancellationToken::new())
            .await
            .unwrap()
    });
    Running {
        site,
        address,
        clock,
        sweeper,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes` and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes).await.unwrap();
        rest(&mut client).await
    }

    /// Waits until the handler was called so often.
    async fn called(&self, times: usize) {
        until(|| self.site.calls.load(Ordering::Relaxed) >= times).await;
    }

    async fn h2(&self) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>> {
        h2(self.connect().await, &self.site.tasks).await
    }
}

async fn h2<IO>(io: IO, tasks: &Tasks) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let executor = StreamTasks(tasks.clone());
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(io))
        .await
        .unwrap();
    tasks.spawn("client", async move { drop(connection.await) });
    sender
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("it never came to that");
}

/// Everything until the server closes.
async fn rest(client: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = client.read_to_end(&mut all);
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the connection stays open")
        .unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until the answer ends with `end`.
async fn until_end(client: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let reading = tokio::time::timeout(Duration::from_secs(10), client.read_buf(&mut all));
        assert!(
            reading.await.expect("no answer").unwrap() > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&all)
        );
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

mod agreement;
mod deadlines;
mod http1;
mod http2;
mod malformed;

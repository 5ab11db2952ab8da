//! Helpers of this folder's tests: origins on free ports, and one worker with one upstream.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{
    BodyError, BoxError, Cluster, Endpoint, ExchangeKind, Manner, RequestBody, SendError, UpstreamBody,
    WorkerPool,
};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Balance, PoolLimits, Timeouts, UpstreamProtocol};
use crate::tasks::Tasks;

/// Deadlines no test reaches unless it sets a smaller one.
pub(crate) const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(20),
    first_byte: Duration::from_secs(20),
    idle: Duration::from_secs(20),
    total: Duration::from_secs(40),
};

/// An HTTP/1.1 upstream of these `host:port`.
pub(crate) fn config(endpoints: &[&str]) -> config::Upstream {
    let endpoint = |text: &&str| {
        let (host, port) = text.rsplit_once(':').unwrap();
        config::Endpoint {
            host: host.to_owned(),
            port: port.parse().unwrap(),
            weight: 1,
        }
    };
    config::Upstream {
        name: "hub".into(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        protocol: UpstreamProtocol::Http1,
        tls: None,
        balance: Balance::RoundRobin,
        active_check: None,
        timeouts: PATIENT,
        pool: PoolLimits {
            max_connections: 16,
            max_idle: 8,
            idle_timeout: Duration::from_secs(60),
        },
        attempts: 2,
    }
}

/// A server that runs `serve` for each connection and counts them.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Origin {
    pub(crate) async fn start<S, F>(serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, tasks) = (Arc::new(AtomicUsize::new(0)), Tasks::new());
        let (count, connections) = (Arc::clone(&accepted), tasks.clone());
        tasks.spawn("origin", async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn("origin connection", serve(stream));
            }
        });
        Self {
            address,
            accepted,
            tasks,
        }
    }

    /// Answers every request of a connection with these bytes.
    pub(crate) async fn answering(answer: &'static [u8]) -> Self {
        Self::start(move |mut stream| async move {
            while read_head(&mut stream).await.is_some() {
                stream.write_all(answer).await.unwrap();
            }
        })
        .await
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn label(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Reads one request head. None when the peer has closed.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// One worker and one upstream.
pub(crate) struct Bench {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) pool: Arc<WorkerPool>,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) timeouts: Timeouts,
}

impl Bench {
    pub(crate) fn new(config: config::Upstream) -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::manual(Timestamp::from_secs(1_000_000)));
        let timeouts = config.timeouts;
        Self {
            cluster: Cluster::build(Arc::new(config), clock.clone()).unwrap(),
            pool: WorkerPool::new(&tasks, clock.clone()),
            tasks,
            clock,
            timeouts,
        }
    }

    /// A bench before `origin`.
    pub(crate) fn before(origin: &Origin) -> Self {
        Self::new(config(&[&origin.label()]))
    }

    pub(crate) fn endpoint(&self) -> Arc<Endpoint> {
        self.cluster.select(b"", &[]).unwrap()
    }

    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        self.send_as(request, ExchangeKind::Ordinary).await
    }

    pub(crate) async fn send_as(
        &self,
        request: Request<RequestBody>,
        kind: ExchangeKind,
    ) -> Result<Response<UpstreamBody>, SendError> {
        self.send_in(request, self.manner(kind)).await
    }

    pub(crate) fn manner(&self, kind: ExchangeKind) -> Manner<'_> {
        Manner {
            timeouts: &self.timeouts,
            started: Instant::now(),
            kind,
            on_interim: None,
            encoded: b"",
            encoded_for_try: b"",
        }
    }

    pub(crate) async fn send_in(
        &self,
        request: Request<RequestBody>,
        manner: Manner<'_>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let endpoint = self.endpoint();
        self.pool
            .send(&self.cluster, &endpoint, Box::new(request), manner)
            .await
    }

    /// Sends a GET and reads the answer to its end.
    pub(crate) async fn get(&self) -> Result<String, BodyError> {
        read(self.send(get("/")).await.unwrap()).await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// A GET without a body.
pub(crate) fn get(target: &str) -> Request<RequestBody> {
    let body = RequestBody::new(Empty::new().map_err(|never| match never {}));
    Request::get(target)
        .header("host", "hub.local")
        .body(body)
        .unwrap()
}

/// A POST with a body of known length.
pub(crate) fn post(text: &'static str) -> Request<RequestBody> {
    let body =
        RequestBody::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}));
    Request::post("/").header("host", "hub.local").body(body).unwrap()
}

/// Feeds the body of [`streaming_post`].
pub(crate) type Feed = mpsc::Sender<Result<http_body::Frame<Bytes>, BoxError>>;

/// A POST whose body comes through a channel.
pub(crate) fn streaming_post() -> (Feed, Request<RequestBody>) {
    let (feed, mut frames) = mpsc::channel(8);
    let stream = futures_util::stream::poll_fn(move |cx| frames.poll_recv(cx));
    let request = Request::post("/").header("host", "hub.local");
    (
        feed,
        request.body(RequestBody::new(StreamBody::new(stream))).unwrap(),
    )
}

/// Reads a body to its end.
pub(crate) async fn read(response: Response<UpstreamBody>) -> Result<String, BodyError> {
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            text.extend_from_slice(&data);
        }
    }
    Ok(String::from_utf8(text).unwrap())
}

/// The outcome of `future`, which must not take long.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap()
}

/// Waits until `condition` holds; tasks and sockets of this thread go on meanwhile.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(holds).await;
}

//! A scripted HTTP origin: one handler per path, every request recorded.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger::tasks::Tasks;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::payload::{Payload, read_all};
use super::reply::Reply;
use super::wait::within;

/// A request as the origin received it, body included.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method.
    pub(crate) method: Method,
    /// Path.
    pub(crate) path: String,
    /// Query without the question mark; empty if there is none.
    pub(crate) query: String,
    /// Protocol.
    pub(crate) version: Version,
    /// Header fields.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
    /// Trailer fields.
    pub(crate) trailers: Option<HeaderMap>,
}

impl Seen {
    /// A header's value; empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a readable header"))
    }
}

type Handler = Arc<dyn Fn(Seen) -> BoxFuture<'static, Reply> + Send + Sync>;

/// An origin in this process; it ends with the value.
pub(crate) struct Origin {
    address: SocketAddr,
    script: Arc<Script>,
    tasks: Tasks,
}

impl Origin {
    /// An HTTP/1.1 origin that answers 404 until it is told better.
    pub(crate) async fn start() -> Self {
        Self::serve(Version::HTTP_11).await
    }

    /// The same over HTTP/2 by prior knowledge.
    pub(crate) async fn start_h2() -> Self {
        Self::serve(Version::HTTP_2).await
    }

    async fn serve(version: Version) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let script = Arc::new(Script::default());
        let tasks = Tasks::new();
        tasks.spawn(
            "origin",
            accept(listener, version, Arc::clone(&script), tasks.clone()),
        );
        Self {
            address,
            script,
            tasks,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests for `path` (without query; `*` for any other path) by `handler`.
    pub(crate) fn on<H>(&self, path: &str, handler: H)
    where
        H: Fn(Seen) -> Reply + Send + Sync + 'static,
    {
        self.on_async(path, move |seen| ready(handler(seen)));
    }

    /// The same with a handler that may wait.
    pub(crate) fn on_async<H, F>(&self, path: &str, handler: H)
    where
        H: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |seen| Box::pin(handler(seen)));
        let mut handlers = self.script.handlers.lock();
        handlers.retain(|(known, _)| known != path);
        handlers.push((path.to_owned(), handler));
    }

    /// Every complete request so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.script.seen.borrow().clone()
    }

    /// The latest request for `path`.
    pub(crate) fn last(&self, path: &str) -> Seen {
        let seen = self.script.seen.borrow();
        seen.iter()
            .rev()
            .find(|seen| seen.path == path)
            .expect("a request for the path")
            .clone()
    }

    /// How many requests for `path` have come.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.script
            .seen
            .borrow()
            .iter()
            .filter(|seen| seen.path == path)
            .count()
    }

    /// Waits until `count` requests for `path` have come.
    pub(crate) async fn reached(&self, path: &str, count: usize) {
        let mut seen = self.script.seen.subscribe();
        let enough = seen.wait_for(|seen| seen.iter().filter(|seen| seen.path == path).count() >= count);
        drop(
            within(&format!("request {count} for {path}"), enough)
                .await
                .expect("the origin lives"),
        );
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

#[derive(Default)]
struct Script {
    handlers: Mutex<Vec<(String, Handler)>>,
    seen: watch::Sender<Vec<Seen>>,
}

impl Script {
    /// Records the request and finds who answers it.
    fn take(&self, seen: &Seen) -> Option<Handler> {
        self.seen.send_modify(|all| all.push(seen.clone()));
        let handlers = self.handlers.lock();
        let named = handlers.iter().find(|(path, _)| *path == seen.path);
        let handler = named.or_else(|| handlers.iter().find(|(path, _)| path == "*"));
        handler.map(|(_, handler)| Arc::clone(handler))
    }
}

async fn accept(listener: TcpListener, version: Version, script: Arc<Script>, tasks: Tasks) {
    while let Ok((stream, _)) = listener.accept().await {
        tasks.spawn(
            "origin connection",
            converse(stream, version, Arc::clone(&script)),
        );
    }
}

async fn converse(stream: TcpStream, version: Version, script: Arc<Script>) {
    let io = TokioIo::new(stream);
    let service = service_fn(move |request| answer(request, Arc::clone(&script)));
    // How the connection ends is for the tests' own assertions: some of them break it on purpose.
    drop(if version == Version::HTTP_2 {
        http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    });
}

async fn answer(request: Request<Incoming>, script: Arc<Script>) -> Result<Response<Payload>, String> {
    let (head, body) = request.into_parts();
    let (body, trailers) = read_all(body).await?;
    let seen = Seen {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        version: head.version,
        headers: head.headers,
        body,
        trailers,
    };
    let reply = match script.take(&seen) {
        Some(handler) => handler(seen).await,
        None => Reply::status(404),
    };
    Ok(reply.into_response())
}

//! A client's connection, kept alive over HTTP/1.1 or multiplexed over HTTP/2.

use std::net::SocketAddr;

use http::{Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger::tasks::Tasks;
use tokio::net::TcpStream;

use super::call::{Answer, Call};
use super::payload::{Payload, read_all};
use super::wait::within;

/// An open connection; dropping it closes the socket, whatever is under way.
pub(crate) struct Connection {
    authority: String,
    sender: Sender,
    tasks: Tasks,
}

enum Sender {
    Http1(http1::SendRequest<Payload>),
    H2(http2::SendRequest<Payload>),
}

impl Connection {
    /// Opens an HTTP/1.1 connection.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, String> {
        let io = TokioIo::new(connect(address).await?);
        let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
        let tasks = Tasks::new();
        tasks.spawn("client connection", async move { drop(connection.await) });
        Ok(Self {
            authority: address.to_string(),
            sender: Sender::Http1(sender),
            tasks,
        })
    }

    /// Opens an HTTP/2 connection by prior knowledge.
    pub(crate) async fn open_h2(address: SocketAddr) -> Result<Self, String> {
        let io = TokioIo::new(connect(address).await?);
        let handshake = http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        let tasks = Tasks::new();
        tasks.spawn("client connection", async move { drop(connection.await) });
        Ok(Self {
            authority: address.to_string(),
            sender: Sender::H2(sender),
            tasks,
        })
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(&mut self, call: Call) -> Result<Response<Incoming>, String> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender
                    .ready()
                    .await
                    .map_err(|error| format!("not ready: {error}"))?;
                sender
                    .send_request(call.into_request(&self.authority, Version::HTTP_11))
                    .await
            }
            Sender::H2(sender) => {
                sender
                    .ready()
                    .await
                    .map_err(|error| format!("not ready: {error}"))?;
                sender
                    .send_request(call.into_request(&self.authority, Version::HTTP_2))
                    .await
            }
        };
        response.map_err(|error| format!("no answer: {error}"))
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn fetch(&mut self, call: Call) -> Result<Answer, String> {
        let (head, body) = self.send(call).await?.into_parts();
        let (body, trailers) = read_all(body).await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            trailers,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Sends one request over a connection of its own; an error says how it failed.
pub(crate) async fn try_fetch(address: SocketAddr, call: Call) -> Result<Answer, String> {
    let what = format!("{} {}", call.method, call.target);
    let exchange = async { Connection::open(address).await?.fetch(call).await };
    within(&what, exchange)
        .await
        .map_err(|error| format!("{what}: {error}"))
}

/// Sends one request over a connection of its own; the test fails if there is no complete answer.
pub(crate) async fn fetch(address: SocketAddr, call: Call) -> Answer {
    match try_fetch(address, call).await {
        Ok(answer) => answer,
        Err(error) => panic!("{error}"),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

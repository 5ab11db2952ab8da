//! The demo's clients: a few users with a keep-alive connection each, about fifty requests a second in all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use crate::tasks::Tasks;

use super::endpoint::Endpoint;
use super::plan::{self, Planned, Random};
use super::stats::{Outcome, Recorder};

/// Who asks. Two clients share a user, so that users also profit from their own earlier requests elsewhere.
const USERS: [&str; 4] = ["ada", "edsger", "grace", "radia"];
/// Connections, each with at most one request at a time.
const CLIENTS: u32 = 8;
/// Time between two requests of one client: 8 / 160 ms = 50 requests per second.
const PACE: Duration = Duration::from_millis(160);
/// Longest time for one exchange.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the largest answer.
const LARGEST_ANSWER: usize = 1 << 20;

/// Starts the clients in `tasks`; each ends after its current request once the group is cancelled.
///
/// Must be called inside a tokio runtime.
pub(super) fn start(sidecar: SocketAddr, recorder: &Arc<Recorder>, tasks: &Tasks) {
    for (number, user) in (0..CLIENTS).zip(USERS.iter().cycle()) {
        let client = Client {
            user,
            sidecar,
            recorder: Arc::clone(recorder),
            tasks: tasks.clone(),
            connections: Tasks::new(),
            idle: None,
        };
        tasks.spawn_to_end(client.run(number));
    }
}

/// Ends the clients, giving their current requests at most `limit`.
pub(super) async fn stop(tasks: &Tasks, limit: Duration) {
    tasks.cancel();
    if !tasks.drained(limit).await {
        tracing::warn!(clients = tasks.len(), "requests of the demo did not end in time");
    }
}

struct Client {
    user: &'static str,
    sidecar: SocketAddr,
    recorder: Arc<Recorder>,
    tasks: Tasks,
    /// The drivers of our connections; they outlive the cancellation of `tasks`, so that a last request can end.
    connections: Tasks,
    /// The connection between two requests.
    idle: Option<SendRequest<Full<Bytes>>>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Why a request was not answered.
#[derive(Debug, Error)]
enum ExchangeError {
    #[error("connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error("exchange: {0}")]
    Hyper(#[from] hyper::Error),
    #[error("request: {0}")]
    Request(#[from] http::Error),
    #[error("body: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

impl Client {
    async fn run(mut self, number: u32) {
        let mut random = Random::new(u64::from(number) + 1);
        let start = tokio::time::Instant::now() + PACE / CLIENTS * number;
        let mut pace = tokio::time::interval_at(start, PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let token = self.tasks.token().clone();
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                _ = pace.tick() => {}
            }
            self.ask(plan::next(&mut random, self.user)).await;
        }
        self.connections.cancel();
    }

    /// Sends one request and records what became of it.
    async fn ask(&mut self, planned: Planned) {
        let endpoint = planned.endpoint;
        let started = self.recorder.clock().now();
        let exchanged = tokio::time::timeout(PATIENCE, self.exchange(planned))
            .await
            .unwrap_or(Err(ExchangeError::Timeout));
        let latency = self.recorder.clock().now().since(started);
        match exchanged {
            Ok(answer) => {
                self.recorder
                    .record(endpoint, Outcome::of(answer.status, &answer.headers), latency);
                if is_foreign(endpoint, self.user, &answer) {
                    self.recorder.record_foreign(endpoint);
                }
            }
            Err(error) => {
                tracing::debug!(endpoint = endpoint.label(), %error, "a request of the demo failed");
                self.recorder.record(endpoint, Outcome::Failed, latency);
            }
        }
    }

    /// One exchange. The connection is kept for the next one only if this one ended well.
    async fn exchange(&mut self, planned: Planned) -> Result<Answer, ExchangeError> {
        let mut connection = self.connection().await?;
        let mut request = Request::builder()
            .method(planned.method)
            .uri(planned.target)
            .header(HOST, self.sidecar.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.user));
        if !planned.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let response = connection
            .send_request(request.body(Full::new(planned.body))?)
            .await?;
        let (head, body) = response.into_parts();
        #[expect(clippy::disallowed_methods, reason = "bounded by Limited")]
        let body = Limited::new(body, LARGEST_ANSWER)
            .collect()
            .await
            .map_err(ExchangeError::Body)?;
        self.idle = Some(connection);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// The idle connection if it still stands, or a new one.
    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, ExchangeError> {
        if let Some(mut idle) = self.idle.take()
            && idle.ready().await.is_ok()
        {
            return Ok(idle);
        }
        let stream = TcpStream::connect(self.sidecar).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.connections.spawn("demo-connection", async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection of the demo broke");
            }
        });
        Ok(sender)
    }
}

/// Whether a profile was answered with somebody else's.
fn is_foreign(endpoint: Endpoint, user: &str, answer: &Answer) -> bool {
    endpoint == Endpoint::Me
        && answer.status == StatusCode::OK
        && serde_json::from_slice::<serde_json::Value>(&answer.body)
            .is_ok_and(|profile| profile.get("user").and_then(|name| name.as_str()) != Some(user))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use crate::clock::Clock;

    use super::super::hub::{Hub, serve};
    use super::*;

    fn answer(user: &str) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(format!(r#"{{"user":"{user}"}}"#)),
        }
    }

    #[test]
    fn another_users_profile_is_noticed() {
        assert!(!is_foreign(Endpoint::Me, "ada", &answer("ada")));
        assert!(is_foreign(Endpoint::Me, "ada", &answer("grace")));
        assert!(!is_foreign(Endpoint::Catalog, "ada", &answer("grace")));
    }

    #[tokio::test]
    async fn every_client_request_reaches_the_hub_and_is_counted() {
        let clock = Clock::system();
        let (hub, tasks) = (Hub::new(clock.clone()), Tasks::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&hub);
        tasks.spawn("hub", async move { serve(listener, served).await.unwrap() });

        let (recorder, clients) = (Arc::new(Recorder::new(clock)), tasks.child());
        start(address, &recorder, &clients);
        let enough = async {
            let mut look = tokio::time::interval(Duration::from_millis(5));
            while recorder.stats(&hub).requests() < 24 {
                look.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), enough)
            .await
            .unwrap();
        stop(&clients, PATIENCE).await;

        let stats = recorder.stats(&hub);
        let hub_calls: u64 = stats.endpoints.iter().map(|endpoint| endpoint.hub_calls).sum();
        assert_eq!(stats.sum(|endpoint| endpoint.failed), 0, "{stats:?}");
        assert_eq!(stats.requests(), hub_calls, "{stats:?}");
        assert_eq!(
            stats.sum(|endpoint| endpoint.hits + endpoint.foreign),
            0,
            "{stats:?}"
        );
        tasks.cancel();
    }

    #[tokio::test]
    async fn a_sidecar_that_is_not_there_is_counted_as_unanswered() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let clock = Clock::system();
        let recorder = Arc::new(Recorder::new(clock.clone()));
        let mut client = Client {
            user: "ada",
            sidecar: address,
            recorder: Arc::clone(&recorder),
            tasks: Tasks::new(),
            connections: Tasks::new(),
            idle: None,
        };
        client.ask(plan::next(&mut Random::new(1), "ada")).await;
        let stats = recorder.stats(&Hub::new(clock));
        assert_eq!((stats.requests(), stats.answered()), (1, 0));
    }
}

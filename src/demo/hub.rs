//! The sample AI hub: what a platform's API looks like from the outside, with made-up answers and honest delays.
//!
//! It counts how often it was really asked, so that the demo can show what the sidecar saved.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::header::{AUTHORIZATION, CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::clock::Clock;

use super::endpoint::Endpoint;
use super::openai;

/// Models the hub claims to have.
pub(super) const MODELS: [&str; 4] = ["demo-large", "demo-small", "demo-vision", "demo-embed"];

/// Time a database query would take.
const QUERY_TIME: Duration = Duration::from_millis(20);
/// Time the slow endpoint takes.
const SLOW_TIME: Duration = Duration::from_millis(300);
/// Life of one version of the catalog, in seconds.
const CATALOG_VERSION_SECONDS: u64 = 30;
/// Entries on one page of the catalog.
const CATALOG_PAGE_LENGTH: u64 = 8;
/// One call in so many to the flaky endpoint fails.
const FLAKY_EVERY: u64 = 3;

/// The hub's state: a clock and how often each endpoint was asked.
#[derive(Debug)]
pub struct Hub {
    clock: Clock,
    calls: [AtomicU64; Endpoint::ALL.len()],
}

impl Hub {
    /// A hub that was never asked.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            calls: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }

    /// How often `endpoint` was asked.
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.counter(endpoint).load(Ordering::Relaxed)
    }

    /// Counts a call; returns how many there were with this one.
    pub(super) fn count(&self, endpoint: Endpoint) -> u64 {
        self.counter(endpoint).fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Seconds since the Unix epoch.
    pub(super) fn now_seconds(&self) -> u64 {
        self.clock.now().as_secs()
    }

    fn counter(&self, endpoint: Endpoint) -> &AtomicU64 {
        &self.calls[endpoint as usize]
    }
}

/// Serves the hub over HTTP/1.1 until the future is dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, hub: Arc<Hub>) -> io::Result<()> {
    axum::serve(listener, router(hub)).await
}

/// The hub's endpoints.
pub fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/models-catalog", get(catalog))
        .route("/api/time", get(time))
        .route("/api/slow", get(slow))
        .route("/api/me", get(me))
        .route("/api/flaky", get(flaky))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::model))
        .route("/ws/echo", any(echo))
        .with_state(hub)
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    page: u64,
}

/// A list that changes now and then: fresh for five seconds, and cheap to validate afterwards.
async fn catalog(
    State(hub): State<Arc<Hub>>,
    Query(Page { page }): Query<Page>,
    headers: HeaderMap,
) -> Response {
    hub.count(Endpoint::Catalog);
    let version = hub.now_seconds() / CATALOG_VERSION_SECONDS;
    let etag = format!("\"catalog-{page}-{version}\"");
    let caching = [(CACHE_CONTROL, "max-age=5".to_owned()), (ETAG, etag.clone())];
    if is_known(&headers, &etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    tokio::time::sleep(QUERY_TIME).await;
    let entries: Vec<_> = (0..CATALOG_PAGE_LENGTH)
        .map(|row| {
            let number = page.wrapping_mul(CATALOG_PAGE_LENGTH).wrapping_add(row);
            json!({
                "id": format!("model-{number}"),
                "context_length": 4096 << (number % 6),
                "price": {"input": 0.5 + (number % 7) as f64 / 4.0, "output": 1.5 + (number % 5) as f64},
                "description": "A made-up model that answers in the words of the question.",
            })
        })
        .collect();
    (
        caching,
        Json(json!({"page": page, "version": version, "models": entries})),
    )
        .into_response()
}

/// Whether the client holds the version named by `etag` (RFC 9110, section 13.1.2; our tags contain no comma).
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == etag)
}

async fn time(State(hub): State<Arc<Hub>>) -> Response {
    let call = hub.count(Endpoint::Time);
    Json(json!({"unix_ms": hub.clock.now().as_millis(), "call": call})).into_response()
}

async fn slow(State(hub): State<Arc<Hub>>) -> Response {
    let call = hub.count(Endpoint::Slow);
    tokio::time::sleep(SLOW_TIME).await;
    Json(json!({"report": "worth the wait", "call": call})).into_response()
}

/// The profile of whoever the bearer token names.
async fn me(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    hub.count(Endpoint::Me);
    let Some(user) = bearer(&headers) else {
        let challenge = [(WWW_AUTHENTICATE, "Bearer")];
        return (
            StatusCode::UNAUTHORIZED,
            challenge,
            Json(json!({"error": "who are you?"})),
        )
            .into_response();
    };
    tokio::time::sleep(QUERY_TIME).await;
    let caching = [(CACHE_CONTROL, "max-age=30"), (VARY, "Authorization")];
    (
        caching,
        Json(json!({"user": user, "plan": "team", "quota": 1000})),
    )
        .into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

async fn flaky(State(hub): State<Arc<Hub>>) -> Response {
    let call = hub.count(Endpoint::Flaky);
    if call.is_multiple_of(FLAKY_EVERY) {
        return (
            StatusCode::INTERNAL_SERVER_ERROR,
            Json(json!({"error": "out of luck", "call": call})),
        )
            .into_response();
    }
    (
        [(CACHE_CONTROL, "max-age=1")],
        Json(json!({"status": "good", "call": call})),
    )
        .into_response()
}

async fn echo(State(hub): State<Arc<Hub>>, upgrade: WebSocketUpgrade) -> Response {
    hub.count(Endpoint::Echo);
    upgrade.on_upgrade(echo_messages)
}

/// Sends every message back. Pings and the closing handshake are answered below this level.
async fn echo_messages(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::{BodyExt, Limited};
    use serde_json::Value;
    use tower::ServiceExt;

    use crate::clock::Timestamp;

    use super::*;

    async fn get(hub: &Arc<Hub>, path: &str, header: Option<(&str, &str)>) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::get(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (head, body) = router(Arc::clone(hub))
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        #[expect(clippy::disallowed_methods, reason = "bounded")]
        let body = Limited::new(body, 1 << 20).collect().await.unwrap().to_bytes();
        (
            head.status,
            head.headers,
            serde_json::from_slice(&body).unwrap_or(Value::Null),
        )
    }

    fn hub() -> (Clock, Arc<Hub>) {
        let clock = Clock::manual(Timestamp::from_secs(1_700_000_010));
        (clock.clone(), Hub::new(clock))
    }

    #[tokio::test(start_paused = true)]
    async fn the_catalog_is_validated_until_its_version_ends() {
        let (clock, hub) = hub();
        let (status, headers, body) = get(&hub, "/api/models-catalog?page=2", None).await;
        assert_eq!((status, &body["page"]), (StatusCode::OK, &json!(2)));
        assert_eq!(headers[CACHE_CONTROL], "max-age=5");
        let etag = headers[ETAG].to_str().unwrap().to_owned();

        let known = Some(("if-none-match", etag.as_str()));
        assert_eq!(
            get(&hub, "/api/models-catalog?page=2", known).await.0,
            StatusCode::NOT_MODIFIED
        );
        assert_eq!(
            get(&hub, "/api/models-catalog?page=3", known).await.0,
            StatusCode::OK
        );
        clock.advance(Duration::from_secs(CATALOG_VERSION_SECONDS));
        assert_eq!(
            get(&hub, "/api/models-catalog?page=2", known).await.0,
            StatusCode::OK
        );
        assert_eq!(hub.calls(Endpoint::Catalog), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_profile_is_that_of_the_bearer() {
        let (_, hub) = hub();
        let (_, headers, body) = get(&hub, "/api/me", Some(("authorization", "Bearer ada"))).await;
        assert_eq!(body["user"], "ada");
        assert_eq!(headers[VARY], "Authorization");
        assert_eq!(get(&hub, "/api/me", None).await.0, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test(start_paused = true)]
    async fn every_third_call_fails() {
        let (_, hub) = hub();
        let mut failed = Vec::new();
        for _ in 0..6 {
            failed.push(get(&hub, "/api/flaky", None).await.0.is_server_error());
        }
        assert_eq!(failed, [false, false, true, false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn time_has_no_cache_headers_and_slow_takes_its_time() {
        let (_, hub) = hub();
        let (_, headers, body) = get(&hub, "/api/time", None).await;
        assert_eq!(
            (headers.get(CACHE_CONTROL), &body["unix_ms"]),
            (None, &json!(1_700_000_010_000_u64))
        );
        let before = tokio::time::Instant::now();
        assert_eq!(get(&hub, "/api/slow", None).await.0, StatusCode::OK);
        assert_eq!(before.elapsed(), SLOW_TIME);
    }

    #[tokio::test]
    async fn health_checks_are_not_counted() {
        let (_, hub) = hub();
        assert_eq!(get(&hub, "/healthz", None).await.0, StatusCode::OK);
        assert!(Endpoint::ALL.into_iter().all(|endpoint| hub.calls(endpoint) == 0));
    }
}

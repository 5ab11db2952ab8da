//! Active checks, on the way of the traffic: the same connector, TLS and protocol.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};

use super::connect::{Connector, Failure, Offer, Spoken};
use super::endpoint::Endpoint;
use super::health::Change;
use super::http1::Http1Connection;
use super::http2::start_http2;
use super::request::{BoxError, ExchangeKind, RequestBody, prepare_http1, prepare_http2, watched};
use crate::config::{self, ActiveCheck, Probe};
use crate::tasks::Tasks;

/// Endpoints checked at the same time.
const AT_A_TIME: usize = 32;

/// The active check of one upstream.
pub(super) struct Checker {
    /// Name in logs.
    pub(super) upstream: config::Name,
    /// What is checked, and the thresholds.
    pub(super) check: ActiveCheck,
    /// The way of the traffic.
    pub(super) connector: Arc<Connector>,
}

impl Checker {
    /// Checks each endpoint once.
    pub(super) async fn check_all(&self, endpoints: &[Arc<Endpoint>]) {
        stream::iter(endpoints)
            .for_each_concurrent(AT_A_TIME, |endpoint| self.check(endpoint))
            .await;
    }

    /// Checks one endpoint and logs a change of its health.
    async fn check(&self, endpoint: &Endpoint) {
        let outcome = match tokio::time::timeout(self.check.timeout, self.probe(endpoint)).await {
            Ok(outcome) => outcome.map_err(Arc::from),
            Err(_) => Err("no answer in time".into()),
        };
        let (upstream, label, address) = (&self.upstream, endpoint.label(), endpoint.address());
        match endpoint.health().record(outcome, &self.check) {
            Some(Change::BecameHealthy) => {
                tracing::info!(%upstream, endpoint = %label, %address, "endpoint is healthy");
            }
            Some(Change::BecameUnhealthy(reason)) => {
                tracing::warn!(%upstream, endpoint = %label, %address, %reason, "endpoint is unhealthy");
            }
            None => {}
        }
    }

    /// One check on a connection of its own, so that a firewall or a full backlog is noticed as well. The error is
    /// the reason in words.
    async fn probe(&self, endpoint: &Endpoint) -> Result<(), String> {
        let offer = self
            .connector
            .offer(ExchangeKind::Ordinary)
            .unwrap_or(Offer::Http1);
        let (transport, spoken) = self
            .connector
            .connect(endpoint, offer, None)
            .await
            .map_err(words)?;
        let Probe::Http { path, status } = &self.check.probe else {
            return Ok(());
        };
        let request = self
            .request(endpoint, path, spoken)
            .map_err(|error| error.to_string())?;
        let got = match spoken {
            Spoken::Http1 => {
                let mut connection = Http1Connection::new(transport);
                connection.begin(Box::new(request), [b"", b""]).map_err(words)?;
                let answered = poll_fn(|cx| connection.poll_head(cx, None)).await;
                answered.map_err(words)?.status()
            }
            Spoken::Http2 => {
                // The tasks of this connection end with this check, also when it is cut short.
                let tasks = Tasks::new();
                let _ends = tasks.token().clone().drop_guard();
                let mut sender = start_http2(transport, &tasks).await.map_err(words)?;
                let answered = sender.send_request(watched(request).0).await;
                answered.map_err(|error| error.to_string())?.status()
            }
        };
        if accepted(got, status) {
            Ok(())
        } else {
            Err(format!("status {}", got.as_u16()))
        }
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        path: &str,
        spoken: Spoken,
    ) -> Result<Request<RequestBody>, BoxError> {
        let nothing = RequestBody::new(Empty::<Bytes>::new().map_err(|never| match never {}));
        let mut request = Request::get(path)
            .header(HOST, endpoint.label().as_ref())
            .header(USER_AGENT, "outrigger-health-check")
            .body(nothing)?;
        match spoken {
            Spoken::Http1 => prepare_http1(&mut request, endpoint.label()),
            Spoken::Http2 => prepare_http2(&mut request, &self.connector.scheme(), endpoint.label())?,
        }
        Ok(request)
    }
}

fn accepted(got: StatusCode, ranges: &[(u16, u16)]) -> bool {
    ranges
        .iter()
        .any(|&(low, high)| (low..=high).contains(&got.as_u16()))
}

fn words(failure: Failure) -> String {
    match failure.source {
        Some(source) => format!("{}: {source}", failure.kind),
        None => failure.kind.to_string(),
    }
}

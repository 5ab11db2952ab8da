//! Probes and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::problem::{self, Problem};
use crate::cache::engine::Cache;
use crate::telemetry::exposition::Format;

/// State of one part.
#[derive(Serialize, ToSchema)]
pub(super) struct Check {
    /// What is checked.
    name: String,
    /// `ok`, `degraded` (still ready) or `failing`.
    status: &'static str,
    /// More, for people.
    detail: String,
}

/// Answer of a probe.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// With `?verbose`: every part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

#[derive(Deserialize, IntoParams)]
pub(super) struct Verbosity {
    /// Give it (with or without a value) to list every part.
    verbose: Option<String>,
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/livez", tag = "probes", responses((status = 200, body = Health)))]
pub(super) async fn livez() -> Json<Health> {
    Json(Health {
        status: "ok",
        checks: Vec::new(),
    })
}

/// Whether start-up is complete: listeners bound, and each upstream had its first check or a second passed.
#[utoipa::path(get, path = "/startupz", tag = "probes", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(super) async fn startupz(State(context): State<Arc<Context>>) -> Response {
    answer(context.state.is_started(), Vec::new())
}

/// Whether traffic should be sent here.
#[utoipa::path(get, path = "/readyz", tag = "probes", params(Verbosity), responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(super) async fn readyz(
    State(context): State<Arc<Context>>,
    problem::Query(query): problem::Query<Verbosity>,
) -> Response {
    let state = &context.state;
    let ready = state.is_started() && !state.is_draining();
    let checks = if query.verbose.is_some() {
        checks(&context)
    } else {
        Vec::new()
    };
    answer(ready, checks)
}

fn answer(good: bool, checks: Vec<Check>) -> Response {
    let (code, status) = if good {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    (
        code,
        [(header::CACHE_CONTROL, "no-store")],
        Json(Health { status, checks }),
    )
        .into_response()
}

fn checks(context: &Context) -> Vec<Check> {
    let state = &context.state;
    let check = |name: &str, status, detail: &str| Check {
        name: name.into(),
        status,
        detail: detail.into(),
    };
    let mut checks = vec![
        if state.is_started() {
            check("started", "ok", "")
        } else {
            check("started", "failing", "starting")
        },
        if state.is_draining() {
            check("draining", "failing", "draining")
        } else {
            check("draining", "ok", "")
        },
    ];
    let last = context.controller.last();
    let status = if last.result == "refused" {
        "degraded"
    } else {
        "ok"
    };
    checks.push(check("configuration", status, last.result));
    // The others do its work: the process is ready all the same.
    for level in state.cache.tiers.status() {
        checks.push(Check {
            name: format!("level {}", level.name),
            status: if level.up { "ok" } else { "degraded" },
            detail: level.trouble,
        });
    }
    checks.extend(purge_log(&state.cache));
    for (name, cluster) in &state.snapshot.load().clusters {
        let endpoints = cluster.status();
        let healthy = endpoints.iter().filter(|endpoint| endpoint.healthy).count();
        let status = if healthy == endpoints.len() {
            "ok"
        } else {
            "degraded"
        };
        let detail = format!("{healthy} of {} endpoints healthy", endpoints.len());
        checks.push(Check {
            name: format!("upstream {name}"),
            status,
            detail,
        });
    }
    checks
}

/// Whether the purges of all replicas are known; none without replicas.
fn purge_log(cache: &Cache) -> Option<Check> {
    let status = cache.replication.as_ref()?.status();
    let waiting = match cache.purges.unpublished_len() {
        0 => String::new(),
        purges => format!("; {purges} purges of this replica wait to be published"),
    };
    let (status, detail) = match (status.up, status.contact.as_secs()) {
        (true, _) => ("ok", format!("{} other replicas", status.others.len())),
        (false, 0) => (
            "degraded",
            format!("no contact since the start: {}", status.trouble),
        ),
        (false, since) => (
            "degraded",
            format!("no contact since {since} (Unix time): {}", status.trouble),
        ),
    };
    Some(Check {
        name: "purge log".into(),
        status,
        detail: detail + &waiting,
    })
}

/// All metrics, as OpenMetrics when `Accept` asks for it and as the Prometheus text format otherwise.
#[utoipa::path(get, path = "/metrics", tag = "probes", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::negotiate(
        headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok()),
    );
    let text = context
        .state
        .telemetry
        .encode(format)
        .map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

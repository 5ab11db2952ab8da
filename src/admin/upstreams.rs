//! Upstreams: health, load, and taking endpoints out and in.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use super::problem::Problem;

/// All upstreams.
#[derive(Serialize, ToSchema)]
pub(super) struct Upstreams {
    /// Endpoints by upstream.
    #[schema(value_type = Object)]
    upstreams: BTreeMap<String, serde_json::Value>,
}

/// Lists upstreams with the health and load of their endpoints.
#[utoipa::path(get, path = "/api/v1/performance/upstreams", tag = "upstreams", responses((status = 200, body = Upstreams)))]
pub(super) async fn list(State(context): State<Arc<Context>>) -> Result<Json<Upstreams>, Problem> {
    let snapshot = context.state.snapshot.load_full();
    let mut upstreams = BTreeMap::new();
    for (name, cluster) in &snapshot.clusters {
        let endpoints =
            serde_json::to_value(cluster.status()).map_err(|error| Problem::internal(error.to_string()))?;
        upstreams.insert(name.to_string(), endpoints);
    }
    Ok(Json(Upstreams { upstreams }))
}

/// State of an endpoint after a change.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    /// The upstream.
    upstream: String,
    /// The endpoint.
    address: String,
    /// Whether it is given new requests.
    enabled: bool,
}

/// Gives an endpoint no new requests.
#[utoipa::path(post, path = "/api/v1/performance/upstreams/{name}/endpoints/{address}/drain", tag = "upstreams",
    params(("name" = String, Path), ("address" = String, Path, description = "host:port as configured")),
    responses((status = 200, body = Changed), (status = 404, body = Problem)))]
pub(super) async fn drain(
    State(context): State<Arc<Context>>,
    Path((name, address)): Path<(String, String)>,
) -> Result<Json<Changed>, Problem> {
    set_enabled(&context, name, address, false)
}

/// Gives an endpoint requests again.
#[utoipa::path(post, path = "/api/v1/performance/upstreams/{name}/endpoints/{address}/enable", tag = "upstreams",
    params(("name" = String, Path), ("address" = String, Path, description = "host:port as configured")),
    responses((status = 200, body = Changed), (status = 404, body = Problem)))]
pub(super) async fn enable(
    State(context): State<Arc<Context>>,
    Path((name, address)): Path<(String, String)>,
) -> Result<Json<Changed>, Problem> {
    set_enabled(&context, name, address, true)
}

fn set_enabled(
    context: &Context,
    name: String,
    address: String,
    enabled: bool,
) -> Result<Json<Changed>, Problem> {
    let snapshot = context.state.snapshot.load_full();
    let cluster = snapshot
        .clusters
        .get(name.as_str())
        .ok_or_else(|| Problem::not_found(format!("no upstream `{name}`")))?;
    if !cluster.set_enabled(&address, enabled) {
        return Err(Problem::not_found(format!(
            "upstream `{name}` has no endpoint `{address}`"
        )));
    }
    tracing::info!(upstream = name, endpoint = address, enabled, "endpoint changed");
    Ok(Json(Changed {
        upstream: name,
        address,
        enabled,
    }))
}

//! The admin API: probes, metrics, configuration, cache and upstreams, on a listener of its own.
//!
//! One file per group of endpoints. Every request passes [`auth::guard`] first.

mod asked;
pub mod audit;
pub mod auth;
mod cache;
mod config;
mod document;
mod entries;
mod explain;
mod explanation;
mod performance;
mod probes;
pub mod problem;
mod refusal;
mod stats;
mod upstreams;
mod warm;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::reload::Controller;
use crate::control::state::State;
use crate::control::warm::Warming;
use crate::insight::history::History;
use crate::telemetry::log::LogHandle;
use audit::Audit;
use auth::LockOut;
use problem::Problem;

/// What the admin API reads and acts on.
pub struct Context {
    /// The running state.
    pub state: Arc<State>,
    /// Applies configurations.
    pub controller: Arc<Controller>,
    /// Changes the log level.
    pub log: LogHandle,
    /// What happened.
    pub history: Arc<History>,
    /// Runs warm-ups.
    pub warming: Arc<Warming>,
    /// Ends the process gracefully, as SIGTERM does.
    pub drain: tokio_util::sync::CancellationToken,
    /// Addresses that tried bad tokens.
    pub lock_out: LockOut,
    /// Who changed what.
    pub audit: Audit,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Outrigger admin API",
    description = "Probes, metrics, configuration, cache and upstreams. Errors are problem documents (RFC 9457)."
))]
struct Document;

/// The API's routes.
pub fn router(context: Arc<Context>) -> Router {
    let (router, mut document) = documented().split_for_parts();
    document::complete(&mut document);
    let document = Arc::new(document);
    router
        .route(
            "/openapi.json",
            axum::routing::get(async move || Json((*document).clone())),
        )
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&context), auth::guard))
        .with_state(context)
}

/// The OpenAPI document of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = documented().split_for_parts().1;
    document::complete(&mut document);
    document
}

fn documented() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::startupz))
        .routes(routes!(probes::metrics))
        .routes(routes!(config::show))
        .routes(routes!(config::validate))
        .routes(routes!(config::reload))
        .routes(routes!(config::log_level))
        .routes(routes!(config::drain))
        .routes(routes!(performance::endpoints))
        .routes(routes!(performance::system))
        .routes(routes!(stats::stats))
        .routes(routes!(entries::list))
        .routes(routes!(explain::explain))
        .routes(routes!(cache::purge))
        .routes(routes!(cache::clear))
        .routes(routes!(warm::list, warm::start))
        .routes(routes!(warm::show, warm::cancel))
        .routes(routes!(upstreams::list))
        .routes(routes!(upstreams::drain))
        .routes(routes!(upstreams::enable))
        .routes(routes!(audit::list::list))
        .routes(routes!(audit::list::verified))
}

async fn not_found(request: Request) -> Response {
    Problem::not_found(request.uri().path().to_owned()).into_response()
}

async fn method_not_allowed(method: Method, request: Request) -> Response {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "This resource has other methods",
    )
    .detail(format!("{method} {}", request.uri().path()))
    .into_response()
}

/// Serves the API on `listener` until `stop` is cancelled.
///
/// # Errors
/// When accepting fails for good.
pub async fn serve(
    listener: tokio::net::TcpListener,
    context: Arc<Context>,
    stop: tokio_util::sync::CancellationToken,
) -> std::io::Result<()> {
    let service = router(context).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

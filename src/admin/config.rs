//! The configuration in force, its reload, the log level, and draining.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use super::problem::{self, Problem};
use crate::config::{self, Problems};
use crate::control::reload::{Controller, Outcome};

/// The configuration in force.
#[derive(Serialize, ToSchema)]
pub(super) struct Shown {
    /// First 16 hex digits of the BLAKE3 digest of the effective configuration.
    hash: String,
    /// Counts applied configurations, from 1.
    generation: u64,
    /// The last reload.
    #[schema(value_type = Object)]
    last_reload: serde_json::Value,
    /// The effective configuration, defaults filled in, secrets redacted.
    #[schema(value_type = Object)]
    config: serde_json::Value,
}

/// Shows the configuration in force.
#[utoipa::path(get, path = "/config", tag = "configuration", responses((status = 200, body = Shown)))]
pub(super) async fn show(State(context): State<Arc<Context>>) -> Result<Json<Shown>, Problem> {
    let snapshot = context.state.snapshot.load_full();
    let last_reload = serde_json::to_value(context.controller.last())
        .map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Json(Shown {
        hash: snapshot.config.hash.to_string(),
        generation: snapshot.generation,
        last_reload,
        config: config::effective(&snapshot.config),
    }))
}

/// Outcome of a validation or a reload.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    /// `valid`, `applied` or `unchanged`.
    result: &'static str,
    /// Hash of the configuration.
    hash: Option<String>,
    /// The generation in force.
    generation: Option<u64>,
    /// Changed fields that only a restart applies.
    restart_required: Vec<String>,
}

/// Checks a configuration (YAML in the body) without applying it.
#[utoipa::path(post, path = "/config/validate", tag = "configuration", request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = Accepted), (status = 422, body = Problem)))]
pub(super) async fn validate(
    State(context): State<Arc<Context>>,
    body: Bytes,
) -> Result<Json<Accepted>, Problem> {
    let text = String::from_utf8(body.to_vec()).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    let current = context.state.snapshot.load_full();
    let checked = tokio::task::spawn_blocking(move || context.controller.validate(&text)).await;
    match checked.map_err(|error| Problem::internal(error.to_string()))? {
        Ok(loaded) => Ok(Json(Accepted {
            result: "valid",
            hash: Some(loaded.config.hash.to_string()),
            generation: None,
            restart_required: config::restart_required(&current.config, &loaded.config),
        })),
        Err(problems) => Err(refused(&problems)),
    }
}

/// Reads the configuration file again and applies it, wholly or not at all.
#[utoipa::path(post, path = "/config/reload", tag = "configuration",
    responses((status = 200, body = Accepted), (status = 422, body = Problem)))]
pub(super) async fn reload(State(context): State<Arc<Context>>) -> Result<Json<Accepted>, Problem> {
    let outcome = Controller::reload_in_background(Arc::clone(&context.controller))
        .await
        .ok_or_else(|| Problem::internal("the reload ended early"))?;
    match outcome {
        Outcome::Applied {
            generation,
            hash,
            restart_required,
        } => Ok(Json(Accepted {
            result: "applied",
            hash: Some(hash.to_string()),
            generation: Some(generation),
            restart_required,
        })),
        Outcome::Unchanged { generation } => Ok(Json(Accepted {
            result: "unchanged",
            hash: None,
            generation: Some(generation),
            restart_required: Vec::new(),
        })),
        Outcome::Refused(problems) => Err(refused(&problems)),
    }
}

fn refused(problems: &Problems) -> Problem {
    let mut problem = Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "bad-configuration",
        "The configuration has problems; the one in force stays",
    );
    problem.problems = serde_json::to_value(problems).ok().map(Box::new);
    problem
}

/// A log level.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Level {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives as in `outrigger=debug,h2=warn`.
    level: String,
}

/// Changes the log level until the next restart.
#[utoipa::path(put, path = "/log-level", tag = "configuration", request_body = Level,
    responses((status = 200, body = Level), (status = 400, body = Problem)))]
pub(super) async fn log_level(
    State(context): State<Arc<Context>>,
    problem::Json(wanted): problem::Json<Level>,
) -> Result<Json<Level>, Problem> {
    context
        .log
        .set_level(&wanted.level)
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    tracing::info!(level = wanted.level, "log level changed");
    Ok(Json(wanted))
}

/// What a drain answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Draining {
    /// Always `draining`.
    status: &'static str,
}

/// Drains and ends the process, as SIGTERM does.
#[utoipa::path(post, path = "/drain", tag = "configuration", responses((status = 202, body = Draining)))]
pub(super) async fn drain(State(context): State<Arc<Context>>) -> (StatusCode, Json<Draining>) {
    context.drain.cancel();
    (StatusCode::ACCEPTED, Json(Draining { status: "draining" }))
}

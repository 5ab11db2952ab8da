//! The audit log: every call that changes something is recorded before it is made and before it is answered.
//!
//! The intent is on the disk before the change is made, so that no change is made that the log does not tell of; the
//! outcome is on the disk before the caller hears of it. An intent without an outcome was under way when the process
//! ended: it may or may not have been made.

mod chain;
mod disk;
mod gate;
mod head;
pub(super) mod list;
mod log;
mod parameters;
mod walk;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use self::chain::{Asked, Asker, Entry};
use self::gate::Gate;
use self::log::{Log, Written};
pub use self::walk::{Fault, Summary, VerifyError, verify};
use super::Context;
use super::auth::{self, Caller};
use super::problem::Problem;
use crate::clock::Clock;
use crate::tasks::Tasks;
use crate::telemetry::{Event, Telemetry};

/// Largest body of a call that changes something.
const MAX_BODY: usize = 2 * 1024 * 1024;
/// The field of an answer that names its record.
const FIELD: HeaderName = HeaderName::from_static("outrigger-audit-id");

/// The log, and what writing to it takes.
#[derive(Debug)]
pub struct Audit {
    log: Log,
    refusals: Gate,
    /// Changes under way.
    tasks: Tasks,
}

impl Audit {
    /// The log in `state_dir`, or in memory without one. A directory that cannot be used now is tried again by every record.
    pub fn open(state_dir: Option<&Path>, clock: Clock, telemetry: Arc<Telemetry>, tasks: Tasks) -> Self {
        Self {
            log: Log::open(state_dir, clock, telemetry),
            refusals: Gate::default(),
            tasks,
        }
    }
}

/// The record of the call that is being made.
#[derive(Clone, Debug)]
pub(super) struct AuditId(pub(super) String);

/// The name of a call: its path without what all paths have in common and without what stands for a name.
pub fn action(method: &Method, path: &str) -> String {
    let path = path.strip_prefix("/api/v1/performance").unwrap_or(path);
    let mut parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && !part.starts_with('{'))
        .collect();
    if method == Method::DELETE {
        parts.push("delete");
    }
    parts.join(".")
}

/// Makes a call that changes something: records it, makes the change, records what became of it, and answers.
///
/// It is made to its end even when the caller goes away.
pub(super) async fn run(
    context: Arc<Context>,
    caller: &Caller,
    peer: SocketAddr,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let masking = context.state.telemetry.masking();
    let parameters = parameters::describe(parts.uri.query(), &body, &masking);
    let asked = Asked {
        parameters,
        ..asked(caller, peer, &parts)
    };
    let (tell, told) = tokio::sync::oneshot::channel();
    let tasks = context.audit.tasks.clone();
    let change = async move {
        let answer = match record(&context, Entry::Intent(asked)).await {
            Err(problem) => problem.into_response(),
            Ok(written) => {
                parts.extensions.insert(AuditId(written.id.clone()));
                let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
                concluded(&context, written, answer).await
            }
        };
        // Nobody may be there any more.
        drop(tell.send(answer));
    };
    tasks.spawn_to_end(Box::pin(change));
    told.await
        .unwrap_or_else(|_| Problem::internal("the change ended early").into_response())
}

/// Records what became of a change; a good answer is not given before.
async fn concluded(context: &Arc<Context>, written: Written, mut answer: Response) -> Response {
    let outcome = Entry::Outcome {
        of: written.seq,
        status: answer.status().as_u16(),
    };
    if let Err(mut problem) = record(context, outcome).await
        && answer.status().is_success()
    {
        problem.title = "The change was made, but its outcome cannot be recorded";
        answer = problem.into_response();
    }
    if let Ok(id) = HeaderValue::from_str(&written.id) {
        answer.headers_mut().insert(FIELD, id);
    }
    answer
}

/// Notes that somebody asked for a change that he may not make; only now and then when there are many.
pub(super) async fn refused(
    context: &Arc<Context>,
    caller: &Caller,
    peer: SocketAddr,
    request: &axum::http::request::Parts,
    status: StatusCode,
) {
    let Some(suppressed) = context.audit.refusals.pass(context.state.clock.now()) else {
        context
            .state
            .telemetry
            .emit(Event::Audited { result: "suppressed" });
        return;
    };
    let refused = Entry::Refused {
        asked: asked(caller, peer, request),
        status: status.as_u16(),
        suppressed,
    };
    // It changes nothing, so it is refused with or without a record.
    drop(record(context, refused).await);
}

fn asked(caller: &Caller, peer: SocketAddr, request: &axum::http::request::Parts) -> Asked {
    let matched = request.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let path = request.uri.path();
    Asked {
        caller: Asker {
            name: caller.name.to_string(),
            role: caller.role.map(|role| auth::name(role).to_owned()),
            peer: peer.to_string(),
        },
        action: action(&request.method, matched.unwrap_or_default()),
        target: parameters::cut(&format!("{} {path}", request.method)),
        parameters: None,
    }
}

async fn record(context: &Arc<Context>, entry: Entry) -> Result<Written, Problem> {
    let context = Arc::clone(context);
    let written = tokio::task::spawn_blocking(move || context.audit.log.record(entry))
        .await
        .map_err(|error| Problem::internal(error.to_string()))?;
    written.map_err(|error| {
        let mut problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-audited",
            "A change that cannot be recorded is not made",
        )
        .detail(error.to_string());
        problem.retry_after = Some(10);
        problem
    })
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    #[expect(clippy::disallowed_methods, reason = "bounded by Limited")]
    let collected = Limited::new(body, MAX_BODY).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "bad-body", "The body is too large");
        }
        Problem::bad_request("the body cannot be read")
    })
}

#[cfg(test)]
mod tests;

//! Who did what: the log as the API tells it, newest first.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::Context;
use super::super::problem::{self, Problem};
use super::chain::{Asked, Entry, Record};
use super::log::{Log, id};
use super::walk::{Fault, Summary, VerifyError};

/// Entries of one page when the caller does not say.
const PAGE: usize = 100;
/// Most entries of one page.
const MAX_PAGE: usize = 1_000;

/// Which entries are listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Wanted {
    /// Only calls of this name, as in `cache.purge`.
    action: Option<String>,
    /// Only those of the token of this name.
    caller: Option<String>,
    /// Only those at or after this moment (RFC 3339).
    since: Option<String>,
    /// Entries of one page, 1 to 1000; 100 when absent.
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

/// A page of entries.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Page {
    /// The entries, the newest first.
    entries: Vec<Told>,
    /// What to give as `after` for the next page; none after the last.
    next: Option<String>,
}

/// A change, or an attempt at one.
#[derive(Serialize, ToSchema)]
struct Told {
    /// Its name, as the call was told it.
    id: String,
    /// Number of its record.
    seq: u64,
    /// When it was asked for (RFC 3339).
    time: String,
    /// The call, as in `cache.purge`.
    action: String,
    /// Name of the token; `anonymous` without one.
    caller: String,
    /// Its role.
    role: Option<String>,
    /// Address and port of the connection.
    peer: String,
    /// Method and path.
    target: String,
    /// Query and body, masked.
    #[schema(value_type = Option<Object>)]
    parameters: Option<serde_json::Value>,
    /// `done`, `failed`, `refused` (the caller may not), or `unknown`: still under way, or the process ended before it was.
    result: &'static str,
    /// Status of the answer; none while it is not known.
    status: Option<u16>,
    /// When the outcome was recorded.
    ended: Option<String>,
}

/// Lists changes made through this API, and attempts that were refused, the newest first.
#[utoipa::path(get, path = "/api/v1/performance/audit", tag = "audit", params(Wanted),
    responses((status = 200, body = Page), (status = 400, body = Problem), (status = 503, body = Problem)))]
pub(in crate::admin) async fn list(
    State(context): State<Arc<Context>>,
    problem::Query(wanted): problem::Query<Wanted>,
) -> Result<Json<Page>, Problem> {
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request("`limit` is 1 to 1000"));
    }
    let since = wanted
        .since
        .as_deref()
        .map(str::parse::<jiff::Timestamp>)
        .transpose();
    let since = since.map_err(|_| Problem::bad_request("`since` is no moment as in 2026-01-31T12:00:00Z"))?;
    let before = match wanted.after.as_deref().map(position) {
        None => u64::MAX,
        Some(Some(before)) => before,
        Some(None) => return Err(Problem::bad_request("`after` is not the `next` of a page")),
    };
    tokio::task::spawn_blocking(move || page(&context.audit.log, &wanted, limit, since, before))
        .await
        .map_err(|error| Problem::internal(error.to_string()))?
        .map(Json)
        .map_err(|error| unreadable(&error))
}

fn page(
    log: &Log,
    wanted: &Wanted,
    limit: usize,
    since: Option<jiff::Timestamp>,
    before: u64,
) -> io::Result<Page> {
    let mut outcomes: HashMap<u64, (u16, String)> = HashMap::new();
    let mut entries: Vec<Told> = Vec::new();
    let mut next = None;
    log.newest(|chain, record| {
        let Record { seq, time, entry } = record;
        let (asked, ended, refused) = match entry {
            Entry::Outcome { of, status } => {
                outcomes.insert(of, (status, time));
                return true;
            }
            Entry::Intent(asked) => (asked, outcomes.remove(&seq), false),
            Entry::Refused { asked, status, .. } => (asked, Some((status, time.clone())), true),
            _ => return true,
        };
        if since.is_some_and(|since| time.parse::<jiff::Timestamp>().is_ok_and(|time| time < since)) {
            return false;
        }
        let fits = wanted
            .action
            .as_ref()
            .is_none_or(|action| *action == asked.action)
            && wanted
                .caller
                .as_ref()
                .is_none_or(|caller| *caller == asked.caller.name);
        if seq >= before || !fits {
            return true;
        }
        if entries.len() == limit {
            next = entries.last().map(|last| cursor(last.seq));
            return false;
        }
        entries.push(told(chain, seq, time, asked, ended, refused));
        true
    })?;
    Ok(Page { entries, next })
}

fn told(
    chain: &str,
    seq: u64,
    time: String,
    asked: Asked,
    ended: Option<(u16, String)>,
    refused: bool,
) -> Told {
    let result = match &ended {
        _ if refused => "refused",
        None => "unknown",
        Some((200..=299, _)) => "done",
        Some(_) => "failed",
    };
    let (status, ended) = ended.unzip();
    Told {
        id: id(chain, seq),
        seq,
        time,
        action: asked.action,
        caller: asked.caller.name,
        role: asked.caller.role,
        peer: asked.caller.peer,
        target: asked.target,
        parameters: asked.parameters,
        result,
        status,
        ended,
    }
}

fn cursor(seq: u64) -> String {
    format!("{seq:x}")
}

fn position(cursor: &str) -> Option<u64> {
    u64::from_str_radix(cursor, 16)
        .ok()
        .filter(|seq| self::cursor(*seq) == cursor)
}

/// Whether the log is as it was written.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Verified {
    /// Whether it is.
    good: bool,
    /// What a good one holds.
    summary: Option<Summary>,
    /// The first record that was changed, moved or removed.
    fault: Option<Fault>,
}

/// Holds the whole log against its seals.
#[utoipa::path(get, path = "/api/v1/performance/audit/verify", tag = "audit",
    responses((status = 200, body = Verified), (status = 503, body = Problem)))]
pub(in crate::admin) async fn verified(
    State(context): State<Arc<Context>>,
) -> Result<Json<Verified>, Problem> {
    let verified = tokio::task::spawn_blocking(move || context.audit.log.verify())
        .await
        .map_err(|error| Problem::internal(error.to_string()))?;
    match verified {
        Ok(summary) => Ok(Json(Verified {
            good: true,
            summary: Some(summary),
            fault: None,
        })),
        Err(VerifyError::Fault(fault)) => Ok(Json(Verified {
            good: false,
            summary: None,
            fault: Some(fault),
        })),
        Err(VerifyError::Io(error)) => Err(unreadable(&error)),
    }
}

fn unreadable(error: &io::Error) -> Problem {
    let mut problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "audit-unreadable",
        "The audit log cannot be read",
    )
    .detail(error.to_string());
    problem.retry_after = Some(10);
    problem
}

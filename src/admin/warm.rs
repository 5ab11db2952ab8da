//! Warm-ups: started, followed and ended by operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use super::asked::{Values, fields};
use super::problem::{self, Problem};
use crate::config::scalar::Scalar;
use crate::config::values::{FRAMING, TargetText};
use crate::config::{Pace, WarmRequest};
use crate::control::warm::{Job, Refused};

const PATH: &str = "/api/v1/performance/cache/warm";
/// Most requests of one call.
const MAX_REQUESTS: usize = 1_000;
/// Most requests of those that were asked for most.
const MAX_TOP_KEYS: usize = 10_000;
/// Most requests at once.
const MAX_PARALLEL: usize = 64;

/// What to fetch: exactly one of `name`, `requests`, `urls` and `top_keys`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wish {
    /// An entry of `cache.warm`.
    name: Option<String>,
    /// These requests, at most 1000.
    requests: Vec<Requested>,
    /// GET of these URLs, `http://` or `https://` as clients use them, at most 1000.
    urls: Vec<String>,
    /// As many of the requests that were asked for most, at most 10000; some entry must have `top_keys`.
    top_keys: Option<usize>,
    /// Requests at once, 1 to 64; 2 when absent. A named entry has its own.
    parallel: Option<usize>,
}

/// A request to fetch; it takes the way of a client's.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Requested {
    /// Its method; GET when absent.
    method: Option<String>,
    /// Path and query.
    path: String,
    /// Host and port as clients ask for them; absent: of the route, else of the first listener.
    host: Option<String>,
    /// `http` or `https`; absent: as the first listener has it.
    scheme: Option<String>,
    /// Its header fields; a field with several values has a list of them.
    headers: BTreeMap<String, Values>,
    /// Its body.
    body: Option<String>,
}

/// A warm-up and how far it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Progress {
    /// Its number, a name in URLs.
    id: String,
    /// Its entry in the configuration.
    name: Option<String>,
    /// `start`, `schedule`, `call` or `predict`.
    trigger: &'static str,
    /// `queued`, `running`, `done`, `failed` (nothing could be had) or `cancelled`.
    state: &'static str,
    /// When it was asked for, in seconds since the Unix epoch.
    created_at: u64,
    /// When it began.
    started_at: Option<u64>,
    /// When it ended.
    ended_at: Option<u64>,
    /// Requests in all.
    total: u64,
    /// Requests that are through.
    done: u64,
    /// Fetched or validated, and stored.
    fetched: u64,
    /// Stored already, in any level, or fetched by somebody else at the time.
    fresh: u64,
    /// Not stored.
    skipped: u64,
    /// Not to be had.
    failed: u64,
    /// Why requests were skipped or failed, with numbers.
    reasons: BTreeMap<&'static str, u64>,
}

/// Warm-ups, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Known {
    /// Those that wait or run, and the last 64 that have ended.
    jobs: Vec<Progress>,
}

impl Progress {
    fn of(job: &Job) -> Self {
        let status = job.status();
        let counts = status.counts;
        Self {
            id: job.id.to_string(),
            name: job.name.as_deref().map(str::to_owned),
            trigger: job.trigger.as_str(),
            state: status.state.as_str(),
            created_at: job.created.as_secs(),
            started_at: status.started.map(|at| at.as_secs()),
            ended_at: status.ended.map(|at| at.as_secs()),
            total: status.total,
            done: counts.all(),
            fetched: counts.fetched,
            fresh: counts.fresh,
            skipped: counts.skipped,
            failed: counts.failed,
            reasons: counts.reasons,
        }
    }
}

/// Starts a warm-up. It waits for those before it.
#[utoipa::path(post, path = "/api/v1/performance/cache/warm", tag = "cache", request_body = Wish,
    responses((status = 202, body = Progress, headers(("location" = String, description = "Where its progress is told"))),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn start(
    State(context): State<Arc<Context>>,
    problem::Json(wish): problem::Json<Wish>,
) -> Result<Response, Problem> {
    let pace = pace(&wish)?;
    let given = [
        wish.name.is_some(),
        !wish.requests.is_empty(),
        !wish.urls.is_empty(),
        wish.top_keys.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(Problem::bad_request(
            "give exactly one of `name`, `requests`, `urls` and `top_keys`",
        ));
    }
    let warming = &context.warming;
    let started = match (&wish.name, wish.top_keys) {
        (Some(name), _) => warming.run_entry(name),
        (None, Some(number)) if (1..=MAX_TOP_KEYS).contains(&number) => warming.run_top(number, pace),
        (None, Some(_)) => return Err(Problem::bad_request(format!("`top_keys` is 1 to {MAX_TOP_KEYS}"))),
        (None, None) => warming.run_requests(&requests(&wish)?, pace),
    };
    let job = started.map_err(|reason| refused(reason, wish.name.as_deref().unwrap_or_default()))?;
    let location = format!("{PATH}/{}", job.id);
    Ok((
        StatusCode::ACCEPTED,
        [(LOCATION, location)],
        Json(Progress::of(&job)),
    )
        .into_response())
}

/// Lists warm-ups.
#[utoipa::path(get, path = "/api/v1/performance/cache/warm", tag = "cache", responses((status = 200, body = Known)))]
pub(super) async fn list(State(context): State<Arc<Context>>) -> Json<Known> {
    let jobs = context.warming.jobs();
    Json(Known {
        jobs: jobs.iter().map(|job| Progress::of(job)).collect(),
    })
}

/// Tells how far a warm-up is.
#[utoipa::path(get, path = "/api/v1/performance/cache/warm/{job}", tag = "cache",
    params(("job" = String, Path, description = "Its number")),
    responses((status = 200, body = Progress), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
) -> Result<Json<Progress>, Problem> {
    Ok(Json(Progress::of(&*find(&context, &job)?)))
}

/// Ends a warm-up; what it has fetched stays.
#[utoipa::path(delete, path = "/api/v1/performance/cache/warm/{job}", tag = "cache",
    params(("job" = String, Path, description = "Its number")),
    responses((status = 202, body = Progress), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn cancel(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
) -> Result<(StatusCode, Json<Progress>), Problem> {
    let job = find(&context, &job)?;
    if job.is_over() {
        return Err(conflict("it has ended already"));
    }
    context.warming.cancel(&job);
    Ok((StatusCode::ACCEPTED, Json(Progress::of(&job))))
}

fn find(context: &Context, id: &str) -> Result<Arc<Job>, Problem> {
    let job = id.parse().ok().and_then(|id| context.warming.job(id));
    job.ok_or_else(|| Problem::not_found("no such warm-up, or it has ended long ago"))
}

fn refused(reason: Refused, name: &str) -> Problem {
    match reason {
        Refused::Unknown => Problem::not_found(format!("`cache.warm` has no entry `{name}`")),
        Refused::Predicts => conflict("the entry predicts: it runs with the traffic"),
        Refused::NothingRemembered => {
            conflict("nothing is remembered: no entry of `cache.warm` has `top_keys`")
        }
        Refused::Full => unavailable("too many warm-ups wait already"),
        Refused::Draining => unavailable("the process is on its way out"),
    }
}

fn conflict(detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", "That cannot be done now").detail(detail)
}

fn unavailable(detail: &str) -> Problem {
    let mut problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "That cannot be done now",
    )
    .detail(detail);
    problem.retry_after = Some(10);
    problem
}

fn pace(wish: &Wish) -> Result<Pace, Problem> {
    match wish.parallel {
        None => Ok(Pace::default()),
        Some(parallel) if (1..=MAX_PARALLEL).contains(&parallel) => Ok(Pace {
            parallel,
            ..Pace::default()
        }),
        Some(_) => Err(Problem::bad_request(format!("`parallel` is 1 to {MAX_PARALLEL}"))),
    }
}

fn requests(wish: &Wish) -> Result<Vec<WarmRequest>, Problem> {
    if wish.requests.len().max(wish.urls.len()) > MAX_REQUESTS {
        return Err(Problem::bad_request(format!("at most {MAX_REQUESTS} requests")));
    }
    let numbered =
        |list: &str, number: usize, what: &str| Problem::bad_request(format!("`{list}[{number}]`: {what}"));
    let urls = wish.urls.iter().enumerate();
    let urls = urls.map(|(number, url)| of_url(url).map_err(|what| numbered("urls", number, what)));
    let requests = wish.requests.iter().enumerate();
    let requests = requests
        .map(|(number, request)| of_request(request).map_err(|what| numbered("requests", number, &what)));
    urls.chain(requests).collect()
}

/// What is wrong with a value is told without it: it may be a secret in the wrong place.
fn of_url(url: &str) -> Result<WarmRequest, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "not a URL")?;
    let scheme = match uri.scheme_str() {
        Some("http") => "http",
        Some("https") => "https",
        _ => return Err("not an absolute http:// or https:// URL"),
    };
    let host = uri.authority().filter(|host| !host.as_str().contains('@'));
    Ok(WarmRequest {
        method: Method::GET,
        host: Some(host.ok_or("a URL has a host and no user name")?.to_string()),
        scheme: Some(scheme),
        target: uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned(),
        headers: Vec::new(),
        body: String::new(),
    })
}

fn of_request(request: &Requested) -> Result<WarmRequest, String> {
    let method = request.method.as_deref().unwrap_or("GET");
    let method =
        <Method as Scalar>::parse(method).map_err(|_| "`method` is not a method that can be routed")?;
    if method == Method::HEAD {
        return Err("an answer to HEAD is not stored; GET answers both".to_owned());
    }
    let target = TargetText::parse(&request.path).map_err(|_| "`path` is not a path that begins with `/`")?;
    let is_host = |host: &String| {
        let authority = host.parse::<axum::http::uri::Authority>();
        authority.is_ok_and(|authority| !authority.as_str().contains('@'))
    };
    if !request.host.as_ref().is_none_or(is_host) {
        return Err("`host` is not a host".to_owned());
    }
    let scheme = match request.scheme.as_deref() {
        None => None,
        Some("http") => Some("http"),
        Some("https") => Some("https"),
        Some(_) => return Err("`scheme` is `http` or `https`".to_owned()),
    };
    let fields = fields(&request.headers).map_err(|problem| problem.detail.unwrap_or_default())?;
    if let Some(name) = FRAMING.iter().find(|name| fields.contains_key(*name)) {
        return Err(format!("`headers`: `{name}` is made from the request"));
    }
    let pair = |(name, value): (&HeaderName, &HeaderValue)| (name.clone(), value.clone());
    Ok(WarmRequest {
        method,
        host: request.host.clone(),
        scheme,
        target: target.0,
        headers: fields.iter().map(pair).collect(),
        body: request.body.clone().unwrap_or_default(),
    })
}

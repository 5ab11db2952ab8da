//! Purges.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::audit::AuditId;
use super::problem::{self, Problem};
use crate::cache::digest::KeyDigest;
use crate::cache::partition::tenant_digest;
use crate::cache::purge::{Mode, Selector, canonical_url};
use crate::cache::query;
use crate::cache::replication::Confirmed;
use crate::telemetry::Event;

/// Longest text of one selector.
const MAX_SELECTOR: usize = 8 * 1024;
/// Wait for other replicas, in milliseconds, when the request does not say.
const WAIT_MS: u64 = 250;
/// Longest wait for them.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Most selectors of one purge.
const MAX_SELECTORS: usize = 1_000;

/// What to purge; the parts given are purged each for itself.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Purge {
    /// Key digests as hex.
    keys: Vec<String>,
    /// URLs: absolute, or `host/path?query`.
    urls: Vec<String>,
    /// Everything whose `host/path?query` begins so; or whose path does, when it begins with `/`.
    prefix: Option<String>,
    /// Glob over `route:METHOD host/path?query`; `*` matches any run of characters, `?` one.
    pattern: Option<String>,
    /// Tags.
    tags: Vec<String>,
    /// A route's name.
    route: Option<String>,
    /// A tenant, as in the header that the route names.
    tenant: Option<String>,
    /// Everything.
    all: bool,
    /// `hard` (default): never used again; `soft`: validated before the next use.
    mode: PurgeMode,
    /// Only counts what would match.
    dry_run: bool,
    /// Longest wait until the other replicas have applied it, in milliseconds: 250 if absent, at most 60,000. There are
    /// none without a shared level.
    wait_ms: Option<u64>,
}

/// How entries are purged.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PurgeMode {
    /// Never used again.
    #[default]
    Hard,
    /// Validated before the next use.
    Soft,
}

/// What a purge did.
#[derive(Serialize, ToSchema)]
pub(super) struct Purged {
    /// Entries that matched on this replica.
    matched: u64,
    /// Position of the purge in the log; none for a dry run, and as long as replicas cannot know of it: then it is in
    /// effect on this one, and is published when what they share can be reached.
    position: Option<u64>,
    /// Other replicas that have applied it; there are none without a shared level.
    replicas_confirmed: u64,
    /// Other replicas that were heard of lately.
    replicas_known: u64,
    /// Its entry in the audit log.
    audit_id: String,
    /// Whether nothing was purged.
    dry_run: bool,
}

/// Purges entries. When it has answered, no entry filled before it is served again.
#[utoipa::path(post, path = "/api/v1/performance/cache/purge", tag = "cache", request_body = Purge,
    responses((status = 200, body = Purged), (status = 400, body = Problem)))]
pub(super) async fn purge(
    State(context): State<Arc<Context>>,
    Extension(audit): Extension<AuditId>,
    problem::Json(wanted): problem::Json<Purge>,
) -> Result<Json<Purged>, Problem> {
    let selectors = selectors(&context, &wanted)?;
    let mode = match wanted.mode {
        PurgeMode::Hard => Mode::Hard,
        PurgeMode::Soft => Mode::Soft,
    };
    let wait = Duration::from_millis(wanted.wait_ms.unwrap_or(WAIT_MS));
    if wait > MAX_WAIT {
        return Err(Problem::bad_request("`wait_ms` is at most 60000"));
    }
    run(context, selectors, (mode, wanted.dry_run), wait, audit).await
}

#[derive(Deserialize, IntoParams)]
pub(super) struct Pattern {
    /// Glob over `route:METHOD host/path?query`, for example `api_*`.
    pattern: String,
}

/// Purges by a glob over `route:METHOD host/path?query`.
#[utoipa::path(post, path = "/api/v1/performance/api/cache/clear", tag = "cache", params(Pattern),
    responses((status = 200, body = Purged), (status = 400, body = Problem)))]
pub(super) async fn clear(
    State(context): State<Arc<Context>>,
    Extension(audit): Extension<AuditId>,
    problem::Query(query): problem::Query<Pattern>,
) -> Result<Json<Purged>, Problem> {
    let wanted = Purge {
        pattern: Some(query.pattern),
        ..Purge::default()
    };
    let selectors = selectors(&context, &wanted)?;
    let wait = Duration::from_millis(WAIT_MS);
    run(context, selectors, (Mode::Hard, false), wait, audit).await
}

async fn run(
    context: Arc<Context>,
    selectors: Vec<Selector>,
    (mode, dry_run): (Mode, bool),
    wait: Duration,
    AuditId(audit_id): AuditId,
) -> Result<Json<Purged>, Problem> {
    // The log is flushed to disk before the answer, which must not hold up other admin requests.
    let purge = move || {
        context
            .state
            .cache
            .purge(selectors, mode, dry_run)
            .map(|done| (done, context))
    };
    let (done, context) = tokio::task::spawn_blocking(purge)
        .await
        .map_err(|error| Problem::internal(error.to_string()))?
        .map_err(|error| Problem::internal(format!("the purge log cannot be written: {error}")))?;
    let replicas = match (&context.state.cache.replication, done.records.last()) {
        (Some(replication), Some(record)) => replication.confirmed(record.id, wait).await,
        (None, Some(record)) => Confirmed {
            position: Some(record.position),
            ..Confirmed::default()
        },
        (_, None) => Confirmed::default(),
    };
    if !dry_run {
        let event = Event::Purged {
            scope: done.scope,
            matched: done.matched,
            position: replicas.position,
        };
        context.state.telemetry.emit(event);
    }
    Ok(Json(Purged {
        matched: done.matched,
        position: replicas.position,
        replicas_confirmed: replicas.confirmed as u64,
        replicas_known: replicas.known as u64,
        audit_id,
        dry_run,
    }))
}

fn selectors(context: &Context, wanted: &Purge) -> Result<Vec<Selector>, Problem> {
    let mut selectors = Vec::new();
    for key in &wanted.keys {
        let digest: Option<[u8; 32]> = hex::decode(key).ok().and_then(|bytes| bytes.try_into().ok());
        let digest = digest
            .ok_or_else(|| Problem::bad_request(format!("`{key}` is not a key: 64 hexadecimal digits")))?;
        selectors.push(Selector::Key(KeyDigest(digest)));
    }
    selectors.extend(wanted.prefix.iter().map(|prefix| Selector::prefix(prefix)));
    selectors.extend(wanted.pattern.iter().cloned().map(Selector::Glob));
    selectors.extend(wanted.tags.iter().cloned().map(Selector::Tag));
    selectors.extend(wanted.route.iter().cloned().map(Selector::Route));
    selectors.extend(
        wanted
            .tenant
            .iter()
            .map(|tenant| Selector::Tenant(tenant_digest(tenant.as_bytes()))),
    );
    if wanted.all {
        selectors.push(Selector::All);
    }
    let count = selectors.len() + wanted.urls.len();
    if count == 0 {
        return Err(Problem::bad_request(
            "say what to purge: keys, urls, prefix, pattern, tags, route, tenant or all",
        ));
    }
    if count > MAX_SELECTORS {
        return Err(Problem::bad_request(format!(
            "at most {MAX_SELECTORS} selectors in one purge"
        )));
    }
    let texts = wanted
        .urls
        .iter()
        .chain(&wanted.tags)
        .chain(&wanted.prefix)
        .chain(&wanted.pattern)
        .chain(&wanted.route);
    for text in texts {
        if text.is_empty() || text.len() > MAX_SELECTOR || text.chars().any(char::is_control) {
            return Err(Problem::bad_request(
                "a selector is 1 to 8192 bytes without control characters",
            ));
        }
    }
    // In front: the last selector names the purge's scope in metrics.
    selectors.splice(0..0, urls(context, &wanted.urls));
    Ok(selectors)
}

/// The URLs, each in all forms that the routes' rules for queries give it in keys.
fn urls(context: &Context, urls: &[String]) -> Vec<Selector> {
    let snapshot = context.state.snapshot.load_full();
    let rules = || {
        let caching = snapshot
            .routes
            .iter()
            .filter_map(|route| route.config.cache.as_ref());
        caching.map(|rules| &rules.vary.query)
    };
    let mut selectors = Vec::new();
    for url in urls {
        let url = url.split('#').next().unwrap_or_default();
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let searches = &context.state.cache.searches;
        let forms = query::forms(query, rules());
        for form in searches.with_forms(&canonical_url(path), forms) {
            selectors.push(Selector::Url(query::join("", path, form.as_deref())));
        }
    }
    selectors
}

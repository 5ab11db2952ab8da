//! `cache stats` and `cache purge`; the other commands of `cache` have a file of their own.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{Target, cell, show, table};
use super::explain::{Entries, Explain};
use super::warm::Warm;

/// Works with the cache of a running sidecar.
#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// Shows what is stored.
    Stats(Target),
    /// Purges entries; what is given is purged each for itself.
    Purge(Purge),
    /// Lists what is stored, entry by entry.
    Entries(Entries),
    /// Fetches what will be asked for, by the names of `cache.warm` or by URL.
    Warm(Warm),
    /// Tells what would happen to a request and why; nothing is sent or changed.
    Explain(Explain),
}

/// `cache purge`.
#[derive(Debug, Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    target: Target,
    /// A URL, absolute or `host/path?query`; may be repeated.
    #[arg(long, env = "OUTRIGGER_PURGE_URL", value_name = "URL")]
    url: Vec<String>,
    /// Everything whose `host/path?query` begins so, or whose path does when it begins with `/`.
    #[arg(long, env = "OUTRIGGER_PURGE_PREFIX")]
    prefix: Option<String>,
    /// Glob over `route:METHOD host/path?query`.
    #[arg(long, env = "OUTRIGGER_PURGE_PATTERN", value_name = "GLOB")]
    pattern: Option<String>,
    /// A tag; may be repeated.
    #[arg(long, env = "OUTRIGGER_PURGE_TAG")]
    tag: Vec<String>,
    /// Everything of a route.
    #[arg(long, env = "OUTRIGGER_PURGE_ROUTE")]
    route: Option<String>,
    /// Everything of a tenant.
    #[arg(long, env = "OUTRIGGER_PURGE_TENANT")]
    tenant: Option<String>,
    /// Everything.
    #[arg(long, env = "OUTRIGGER_PURGE_ALL")]
    all: bool,
    /// Let entries be validated before their next use instead of dropping them.
    #[arg(long, env = "OUTRIGGER_PURGE_SOFT")]
    soft: bool,
    /// Longest wait until the other replicas have applied it, in milliseconds: 250 if absent.
    #[arg(long, env = "OUTRIGGER_PURGE_WAIT_MS", value_name = "MILLISECONDS")]
    wait_ms: Option<u64>,
    /// Only count what would match.
    #[arg(long, env = "OUTRIGGER_PURGE_DRY_RUN")]
    dry_run: bool,
}

impl Cache {
    /// Runs the subcommand.
    pub(crate) fn run(&self) -> ExitCode {
        match self {
            Self::Stats(target) => show(
                target,
                target.call(Method::GET, "/api/v1/performance/cache/stats", None),
                stats,
            ),
            Self::Purge(purge) => purge.run(),
            Self::Entries(entries) => entries.run(),
            Self::Warm(warm) => warm.run(),
            Self::Explain(explain) => explain.run(),
        }
    }
}

impl Purge {
    fn run(&self) -> ExitCode {
        let body = json!({
            "urls": self.url,
            "prefix": self.prefix,
            "pattern": self.pattern,
            "tags": self.tag,
            "route": self.route,
            "tenant": self.tenant,
            "all": self.all,
            "mode": if self.soft { "soft" } else { "hard" },
            "dry_run": self.dry_run,
            "wait_ms": self.wait_ms,
        });
        let answer = self
            .target
            .call(Method::POST, "/api/v1/performance/cache/purge", Some(&body));
        show(&self.target, answer, |value| {
            let matched = cell(value, "matched");
            if self.dry_run {
                return format!("would purge {matched} entries\n");
            }
            let place = match value.get("position").and_then(Value::as_u64) {
                Some(position) => format!("position {position}"),
                None => "not published to replicas yet".to_owned(),
            };
            let replicas = match value.get("replicas_known").and_then(Value::as_u64) {
                None | Some(0) => String::new(),
                Some(known) => format!(
                    ", applied by {} of {known} other replicas",
                    cell(value, "replicas_confirmed")
                ),
            };
            format!("purged {matched} entries ({place}{replicas})\n")
        })
    }
}

fn stats(value: &Value) -> String {
    let empty = Vec::new();
    let levels = value.get("levels").and_then(Value::as_array).unwrap_or(&empty);
    let rows: Vec<Vec<String>> = levels
        .iter()
        .map(|level| {
            ["name", "kind", "entries", "bytes", "capacity", "evictions"]
                .map(|field| cell(level, field))
                .to_vec()
        })
        .collect();
    let mut text = table(
        &["LEVEL", "KIND", "ENTRIES", "BYTES", "CAPACITY", "EVICTIONS"],
        &rows,
    );
    let below: Vec<&Value> = levels
        .iter()
        .filter(|level| level.get("state").is_some())
        .collect();
    if !below.is_empty() {
        text.push('\n');
        text += &below_memory(&below);
    }
    let routes = value.get("routes").and_then(Value::as_object);
    let rows: Vec<Vec<String>> = routes
        .into_iter()
        .flatten()
        .map(|(name, route)| {
            let fields = ["entries", "bytes", "hits"].map(|field| cell(route, field));
            std::iter::once(name.clone()).chain(fields).collect()
        })
        .collect();
    text.push('\n');
    text += &table(&["ROUTE", "ENTRIES", "BYTES", "HITS"], &rows);
    text
}

/// How the levels below memory are doing.
fn below_memory(levels: &[&Value]) -> String {
    let row = |level: &&Value| {
        let seconds = |field: &str| {
            let seconds = level.get("get").and_then(|get| get.get(field));
            let seconds = seconds.and_then(Value::as_f64).unwrap_or_default();
            format!("{:.2} ms", seconds * 1e3)
        };
        let ratio = level.get("compression_ratio").and_then(Value::as_f64);
        vec![
            cell(level, "name"),
            cell(level, "state"),
            cell(level, "hits"),
            cell(level, "misses"),
            seconds("p50_seconds"),
            seconds("p99_seconds"),
            cell(level, "queued"),
            cell(level, "dropped"),
            cell(level, "integrity_failures"),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]
    };
    let header = [
        "LEVEL", "STATE", "HITS", "MISSES", "GET P50", "GET P99", "QUEUED", "DROPPED", "CORRUPT", "RATIO",
    ];
    table(&header, &levels.iter().map(row).collect::<Vec<_>>())
}

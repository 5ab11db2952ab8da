//! `cache stats` and `cache purge`; the other commands of `cache` have a file of their own.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{Target, cell, show, table};
use super::explain::{Entries, Explain};

/// Works with the cache of a running sidecar.
#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// Shows what is stored.
    Stats(Target),
    /// Purges entries; what is given is purged each for itself.
    Purge(Purge),
    /// Lists what is stored, entry by entry.
    Entries(Entries),
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
        });
        let answer = self
            .target
            .call(Method::POST, "/api/v1/performance/cache/purge", Some(&body));
        show(&self.target, answer, |value| {
            let matched = cell(value, "matched");
            match value.get("position").and_then(Value::as_u64) {
                Some(position) => format!("purged {matched} entries (position {position})\n"),
                None => format!("would purge {matched} entries\n"),
            }
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

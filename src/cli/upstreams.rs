//! `upstreams`.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::{Target, cell, show, table};
use super::{FAILURE, fail};

/// Shows the upstreams of a running sidecar, or takes an endpoint out or in.
#[derive(Debug, Args)]
pub(crate) struct Upstreams {
    #[command(flatten)]
    target: Target,
    /// Give this endpoint (`UPSTREAM/HOST:PORT`) no new requests.
    #[arg(
        long,
        env = "OUTRIGGER_DRAIN",
        value_name = "ENDPOINT",
        conflicts_with = "enable"
    )]
    drain: Option<String>,
    /// Give this endpoint (`UPSTREAM/HOST:PORT`) requests again.
    #[arg(long, env = "OUTRIGGER_ENABLE", value_name = "ENDPOINT")]
    enable: Option<String>,
}

const PATH: &str = "/api/v1/performance/upstreams";

impl Upstreams {
    /// Runs the subcommand.
    pub(crate) fn run(&self) -> ExitCode {
        let (endpoint, action) = match (&self.drain, &self.enable) {
            (Some(endpoint), _) => (endpoint, "drain"),
            (None, Some(endpoint)) => (endpoint, "enable"),
            (None, None) => return show(&self.target, self.target.call(Method::GET, PATH, None), list),
        };
        let Some((upstream, address)) = endpoint.split_once('/') else {
            return fail(FAILURE, &format!("`{endpoint}` is not UPSTREAM/HOST:PORT"));
        };
        let path = format!("{PATH}/{upstream}/endpoints/{address}/{action}");
        show(
            &self.target,
            self.target.call(Method::POST, &path, None),
            |value| {
                let state = if value.get("enabled") == Some(&Value::Bool(true)) {
                    "enabled"
                } else {
                    "drained"
                };
                format!("{} is {state}\n", cell(value, "address"))
            },
        )
    }
}

fn list(value: &Value) -> String {
    let mut rows = Vec::new();
    for (name, endpoints) in value
        .get("upstreams")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        for endpoint in endpoints.as_array().into_iter().flatten() {
            let fields =
                ["address", "healthy", "enabled", "weight", "in_flight"].map(|field| cell(endpoint, field));
            rows.push(std::iter::once(name.clone()).chain(fields).collect());
        }
    }
    table(
        &[
            "UPSTREAM",
            "ENDPOINT",
            "HEALTHY",
            "ENABLED",
            "WEIGHT",
            "IN FLIGHT",
        ],
        &rows,
    )
}

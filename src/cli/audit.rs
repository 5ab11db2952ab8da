//! `audit`: who changed what, and whether the log is as it was written.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::client::{Output, Target, cell, show, table};
use super::{FAILURE, fail};
use crate::admin::audit::{VerifyError, verify};

const PATH: &str = "/api/v1/performance/audit";

/// Works with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Lists changes made through the admin API, the newest first.
    List(List),
    /// Exits with 0 when no record was changed, moved or removed, and names the first one that was.
    Verify(Verify),
}

/// `audit list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    target: Target,
    /// Only calls of this name, as in `cache.purge`.
    #[arg(long, env = "OUTRIGGER_AUDIT_ACTION")]
    action: Option<String>,
    /// Only those of the token of this name.
    #[arg(long, env = "OUTRIGGER_AUDIT_CALLER", value_name = "TOKEN")]
    caller: Option<String>,
    /// Only those at or after this moment (RFC 3339).
    #[arg(long, env = "OUTRIGGER_AUDIT_SINCE", value_name = "TIME")]
    since: Option<String>,
    /// At most so many, 1 to 1000.
    #[arg(long, env = "OUTRIGGER_AUDIT_LIMIT", default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    target: Target,
    /// Read the log in this directory instead of asking a running sidecar: `admin.state_dir`, or `audit` in it.
    #[arg(long, env = "OUTRIGGER_AUDIT_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Audit {
    /// Runs the subcommand.
    pub(crate) fn run(&self) -> ExitCode {
        match self {
            Self::List(list) => list.run(),
            Self::Verify(verify) => verify.run(),
        }
    }
}

impl List {
    fn run(&self) -> ExitCode {
        let mut path = format!("{PATH}?limit={}", self.limit);
        let filters = [
            ("action", &self.action),
            ("caller", &self.caller),
            ("since", &self.since),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                path += &format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        show(
            &self.target,
            self.target.call(Method::GET, &path, None),
            |value| {
                let entries = value.get("entries").and_then(Value::as_array);
                let row = |entry: &Value| {
                    let time = cell(entry, "time");
                    let seconds = time.split('.').next().unwrap_or_default().replace('T', " ");
                    let others = ["action", "caller", "peer", "result", "status"];
                    std::iter::once(seconds)
                        .chain(others.map(|field| cell(entry, field)))
                        .collect()
                };
                let rows: Vec<Vec<String>> = entries.into_iter().flatten().map(row).collect();
                table(
                    &["TIME (UTC)", "ACTION", "CALLER", "PEER", "RESULT", "STATUS"],
                    &rows,
                )
            },
        )
    }
}

impl Verify {
    fn run(&self) -> ExitCode {
        let answer = match &self.dir {
            Some(dir) => offline(dir.clone()),
            None => self.target.call(Method::GET, &format!("{PATH}/verify"), None),
        };
        let fault = answer
            .as_ref()
            .ok()
            .and_then(|answer| answer.get("fault"))
            .filter(|fault| !fault.is_null());
        if let Some(fault) = fault
            && self.target.output == Output::Table
        {
            let (file, line, what) = (cell(fault, "file"), cell(fault, "line"), cell(fault, "what"));
            return fail(FAILURE, &format!("{file}, line {line}: {what}"));
        }
        let bad = fault.is_some();
        let shown = show(&self.target, answer, |answer| {
            let empty = Value::Null;
            let summary = answer.get("summary").unwrap_or(&empty);
            let told = |field| cell(summary, field);
            format!(
                "{} records in {} files are as they were written\nfirst  {}\nlast   {}\nrecord {} has the seal {}\n",
                told("records"),
                told("files"),
                told("first_time"),
                told("last_time"),
                told("last_seq"),
                told("last_hash"),
            )
        });
        if bad { ExitCode::from(FAILURE) } else { shown }
    }
}

fn offline(dir: PathBuf) -> Result<Value, String> {
    let inside = dir.join("audit");
    let dir = if inside.is_dir() { inside } else { dir };
    // A sidecar may be writing to it: what was half written then is whole the second time.
    let verified = verify(&dir).or_else(|_| verify(&dir));
    match verified {
        Ok(summary) => Ok(json!({"good": true, "summary": summary, "fault": null})),
        Err(VerifyError::Fault(fault)) => Ok(json!({"good": false, "summary": null, "fault": fault})),
        Err(error) => Err(format!("{}: {error}", dir.display())),
    }
}

//! `cache warm`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::{Target, cell, show};
use super::{FAILURE, fail};

const PATH: &str = "/api/v1/performance/cache/warm";
/// Time between two looks at the progress.
const LOOK: Duration = Duration::from_millis(200);

/// `cache warm`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(false)))]
pub(crate) struct Warm {
    #[command(flatten)]
    target: Target,
    /// An entry of `cache.warm`.
    #[arg(group = "what", env = "OUTRIGGER_WARM_NAME")]
    name: Option<String>,
    /// A URL, `http://` when it has no scheme; may be repeated.
    #[arg(long, group = "what", env = "OUTRIGGER_WARM_URL", value_name = "URL")]
    url: Vec<String>,
    /// As many of the requests that were asked for most.
    #[arg(long, group = "what", env = "OUTRIGGER_WARM_TOP", value_name = "N")]
    top: Option<u32>,
    /// Requests at once; an entry has its own.
    #[arg(long, env = "OUTRIGGER_WARM_PARALLEL", value_name = "N")]
    parallel: Option<u32>,
    /// Do not wait for the end.
    #[arg(long, env = "OUTRIGGER_WARM_NO_WAIT")]
    no_wait: bool,
}

impl Warm {
    /// Runs the subcommand: 0 when the warm-up is done (or, without waiting, begun).
    pub(crate) fn run(&self) -> ExitCode {
        let begun = self.target.call(Method::POST, PATH, Some(&self.body()));
        let ended = begun.and_then(|job| if self.no_wait { Ok(job) } else { self.follow(job) });
        let failed = ended
            .as_ref()
            .is_ok_and(|job| ["failed", "cancelled"].contains(&cell(job, "state").as_str()));
        let shown = show(&self.target, ended, told);
        match failed {
            true => fail(FAILURE, "the warm-up did not succeed"),
            false => shown,
        }
    }

    fn body(&self) -> Value {
        let mut body = serde_json::Map::new();
        if let Some(name) = &self.name {
            body.insert("name".to_owned(), json!(name));
        }
        if let Some(number) = self.top {
            body.insert("top_keys".to_owned(), json!(number));
        }
        if !self.url.is_empty() {
            let absolute = |url: &String| match url.contains("://") {
                true => url.clone(),
                false => format!("http://{url}"),
            };
            let urls: Vec<String> = self.url.iter().map(absolute).collect();
            body.insert("urls".to_owned(), json!(urls));
        }
        if let Some(parallel) = self.parallel {
            body.insert("parallel".to_owned(), json!(parallel));
        }
        Value::Object(body)
    }

    /// Waits for the end; a terminal is told how far it is.
    fn follow(&self, mut job: Value) -> Result<Value, String> {
        let path = format!("{PATH}/{}", cell(&job, "id"));
        let mut progress = std::io::stderr().lock();
        let told = progress.is_terminal();
        while ["queued", "running"].contains(&cell(&job, "state").as_str()) {
            std::thread::sleep(LOOK);
            job = self.target.call(Method::GET, &path, None)?;
            if told {
                let (done, total, state) = (cell(&job, "done"), cell(&job, "total"), cell(&job, "state"));
                // Whether a terminal takes it does not matter.
                drop(write!(progress, "\r{done} of {total}, {state}\x1b[K"));
                drop(progress.flush());
            }
        }
        if told {
            drop(writeln!(progress));
        }
        Ok(job)
    }
}

fn told(job: &Value) -> String {
    let mut text = format!(
        "warm-up {} {}: {} of {}; {} fetched, {} fresh, {} skipped, {} failed\n",
        cell(job, "id"),
        cell(job, "state"),
        cell(job, "done"),
        cell(job, "total"),
        cell(job, "fetched"),
        cell(job, "fresh"),
        cell(job, "skipped"),
        cell(job, "failed"),
    );
    for (reason, count) in job
        .get("reasons")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        text += &format!("  {reason}: {count}\n");
    }
    text
}

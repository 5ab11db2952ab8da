//! The lines a process writes, as they come.

use std::sync::Arc;

use outrigger::tasks::Tasks;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use super::wait::within;

/// Everything read from one pipe so far. Clones share the lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs(Arc<watch::Sender<Vec<String>>>);

impl Logs {
    /// Collects the lines of `pipe` until it ends.
    pub(crate) fn collect<P>(pipe: P, tasks: &Tasks) -> Self
    where
        P: AsyncRead + Send + Unpin + 'static,
    {
        let logs = Self::default();
        let written = logs.clone();
        tasks.spawn("log reader", async move {
            let mut lines = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                written.0.send_modify(|all| all.push(line));
            }
        });
        logs
    }

    /// How many lines there are: a position to look from later.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// All lines, one string.
    pub(crate) fn text(&self) -> String {
        self.0.borrow().join("\n")
    }

    /// The first JSON line from position `from` on that `wanted` accepts, if it has come yet.
    pub(crate) fn find(&self, from: usize, wanted: impl Fn(&Line) -> bool) -> Option<Line> {
        find(&self.0.borrow(), from, &wanted)
    }

    /// Waits for the first JSON line from position `from` on that `wanted` accepts.
    pub(crate) async fn wait_for(&self, what: &str, from: usize, wanted: impl Fn(&Line) -> bool) -> Line {
        let mut lines = self.0.subscribe();
        let found = lines.wait_for(|lines| find(lines, from, &wanted).is_some());
        let lines = within(what, found).await.expect("the log is kept");
        find(&lines, from, &wanted).expect("the line that was found")
    }
}

fn find(lines: &[String], from: usize, wanted: &impl Fn(&Line) -> bool) -> Option<Line> {
    let parsed = lines
        .iter()
        .skip(from)
        .filter_map(|line| serde_json::from_str(line).ok().map(Line));
    parsed.into_iter().find(wanted)
}

/// One line of JSON.
#[derive(Clone, Debug)]
pub(crate) struct Line(Value);

impl Line {
    /// A field's text, whether fields lie at the top or under `fields`; empty if it is absent.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.value(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field's number.
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.value(field).and_then(Value::as_u64)
    }

    /// Whether a field is there and true.
    pub(crate) fn is(&self, field: &str) -> bool {
        self.value(field).and_then(Value::as_bool).unwrap_or(false)
    }

    fn value(&self, field: &str) -> Option<&Value> {
        self.0.get(field).or_else(|| self.0.get("fields")?.get(field))
    }
}

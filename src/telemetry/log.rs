//! The log of the process, on standard error: pretty on a terminal, JSON otherwise, with a level that can be changed
//! while it runs.

use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::Arc;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    pub fn for_standard_error() -> Self {
        if io::stderr().is_terminal() {
            Self::Pretty
        } else {
            Self::Json
        }
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(name: &str) -> Result<Self, LogError> {
        match name {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(name.to_owned())),
        }
    }
}

/// Why the log cannot be set as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LogError {
    /// Neither a level nor a list of `target=level`.
    #[error(
        "`{0}` is not a log level: use error, warn, info, debug, trace, off, or target=level pairs with commas"
    )]
    Level(String),
    /// Not a format.
    #[error("`{0}` is not a log format: use pretty or json")]
    Format(String),
    /// The process already has a log.
    #[error("the log of the process has been set up before")]
    SetUpTwice,
}

/// Changes the level of the log.
#[derive(Clone)]
pub struct LogHandle(Arc<dyn Fn(EnvFilter) -> bool + Send + Sync>);

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogHandle")
    }
}

impl LogHandle {
    /// Sets the level: one for everything (`debug`) or by target (`info,outrigger::upstream=debug`).
    ///
    /// # Errors
    /// When `level` is neither; the old level stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = parse_level(level)?;
        if (self.0)(filter) {
            Ok(())
        } else {
            Err(LogError::Level(level.to_owned()))
        }
    }
}

/// Makes the log of the process. To be called once, by `main`.
///
/// # Errors
/// When `level` is not a level, or the process has a log already.
pub fn init(format: LogFormat, level: &str) -> Result<LogHandle, LogError> {
    let (subscriber, handle) = build(format, level, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::SetUpTwice)?;
    Ok(handle)
}

fn build<W>(
    format: LogFormat,
    level: &str,
    output: W,
) -> Result<(impl Subscriber + Send + Sync, LogHandle), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, reload) = reload::Layer::new(parse_level(level)?);
    let subscriber = Registry::default().with(filter).with(lines(format, output));
    let handle = LogHandle(Arc::new(move |filter| reload.reload(filter).is_ok()));
    Ok((subscriber, handle))
}

fn lines<S, W>(format: LogFormat, output: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(output);
    match format {
        LogFormat::Pretty => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// The store of disk levels tells of each failed write and each start at length; what matters of it our own lines say.
/// A level for it that is asked for comes later in the list, and counts.
const QUIET: &str = "foyer=off";

/// A bare word has to be a level: the filter's own syntax would take a misspelt level for the name of a target.
fn parse_level(level: &str) -> Result<EnvFilter, LogError> {
    let refused = || LogError::Level(level.to_owned());
    let known = level
        .split(',')
        .map(|directive| directive.trim().rsplit('=').next().unwrap_or_default())
        .all(|level| !level.is_empty() && LevelFilter::from_str(level).is_ok());
    if !known {
        return Err(refused());
    }
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Captured;
    use super::*;

    #[test]
    fn levels_and_formats_are_read_strictly() {
        for good in ["info", "off", "DEBUG", "info,outrigger::cache=trace"] {
            assert!(parse_level(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "info,", "outrigger=loud", "inof"] {
            assert_eq!(
                parse_level(bad).err(),
                Some(LogError::Level(bad.to_owned())),
                "{bad}"
            );
        }
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!("xml".parse::<LogFormat>().is_err());
    }

    #[test]
    fn the_store_of_disk_levels_is_heard_only_when_asked_for() {
        let captured = Captured::default();
        let output = captured.clone();
        let (subscriber, handle) = build(LogFormat::Json, "debug", move || output.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "foyer_storage::store", "unheard");
            handle.set_level("info,foyer=error").unwrap();
            tracing::error!(target: "foyer_storage::store", "heard");
        });
        assert!(captured.text().contains(r#""message":"heard""#) && !captured.text().contains("unheard"));
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let captured = Captured::default();
        let output = captured.clone();
        let (subscriber, handle) = build(LogFormat::Json, "info", move || output.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("before");
            handle.set_level("debug").unwrap();
            tracing::debug!(answer = 42, "after");
            assert!(handle.set_level("loud").is_err());
            tracing::debug!("still");
        });
        let text = captured.text();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["message"], "after");
        assert_eq!(lines[0]["answer"], 42);
        assert_eq!(lines[0]["level"], "DEBUG");
    }
}

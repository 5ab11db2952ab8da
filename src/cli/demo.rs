//! `demo`.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{FAILURE, fail};
use crate::app::{self, Running};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::demo;
use crate::telemetry::log::{self, LogFormat, LogHandle};

/// Runs a sample AI hub, the sidecar before it, and traffic through both.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Ends after so many seconds with a summary; runs until Ctrl-C when absent.
    #[arg(long, env = "OUTRIGGER_DEMO_SECONDS", value_name = "N")]
    seconds: Option<u64>,
    /// Where clients connect; port 0 takes a free one.
    #[arg(
        long,
        env = "OUTRIGGER_LISTEN",
        default_value = "127.0.0.1:0",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Where the admin API listens; port 0 takes a free one.
    #[arg(
        long,
        env = "OUTRIGGER_ADMIN_LISTEN",
        default_value = "127.0.0.1:0",
        value_name = "ADDRESS"
    )]
    admin: SocketAddr,
}

impl Demo {
    /// Runs until the time is over or a signal comes.
    pub(crate) fn run(self, level: &str, format: Option<LogFormat>) -> ExitCode {
        // The view is what the demo is about; the log stays out of it unless asked for.
        let level = if level == "info" { "warn" } else { level };
        let log = match log::init(format.unwrap_or_else(LogFormat::for_standard_error), level) {
            Ok(log) => log,
            Err(error) => return fail(2, &format!("--log-level: {error}")),
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(FAILURE, &format!("cannot start: {error}")),
        };
        runtime.block_on(self.show(log))
    }

    async fn show(self, log: LogHandle) -> ExitCode {
        let drain = CancellationToken::new();
        let mut running = None;
        let options = demo::Options {
            listen: self.listen,
            admin: self.admin,
            duration: self.seconds.map(Duration::from_secs),
            terminal: std::io::stdout().is_terminal(),
        };
        let start = async |yaml: String| {
            let sidecar = start(&yaml, log, drain.clone()).await?;
            let listen = sidecar.listeners.values().next().copied().unwrap_or(self.listen);
            let admin = sidecar.admin;
            running = Some(sidecar);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((listen, admin))
        };
        let shown = demo::run(options, Clock::system(), Box::new(std::io::stdout()), start).await;
        if let Some(running) = running {
            drain.cancel();
            running.until_drained().await;
        }
        match shown {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(FAILURE, &error.to_string()),
        }
    }
}

async fn start(
    yaml: &str,
    log: LogHandle,
    drain: CancellationToken,
) -> Result<Running, Box<dyn std::error::Error + Send + Sync>> {
    let environment = Environment::system();
    let loaded =
        config::parse("demo", yaml, ".".as_ref(), &environment).map_err(|problems| problems.to_string())?;
    let options = app::Options {
        file: None,
        environment,
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(2),
    };
    let running = Running::start(loaded, options, log, drain)?;
    running.started().await;
    Ok(running)
}

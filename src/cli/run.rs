//! `run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{BAD_CONFIGURATION, FAILURE, fail};
use crate::app::{self, Options};
use crate::config::scalar::Scalar;
use crate::config::{self, Environment, Loaded, Problems};
use crate::telemetry::log::{self, LogFormat};

/// Runs the sidecar.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The YAML file.
    #[arg(
        short,
        long,
        env = "OUTRIGGER_CONFIG",
        value_name = "FILE",
        required_unless_present = "upstream"
    )]
    config: Option<PathBuf>,
    /// Without a file: the URL of the one upstream. GET and HEAD are cached as the origin's headers say.
    #[arg(
        long,
        env = "OUTRIGGER_UPSTREAM",
        value_name = "URL",
        conflicts_with = "config"
    )]
    upstream: Option<String>,
    /// Without a file: where clients connect.
    #[arg(
        long,
        env = "OUTRIGGER_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Without a file: where the admin API listens.
    #[arg(
        long,
        env = "OUTRIGGER_ADMIN_LISTEN",
        default_value = "127.0.0.1:9901",
        value_name = "ADDRESS"
    )]
    admin: SocketAddr,
    /// How long connections are still accepted after SIGTERM, so that load balancers notice.
    #[arg(long, env = "OUTRIGGER_DRAIN_DELAY", default_value = "2s", value_name = "DURATION", value_parser = duration)]
    drain_delay: Duration,
    /// How long requests under way may take to finish after that.
    #[arg(long, env = "OUTRIGGER_DRAIN_TIMEOUT", default_value = "25s", value_name = "DURATION", value_parser = duration)]
    drain_timeout: Duration,
}

impl Run {
    /// Runs until a signal ends it.
    pub(crate) fn run(self, level: &str, format: Option<LogFormat>) -> ExitCode {
        let environment = Environment::system();
        let loaded = match self.load(&environment) {
            Ok(loaded) => loaded,
            Err(problems) => return fail(BAD_CONFIGURATION, &problems.to_string()),
        };
        let log = match log::init(format.unwrap_or_else(LogFormat::for_standard_error), level) {
            Ok(log) => log,
            Err(error) => return fail(2, &format!("--log-level: {error}")),
        };
        let options = Options {
            file: self.config,
            environment,
            drain_delay: self.drain_delay,
            drain_timeout: self.drain_timeout,
        };
        match app::run(loaded, options, log) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILURE, &error.to_string()),
        }
    }

    fn load(&self, environment: &Environment) -> Result<Loaded, Problems> {
        match (&self.config, &self.upstream) {
            (Some(file), _) => config::load(file, environment),
            (None, Some(upstream)) => config::quick(upstream, self.listen, self.admin, environment),
            // clap asks for one of the two.
            (None, None) => config::load(&PathBuf::from("config.yaml"), environment),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).map_err(|refusal| refusal.message)
}

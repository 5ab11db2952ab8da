//! The command line: one file per subcommand.

mod audit;
mod client;
mod config;
mod demo;
mod explain;
mod purge;
mod run;
mod upstreams;
mod warm;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::telemetry::log::LogFormat;

/// Exit code of a runtime failure.
pub(crate) const FAILURE: u8 = 1;
/// Exit code of a bad configuration (`EX_CONFIG` of sysexits.h).
pub(crate) const BAD_CONFIGURATION: u8 = 78;

/// A caching, balancing and monitoring sidecar for AI platforms.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version = crate::version(), disable_help_subcommand = true)]
pub struct Cli {
    /// Level of the log: error, warn, info, debug, trace, or directives as in `outrigger=debug,h2=warn`.
    #[arg(
        long,
        global = true,
        env = "OUTRIGGER_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    log_level: String,

    /// Format of the log; pretty on a terminal and JSON otherwise when absent.
    #[arg(
        long,
        global = true,
        env = "OUTRIGGER_LOG_FORMAT",
        value_enum,
        value_name = "FORMAT"
    )]
    log_format: Option<LogFormat>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the sidecar.
    Run(run::Run),
    /// Runs a sample AI hub, the sidecar before it, and traffic through both.
    Demo(demo::Demo),
    /// Checks a configuration file and prints every problem.
    Validate(config::File),
    /// Prints the JSON Schema of the configuration.
    Schema,
    /// Works with configurations.
    #[command(subcommand)]
    Config(config::Config),
    /// Works with the cache of a running sidecar.
    #[command(subcommand)]
    Cache(purge::Cache),
    /// Shows the upstreams of a running sidecar, or takes an endpoint out or in.
    Upstreams(upstreams::Upstreams),
    /// Shows who changed what, and checks the log of it.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Exits with 0 when a running sidecar is ready, for a container's HEALTHCHECK.
    Healthcheck(client::Target),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        #[arg(env = "OUTRIGGER_SHELL")]
        shell: clap_complete::Shell,
    },
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, too; they go to standard output and exit with 0.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Run(command) => command.run(&cli.log_level, cli.log_format),
        Command::Demo(command) => command.run(&cli.log_level, cli.log_format),
        Command::Validate(command) => command.validate(),
        Command::Schema => config::schema(),
        Command::Config(command) => command.run(),
        Command::Cache(command) => command.run(),
        Command::Upstreams(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Healthcheck(target) => client::healthcheck(&target),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "outrigger", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints to standard output; a closed pipe is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

/// Prints a failure to standard error.
#[expect(clippy::print_stderr, reason = "the failure of a command")]
pub(crate) fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("{}", text.trim_end());
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_twin() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                if argument.is_positional() || matches!(id, "help" | "version") {
                    continue;
                }
                let twin = argument
                    .get_env()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                assert!(
                    twin.starts_with("OUTRIGGER_"),
                    "--{id} of `{}` has no twin",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&command);
    }
}

//! `validate`, `schema` and `config show`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::{BAD_CONFIGURATION, FAILURE, fail, print};
use crate::config::{self, Environment};

/// A configuration file.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The YAML file.
    #[arg(short, long, env = "OUTRIGGER_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

impl File {
    /// Prints every problem of the file.
    pub(crate) fn validate(&self) -> ExitCode {
        match config::load(&self.config, &Environment::system()) {
            Ok(loaded) => print(&format!(
                "{} is valid (hash {})\n",
                self.config.display(),
                loaded.config.hash
            )),
            Err(problems) => fail(BAD_CONFIGURATION, &problems.to_string()),
        }
    }
}

/// Works with configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Prints the effective configuration: defaults filled in, secrets redacted.
    Show(Show),
    /// Prints the configuration reference as Markdown.
    Reference,
}

/// `config show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    file: File,
    /// Format of the output.
    #[arg(short, long, env = "OUTRIGGER_OUTPUT", value_enum, default_value_t = Format::Yaml)]
    output: Format,
}

/// How a configuration is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl Config {
    /// Runs the subcommand.
    pub(crate) fn run(&self) -> ExitCode {
        match self {
            Self::Show(show) => show.run(),
            Self::Reference => print(&config::reference()),
        }
    }
}

impl Show {
    fn run(&self) -> ExitCode {
        let loaded = match config::load(&self.file.config, &Environment::system()) {
            Ok(loaded) => loaded,
            Err(problems) => return fail(BAD_CONFIGURATION, &problems.to_string()),
        };
        let effective = config::effective(&loaded.config);
        let text = match self.output {
            Format::Yaml => config::to_yaml(&effective),
            Format::Json => serde_json::to_string_pretty(&effective)
                .map(|text| text + "\n")
                .map_err(|error| error.to_string()),
        };
        match text {
            Ok(text) => print(&text),
            Err(error) => fail(FAILURE, &error),
        }
    }
}

/// `schema`.
pub(crate) fn schema() -> ExitCode {
    match serde_json::to_string_pretty(&config::schema()) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => fail(FAILURE, &error.to_string()),
    }
}

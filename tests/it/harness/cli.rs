//! Running a command of the binary to its end.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::wait::within;

/// How a command ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// The binary with nothing of this machine's settings.
pub(super) fn command() -> Command {
    plain(Command::new(env!("CARGO_BIN_EXE_outrigger")))
}

/// The same, with at most so many file descriptors.
pub(super) fn command_with_descriptors(limit: u32) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_outrigger")]);
    plain(shell)
}

fn plain(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OUTRIGGER_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs `outrigger` with `arguments` in `directory`.
pub(crate) async fn outrigger(directory: &Path, arguments: &[&str]) -> Ended {
    let output = command().current_dir(directory).args(arguments).output();
    let output = within("the command to end", output)
        .await
        .expect("the binary starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("readable output"),
        stderr: String::from_utf8(output.stderr).expect("readable errors"),
    }
}

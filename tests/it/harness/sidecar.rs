//! The real binary, started with a configuration of the test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outrigger::tasks::Tasks;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::call::{Answer, Call};
use super::config::ConfigText;
use super::connection::{fetch, try_fetch};
use super::logs::Logs;
use super::wait::{eventually, within};
use super::{cli, metrics};

/// The tokens that every test configuration knows, by the role they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Viewer,
    Operator,
    Admin,
}

impl Token {
    const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// What its bearer presents.
    pub(crate) fn secret(self) -> String {
        format!("the-{}-token-of-the-tests", self.name())
    }
}

/// A running sidecar; it is killed with the value.
pub(crate) struct Sidecar {
    child: Child,
    directory: TempDir,
    logs: Logs,
    access: Logs,
    tasks: Tasks,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    /// Whether the new configuration was taken over.
    pub(crate) applied: bool,
    /// The generation in force afterwards.
    pub(crate) generation: u64,
}

impl Sidecar {
    /// Starts the binary and waits until it is ready.
    pub(crate) async fn start(config: &ConfigText) -> Self {
        Self::start_text(&config.text()).await
    }

    /// The same with at most so many file descriptors.
    pub(crate) async fn start_with_descriptors(config: &ConfigText, limit: u32) -> Self {
        let (directory, file) = prepare(&config.text());
        Self::run(cli::command_with_descriptors(limit), directory, &file).await
    }

    /// The same with these files beside the configuration.
    pub(crate) async fn start_with_files(config: &ConfigText, files: &[(&str, &str)]) -> Self {
        let (directory, config) = prepare(&config.text());
        for (name, content) in files {
            fs::write(directory.path().join(name), content).expect("a writable directory");
        }
        Self::start_in(directory, &config).await
    }

    /// The same with a YAML text; `@DIR@` stands for the directory of the file.
    pub(crate) async fn start_text(yaml: &str) -> Self {
        let (directory, config) = prepare(yaml);
        Self::start_in(directory, &config).await
    }

    /// The same with a file that lies in `directory` already.
    pub(crate) async fn start_in(directory: TempDir, config: &Path) -> Self {
        Self::run(cli::command(), directory, config).await
    }

    /// Ends it by `signal`, and starts the binary again in the same directory.
    pub(crate) async fn restart(mut self, signal: Signal) -> Self {
        self.signal(signal);
        self.wait_exit().await;
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().expect("a directory"));
        let config = directory.path().join("outrigger.yaml");
        Self::start_in(directory, &config).await
    }

    async fn run(mut command: Command, directory: TempDir, config: &Path) -> Self {
        for token in Token::ALL {
            let hash = hex::encode(digest(&SHA256, token.secret().as_bytes()));
            let file = directory.path().join(format!("{}.sha256", token.name()));
            fs::write(file, hash).expect("a writable directory");
        }
        command.args(["run", "--log-format", "json", "-c"]).arg(config);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let tasks = Tasks::new();
        let logs = Logs::collect(child.stderr.take().expect("a pipe"), &tasks);
        let access = Logs::collect(child.stdout.take().expect("a pipe"), &tasks);
        let mut sidecar = Self {
            child,
            directory,
            logs,
            access,
            tasks,
        };
        sidecar.ready().await;
        sidecar
    }

    async fn ready(&mut self) {
        for _ in 0..10_000 {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                panic!("outrigger ended at once ({status}):\n{}", self.logs.text());
            }
            if let Some(admin) = self.listening("admin") {
                let answer = try_fetch(admin, Call::get("/readyz")).await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    return;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
        panic!("outrigger does not become ready:\n{}", self.logs.text());
    }

    /// Where the listener `http` listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listening("http").expect("a ready sidecar listens")
    }

    /// Where the admin listener listens.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.listening("admin").expect("a ready sidecar listens")
    }

    fn listening(&self, name: &str) -> Option<SocketAddr> {
        let line = self.logs.find(0, |line| {
            line.text("message") == "listening" && line.text("listener") == name
        })?;
        Some(line.text("address").parse().expect("a bound address"))
    }

    /// Sends a request through the sidecar over a connection of its own.
    pub(crate) async fn fetch(&self, call: Call) -> Answer {
        fetch(self.address(), call).await
    }

    /// `GET target` through the sidecar.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.fetch(Call::get(target)).await
    }

    /// Sends a request to the admin listener.
    pub(crate) async fn admin(&self, call: Call) -> Answer {
        fetch(self.admin_address(), call).await
    }

    /// Purges as an operator; the answer must be good.
    pub(crate) async fn purge(&self, what: &Value) -> Value {
        let call = Call::json("/api/v1/performance/cache/purge", what.to_string());
        let answer = self.admin(call.bearer(&Token::Operator.secret())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The sum of the samples of a metric that have all these labels; zero if there are none.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let answer = self.admin(Call::get("/metrics")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        metrics::sum(answer.text(), name, labels).unwrap_or_default()
    }

    /// Waits until it follows the purge log of its replicas: the first that joins takes what it has for stale, once.
    pub(crate) async fn joined(&self) {
        eventually("the purge log to be joined", async || {
            let up = self.metric("outrigger_purge_replication_up", &[]).await;
            (up > 0.5).then_some(())
        })
        .await;
    }

    /// Waits until exactly `count` requests are being answered.
    pub(crate) async fn active(&self, count: u32) {
        eventually(&format!("{count} active requests"), async || {
            let active = self.metric("outrigger_http_server_active_requests", &[]).await;
            ((active - f64::from(count)).abs() < 0.5).then_some(())
        })
        .await;
    }

    /// What it writes to standard error.
    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// What it writes to standard output: the access log.
    pub(crate) fn access_log(&self) -> &Logs {
        &self.access
    }

    /// The directory of its configuration and state.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the configuration file as an editor does, by a rename.
    pub(crate) fn write_config(&self, yaml: &str) {
        self.write_file("outrigger.yaml", &in_directory(yaml, self.directory()));
    }

    /// Replaces a file beside the configuration in the same way.
    pub(crate) fn write_file(&self, name: &str, content: &str) {
        let new = self.directory().join(format!("{name}.new"));
        fs::write(&new, content).expect("a writable directory");
        fs::rename(&new, self.directory().join(name)).expect("the same file system");
    }

    /// Replaces the configuration file and waits for what becomes of it.
    pub(crate) async fn reload(&self, yaml: &str) -> Reload {
        let from = self.logs.len();
        self.write_config(yaml);
        self.reloaded(from).await
    }

    /// Waits for the first reload that is told from line `from` of the log on.
    pub(crate) async fn reloaded(&self, from: usize) -> Reload {
        let told = ["configuration reloaded", "configuration rejected"];
        let line = self
            .logs
            .wait_for("a reload", from, |line| told.contains(&line.text("message")))
            .await;
        Reload {
            applied: line.text("message") == told[0],
            generation: line.number("generation").expect("a generation"),
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("a process of ours");
    }

    /// The most memory that was ever resident, bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.expect("Linux tells").trim().trim_end_matches(" kB");
        peak.parse::<u64>().expect("a number") << 10
    }

    fn pid(&self) -> i32 {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        id.expect("a running process")
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        within("the process to end", self.child.wait())
            .await
            .expect("a child of ours")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let stderr = std::io::Write::write_all(&mut std::io::stderr(), self.logs.text().as_bytes());
            drop(stderr);
        }
        self.tasks.cancel();
    }
}

/// A directory with a configuration file and a place for the state.
fn prepare(yaml: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("outrigger.yaml");
    fs::create_dir(directory.path().join("state")).expect("a writable directory");
    fs::write(&config, in_directory(yaml, directory.path())).expect("a writable directory");
    (directory, config)
}

fn in_directory(yaml: &str, directory: &Path) -> String {
    yaml.replace("@DIR@", directory.to_str().expect("a readable path"))
}

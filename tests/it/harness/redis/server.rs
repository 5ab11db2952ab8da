//! One `redis-server` process.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::super::wait::{eventually, within};

/// Attempts to find ports that nobody else takes in between.
const ATTEMPTS: usize = 20;

/// A running server; it is killed with the value.
pub(crate) struct RedisServer {
    child: Child,
    directory: TempDir,
    port: u16,
    kind: Kind,
    tls: bool,
}

/// What the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Sentinel,
}

impl RedisServer {
    /// A server without persistence.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more lines of `redis.conf`; `@DIR@` stands for the server's directory.
    pub(crate) async fn start_with(lines: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, lines, Kind::Server).await
    }

    /// The same in a directory that holds files already. With a line `tls-port 0`, TLS is spoken on the port.
    pub(crate) async fn start_with_files(directory: TempDir, lines: &str) -> Self {
        Self::start_in(directory, lines, Kind::Server).await
    }

    pub(super) async fn start_sentinel(lines: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, lines, Kind::Sentinel).await
    }

    async fn start_in(directory: TempDir, lines: &str, kind: Kind) -> Self {
        let tls = lines.contains("tls-port");
        for _ in 0..ATTEMPTS {
            let (port, bus) = free_ports();
            write_config(directory.path(), lines, kind, port, bus);
            let mut child = spawn(directory.path(), kind);
            if is_listening(&mut child, port).await {
                return Self {
                    child,
                    directory,
                    port,
                    kind,
                    tls,
                };
            }
        }
        panic!("redis-server does not start:\n{}", log(directory.path()));
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A connection as the user `default`.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        assert!(!self.tls, "the helper speaks no TLS");
        let client = redis::Client::open(format!("redis://{}", self.address())).expect("a URL");
        within("a connection to redis-server", async {
            loop {
                // No deadline: some things that tests ask of a server take long.
                let config = AsyncConnectionConfig::new().set_response_timeout(None);
                match client.get_multiplexed_async_connection_with_config(&config).await {
                    Ok(connection) => return connection,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }

    /// Sends a command as the user `default`; the words are parted by spaces.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &str) -> T {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        self.send(&words).await
    }

    /// The keys of a level's values: all but those of the purge log and of leases.
    pub(crate) async fn values(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.command("KEYS *").await;
        keys.retain(|key| !key.contains(":{purge}:") && !key.contains(":lease:"));
        keys
    }

    /// Sends a command as the user `default`.
    pub(crate) async fn send<T: FromRedisValue>(&self, words: &[&[u8]]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let mut connection = self.connection().await;
        match command.query_async(&mut connection).await {
            Ok(value) => value,
            Err(error) => panic!("{}: {error}", String::from_utf8_lossy(words[0])),
        }
    }

    /// A field of `INFO`.
    pub(crate) async fn info(&self, field: &str) -> String {
        let info: String = self.command("INFO all").await;
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }

    /// Waits until a field of `INFO` has this value.
    pub(crate) async fn until(&self, field: &str, value: &str) {
        eventually(&format!("{field}:{value}"), async || {
            (self.info(field).await == value).then_some(())
        })
        .await;
    }

    /// Stops the process where it stands, as a debugger or a paging machine does.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it and waits for its end.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        within("redis-server to end", self.child.wait())
            .await
            .expect("a child of ours");
    }

    /// Starts it again on the same port.
    pub(crate) async fn restart(&mut self) {
        for _ in 0..ATTEMPTS {
            let mut child = spawn(self.directory.path(), self.kind);
            if is_listening(&mut child, self.port).await {
                self.child = child;
                return;
            }
        }
        panic!(
            "redis-server does not start again:\n{}",
            log(self.directory.path())
        );
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .expect("a running process");
        kill(Pid::from_raw(pid), signal).expect("a process of ours");
    }
}

/// Two ports that are free at this moment.
fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (one, other) = (bind(), bind());
    let port = |listener: &TcpListener| listener.local_addr().expect("a bound address").port();
    (port(&one), port(&other))
}

fn write_config(directory: &Path, lines: &str, kind: Kind, port: u16, bus: u16) {
    let path = directory.to_str().expect("a readable path");
    let mut text = format!("bind 127.0.0.1\ndir {path}\nlogfile {path}/log\nprotected-mode no\n");
    if lines.contains("tls-port") {
        text.push_str(&format!("port 0\ntls-port {port}\n"));
    } else {
        text.push_str(&format!("port {port}\n"));
    }
    if kind == Kind::Server {
        text.push_str("save \"\"\nappendonly no\nenable-debug-command yes\nrepl-diskless-sync-delay 0\n");
    }
    if lines.contains("cluster-enabled") {
        text.push_str(&format!("cluster-port {bus}\n"));
    }
    for line in lines.lines().filter(|line| !line.trim().starts_with("tls-port")) {
        text.push_str(&line.trim().replace("@DIR@", path));
        text.push('\n');
    }
    fs::write(directory.join("redis.conf"), text).expect("a writable directory");
}

fn spawn(directory: &Path, kind: Kind) -> Child {
    let mut command = Command::new("redis-server");
    command.arg(directory.join("redis.conf"));
    if kind == Kind::Sentinel {
        command.arg("--sentinel");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("redis-server: {error}; `tests/run` installs it"),
    }
}

/// Waits until the process accepts connections on `port`; false when it ends before, because the port was taken.
async fn is_listening(child: &mut Child, port: u16) -> bool {
    eventually("redis-server to listen", async || {
        if child.try_wait().expect("a child of ours").is_some() {
            return Some(false);
        }
        let open = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        open.ok().map(|_| true)
    })
    .await
}

fn log(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}

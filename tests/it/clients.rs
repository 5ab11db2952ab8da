//! Clients that people really use, in front of applications that people really run: `tests/clients/`.
//!
//! They need a Python environment, which `tests/run` makes; it names the environment in `OUTRIGGER_VENV`. Where there
//! is none, these tests say so and end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use outrigger::tasks::Tasks;
use regex::Regex;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{ConfigText, Logs, Sidecar, Token, eventually, within};

/// The interpreter of the environment, if there is one.
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests by hand should learn what did not run"
)]
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("OUTRIGGER_VENV").map(|venv| Path::new(&venv).join("bin/python"));
    if python.is_none() {
        eprintln!("skipped: OUTRIGGER_VENV names no Python environment; `tests/run clients` makes one");
    }
    python
}

fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/clients")
            .join(name),
    );
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A server of `tests/clients/`; it ends with the value.
struct Server {
    port: u16,
    _child: Child,
}

impl Server {
    /// Starts it on a free port, which it tells by the line `ready PORT`.
    async fn start(python: &Path, name: &str) -> Self {
        let mut child = script(python, name)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = within("the server", lines.next_line())
                .await
                .unwrap()
                .expect("the server says where it listens");
            if let Some(port) = line.strip_prefix("ready ") {
                break port.parse().unwrap();
            }
        };
        Self { port, _child: child }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Runs `drive.py` and shows what it says if a check fails.
async fn drive(python: &Path, arguments: &[&str]) {
    let mut command = script(python, "drive.py");
    let mut child = command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let tasks = Tasks::new();
    let said = Logs::collect(child.stdout.take().unwrap(), &tasks);
    let errors = Logs::collect(child.stderr.take().unwrap(), &tasks);
    let status = within("the client", child.wait()).await.unwrap();
    assert!(status.success(), "{}\n{}", said.text(), errors.text());
}

/// An example that users start from, with this test's addresses and tokens in it.
fn example(name: &str, application: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config/examples")
        .join(name);
    let example = fs::read_to_string(file).unwrap();
    let variable = Regex::new(r"\$\{\w+:-([^}]*)\}").unwrap();
    let example = variable.replace_all(&example, "$1").into_owned();
    let ours = ConfigText::new("127.0.0.1:9".parse().unwrap()).text();
    let admin = Regex::new(r"(?m)^admin:\n(?:[ \t]+.*\n|\n|#.*\n)*").unwrap();
    let admin_of_the_test = admin.find(&ours).unwrap().as_str();
    let example = if admin.is_match(&example) {
        admin.replace(&example, admin_of_the_test).into_owned()
    } else {
        format!("{example}\n{admin_of_the_test}")
    };
    let bind = Regex::new(r#"bind: *"?[^\s,}"]+"?"#).unwrap();
    let example = bind.replace_all(&example, "bind: \"127.0.0.1:0\"");
    assert!(
        example.contains("127.0.0.1:8000"),
        "the example's application listens where uvicorn does"
    );
    example.replace("127.0.0.1:8000", application)
}

async fn fastapi(python: &Path) -> (Server, Sidecar, String) {
    application(python, "fastapi.yaml").await
}

/// The application behind this example.
async fn application(python: &Path, name: &str) -> (Server, Sidecar, String) {
    let server = Server::start(python, "app.py").await;
    let sidecar = Sidecar::start_text(&example(name, &server.address())).await;
    let base_url = format!("http://{}", sidecar.address());
    (server, sidecar, base_url)
}

#[tokio::test]
async fn httpx() {
    let Some(python) = python() else { return };
    let (_server, sidecar, base_url) = fastapi(&python).await;
    let admin = format!("http://{}", sidecar.admin_address());
    let token = Token::Operator.secret();
    drive(
        &python,
        &[
            "httpx",
            "--base-url",
            &base_url,
            "--admin",
            &admin,
            "--token",
            &token,
        ],
    )
    .await;
}

#[tokio::test]
async fn the_openai_sdk() {
    let Some(python) = python() else { return };
    let (_server, _sidecar, base_url) = fastapi(&python).await;
    drive(&python, &["openai", "--base-url", &base_url]).await;
}

#[tokio::test]
async fn the_openai_sdk_streaming() {
    let Some(python) = python() else { return };
    let (_server, _sidecar, base_url) = fastapi(&python).await;
    drive(&python, &["openai_stream", "--base-url", &base_url]).await;
}

#[tokio::test]
async fn the_openai_sdk_cannot_tell_a_replay() {
    let Some(python) = python() else { return };
    // At once, and at the recorded pace.
    for name in ["fastapi.yaml", "openai.yaml"] {
        let (_server, sidecar, base_url) = application(&python, name).await;
        drive(&python, &["openai_replay", "--base-url", &base_url]).await;
        let tokens = async |source| {
            let labels = [("route", "chat"), ("source", source)];
            let count = sidecar.metric("outrigger_tokens_total", &labels).await;
            (count > 0.5).then_some(count)
        };
        let spent = eventually("what was spent", async || tokens("upstream").await).await;
        let saved = eventually("what was saved", async || tokens("cache").await).await;
        assert!(
            (spent - saved).abs() < 0.5,
            "{name}: {spent} spent, {saved} saved"
        );
    }
}

#[tokio::test]
async fn websockets() {
    let Some(python) = python() else { return };
    let (_server, _sidecar, base_url) = fastapi(&python).await;
    drive(&python, &["websockets", "--base-url", &base_url]).await;
}

#[tokio::test]
async fn grpcio() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, "grpc_echo.py").await;
    let config = ConfigText::new(server.address().parse().unwrap()).upstream("protocol: h2");
    let sidecar = Sidecar::start(&config).await;
    drive(&python, &["grpc", "--target", &sidecar.address().to_string()]).await;
}

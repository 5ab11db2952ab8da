//! A small client of the admin API, for the subcommands that talk to a running sidecar.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;

use super::{FAILURE, fail, print};

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Where the running sidecar is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// URL of its admin listener.
    #[arg(
        long,
        env = "OUTRIGGER_ADMIN",
        default_value = "http://127.0.0.1:9901",
        value_name = "URL"
    )]
    admin: Uri,
    /// File with the admin token.
    #[arg(long, env = "OUTRIGGER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Format of the output.
    #[arg(short, long, env = "OUTRIGGER_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// As the API gave it.
    Json,
}

impl Target {
    /// Calls the API and returns its JSON.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, String> {
        let (status, answer) = self.exchange(method, path, body)?;
        let value: serde_json::Value = serde_json::from_slice(&answer)
            .map_err(|error| format!("{} answered {status} without JSON: {error}", self.admin))?;
        if status.is_success() {
            Ok(value)
        } else {
            Err(problem(status, &value))
        }
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(StatusCode, Bytes), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let request = self.request(method, path, body)?;
        let call = async { tokio::time::timeout(CALL, self.send(request)).await };
        runtime
            .block_on(call)
            .map_err(|_| format!("{} did not answer within {CALL:?}", self.admin))?
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let authority = self
            .admin
            .authority()
            .map(|authority| authority.as_str())
            .unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", authority);
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file)
                .map_err(|error| format!("cannot read the token file {}: {error}", file.display()))?;
            request = request.header("authorization", format!("Bearer {}", token.trim()));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(bytes)).map_err(|error| error.to_string())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let unreachable = |error: &dyn std::fmt::Display| format!("cannot reach {}: {error}", self.admin);
        if self.admin.scheme_str() != Some("http") {
            return Err(format!("{} is not an http:// URL", self.admin));
        }
        let host = self.admin.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.admin.port_u16().unwrap_or(80);
        let stream = tokio::net::TcpStream::connect((host, port))
            .await
            .map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, Limited::new(response.into_body(), MAX_ANSWER)))
        };
        let answer = async {
            let (status, body) = exchange.await.map_err(|error| unreachable(&error))?;
            #[expect(clippy::disallowed_methods, reason = "bounded by Limited")]
            let body = body.collect().await.map_err(|error| unreachable(&error))?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection may end together with the answer, which then is complete.
            _ = connection => answer.await,
        }
    }
}

fn problem(status: StatusCode, value: &serde_json::Value) -> String {
    let text = |field: &str| {
        value
            .get(field)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    match (text("title"), text("detail")) {
        ("", _) => format!("refused: {status}"),
        (title, "") => format!("refused: {title} ({status})"),
        (title, detail) => format!("refused: {title}: {detail} ({status})"),
    }
}

/// `healthcheck`.
pub(crate) fn healthcheck(target: &Target) -> ExitCode {
    match target.call(Method::GET, "/readyz", None) {
        Ok(_) => print("ready\n"),
        Err(error) => fail(FAILURE, &error),
    }
}

/// Prints an answer: as JSON, or as `table` makes it.
pub(crate) fn show(
    target: &Target,
    answer: Result<serde_json::Value, String>,
    table: impl FnOnce(&serde_json::Value) -> String,
) -> ExitCode {
    match answer {
        Err(error) => fail(FAILURE, &error),
        Ok(value) if target.output == Output::Table => print(&table(&value)),
        Ok(value) => match serde_json::to_string_pretty(&value) {
            Ok(text) => print(&(text + "\n")),
            Err(error) => fail(FAILURE, &error.to_string()),
        },
    }
}

/// Lays rows out in columns.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A field of an object as text.
pub(crate) fn cell(value: &serde_json::Value, field: &str) -> String {
    match value.get(field) {
        None | Some(serde_json::Value::Null) => String::from("-"),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["longer".to_owned(), "22".to_owned()],
        ];
        assert_eq!(table(&["name", "n"], &rows), "name    n\na       1\nlonger  22\n");
    }

    #[test]
    fn a_problem_is_told_with_its_detail() {
        let value = serde_json::json!({"title": "No", "detail": "because"});
        assert_eq!(
            problem(StatusCode::FORBIDDEN, &value),
            "refused: No: because (403 Forbidden)"
        );
    }
}

//! `cache explain` and `cache entries`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::client::{Target, cell, show, table};
use super::{FAILURE, fail};

/// `cache explain`; the arguments are those of curl.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    target: Target,
    /// Method; GET when absent, or POST with a body.
    #[arg(
        short = 'X',
        long = "request",
        env = "OUTRIGGER_EXPLAIN_REQUEST",
        value_name = "METHOD"
    )]
    method: Option<String>,
    /// A header field, `name: value`; may be repeated.
    #[arg(short = 'H', long, env = "OUTRIGGER_EXPLAIN_HEADER", value_name = "FIELD")]
    header: Vec<String>,
    /// The body, or `@FILE` with it. Like curl, without a `Content-Type` it is called a form.
    #[arg(short, long, env = "OUTRIGGER_EXPLAIN_DATA", value_name = "BODY")]
    data: Option<String>,
    /// As if it came from a peer in `trusted_proxies`, whose `X-Forwarded-*` is believed.
    #[arg(long, env = "OUTRIGGER_EXPLAIN_TRUSTED")]
    trusted: bool,
    /// The URL as clients use it; `http://` when it has no scheme.
    #[arg(env = "OUTRIGGER_EXPLAIN_URL")]
    url: String,
}

/// `cache entries`.
#[derive(Debug, Args)]
pub(crate) struct Entries {
    #[command(flatten)]
    target: Target,
    /// Only those of this route.
    #[arg(long, env = "OUTRIGGER_ENTRIES_ROUTE")]
    route: Option<String>,
    /// Only those whose label fits this glob.
    #[arg(long, env = "OUTRIGGER_ENTRIES_PATTERN", value_name = "GLOB")]
    pattern: Option<String>,
    /// Most entries of the page, up to 1000.
    #[arg(
        long,
        env = "OUTRIGGER_ENTRIES_LIMIT",
        default_value_t = 100,
        value_name = "N"
    )]
    limit: u32,
    /// The page after the one that ended with this.
    #[arg(long, env = "OUTRIGGER_ENTRIES_AFTER", value_name = "CURSOR")]
    after: Option<String>,
}

impl Explain {
    /// Runs the subcommand.
    pub(crate) fn run(&self) -> ExitCode {
        let body = match self.body() {
            Ok(body) => body,
            Err(error) => return fail(FAILURE, &error),
        };
        let answer = self
            .target
            .call(Method::POST, "/api/v1/performance/cache/explain", Some(&body));
        show(&self.target, answer, explained)
    }

    /// The call's body.
    ///
    /// # Errors
    /// What is wrong with the arguments, for people.
    fn body(&self) -> Result<Value, String> {
        let data = match self.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
            None => None,
            Some((_, Some(file))) => Some(read(file.as_ref())?),
            Some((text, None)) => Some(text.to_owned()),
        };
        let mut headers: Map<String, Value> = Map::new();
        for field in &self.header {
            let (name, value) = field.split_once(':').ok_or("a header field is `name: value`")?;
            let name = name.trim().to_ascii_lowercase();
            let values = headers.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(value.trim().into());
            }
        }
        if data.is_some() {
            headers
                .entry("content-type")
                .or_insert_with(|| "application/x-www-form-urlencoded".into());
        }
        let method = match (&self.method, &data) {
            (Some(method), _) => method,
            (None, Some(_)) => "POST",
            (None, None) => "GET",
        };
        let url = if self.url.contains("://") {
            self.url.clone()
        } else {
            format!("http://{}", self.url)
        };
        Ok(json!({
            "method": method,
            "url": url,
            "headers": headers,
            "body": data,
            "trusted": self.trusted,
        }))
    }
}

impl Entries {
    /// Runs the subcommand.
    pub(crate) fn run(&self) -> ExitCode {
        let mut path = format!("/api/v1/performance/cache/entries?limit={}", self.limit);
        let parameters = [
            ("route", &self.route),
            ("pattern", &self.pattern),
            ("after", &self.after),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                path += &format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        show(&self.target, self.target.call(Method::GET, &path, None), listed)
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn explained(value: &Value) -> String {
    let nothing = Value::Null;
    let part = |name: &str| value.get(name).unwrap_or(&nothing);
    let (key, store) = (part("key"), part("store"));
    let partition = key.get("partition").unwrap_or(&nothing);
    let mut rows = vec![
        vec![
            "request".to_owned(),
            format!("{} {}", cell(value, "method"), cell(value, "url")),
        ],
        vec!["route".to_owned(), cell(value, "route")],
        vec![
            "verdict".to_owned(),
            format!("{} ({})", cell(value, "verdict"), list(part("reasons"))),
        ],
        vec!["cache-status".to_owned(), cell(value, "cache_status")],
    ];
    if !key.is_null() {
        let query = key
            .get("query")
            .and_then(Value::as_str)
            .map(|query| format!("?{query}"));
        let target = ["method", "scheme", "authority", "path"].map(|field| cell(key, field));
        let [method, scheme, authority, path] = target;
        let target = format!(
            "{method} {scheme}://{authority}{path}{}",
            query.unwrap_or_default()
        );
        rows.push(vec!["key".to_owned(), target]);
        for field in array(key, "headers") {
            rows.push(vec![
                String::new(),
                format!("{}: {}", cell(field, "name"), cell(field, "value")),
            ]);
        }
        rows.push(vec!["digest".to_owned(), cell(key, "digest")]);
        if key.get("body").is_some_and(Value::is_string) {
            rows.push(vec!["body".to_owned(), cell(key, "body")]);
        }
        let from = list(partition.get("from").unwrap_or(&nothing));
        let kind = cell(partition, "kind");
        let whose = if from.is_empty() {
            kind
        } else {
            format!("{kind} ({from})")
        };
        rows.push(vec!["partition".to_owned(), whose]);
    }
    if !store.is_null() {
        let stored = match store.get("would").and_then(Value::as_bool) {
            Some(true) => "if the origin's answer allows".to_owned(),
            _ => format!("no ({})", cell(store, "reason")),
        };
        rows.push(vec!["would store".to_owned(), stored]);
        for level in array(store, "below").filter(|level| level["would"] == Value::Bool(false)) {
            let (name, reason) = (cell(level, "level"), cell(level, "reason"));
            rows.push(vec![String::new(), format!("not in {name} ({reason})")]);
        }
        let life = match cell(store, "fresh_for").as_str() {
            "-" => "as the origin says".to_owned(),
            seconds => format!("{seconds} s by the route"),
        };
        rows.push(vec!["fresh for".to_owned(), life]);
    }
    let mut text = table(&["", ""], &rows).trim_start().to_owned();
    let stored: Vec<&Value> = array(value, "stored").collect();
    if !stored.is_empty() {
        text.push('\n');
        text += &entries(&stored);
    }
    text
}

fn listed(value: &Value) -> String {
    let mut rows: Vec<&Value> = array(value, "entries").collect();
    rows.sort_by_key(|entry| cell(entry, "label"));
    let mut text = entries(&rows);
    if let Some(next) = value.get("next").and_then(Value::as_str) {
        text += &format!("\nmore: --after {next}\n");
    }
    text
}

fn entries(entries: &[&Value]) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let mut row = ["label", "status", "age", "ttl", "bytes", "hits"]
                .map(|field| cell(entry, field))
                .to_vec();
            row.push(match cell(entry, "reason").as_str() {
                "-" => "fresh".to_owned(),
                reason => reason.to_owned(),
            });
            row.push(list(entry.get("tags").unwrap_or(&Value::Null)));
            row
        })
        .collect();
    table(
        &["LABEL", "STATUS", "AGE", "TTL", "BYTES", "HITS", "STATE", "TAGS"],
        &rows,
    )
}

fn array<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn list(value: &Value) -> String {
    let items = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    items.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        explain: Explain,
    }

    fn body(arguments: &[&str]) -> Result<Value, String> {
        Line::parse_from(["explain"].iter().chain(arguments))
            .explain
            .body()
    }

    #[test]
    fn arguments_mean_what_curl_takes_them_for() {
        let plain = body(&["hub.local/a?b=1"]).unwrap();
        assert_eq!(
            (&plain["method"], &plain["url"]),
            (&json!("GET"), &json!("http://hub.local/a?b=1"))
        );
        let sent = body(&["-H", "X-A: 1", "-H", "x-a:2", "-d", "{}", "https://hub/"]).unwrap();
        assert_eq!(sent["method"], "POST");
        assert_eq!(sent["url"], "https://hub/");
        assert_eq!(sent["headers"]["x-a"], json!(["1", "2"]));
        assert_eq!(
            sent["headers"]["content-type"],
            "application/x-www-form-urlencoded"
        );
        let typed = body(&[
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/json",
            "-d",
            "{}",
            "hub",
        ])
        .unwrap();
        assert_eq!(typed["method"], "PUT");
        assert_eq!(typed["headers"]["content-type"], json!(["application/json"]));
        assert!(body(&["-H", "nothing", "hub"]).is_err());
    }
}

//! Tests of the whole way from text to configuration.

mod alerts;
mod bad;
mod defaults;
mod good;
mod hostile;
mod keyring;
mod later;
mod purge;
mod redis;
mod several;
mod warm;
mod yaml;

use std::path::Path;

use super::{Config, Environment, Loaded, Problems};

/// An environment that does not depend on the machine.
pub(super) fn environment() -> Environment {
    let vars = |name: &str| match name {
        "PORT" => Some("8081".to_owned()),
        "ON" => Some("true".to_owned()),
        "WEIGHT" => Some("7".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        _ => None,
    };
    Environment {
        vars: Box::new(vars),
        memory_bytes: 4 << 30,
        cpus: 2,
    }
}

fn parse(text: &str) -> Result<Loaded, Problems> {
    super::parse("test.yaml", text, Path::new("/nonexistent"), &environment())
}

fn config(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}"),
    }
}

/// A sound configuration without `routes`.
const BASE: &str = "\
listeners: [{name: http, bind: 127.0.0.1:0}]
upstreams:
  hub: {endpoints: [{address: 'hub:80'}]}
";

/// A sound configuration to which other sections can be added.
fn with_route(more: &str) -> String {
    format!("{BASE}routes: [{{name: r, upstream: hub}}]\n{more}")
}

/// A configuration with one route of this content, in a block beginning at line 6.
fn route(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("{BASE}routes:\n  - name: r\n{lines}")
}

/// Checks that `text` has exactly the problems that `expected` lists as "line:column path: message | hint".
#[track_caller]
fn refused<T: AsRef<str>>(text: &str, expected: &[T]) {
    let problems = match parse(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems,
    };
    let shown: Vec<String> = problems
        .0
        .iter()
        .map(|problem| {
            let hint = problem
                .hint
                .as_ref()
                .map(|hint| format!(" | {hint}"))
                .unwrap_or_default();
            format!(
                "{}:{} {}: {}{hint}",
                problem.line, problem.column, problem.path, problem.message
            )
        })
        .collect();
    let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
    assert_eq!(shown, expected, "\n{text}");
}

/// An upstream `hub` of this content, which begins in line 2, column 9.
fn upstream(content: &str) -> String {
    let content = content.replace("ENDPOINT", "endpoints: [{address: a:1}]");
    format!(
        "upstreams:\n  hub: {{{content}}}\nlisteners: [{{name: a, bind: 127.0.0.1:0}}]\n\
         routes: [{{name: r, upstream: hub}}]\n"
    )
}

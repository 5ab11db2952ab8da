//! The commands that only read a configuration, and what they print and return.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::harness::outrigger;

/// Six mistakes of six kinds.
const WRONG: &str = r#"version: 1
listeners:
  - name: http
    bind: 127.0.0.1:99999
    limits: {header_timeout: 10 parsecs}
upstreams:
  hub:
    endpoints:
      - {address: "127.0.0.1:8000"}
cache:
  levels:
    - memory: {name: l1, capacity: lots}
routes:
  - name: first
    match: {path_prefx: /v1/}
    upstream: hub
  - name: second
    match: {path: /b}
    upstream: hut
    refresh: 1s
"#;

/// The line of each mistake, and what its report names.
const MISTAKES: [(usize, &str); 6] = [
    (4, "bind"),
    (5, "header_timeout"),
    (12, "capacity"),
    (15, "path_prefix"),
    (19, "hub"),
    (20, "refresh"),
];

fn write(directory: &Path, yaml: &str) {
    fs::write(directory.join("c.yaml"), yaml).unwrap();
}

#[tokio::test]
async fn six_mistakes_are_six_problems_with_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), WRONG);
    let ended = outrigger(directory.path(), &["validate", "-c", "c.yaml"]).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let told = format!("{}{}", ended.stdout, ended.stderr);
    let place = regex::Regex::new(r"c\.yaml:(\d+):(\d+)").unwrap();
    let lines: BTreeSet<usize> = place
        .captures_iter(&told)
        .map(|place| place[1].parse().unwrap())
        .collect();
    assert_eq!(
        lines,
        MISTAKES.into_iter().map(|(line, _)| line).collect(),
        "{told}"
    );
    assert_eq!(place.find_iter(&told).count(), 6, "each once: {told}");
    for (_, name) in MISTAKES {
        assert!(told.contains(name), "{name} in {told}");
    }
    assert_eq!(
        told.matches('^').count(),
        6,
        "each with a caret under its place: {told}"
    );
}

#[tokio::test]
async fn a_good_file_is_good_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        &WRONG
            .replace("99999", "0")
            .replace("10 parsecs", "10s")
            .replace("lots", "64MiB"),
    );
    let fixed = fs::read_to_string(directory.path().join("c.yaml")).unwrap();
    let fixed = fixed
        .replace("path_prefx", "path_prefix")
        .replace("hut", "hub")
        .replace("    refresh: 1s\n", "");
    write(directory.path(), &fixed);
    let ended = outrigger(directory.path(), &["validate", "-c", "c.yaml"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn duplicate_keys_and_what_is_not_available_yet_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let good = "version: 1\nlisteners: [{name: http, bind: \"127.0.0.1:0\"}]\n\
                upstreams: {hub: {endpoints: [{address: \"127.0.0.1:8000\"}]}}\n\
                routes: [{name: all, match: {path_prefix: /}, upstream: hub}]\n";
    write(directory.path(), good);
    let ended = outrigger(directory.path(), &["validate", "-c", "c.yaml"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let cases = [
        (format!("{good}version: 1\n"), "twice"),
        (
            good.replace("upstream: hub", "upstream: hub, priority: critical"),
            "not available yet",
        ),
        (
            good.replace("\"127.0.0.1:8000\"}]", "\"127.0.0.1:8000\"}], balance: p2c_ewma"),
            "not available yet",
        ),
        (
            good.replace("127.0.0.1:8000", "${NOT_SET_ANYWHERE}"),
            "NOT_SET_ANYWHERE",
        ),
    ];
    for (yaml, expected) in cases {
        write(directory.path(), &yaml);
        let ended = outrigger(directory.path(), &["validate", "-c", "c.yaml"]).await;
        assert_eq!(ended.code, Some(78), "{yaml}\n{ended:?}");
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert!(told.contains(expected), "{expected} in {told}");
    }
}

#[tokio::test]
async fn running_with_a_bad_file_is_78_too() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), WRONG);
    assert_eq!(
        outrigger(directory.path(), &["run", "-c", "c.yaml"]).await.code,
        Some(78)
    );
}

#[tokio::test]
async fn wrong_usage_is_2() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["run", "--no-such-flag"] as &[&str],
        &["no-such-command"],
        &["validate"],
        &[],
    ] {
        assert_eq!(
            outrigger(directory.path(), arguments).await.code,
            Some(2),
            "{arguments:?}"
        );
    }
}

#[tokio::test]
async fn the_schema_is_a_json_schema() {
    let directory = tempfile::tempdir().unwrap();
    let ended = outrigger(directory.path(), &["schema"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let schema: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(
        schema["$schema"]
            .as_str()
            .is_some_and(|schema| schema.contains("json-schema.org"))
    );
    for key in ["version", "listeners", "upstreams", "routes"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[tokio::test]
async fn config_show_fills_in_defaults_and_redacts() {
    let directory = tempfile::tempdir().unwrap();
    let canary = "c0ffee".repeat(10) + "c0ff";
    fs::write(directory.path().join("token"), &canary).unwrap();
    write(
        directory.path(),
        "version: 1\nlisteners: [{name: http, bind: \"127.0.0.1:0\"}]\n\
         admin: {bind: \"127.0.0.1:0\", tokens: [{name: ops, role: admin, sha256_file: token}]}\n\
         upstreams: {hub: {endpoints: [{address: \"127.0.0.1:8000\"}]}}\n\
         routes: [{name: all, match: {path_prefix: /}, upstream: hub}]\n",
    );
    let ended = outrigger(directory.path(), &["config", "show", "-c", "c.yaml"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for default in ["header_timeout", "first_byte", "max_idle"] {
        assert!(ended.stdout.contains(default), "{default} in {}", ended.stdout);
    }
    assert!(!format!("{ended:?}").contains(&canary));
}

#[tokio::test]
async fn completions_and_help_are_there() {
    let directory = tempfile::tempdir().unwrap();
    assert!(
        outrigger(directory.path(), &["completions", "bash"])
            .await
            .stdout
            .contains("outrigger")
    );
    let help = outrigger(directory.path(), &["--help"]).await;
    assert_eq!(help.code, Some(0));
    for command in ["run", "demo", "validate", "schema", "config", "completions"] {
        assert!(help.stdout.contains(command), "{command}");
    }
}

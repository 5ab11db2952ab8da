//! No text makes the parser panic, and no secret shows in what it says.

use proptest::prelude::*;

use super::{parse, route, with_route};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_gives_an_answer(text in "\\PC{0,200}") {
        drop(parse(&text).map_err(|problems| problems.to_string()));
    }

    #[test]
    fn any_yaml_gives_an_answer(text in yaml(3)) {
        drop(parse(&text).map_err(|problems| problems.to_string()));
    }

    #[test]
    fn any_value_of_any_field_gives_an_answer(path in field(), value in yaml(2)) {
        let mut text = value.replace('\n', " ");
        for key in path.iter().rev() {
            text = format!("{{{key}: {text}}}");
        }
        drop(parse(&format!("[{text}]")).map_err(|problems| problems.to_string()));
        drop(parse(&text).map_err(|problems| problems.to_string()));
    }
}

/// A path of keys that exist.
fn field() -> impl Strategy<Value = Vec<&'static str>> {
    let keys = prop::sample::select(vec![
        "listeners",
        "upstreams",
        "routes",
        "cache",
        "levels",
        "memory",
        "match",
        "path_regex",
        "path_template",
        "ttl",
        "vary",
        "principal",
        "query",
        "headers",
        "set",
        "hub",
        "endpoints",
        "address",
        "health",
        "active",
        "http",
        "status",
        "telemetry",
        "otlp",
        "endpoint",
        "admin",
        "tokens",
        "bind",
        "share",
        "tenant",
        "usage",
    ]);
    prop::collection::vec(keys, 1..5)
}

/// Flow-style YAML of the words that the format knows.
fn yaml(depth: u32) -> BoxedStrategy<String> {
    let word = prop::sample::select(vec![
        "1",
        "-1",
        "0x10",
        "1.5",
        ".inf",
        "true",
        "off",
        "~",
        "''",
        "30s",
        "64MiB",
        "20%",
        "200-299",
        "/a/{b}",
        "hub",
        "'${X}'",
        "'${PORT}'",
        "'*'",
        "[",
        "GET",
        "'(?:'",
        "&a x",
        "*a",
        "!t x",
        "99999999999999999999",
        "'\\u0000'",
    ]);
    let leaf = prop_oneof![word.prop_map(str::to_owned), "[a-z\\[\\]{},:&*!#|>'\"% -]{0,12}"];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        let key = field().prop_map(|keys| keys.first().copied().unwrap_or("x"));
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((key, inner), 0..4).prop_map(|entries| {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{key}: {value}"))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
    .boxed()
}

#[test]
fn values_from_the_environment_are_not_shown() {
    for text in [
        with_route("admin: {bind: '${SECRET}'}"),
        with_route("telemetry: {otlp: {endpoint: 'http://u:${SECRET}@x'}}"),
        with_route("upstreams: {hub: {endpoints: [{address: 'http://${SECRET}/'}]}}"),
        with_route("workers: '${SECRET}'"),
        route("upstream: '${SECRET}'"),
        route("upstream: hub\nusage: '${SECRET}'"),
        route("upstream: hub\nmatch: {methods: ['${SECRET}'], path: '${SECRET}'}"),
        route("upstream: hub\ncache: {share: '${SECRET}', collapse: '${SECRET}', min_uses: '${SECRET}'}"),
    ] {
        let shown = parse(&text).unwrap_err().to_string();
        assert!(!shown.to_lowercase().contains("hunter2"), "{shown}");
        assert!(
            shown.contains("${SECRET}") || shown.contains("[hidden]"),
            "{shown}"
        );
    }
}

#[test]
fn secrets_in_the_file_are_not_shown() {
    let text = with_route("admin: {tokens: [{name: x, token: hunter2}]}");
    let shown = parse(&text).unwrap_err().to_string();
    assert!(
        shown.contains("unknown key `token`") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn a_token_file_with_other_content_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "hunter2").unwrap();
    let text = with_route("admin: {tokens: [{name: x, role: admin, sha256_file: token}]}");
    let problems = crate::config::parse("t", &text, dir.path(), &super::environment()).unwrap_err();
    let shown = problems.to_string();
    assert!(
        shown.contains("64 hexadecimal digits") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn the_number_of_problems_is_bounded() {
    let text: String = (0..5000).map(|number| format!("x{number}: 1\n")).collect();
    assert!(parse(&text).unwrap_err().0.len() <= 101);
    let routes: String = (0..500)
        .map(|number| format!("  - {{name: 'r {number}'}}\n"))
        .collect();
    assert!(parse(&format!("routes:\n{routes}")).unwrap_err().0.len() <= 101);
}

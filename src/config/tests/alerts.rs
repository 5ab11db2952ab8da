//! `alerts`.

use super::{parse, with_route};
use crate::config::Problems;

/// What is wrong with an `alerts` of this content, which begins in line 5, column 10, besides that it is not available.
fn problems(content: &str) -> Vec<String> {
    let text = with_route(&format!("alerts: {{{content}}}"));
    let Err(Problems(problems)) = parse(&text) else {
        panic!("accepted: {content}");
    };
    let (later, problems): (Vec<_>, Vec<_>) = problems
        .into_iter()
        .partition(|problem| problem.message == "not available yet");
    assert_eq!(later.len(), 1, "{content}");
    problems
        .into_iter()
        .map(|problem| {
            let hint = problem.hint.map(|hint| format!(" | {hint}"));
            format!(
                "{}:{} {}: {}{}",
                problem.line,
                problem.column,
                problem.path,
                problem.message,
                hint.unwrap_or_default()
            )
        })
        .collect()
}

#[test]
fn the_forms_of_the_reference_are_sound() {
    let sound = "receivers: [{name: ops, webhook: {url: 'https://hooks.example/outrigger'}}, \
        {name: am, alertmanager: {url: 'http://alertmanager:9093'}}], \
        rules: [{name: HighErrorRate, severity: CRITICAL, expr: 'error_ratio{route=r} > 0.05', for: 1m, \
        clear: '< 0.01', keep_firing_for: 2m, receivers: [ops]}, {name: Odd, expr: 'anomaly(latency_p95{route=r}) > 3'}, \
        {name: Full, expr: 'forecast(memory_bytes, 1h) > 900MiB'}, {name: Burn, expr: 'burn_rate(r, 99.9%) > 14.4'}, \
        {name: Promised, expr: 'burn_rate(chat) > 1'}], \
        slos: [{name: chat, route: r, availability: 99.9%, latency: {p95: 800ms}}]";
    assert_eq!(problems(sound), [""; 0]);
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    let mut wrong = Vec::new();
    for (content, expected) in WRONG {
        let told = problems(content);
        if !matches!(told.as_slice(), [one] if one.starts_with(expected)) {
            wrong.push(format!("{content}: {told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Contents of `alerts`, and the beginning of the one problem.
const WRONG: &[(&str, &str)] = &[
    (
        "rules: [{name: x, expr: 'eror_ratio > 1'}]",
        "5:34 alerts.rules[0].expr: `eror_ratio` is not a metric, at character 1 | did you mean `error_ratio`?",
    ),
    (
        "rules: [{name: x, expr: 'rate{route=s} > 1'}]",
        "5:34 alerts.rules[0].expr: there is no route `s` | did you mean `r`?",
    ),
    (
        "rules: [{name: x, expr: 'burn_rate(s, 99%) > 1'}]",
        "5:34 alerts.rules[0].expr: there is no objective or route `s`",
    ),
    (
        "rules: [{name: x, expr: 'burn_rate(r) > 1'}]",
        "5:34 alerts.rules[0].expr: `burn_rate(r)` needs an objective | `burn_rate(r, 99.9%)`, or",
    ),
    (
        "rules: [{name: x}]",
        "5:18 alerts.rules[0].expr: `expr` is missing",
    ),
    (
        "rules: [{name: x, expr: 'absent(rate)', clear: '< 1'}]",
        "5:57 alerts.rules[0].clear: `clear` needs an `expr` that is one comparison",
    ),
    (
        "rules: [{name: x, expr: 'rate > 1', severity: BAD}]",
        "5:56 alerts.rules[0].severity: ",
    ),
    (
        "rules: [{name: x, expr: 'rate > 1', receivers: [y]}]",
        "5:58 alerts.rules[0].receivers[0]: there is no receiver `y`",
    ),
    (
        "rules: [{name: x, expr: 'rate > 1'}, {name: x, expr: 'rate > 2'}]",
        "5:54 alerts.rules[1].name: `x` is already used by alerts.rules[0]",
    ),
    (
        "receivers: [{name: x}]",
        "5:22 alerts.receivers[0]: one of `webhook`, `alertmanager` and `slack` is missing",
    ),
    (
        "receivers: [{name: x, webhook: {url: 'http://x'}}]",
        "5:47 alerts.receivers[0].webhook.url: everybody on the way can read",
    ),
    (
        "receivers: [{name: x, slack: {url: 'https://x', url_file: y}}]",
        "5:68 alerts.receivers[0].slack.url_file: `url` and `url_file` exclude each other",
    ),
    (
        "receivers: [{name: x, alertmanager: {}}]",
        "5:32 alerts.receivers[0].alertmanager: one of `url` and `url_file` is missing",
    ),
    (
        "receivers: [{name: x, webhook: {url: 'https://x', secret_file: y}}]",
        "5:73 alerts.receivers[0].webhook.secret_file: cannot read /nonexistent/y",
    ),
    (
        "receivers: [{name: x, webhook: {url: 'https://x'}, slack: {url: 'https://x'}}]",
        "5:61 alerts.receivers[0].slack: `webhook` and `slack` exclude each other",
    ),
    (
        "slos: [{name: x}]",
        "5:17 alerts.slos[0]: one of `availability` and `latency`",
    ),
    (
        "slos: [{name: x, availability: 100%}]",
        "5:41 alerts.slos[0].availability: nobody can promise all or nothing",
    ),
    (
        "slos: [{name: x, latency: {fast: 1s}}]",
        "5:43 alerts.slos[0].latency.fast: `fast` is not a quantile | `p0.1` to `p99.9`",
    ),
    (
        "slos: [{name: x, route: s, latency: {p95: 1s}}]",
        "5:34 alerts.slos[0].route: there is no route `s`",
    ),
];

#[test]
fn urls_and_keys_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let url = file("url", "https://hooks.example/T0/B0\n");
    let key = file("key", "0123456789abcdef0123456789abcdef\n");
    let short = file("short", "hunter2\n");
    let no_url = file("no_url", "hunter2\n");
    let slack = format!("receivers: [{{name: a, slack: {{url_file: {url}}}}}]");
    assert_eq!(problems(&slack), [""; 0]);
    let signed = format!("receivers: [{{name: a, webhook: {{url: 'https://x', secret_file: {key}}}}}]");
    assert_eq!(problems(&signed), [""; 0]);
    for content in [
        format!("receivers: [{{name: a, webhook: {{url: 'https://x', secret_file: {short}}}}}]"),
        format!("receivers: [{{name: a, slack: {{url_file: {no_url}}}}}]"),
    ] {
        let told = problems(&content);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(!told[0].contains("hunter2"), "{told:?}");
    }
}

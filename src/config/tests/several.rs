//! Problems of a whole file, and of values that do not fit together.

use super::{BASE, parse, refused};

#[test]
fn texts_that_are_no_configuration() {
    refused("", &["1:1 : expected a map, found nothing"]);
    refused("[]", &["1:1 : expected a map, found a list"]);
    refused("a: [", &["2:1 : did not find expected node content"]);
    refused(
        "a: 1\n---\nb: 1\n",
        &["2:1 : a second document (`---`) is not read"],
    );
    refused(
        "routes: []\nupstreams: {}\n",
        &[
            "1:1 listeners: `listeners` is missing | give one, like `- {name: http, bind: 127.0.0.1:8080}`",
            "1:1 routes: `routes` is empty | give one, like `- {name: default, upstream: hub}`",
            "2:1 upstreams: `upstreams` is empty | give one, like `hub: {endpoints: [{address: \"127.0.0.1:8000\"}]}`",
        ],
    );
}

#[test]
fn six_mistakes_are_six_problems() {
    let text = "\
listeners:
  - {name: http, bind: ':80', limits: {header_timeout: 10}}
upstreams:
  hub:
    endpoints: [{address: 'hub:80', weight: 5000}]
routes:
  - name: chat
    upstream: hubb
    match: {path: v1/chat}
    cache: {tll: 5s}
";
    refused(
        text,
        &[
            "2:24 listeners[0].bind: `:80` is not an address to bind | did you mean `0.0.0.0:80`?",
            "2:56 listeners[0].limits.header_timeout: `10` is not a duration | say the unit: `10s`, `10ms`, `10m`",
            "5:45 upstreams.hub.endpoints[0].weight: expected a whole number from 1 to 1000, found the number `5000`",
            "8:15 routes[0].upstream: there is no upstream `hubb` | did you mean `hub`?",
            "9:19 routes[0].match.path: the path `v1/chat` does not begin with `/` | did you mean `/v1/chat`?",
            "10:13 routes[0].cache.tll: unknown key `tll` | did you mean `ttl`?",
        ],
    );
    assert!(parse(text).unwrap_err().to_string().ends_with("6 problems"));
}

#[test]
fn names_addresses_and_references() {
    let text = "\
listeners:
  - {name: a, bind: 127.0.0.1:80}
  - {name: a, bind: 127.0.0.1:80}
  - {name: b, bind: 127.0.0.1:9901}
upstreams: {hub: {endpoints: [{address: a:1}]}}
routes:
  - {name: r, upstream: hubb}
  - {name: r, upstream: other, match: {path: /x}}
";
    refused(
        text,
        &[
            "3:12 listeners[1].name: `a` is already used by listeners[0]",
            "3:21 listeners[1].bind: listener `a` has the address 127.0.0.1:80",
            "4:21 listeners[2].bind: the admin listener has the address 127.0.0.1:9901",
            "7:25 routes[0].upstream: there is no upstream `hubb` | did you mean `hub`?",
            "8:12 routes[1].name: `r` is already used by routes[0]",
            "8:25 routes[1].upstream: there is no upstream `other` | one of `hub`",
        ],
    );
}

#[test]
fn what_is_missing_because_of_a_mistake_is_not_reported_again() {
    let text = "\
listeners: [{name: a}, {bind: 1.1.1.1:1, tls: {cert_file: a.pem}}]
upstreams: {'a b': {endpoints: [{address: a:1}]}}
routes: [{name: r, upsteam: hub}, {name: s, upstream: x, match: {path: y}}, {name: t, upstream: x}]
";
    refused(
        text,
        &[
            "1:13 listeners[0].bind: `bind` is missing",
            "1:24 listeners[1].name: `name` is missing",
            "1:42 listeners[1].tls.key_file: `key_file` is missing",
            "1:59 listeners[1].tls.cert_file: cannot read /nonexistent/a.pem: No such file or directory (os error 2)",
            "2:13 upstreams[\"a b\"]: `a b` is not a name | up to 64 letters, digits, `_`, `-` and `.`, a letter or \
             digit first",
            "3:20 routes[0].upsteam: unknown key `upsteam` | did you mean `upstream`?",
            "3:55 routes[1].upstream: there is no upstream `x` | one of `a b`",
            "3:72 routes[1].match.path: the path `y` does not begin with `/` | did you mean `/y`?",
            "3:97 routes[2].upstream: there is no upstream `x` | one of `a b`",
        ],
    );
}

#[test]
fn routes_between_which_nothing_decides() {
    let hint = "make their hosts, path, methods or headers differ, or remove one";
    let text = format!(
        "{BASE}routes:
  - {{name: a, upstream: hub, match: {{path_template: '/a/{{id}}', methods: [GET, POST]}}}}
  - {{name: b, upstream: hub, match: {{path_template: '/a/{{name}}', methods: [POST]}}}}
  - {{name: c, upstream: hub}}
  - name: d
    upstream: hub
  - {{name: e, upstream: hub, match: {{hosts: [x, '*.y'], headers: {{a: '1', b: '2'}}}}}}
  - {{name: f, upstream: hub, match: {{hosts: ['*.Y'], headers: {{B: '2', A: '1'}}}}}}
"
    );
    let problem = |place: &str, a: &str, b: &str| {
        format!("{place}: routes `{a}` and `{b}` match the same requests | {hint}")
    };
    refused(
        &text,
        &[
            problem("6:5 routes[1]", "a", "b"),
            problem("8:5 routes[3]", "c", "d"),
            problem("11:5 routes[5]", "e", "f"),
        ],
    );
}

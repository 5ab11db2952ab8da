//! The golden table: every call of the admin API, who may make it, and that no other page can.

use std::collections::BTreeSet;

use http::StatusCode;

use crate::admin::{problem, stage};
use crate::harness::{Call, Token};

/// Every call of the API with the least role that may make it; none when everybody may.
const GOLDEN: [(&str, &str, &str, Option<Token>); 27] = [
    ("GET", "/livez", "", None),
    ("GET", "/readyz", "", None),
    ("GET", "/startupz", "", None),
    ("GET", "/metrics", "", None),
    ("GET", "/config", "", Some(Token::Viewer)),
    ("POST", "/config/validate", "version: 1", Some(Token::Viewer)),
    ("POST", "/config/reload", "", Some(Token::Admin)),
    ("PUT", "/log-level", r#"{"level": "info"}"#, Some(Token::Admin)),
    (
        "GET",
        "/api/v1/performance/endpoints?hours=1",
        "",
        Some(Token::Viewer),
    ),
    (
        "GET",
        "/api/v1/performance/system?hours=1",
        "",
        Some(Token::Viewer),
    ),
    ("GET", "/api/v1/performance/cache/stats", "", Some(Token::Viewer)),
    (
        "GET",
        "/api/v1/performance/cache/entries?limit=1",
        "",
        Some(Token::Viewer),
    ),
    (
        "POST",
        "/api/v1/performance/cache/explain",
        r#"{"url": "http://hub.local/a"}"#,
        Some(Token::Viewer),
    ),
    (
        "POST",
        "/api/v1/performance/cache/purge",
        r#"{"all": true}"#,
        Some(Token::Operator),
    ),
    (
        "POST",
        "/api/v1/performance/api/cache/clear?pattern=x_*",
        "",
        Some(Token::Operator),
    ),
    ("GET", "/api/v1/performance/cache/warm", "", Some(Token::Viewer)),
    (
        "POST",
        "/api/v1/performance/cache/warm",
        r#"{"name": "nothing"}"#,
        Some(Token::Operator),
    ),
    (
        "GET",
        "/api/v1/performance/cache/warm/{job}",
        "",
        Some(Token::Viewer),
    ),
    (
        "DELETE",
        "/api/v1/performance/cache/warm/{job}",
        "",
        Some(Token::Operator),
    ),
    ("GET", "/api/v1/performance/upstreams", "", Some(Token::Viewer)),
    (
        "POST",
        "/api/v1/performance/upstreams/{name}/endpoints/{address}/drain",
        "",
        Some(Token::Operator),
    ),
    (
        "POST",
        "/api/v1/performance/upstreams/{name}/endpoints/{address}/enable",
        "",
        Some(Token::Operator),
    ),
    ("GET", "/api/v1/performance/audit", "", Some(Token::Viewer)),
    ("GET", "/api/v1/performance/audit/verify", "", Some(Token::Viewer)),
    ("GET", "/openapi.json", "", Some(Token::Viewer)),
    ("GET", "/nowhere", "", Some(Token::Viewer)),
    // Last: it ends the process.
    ("POST", "/drain", "", Some(Token::Operator)),
];

fn call(method: &str, target: &str, body: &'static str) -> Call {
    let call = if body.is_empty() {
        Call::new(method, target)
    } else {
        Call::json(target, body).method(method)
    };
    if target == "/config/validate" {
        call.replace("content-type", "application/yaml")
    } else {
        call
    }
}

#[tokio::test]
async fn every_call_needs_its_role() {
    let (_origin, sidecar) = stage().await;
    for (method, target, body, least) in GOLDEN {
        let told = format!("{method} {target}");
        let target = concrete(target);
        let answer = sidecar.admin(call(method, &target, body)).await;
        match least {
            Some(_) => problem(&answer, 401),
            None => assert_eq!(answer.status, 200, "{told}: {answer:?}"),
        }
        for token in [Token::Viewer, Token::Operator, Token::Admin] {
            let call = call(method, &target, body).bearer(&token.secret());
            if least.is_some_and(|least| (token as u8) < (least as u8)) {
                problem(&sidecar.admin(call).await, 403);
            } else if target != "/drain" {
                let answer = sidecar.admin(call).await;
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status);
                assert!(
                    !refused && !answer.status.is_server_error(),
                    "{told} as {token:?}: {answer:?}"
                );
            }
        }
    }
    for token in [Token::Operator, Token::Admin] {
        let (_origin, sidecar) = stage().await;
        let answer = sidecar
            .admin(call("POST", "/drain", "").bearer(&token.secret()))
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

/// A path as it may be asked for; nothing of this name exists.
fn concrete(target: &str) -> String {
    target
        .replace("{job}", "1")
        .replace("{name}", "nobody")
        .replace("{address}", "127.0.0.1:1")
}

/// Whatever its content type: a form of another page comes with its `Origin`, and without a token.
#[tokio::test]
async fn no_call_is_made_for_a_page_from_elsewhere() {
    let (_origin, sidecar) = stage().await;
    let forms = [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
    ];
    for (method, target, body, _) in GOLDEN {
        let target = concrete(target);
        let own = || call(method, &target, body).bearer(&Token::Admin.secret());
        problem(
            &sidecar.admin(own().header("origin", "http://evil.example")).await,
            403,
        );
        problem(
            &sidecar.admin(own().header("sec-fetch-site", "cross-site")).await,
            403,
        );
        problem(&sidecar.admin(own().replace("host", "evil.example")).await, 421);
        let takes_json = body.starts_with('{');
        for form in forms {
            let posted = call(method, &target, body).replace("content-type", form);
            let answer = sidecar
                .admin(posted.header("origin", "http://evil.example"))
                .await;
            problem(&answer, 403);
            if takes_json {
                let posted = own().replace("content-type", form);
                problem(&sidecar.admin(posted).await, 415);
            }
        }
    }
    assert_eq!(
        sidecar.admin(Call::get("/readyz")).await.status,
        200,
        "it was not drained"
    );
}

#[tokio::test]
async fn the_openapi_document_names_exactly_the_calls_there_are() {
    let (_origin, sidecar) = stage().await;
    let answer = sidecar
        .admin(Call::get("/openapi.json").bearer(&Token::Viewer.secret()))
        .await;
    let document = answer.json();
    let version = document["openapi"].as_str().unwrap();
    assert!(version.starts_with("3.1"), "{version}");
    let mut documented = BTreeSet::from([(String::from("GET"), String::from("/openapi.json"))]);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            documented.insert((method.to_uppercase(), path.clone()));
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let told = &answer["content"]["application/json"]["schema"]["$ref"];
                assert_ne!(told, "#/components/schemas/Problem", "{method} {path}: {status}");
            }
            let least = GOLDEN.iter().find(|(of, target, ..)| {
                of.eq_ignore_ascii_case(method) && target.split('?').next() == Some(path)
            });
            let (.., least) =
                least.unwrap_or_else(|| panic!("{method} {path} has no place in the golden table"));
            let answers = &operation["responses"];
            assert!(
                answers["421"].is_object() && answers["429"].is_object(),
                "{method} {path}"
            );
            assert!(least.is_none() || answers["401"].is_object(), "{method} {path}");
            let changes = least.is_some_and(|least| least != Token::Viewer);
            assert!(!changes || answers["503"].is_object(), "{method} {path}");
        }
    }
    for (method, target, ..) in GOLDEN {
        let path = target.split('?').next().unwrap();
        let known = documented.remove(&(method.to_owned(), path.to_owned()));
        assert!(
            known || path == "/nowhere",
            "{method} {path} is not in the document"
        );
    }
    assert!(documented.is_empty(), "{documented:?}");
}

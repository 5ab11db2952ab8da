//! What reaches the origin and what comes back: header rules that keep hops and identities apart (RFC 9110, 7.6).

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Call, ConfigText, Origin, Raw, RawOrigin, Reply, Sidecar};

async fn stage(config: impl Fn(ConfigText) -> ConfigText) -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("*", |_| Reply::ok("x"));
    let sidecar = Sidecar::start(&config(ConfigText::new(origin.address()))).await;
    (origin, sidecar)
}

#[tokio::test]
async fn headers_of_the_hop_end_here() {
    let (origin, sidecar) = stage(|config| config).await;
    let call = Call::get("/a")
        .header("connection", "x-hop, keep-alive")
        .header("x-hop", "1")
        .header("keep-alive", "5");
    let call = call
        .header("proxy-authorization", "secret")
        .header("te", "gzip")
        .header("x-end", "1");
    sidecar.fetch(call).await;
    let seen = origin.last("/a");
    for name in ["x-hop", "keep-alive", "proxy-authorization"] {
        assert_eq!(seen.header(name), "", "{name}: {seen:?}");
    }
    assert_ne!(seen.header("te"), "gzip");
    assert_eq!(seen.header("x-end"), "1");
}

#[tokio::test]
async fn connection_cannot_remove_identity_or_trace() {
    let (origin, sidecar) = stage(|config| config).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = Call::get("/a").header(
        "connection",
        "authorization, cookie, x-forwarded-for, traceparent",
    );
    let call = call
        .bearer("me")
        .header("cookie", "sid=1")
        .header("traceparent", trace);
    sidecar.fetch(call).await;
    let seen = origin.last("/a");
    assert_eq!(seen.header("authorization"), "Bearer me");
    assert_eq!(seen.header("cookie"), "sid=1");
    assert!(
        seen.header("traceparent")
            .contains("0af7651916cd43dd8448eb211c80319c")
    );
    assert_ne!(seen.header("x-forwarded-for"), "");
}

#[tokio::test]
async fn forwarding_headers_are_rebuilt_for_strangers_and_extended_for_trusted_peers() {
    let asking = || {
        Call::get("/a")
            .header("x-forwarded-for", "203.0.113.7")
            .header("x-forwarded-proto", "https")
    };
    let (origin, sidecar) = stage(|config| config).await;
    sidecar
        .fetch(asking().header("forwarded", "for=203.0.113.7"))
        .await;
    let seen = origin.last("/a");
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "http");
    assert!(!seen.header("forwarded").contains("203.0.113.7"), "{seen:?}");

    let (origin, sidecar) = stage(|config| config.listener("trusted_proxies: [127.0.0.0/8]")).await;
    sidecar.fetch(asking()).await;
    let seen = origin.last("/a");
    assert_eq!(seen.header("x-forwarded-for"), "203.0.113.7, 127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "https");
}

#[tokio::test]
async fn header_names_with_an_underscore_are_dropped() {
    let (origin, sidecar) = stage(|config| config).await;
    let mut client = Raw::connect(sidecar.address()).await;
    client
        .send("GET /a HTTP/1.1\r\nHost: h\r\nX_Forwarded_For: 1\r\nX-Good: 1\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 200);
    let seen = origin.last("/a");
    assert!(
        seen.headers.get("x_forwarded_for").is_none() && seen.header("x-good") == "1",
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_route_sets_and_removes_headers() {
    let routes = r#"
- name: all
  match: {path_prefix: /}
  upstream: hub
  headers:
    request: {set: {x-added: "yes"}, remove: [x-secret]}
    response: {set: {x-frame-options: DENY}, remove: [x-powered-by]}
"#;
    let (origin, sidecar) = stage(|config| config.routes(routes)).await;
    origin.on("/a", |_| Reply::ok("x").header("x-powered-by", "uvicorn"));
    let answer = sidecar.fetch(Call::get("/a").header("x-secret", "1")).await;
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert_eq!(answer.header("x-powered-by"), "");
    let seen = origin.last("/a");
    assert_eq!((seen.header("x-added"), seen.header("x-secret")), ("yes", ""));
}

#[tokio::test]
async fn the_most_specific_route_wins_and_no_route_is_404() {
    let routes = r#"
- {name: prefix, match: {path_prefix: /v1/}, upstream: hub, headers: {response: {set: {x-route: prefix}}}}
- {name: template, match: {path_template: "/v1/models/{id}"}, upstream: hub, headers: {response: {set: {x-route: template}}}}
- {name: exact, match: {path: /v1/models/gpt}, upstream: hub, headers: {response: {set: {x-route: exact}}}}
- {name: host, match: {hosts: ["*.hub.local"], path_prefix: /v1/}, upstream: hub, headers: {response: {set: {x-route: host}}}}
"#;
    let (origin, sidecar) = stage(|config| config.routes(routes)).await;
    let cases = [
        ("/v1/models/gpt", "", "exact"),
        ("/v1/models/other", "", "template"),
        ("/v1/models/other/x", "", "prefix"),
        ("/v1/models/gpt", "eu.hub.local", "host"),
        ("/v1/models/gpt", "EU.Hub.Local:80", "host"),
    ];
    for (path, host, route) in cases {
        let call = Call::get(path);
        let call = if host.is_empty() {
            call
        } else {
            call.header("host", host)
        };
        assert_eq!(
            sidecar.fetch(call).await.header("x-route"),
            route,
            "{host} {path}"
        );
    }
    let answer = sidecar.get("/elsewhere").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(origin.count("/elsewhere"), 0);
}

#[tokio::test]
async fn another_endpoint_answers_when_the_first_is_down() {
    let gone = Origin::start().await;
    let address = gone.address();
    drop(gone);
    let (origin, sidecar) = stage(|config| config.endpoint(address)).await;
    for _ in 0..10 {
        assert_eq!(sidecar.get("/a").await.status, 200);
    }
    assert_eq!(origin.count("/a"), 10);
}

#[tokio::test]
async fn via_and_the_access_log_tell_of_the_request_but_not_its_secrets() {
    let (_origin, sidecar) = stage(|config| config.with("telemetry:\n  access_log: {enabled: true}")).await;
    let call = Call::get("/a?token=canary-query")
        .bearer("canary-bearer")
        .header("cookie", "sid=canary-cookie");
    let answer = sidecar.fetch(call).await;
    assert!(answer.header("via").contains("outrigger"), "{answer:?}");
    sidecar
        .access_log()
        .wait_for("the line of the request", 0, |_| true)
        .await;
    let told = format!("{}\n{}", sidecar.access_log().text(), sidecar.logs().text());
    assert!(told.contains("/a") && !told.contains("canary"), "{told}");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_bad_gateway() {
    let origin = Origin::start().await;
    let address = origin.address();
    drop(origin);
    let sidecar = Sidecar::start(&ConfigText::new(address)).await;
    let answer = sidecar.get("/a").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(answer.json()["type"], "urn:outrigger:problem:connect");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_request_of_http_10_gets_a_host_for_the_upstream() {
    let (origin, sidecar) = stage(|config| config).await;
    let mut client = Raw::connect(sidecar.address()).await;
    client.send("GET /a HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(origin.last("/a").header("host"), origin.address().to_string());
}

#[tokio::test]
async fn a_trace_state_without_a_valid_parent_ends_here() {
    let (origin, sidecar) = stage(|config| config).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (parent, state) in [("00-zz", ""), (trace, "vendor=1")] {
        let call = Call::get("/a").header("traceparent", parent);
        sidecar.fetch(call.header("tracestate", "vendor=1")).await;
        let seen = origin.last("/a");
        assert_eq!(seen.header("tracestate"), state, "{seen:?}");
        assert_eq!(seen.header("traceparent").len(), trace.len());
    }
}

#[tokio::test]
async fn an_answer_that_is_not_kept_has_passed_here_once() {
    let (origin, sidecar) = stage(|config| config).await;
    origin.on("/a", |_| {
        Reply::ok("x")
            .cache_control("max-age=60")
            .header("set-cookie", "sid=1")
    });
    let answer = sidecar.get("/a").await;
    let via: Vec<_> = answer.headers.get_all("via").iter().collect();
    assert_eq!(via, ["1.1 outrigger"], "{answer:?}");
}

#[tokio::test]
async fn an_offer_of_h2c_is_an_ordinary_request() {
    let (origin, sidecar) = stage(|config| config).await;
    origin.on("/a", |_| Reply::ok("x").cache_control("max-age=60"));
    for expected in ["stored", "hit"] {
        let call = Call::get("/a")
            .header("connection", "Upgrade, HTTP2-Settings")
            .header("upgrade", "h2c")
            .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");
        let answer = sidecar.fetch(call).await;
        assert!(answer.cache_says(expected), "{answer:?}");
    }
    let seen = origin.last("/a");
    assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), ("", ""));
}

/// A request that passes through is written for the upstream without a header map where no rule has to change it; it
/// must not be another request for that.
#[tokio::test]
async fn a_request_is_the_same_whichever_way_its_fields_go() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let origin = RawOrigin::start(move |mut stream| {
        let kept = Arc::clone(&kept);
        async move {
            loop {
                let head = RawOrigin::read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let mut body = [0; 4];
                stream.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, b"body");
                kept.lock().unwrap().push(head);
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    let config = ConfigText::new(origin.address()).routes(
        "
- {name: plain, match: {path: /plain}, upstream: hub, cache: {mode: 'off'}}
- {name: ruled, match: {path: /ruled}, upstream: hub, cache: {mode: 'off'}, headers: {request: {remove: [x-none]}}}",
    );
    let sidecar = Sidecar::start(&config).await;
    let mut client = Raw::connect(sidecar.address()).await;
    for path in ["/plain", "/ruled", "/plain", "/ruled"] {
        client
            .send(&format!(
                "POST {path}?q=1 HTTP/1.1\r\nHost: hub.local:81\r\nCookie: a=1\r\nX-Many: 1\r\nCookie: b=2\r\n\
                 X-Many: 2\r\nX-Many: \r\nVia: 1.0 fred\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: gzip, trailers\r\n\
                 x_under: 1\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Host: evil\r\nForwarded: for=203.0.113.7\r\n\
                 tracestate: vendor=1\r\nTrailer: x-sum\r\nContent-Length: 4\r\n\r\nbody"
            ))
            .await;
        assert_eq!(client.head().await.status, 204);
    }
    let lines = |head: &String| -> Vec<String> {
        let mut lines: Vec<String> = head
            .replace("/ruled", "/plain")
            .split_terminator("\r\n")
            .map(|line| match line.split_once(": ") {
                Some(("traceparent", value)) => format!("traceparent of {} octets", value.len()),
                _ => line.to_owned(),
            })
            .collect();
        lines.sort_unstable();
        lines
    };
    let heads = heads.lock().unwrap();
    let mut expected = [
        "POST /plain?q=1 HTTP/1.1",
        "",
        "host: hub.local:81",
        "cookie: a=1; b=2",
        "x-many: 1",
        "x-many: 2",
        "x-many: ",
        "via: 1.0 fred",
        "via: 1.1 outrigger",
        "te: trailers",
        "trailer: x-sum",
        "content-length: 4",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: hub.local:81",
        "x-forwarded-proto: http",
        "x-real-ip: 127.0.0.1",
        "forwarded: for=127.0.0.1;proto=http",
        "traceparent of 55 octets",
    ];
    expected.sort_unstable();
    assert_eq!(heads.len(), 4);
    for head in heads.iter() {
        assert_eq!(lines(head), expected);
    }
}

//! Malformed and hostile requests: refused with a close before key, route and upstream (PROOF).

use crate::harness::{ConfigText, Origin, Raw, Reply, Sidecar};

/// An ordinary request with these further header lines.
fn with(lines: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

/// A POST with a chunked body of exactly these bytes.
fn chunked(body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

/// Heads whose body would have two ends, or none.
fn bad_framing() -> Vec<(&'static str, String)> {
    vec![
        (
            "length and chunked",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ),
        ("two lengths", with("Content-Length: 5\r\nContent-Length: 6\r\n")),
        (
            "the same length twice",
            with("Content-Length: 5\r\nContent-Length: 5\r\n"),
        ),
        ("a list of lengths", with("Content-Length: 5, 5\r\n")),
        ("a signed length", with("Content-Length: +5\r\n")),
        ("a negative length", with("Content-Length: -1\r\n")),
        ("a length in hexadecimal", with("Content-Length: 0x5\r\n")),
        ("a length with a space", with("Content-Length: 5 5\r\n")),
        ("an empty length", with("Content-Length:\r\n")),
        (
            "an immense length",
            with("Content-Length: 99999999999999999999999\r\n"),
        ),
        ("another transfer coding", with("Transfer-Encoding: gzip\r\n")),
        ("identity", with("Transfer-Encoding: identity\r\n")),
        (
            "chunked that is not final",
            with("Transfer-Encoding: chunked, gzip\r\n"),
        ),
        ("chunked twice", with("Transfer-Encoding: chunked, chunked\r\n")),
        (
            "chunked in two lines",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ),
        ("almost chunked", with("Transfer-Encoding: xchunked\r\n")),
        (
            "chunked with a parameter",
            with("Transfer-Encoding: chunked;a=b\r\n"),
        ),
        ("an empty transfer coding", with("Transfer-Encoding:\r\n")),
        (
            "chunked behind a vertical tab",
            with("Transfer-Encoding: \u{b}chunked\r\n"),
        ),
    ]
}

/// Heads with lines that two readers understand in two ways.
fn bad_lines() -> Vec<(&'static str, String)> {
    vec![
        ("bare line feeds", "GET /a HTTP/1.1\nHost: h\n\n".into()),
        ("one bare line feed", with("X-A: 1\nX-B: 2\r\n")),
        ("a bare carriage return", with("X-A: 1\rX-B: 2\r\n")),
        ("a space before the colon", with("X-A : 1\r\n")),
        ("a tab before the colon", with("Content-Length\t: 5\r\n")),
        ("a folded line", with("X-A: 1\r\n 2\r\n")),
        (
            "a first line that is folded",
            "GET /a HTTP/1.1\r\n Host: h\r\n\r\n".into(),
        ),
        ("no colon", with("X-A\r\n")),
        ("an empty name", with(": 1\r\n")),
        ("a name with a parenthesis", with("X(A): 1\r\n")),
        ("NUL in a value", with("X-A: 1\0\r\n")),
        ("a control character in a value", with("X-A: 1\u{1}\r\n")),
        ("NUL in a name", with("X\0A: 1\r\n")),
        ("DEL in a value", with("X-A: \u{7f}\r\n")),
    ]
}

/// Heads that name no one place.
fn bad_targets() -> Vec<(&'static str, String)> {
    vec![
        ("no host", "GET /a HTTP/1.1\r\n\r\n".into()),
        ("two hosts", with("Host: h\r\n")),
        ("two different hosts", with("Host: other\r\n")),
        ("an empty host", "GET /a HTTP/1.1\r\nHost:\r\n\r\n".into()),
        (
            "a host with a space",
            "GET /a HTTP/1.1\r\nHost: h x\r\n\r\n".into(),
        ),
        (
            "a host with a path",
            "GET /a HTTP/1.1\r\nHost: h/x\r\n\r\n".into(),
        ),
        (
            "a host with user information",
            "GET /a HTTP/1.1\r\nHost: u@h\r\n\r\n".into(),
        ),
        (
            "a host with two ports",
            "GET /a HTTP/1.1\r\nHost: h:1:2\r\n\r\n".into(),
        ),
        (
            "a port beyond 65535",
            "GET /a HTTP/1.1\r\nHost: h:65536\r\n\r\n".into(),
        ),
        (
            "a port in letters",
            "GET /a HTTP/1.1\r\nHost: h:http\r\n\r\n".into(),
        ),
        (
            "an absolute form for another host",
            "GET http://other/a HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        ),
        (
            "an absolute form of another scheme",
            "GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        ),
        (
            "a target without a slash",
            "GET a HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        ),
        ("GET with an asterisk", "GET * HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        (
            "authority form without CONNECT",
            "GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        ),
        (
            "a space in the target",
            "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        ),
        (
            "a control character in the target",
            "GET /a\u{1} HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        ),
        ("NUL in the target", "GET /a\0 HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("CONNECT", "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        ("TRACE", "TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        (
            "a method with a parenthesis",
            "GE(T /a HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        ),
        ("no version", "GET /a\r\nHost: h\r\n\r\n".into()),
        ("garbage", "\u{16}\u{3}\u{1}\0\0\0\r\n\r\n".into()),
    ]
}

/// Bodies whose framing is broken.
fn bad_chunks() -> Vec<(&'static str, String)> {
    vec![
        ("a prefix 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("a sign", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("no size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("no number", chunked("five!\r\nhello\r\n0\r\n\r\n")),
        ("a space before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n")),
        (
            "a size beyond 64 bits",
            chunked("fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "a bare line feed after the size",
            chunked("5\nhello\r\n0\r\n\r\n"),
        ),
        (
            "a bare line feed after an extension",
            chunked("5;a\nhello\r\n0\r\n\r\n"),
        ),
        ("no line end after the data", chunked("5\r\nhello0\r\n\r\n")),
        ("more data than said", chunked("5\r\nhello!\r\n0\r\n\r\n")),
        (
            "a trailer without a colon",
            chunked("5\r\nhello\r\n0\r\noops\r\n\r\n"),
        ),
    ]
}

async fn stage() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("*", |_| Reply::ok("reached"));
    let limits = "limits: {headers: 50, header_bytes: 16KiB, header_timeout: 10s}";
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).listener(limits)).await;
    (origin, sidecar)
}

/// Sends `request` and a good one behind it: the answer is `status`, and the connection closes without a second.
async fn refused(sidecar: &Sidecar, name: &str, request: &str, status: u16) {
    let mut client = Raw::connect(sidecar.address()).await;
    client
        .send(format!("{request}GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"))
        .await;
    let answer = String::from_utf8_lossy(&client.until_closed().await).into_owned();
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{name}: {answer:?}"
    );
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer:?}");
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{name}: {answer:?}"
    );
}

#[tokio::test]
async fn malformed_heads_are_refused_and_reach_nobody() {
    let (origin, sidecar) = stage().await;
    for (name, request) in [bad_framing(), bad_lines(), bad_targets()].concat() {
        refused(&sidecar, name, &request, 400).await;
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    assert_eq!(
        sidecar.get("/a").await.text(),
        "reached",
        "the others are served as before"
    );
}

#[tokio::test]
async fn malformed_chunks_end_the_connection_and_are_no_request() {
    let (origin, sidecar) = stage().await;
    for (name, request) in bad_chunks() {
        let mut client = Raw::connect(sidecar.address()).await;
        client
            .send(format!("{request}GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        let answer = String::from_utf8_lossy(&client.until_closed().await).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{name}: {answer:?}"
        );
        assert!(!answer.contains("reached"), "{name}: {answer:?}");
    }
    // The origin saw no complete request: neither a body that looks whole nor what hid behind it.
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}

#[tokio::test]
async fn what_is_too_large_has_its_own_status() {
    let (origin, sidecar) = stage().await;
    let long = "x".repeat(100 * 1024);
    let many: String = (0..60).map(|number| format!("X-{number}: 1\r\n")).collect();
    refused(&sidecar, "a long line", &with(&format!("X-A: {long}\r\n")), 431).await;
    refused(&sidecar, "many lines", &with(&many), 431).await;
    let block: String = (0..40)
        .map(|number| format!("X-{number}: {}\r\n", "y".repeat(800)))
        .collect();
    refused(&sidecar, "a large block", &with(&block), 431).await;
    refused(
        &sidecar,
        "a long target",
        &format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
        414,
    )
    .await;
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}

#[tokio::test]
async fn what_looks_odd_and_is_allowed_passes() {
    let (origin, sidecar) = stage().await;
    let fine = [
        (
            "an absolute form for the same host",
            "GET http://h/a HTTP/1.1\r\nHost: h\r\n",
        ),
        ("a host in brackets", "GET /a HTTP/1.1\r\nHost: [::1]:80\r\n"),
        (
            "an empty line before the request",
            "\r\nGET /a HTTP/1.1\r\nHost: h\r\n",
        ),
        ("no space after the colon", "GET /a HTTP/1.1\r\nHost:h\r\n"),
        ("an empty value", "GET /a HTTP/1.1\r\nHost: h\r\nX-A:\r\n"),
        (
            "bytes beyond ASCII in a value",
            "GET /a HTTP/1.1\r\nHost: h\r\nX-A: é\r\n",
        ),
        (
            "chunked in capitals",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n",
        ),
    ];
    for (name, head) in fine {
        let body = if head.contains("CHUNKED") {
            "5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
        } else {
            ""
        };
        let mut client = Raw::connect(sidecar.address()).await;
        client
            .send(format!("{head}Connection: close\r\n\r\n{body}"))
            .await;
        assert_eq!(client.head().await.status, 200, "{name}");
    }
    assert_eq!(origin.requests().len(), fine.len());
}

#[tokio::test]
async fn refusals_are_counted_and_explained() {
    let (_origin, sidecar) = stage().await;
    let mut client = Raw::connect(sidecar.address()).await;
    client
        .send(with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"))
        .await;
    let head = client.head().await;
    assert_eq!(head.status, 400);
    assert_eq!(head.header("content-type"), "application/problem+json");
    let length = head.header("content-length").parse().unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&client.bytes(length).await).unwrap();
    assert!(
        problem["type"].is_string() && problem["title"].is_string(),
        "{problem}"
    );
    assert!(sidecar.metric("outrigger_requests_refused_total", &[]).await >= 1.0);
}

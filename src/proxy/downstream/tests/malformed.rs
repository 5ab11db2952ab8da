//! What is malformed is answered, in its turn, and the connection closes.

use super::*;

fn with(fields: &str) -> String {
    format!("POST /body HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello")
}

fn chunked(body: &str) -> String {
    format!("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

fn raw(raw: &str) -> String {
    raw.to_owned()
}

/// Status and reason of the answer to some malformed requests.
type Row = (u16, &'static str, Vec<String>);

/// Requests whose body could end in two places.
fn ambiguous() -> Vec<Row> {
    let lengths =
        ["+5", "0x5", "", "18446744073709551616"].map(|value| with(&format!("Content-Length: {value}")));
    let encodings = ["gzip, chunked", "chunked, identity", "xchunked"];
    let encodings = encodings.map(|value| with(&format!("Transfer-Encoding: {value}")));
    let several = ["Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5"].map(with);
    let both = with("Content-Length: 5\r\nTransfer-Encoding: chunked");
    let sizes = ["0x5", "+5", "5 ", "10000000000000005"];
    let sizes = sizes.map(|size| chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")));
    let line_feeds = [
        with("X: a\nY: b"),
        raw("GET / HTTP/1.1\nHost: a\n\n"),
        chunked("5\nhello\r\n"),
    ];
    vec![
        (400, "length-and-encoding", vec![both]),
        (400, "content-length-repeated", several.to_vec()),
        (400, "content-length", lengths.to_vec()),
        (400, "transfer-encoding", encodings.to_vec()),
        (
            400,
            "bare-cr",
            vec![with("X: a\rb"), raw("GET / HTTP/1.1\rHost: a\r\r")],
        ),
        (400, "bare-lf", line_feeds.to_vec()),
        (400, "space-before-colon", vec![with("Content-Length : 5")]),
        (400, "obs-fold", vec![with("X: y\r\n z")]),
        (400, "chunk-size", sizes.to_vec()),
        (400, "chunk-end", vec![chunked("5\r\nhello0\r\n\r\n")]),
        (
            400,
            "chunk-extension",
            vec![chunked("5;a=\"\u{1}\"\r\nhello\r\n0\r\n\r\n")],
        ),
    ]
}

/// Requests that are odd in another way.
fn odd() -> Vec<Row> {
    let target = |target: &str| line(&format!("GET {target} HTTP/1.1"));
    vec![
        (400, "header-value", vec![with("X: a\0b")]),
        (400, "host-missing", vec![raw("GET / HTTP/1.1\r\n\r\n")]),
        (400, "host-repeated", vec![with("Host: a")]),
        (400, "host", vec![raw("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")]),
        (400, "host-mismatch", vec![target("http://b/")]),
        (
            400,
            "target",
            ["/\0", "/\u{7f}", "x", "ftp://a/", "/#fragment"]
                .map(target)
                .to_vec(),
        ),
        (
            400,
            "method-refused",
            ["CONNECT a:443 HTTP/1.1", "TRACE / HTTP/1.1"].map(line).to_vec(),
        ),
        (
            400,
            "request-line",
            vec![line("GET /"), raw("\u{16}\u{3}\u{1}\u{0}\u{a5} TLS\r\n")],
        ),
        (505, "version", vec![line("GET / HTTP/3.0")]),
        (
            414,
            "target-too-long",
            vec![target(&format!("/{}", "x".repeat(9000)))],
        ),
        (
            431,
            "head-too-large",
            vec![with(&format!("X: {}", "y".repeat(70_000)))],
        ),
        (431, "too-many-headers", vec![with(&"X: y\r\n".repeat(101))]),
    ]
}

#[tokio::test]
async fn malformed_requests_are_answered_and_the_connection_closes() {
    let running = run();
    for (status, reason, requests) in ambiguous().into_iter().chain(odd()) {
        for request in requests {
            let answer = running.exchange(request.as_bytes()).await;
            let row = &request[..request.len().min(80)];
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{row:?}: {answer}"
            );
            assert!(
                answer.ends_with(&format!("\r\n\r\n{reason}")),
                "{row:?}: {answer}"
            );
            assert!(answer.contains("\r\nconnection: close\r\n"), "{row:?}: {answer}");
        }
    }
}

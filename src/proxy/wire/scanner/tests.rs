//! Tests of the scanner: what it refuses, and that pieces do not matter.

use proptest::prelude::*;

use super::*;

const LIMITS: WireLimits = WireLimits {
    head_bytes: 256,
    headers: 6,
};

/// Everything released, and the end: the reason and the number of the request if one was malformed.
fn run(bytes: &[u8], cuts: &[usize], limits: WireLimits) -> (Vec<u8>, Option<(Malformed, u64)>, u64) {
    let mut scanner = Scanner::new(limits);
    let (mut held, mut released, mut fed) = (Vec::new(), Vec::new(), 0);
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let end = end.clamp(fed, bytes.len());
        held.extend_from_slice(&bytes[fed..end]);
        fed = end;
        loop {
            let scan = scanner.scan(&held);
            released.extend(held.drain(..scan.release));
            match scan.stop {
                Stop::NeedMore => break,
                Stop::AwaitAnswer => scanner.resume(),
                Stop::Malformed(reason) => {
                    return (released, Some((reason, scan.request)), scanner.requests());
                }
            }
            if held.is_empty() {
                break;
            }
        }
    }
    (released, None, scanner.requests())
}

fn refused(request: &str) -> Option<Malformed> {
    run(request.as_bytes(), &[], LIMITS).1.map(|(reason, _)| reason)
}

#[test]
fn good_requests_pass_whole() {
    let good = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET http://a/x HTTP/1.1\r\nHost: A:80\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost:a\r\ncontent-length: 5 \r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tChunked\r\n\r\n5;a=b\r\nhello\r\n0a\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX_Y:\r\nZ: \u{e9}\ttab\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in good {
        let (released, malformed, _) = run(request.as_bytes(), &[], LIMITS);
        assert_eq!(
            (malformed, released),
            (None, request.as_bytes().to_vec()),
            "{request:?}"
        );
    }
}

/// A request with these header lines.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

/// A request with this request line.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

/// A request with these bytes for a chunked body.
fn chunked(body: &str) -> String {
    with("Transfer-Encoding: chunked") + body
}

fn all_are_refused<const N: usize>(expected: Malformed, requests: [String; N]) {
    for request in requests {
        assert_eq!(refused(&request), Some(expected), "{request:?}");
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    let both = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ];
    all_are_refused(Malformed::LengthAndEncoding, both.map(with));
    let several = ["Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5"];
    all_are_refused(Malformed::ContentLengthRepeated, several.map(with));
    let odd = ["+5", "-5", "0x5", "5 5", "", "5;", "99999999999999999999"];
    all_are_refused(
        Malformed::ContentLength,
        odd.map(|value| with(&format!("Content-Length: {value}"))),
    );
    let encodings = [
        "gzip, chunked",
        "chunked, identity",
        "\"chunked\"",
        "",
        "chunked;q=1",
        "xchunked",
    ];
    all_are_refused(
        Malformed::TransferEncoding,
        encodings.map(|value| with(&format!("Transfer-Encoding: {value}"))),
    );
    let others = [
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    ];
    all_are_refused(Malformed::TransferEncoding, others);
}

#[test]
fn odd_lines_and_fields_are_refused() {
    all_are_refused(Malformed::SpaceBeforeColon, ["X : y", "X\t: y"].map(with));
    let folded = [
        with("X: y\r\n folded"),
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(),
    ];
    all_are_refused(Malformed::ObsFold, folded);
    all_are_refused(
        Malformed::BareCr,
        [with("X: a\rb"), "GET / HTTP/1.1\rHost: a\r\r".to_owned()],
    );
    all_are_refused(
        Malformed::BareLf,
        [with("X: a\nY: b"), "GET / HTTP/1.1\nHost: a\n\n".to_owned()],
    );
    all_are_refused(
        Malformed::HeaderValue,
        ["X: a\0b", "X: a\u{1}b", "X: a\u{7f}b"].map(with),
    );
    all_are_refused(Malformed::HeaderName, ["X\0: a", ": a", "X", "X(y): a"].map(with));
    all_are_refused(
        Malformed::HeadTooLarge,
        [with(&format!("X: {}", "y".repeat(256)))],
    );
    all_are_refused(
        Malformed::TooManyHeaders,
        [with("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6")],
    );
}

#[test]
fn odd_hosts_are_refused() {
    all_are_refused(Malformed::HostRepeated, [with("Host: a")]);
    all_are_refused(Malformed::HostMissing, ["GET / HTTP/1.1\r\n\r\n".to_owned()]);
    let odd = ["", "a b", "a/b", "a,b", "u@a"];
    all_are_refused(
        Malformed::Host,
        odd.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
    );
    all_are_refused(Malformed::Host, [line("GET http://u@a/ HTTP/1.1")]);
    let other = ["GET http://b/ HTTP/1.1", "GET https://a:80/ HTTP/1.1"];
    all_are_refused(Malformed::HostMismatch, other.map(line));
}

#[test]
fn odd_request_lines_are_refused() {
    let targets = ["a", "*", "/#x", "/\u{e9}", "/\0", "/a b", " /", "ftp://a/"];
    all_are_refused(
        Malformed::Target,
        targets.map(|target| line(&format!("GET {target} HTTP/1.1"))),
    );
    let long = [
        line(&format!("GET /{} HTTP/1.1", "x".repeat(256))),
        format!("GET /{}", "x".repeat(400)),
    ];
    all_are_refused(Malformed::TargetTooLong, long);
    let methods = ["CONNECT a:443 HTTP/1.1", "TRACE / HTTP/1.1", "trace / HTTP/1.1"];
    all_are_refused(Malformed::MethodRefused, methods.map(line));
    all_are_refused(
        Malformed::Method,
        ["G{}T / HTTP/1.1", " GET / HTTP/1.1"].map(line),
    );
    let junk = [
        "GET /",
        "GET / HTTP/1.1 ",
        "GET / http/1.1",
        "GET\t/\tHTTP/1.1",
        "\r\n\r\n\r\nGET / HTTP/1.1",
    ];
    all_are_refused(Malformed::RequestLine, junk.map(line));
    all_are_refused(Malformed::Version, ["GET / HTTP/1.2", "PRI * HTTP/2.0"].map(line));
}

#[test]
fn odd_chunks_are_refused() {
    let sizes = [
        "0x5",
        "+5",
        "-5",
        " 5",
        "5 ",
        "5\t;a",
        "",
        ";a",
        "00000000000000005",
    ];
    all_are_refused(
        Malformed::ChunkSize,
        sizes.map(|size| chunked(&format!("{size}\r\nhello\r\n"))),
    );
    let line_feeds = ["5\nhello\r\n", "5;a\nhello\r\n", "0\r\nX: y\n\r\n"];
    all_are_refused(Malformed::BareLf, line_feeds.map(chunked));
    all_are_refused(Malformed::BareCr, ["5\rhello\r\n", "0\r\n\rx"].map(chunked));
    let long = format!("5;{}\r\nhello\r\n", "x".repeat(1025));
    let extensions = ["5;a=\u{1}\r\nhello\r\n", "5;a b\r\nhello\r\n", &long];
    all_are_refused(Malformed::ChunkExtension, extensions.map(chunked));
    let ends = ["5\r\nhelloX\r\n", "5\r\nhello\rX", "5\r\nhello\n0\r\n"];
    all_are_refused(Malformed::ChunkEnd, ends.map(chunked));
    all_are_refused(Malformed::SpaceBeforeColon, [chunked("0\r\nX : y\r\n\r\n")]);
    let long = format!("0\r\nx: {}\r\n\r\n", "y".repeat(9000));
    all_are_refused(
        Malformed::Trailer,
        ["0\r\nContent-Length: 5\r\n\r\n", &long].map(chunked),
    );
}

#[test]
fn a_head_over_the_bound_is_refused_wherever_the_bound_falls() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    for head_bytes in 20..=request.len() {
        let limits = WireLimits {
            head_bytes,
            headers: 6,
        };
        let expected = (head_bytes < request.len()).then_some((Malformed::HeadTooLarge, 0));
        assert_eq!(run(request.as_bytes(), &[], limits).1, expected, "{head_bytes}");
    }
}

#[test]
fn the_largest_size_that_fits_is_no_overflow() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nxyz";
    assert_eq!(refused(request), None);
}

#[test]
fn a_refusal_names_the_request_it_is_about() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (released, malformed, _) = run(format!("{good}{good}GET\r\n").as_bytes(), &[], LIMITS);
    assert_eq!(
        (released.len(), malformed),
        (2 * good.len(), Some((Malformed::RequestLine, 2)))
    );

    let mut scanner = Scanner::new(LIMITS);
    let bad_body =
        format!("{good}POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld");
    let scan = scanner.scan(bad_body.as_bytes());
    assert_eq!((scan.request, scan.head_at), (1, Some(good.len())));
    assert_eq!(scan.stop, Stop::Malformed(Malformed::ChunkEnd));
}

#[test]
fn what_follows_an_upgrade_waits() {
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let mut scanner = Scanner::new(LIMITS);
    let scan = scanner.scan(format!("{upgrade}\0not HTTP").as_bytes());
    assert_eq!((scan.release, scan.stop), (upgrade.len(), Stop::AwaitAnswer));
    assert_eq!(scanner.scan(b"\0not HTTP").release, 0);
    scanner.resume();
    assert_eq!(
        scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").stop,
        Stop::NeedMore
    );
}

/// Pieces from which good and bad requests come about.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /x?y HTTP/1.1\r\n",
        b"GET http://a/ HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Upgrade: x\r\n",
        b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b":",
        b"hello",
        b"5\r\nhello\r\n",
        b"5;a=b\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nT: v\r\n\r\n",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    prop_oneof![
        9 => proptest::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_result_does_not_depend_on_the_pieces(
        pieces in proptest::collection::vec(piece(), 0..14),
        // Small enough that many heads come close to the bound.
        head_bytes in 20..120_usize,
        mut cuts in proptest::collection::vec(0..600_usize, 0..8),
    ) {
        let bytes = pieces.concat();
        cuts.sort_unstable();
        let limits = WireLimits { head_bytes, headers: 3 };
        let whole = run(&bytes, &[], limits);
        prop_assert_eq!(&run(&bytes, &cuts, limits), &whole);
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&run(&bytes, &each, limits), &whole);
    }
}

//! HTTP/1.1 exchanges: reuse, replacement, deadlines, refusals, upgrades.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::upstream::testing::{
    Bench, Origin, config, get, post, read, read_head, soon, streaming_post, until,
};
use crate::upstream::{ErrorKind, ExchangeKind, Manner};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn one_connection_serves_exchanges_in_turn() {
    let origin = Origin::answering(OK).await;
    let bench = Bench::before(&origin);
    for _ in 0..3 {
        assert_eq!(bench.get().await.unwrap(), "ok");
        assert_eq!(bench.endpoint().in_flight(), 0);
    }
    assert_eq!(origin.accepted(), 1);
    assert_eq!(
        (
            bench.endpoint().open_connections(),
            bench.endpoint().idle_connections()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn answers_without_a_body_and_chunked_ones_leave_the_connection_reusable() {
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    ];
    for answer in answers {
        let origin = Origin::answering(answer).await;
        let bench = Bench::before(&origin);
        bench.get().await.unwrap();
        bench.get().await.unwrap();
        assert_eq!(origin.accepted(), 1);
    }
}

#[tokio::test]
async fn a_streamed_request_body_leaves_the_connection_reusable() {
    let origin = Origin::start(|mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            let mut body = Vec::new();
            while !body.ends_with(b"0\r\n\r\n") {
                body.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    let bench = Bench::before(&origin);
    for _ in 0..2 {
        let (feed, request) = streaming_post();
        feed.send(Ok(http_body::Frame::data("hello".into())))
            .await
            .unwrap();
        drop(feed);
        read(bench.send(request).await.unwrap()).await.unwrap();
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_peer_closed_while_idle_is_replaced() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    })
    .await;
    let bench = Bench::before(&origin);
    for round in 1..4 {
        assert_eq!(
            read(bench.send(post("hello")).await.unwrap()).await.unwrap(),
            "ok"
        );
        soon(closings.recv()).await.unwrap();
        assert_eq!(origin.accepted(), round);
    }
}

#[tokio::test]
async fn a_refused_connection_gives_the_request_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let bench = Bench::new(config(&[&address]));
    let error = bench.send(post("hello")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    let mut request = *error.request.unwrap();
    assert_eq!(
        (request.uri().path(), &request.headers()["host"]),
        ("/", &"hub.local".parse().unwrap())
    );
    assert_eq!(
        request
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "hello"
    );
    assert_eq!(
        (bench.endpoint().in_flight(), bench.endpoint().open_connections()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_missing_first_byte_ends_the_exchange_and_the_connection() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            closed.send(()).unwrap();
        }
    })
    .await;
    let mut bench = Bench::before(&origin);
    bench.timeouts.first_byte = Duration::from_millis(20);
    let error = bench.send(get("/")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::FirstByteTimeout);
    assert!(error.request.is_none());
    soon(closings.recv()).await.unwrap();
    bench.timeouts.total = Duration::from_millis(10);
    assert_eq!(
        bench.send(get("/")).await.unwrap_err().kind,
        ErrorKind::TotalTimeout
    );
}

#[tokio::test]
async fn dropping_the_exchange_closes_the_connection() {
    let (seen, mut sights) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            read_head(&mut stream).await;
            seen.send("request").unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            seen.send("close").unwrap();
        }
    })
    .await;
    let bench = Bench::before(&origin);
    tokio::select! {
        _ = bench.send(get("/")) => panic!("no answer was sent"),
        sight = sights.recv() => assert_eq!(sight, Some("request")),
    }
    assert_eq!(soon(sights.recv()).await, Some("close"));
    assert_eq!(bench.endpoint().in_flight(), 0);
}

#[tokio::test]
async fn malformed_answers_are_protocol_errors() {
    let many: &'static [u8] = {
        let fields: String = (0..300).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n")
            .leak()
            .as_bytes()
    };
    let answers: [&[u8]; 6] = [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        many,
    ];
    for answer in answers {
        let origin = Origin::answering(answer).await;
        let bench = Bench::before(&origin);
        let error = bench.send(get("/")).await.unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::Protocol,
            "{error} for {}",
            String::from_utf8_lossy(answer)
        );
        until(|| bench.endpoint().open_connections() == 0).await;
    }
}

#[tokio::test]
async fn a_close_instead_of_an_answer_is_a_reset() {
    let origin = Origin::start(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let error = Bench::before(&origin).send(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.reused), (ErrorKind::Reset, false));
    assert!(error.request.is_none());
}

#[tokio::test]
async fn a_failing_request_body_is_our_clients_fault() {
    let origin = Origin::start(|mut stream| async move {
        let mut all = Vec::new();
        let _end = stream.read_to_end(&mut all).await;
    })
    .await;
    let (feed, request) = streaming_post();
    feed.send(Ok(http_body::Frame::data("hel".into()))).await.unwrap();
    feed.send(Err("client went away".into())).await.unwrap();
    let error = Bench::before(&origin).send(request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RequestBody);
}

#[tokio::test]
async fn an_early_answer_is_passed_on_and_its_connection_closed() {
    let origin = Origin::start(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        let _rest = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let bench = Bench::before(&origin);
    let (_feed, request) = streaming_post();
    let response = bench.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    read(response).await.unwrap();
    assert_eq!(bench.endpoint().idle_connections(), 0);
    until(|| bench.endpoint().open_connections() == 0).await;
}

#[tokio::test]
async fn informational_answers_reach_the_caller() {
    let early =
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let origin = Origin::answering(early).await;
    let hints = std::sync::Mutex::new(Vec::new());
    let tell = |status: StatusCode, _version: Version, fields: &HeaderMap| {
        hints.lock().unwrap().push((status, fields["link"].clone()));
    };
    let bench = Bench::before(&origin);
    let manner = Manner {
        on_interim: Some(&tell),
        ..bench.manner(ExchangeKind::Ordinary)
    };
    let response = bench.send_in(get("/"), manner).await.unwrap();
    assert_eq!(
        *hints.lock().unwrap(),
        [(StatusCode::EARLY_HINTS, HeaderValue::from_static("</a.css>"))]
    );
    assert_eq!(read(response).await.unwrap(), "ok");
}

#[tokio::test]
async fn an_upgraded_connection_is_handed_over_and_stays_counted() {
    let origin = Origin::start(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert!(head.to_ascii_lowercase().contains("upgrade: echo"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let (mut from, mut to) = stream.split();
        let _end = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let bench = Bench::before(&origin);
    let mut request = get("/");
    request
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "echo".parse().unwrap());
    let mut response = bench.send_as(request, ExchangeKind::Upgrade).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut tunnel = response.body_mut().take_upgraded().unwrap();
    assert!(response.body_mut().take_upgraded().is_none());
    tunnel.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    tunnel.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");
    assert_eq!(bench.endpoint().open_connections(), 1);
    drop(tunnel);
    until(|| bench.endpoint().open_connections() == 0).await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_whole_request_is_not_lost_to_the_reset_behind_it() {
    let origin = Origin::start(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        // Closed with unread bytes in its buffer, the socket sends a reset.
    })
    .await;
    let bench = Bench::before(&origin);
    for _ in 0..5 {
        let response = bench.send(post("x".repeat(8 << 20).leak())).await.unwrap();
        assert_eq!(response.status(), 413);
    }
}

#[tokio::test]
async fn a_reset_while_the_request_is_sent_is_no_clean_end() {
    let origin = Origin::start(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbegun").await.unwrap();
    })
    .await;
    let bench = Bench::before(&origin);
    for _ in 0..5 {
        match bench.send(post("x".repeat(8 << 20).leak())).await {
            Ok(response) => assert!(read(response).await.is_err()),
            Err(error) => assert_eq!(error.kind, ErrorKind::Reset),
        }
    }
}

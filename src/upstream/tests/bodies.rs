//! Response bodies: only a complete one ends without an error.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::upstream::ErrorKind;
use crate::upstream::testing::{Bench, Origin, get, read, read_head, soon, until};

/// An origin that answers with `answer` and closes at once, or keeps the connection silent.
async fn broken(answer: &'static [u8], close: bool) -> Origin {
    Origin::start(move |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        if !close {
            let _end = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await
}

#[tokio::test]
async fn truncated_bodies_are_errors_and_their_connection_is_not_kept() {
    let answers: [(&[u8], ErrorKind); 4] = [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
            ErrorKind::Reset,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            ErrorKind::Reset,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nok",
            ErrorKind::Reset,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
            ErrorKind::Protocol,
        ),
    ];
    for (answer, kind) in answers {
        let origin = broken(answer, true).await;
        let bench = Bench::before(&origin);
        let error = bench.get().await.unwrap_err();
        assert_eq!(
            error.kind,
            kind,
            "{error} for {}",
            String::from_utf8_lossy(answer)
        );
        assert_eq!(
            (bench.endpoint().in_flight(), bench.endpoint().idle_connections()),
            (0, 0)
        );
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_complete() {
    let origin = broken(b"HTTP/1.0 200 OK\r\n\r\nall of it", true).await;
    assert_eq!(Bench::before(&origin).get().await.unwrap(), "all of it");
}

#[tokio::test]
async fn a_silent_body_meets_the_idle_or_the_total_deadline() {
    let started = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
    let origin = broken(started, false).await;
    let mut bench = Bench::before(&origin);
    bench.timeouts.idle = Duration::from_millis(20);
    assert_eq!(bench.get().await.unwrap_err().kind, ErrorKind::IdleTimeout);
    bench.timeouts.idle = Duration::from_secs(20);
    bench.timeouts.total = Duration::from_millis(20);
    assert_eq!(bench.get().await.unwrap_err().kind, ErrorKind::TotalTimeout);
    until(|| bench.endpoint().open_connections() == 0).await;
}

#[tokio::test]
async fn dropping_a_body_early_closes_the_connection() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
                .await
                .unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            closed.send(()).unwrap();
        }
    })
    .await;
    let bench = Bench::before(&origin);
    let response = bench.send(get("/")).await.unwrap();
    assert_eq!(bench.endpoint().in_flight(), 1);
    drop(response);
    soon(closings.recv()).await.unwrap();
    assert_eq!(
        (bench.endpoint().in_flight(), bench.endpoint().idle_connections()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_connection_with_bytes_left_over_is_not_reused() {
    let origin =
        Origin::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n").await;
    let bench = Bench::before(&origin);
    assert_eq!(bench.get().await.unwrap(), "ok");
    assert_eq!(bench.get().await.unwrap(), "ok");
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn trailers_are_passed_on() {
    let answer = b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let origin = Origin::answering(answer).await;
    let bench = Bench::before(&origin);
    let mut body = bench.send(get("/")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["x-sum"], "7");
    assert!(body.frame().await.is_none());
    assert_eq!(bench.endpoint().in_flight(), 0, "the end counts, not the drop");
    bench.get().await.unwrap();
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_body_arrives_as_it_is_sent() {
    let (step, mut steps) = mpsc::unbounded_channel::<&'static [u8]>();
    let steps = std::sync::Arc::new(tokio::sync::Mutex::new(async move || steps.recv().await));
    let origin = Origin::start(move |mut stream| {
        let steps = std::sync::Arc::clone(&steps);
        async move {
            read_head(&mut stream).await;
            while let Some(bytes) = (steps.lock().await)().await {
                stream.write_all(bytes).await.unwrap();
            }
        }
    })
    .await;
    let bench = Bench::before(&origin);
    step.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let response = bench.send(get("/")).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..3 {
        step.send(b"7\r\ndata: x\r\n").unwrap();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "data: x"
        );
    }
    step.send(b"0\r\n\r\n").unwrap();
    assert!(body.frame().await.is_none());
    let again = bench.send(get("/"));
    step.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .unwrap();
    assert!(read(again.await.unwrap()).await.is_ok());
}

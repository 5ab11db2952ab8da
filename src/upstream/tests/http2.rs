//! HTTP/2 by prior knowledge: one connection for many exchanges, replaced when it closes, streams reset.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use crate::config::UpstreamProtocol;
use crate::upstream::testing::{Bench, Origin, config, get, read, soon, streaming_post, until};
use crate::upstream::{BoxError, ErrorKind, ExchangeKind, RequestBody};

type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

/// A body fed through a channel.
fn fed() -> (Frames, RequestBody) {
    let (feed, mut frames) = mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |cx| frames.poll_recv(cx));
    (feed, RequestBody::new(StreamBody::new(stream)))
}

/// An HTTP/2 origin; `close` makes each connection send GOAWAY.
async fn origin<A, F>(answer: A, close: Arc<Notify>) -> Origin
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<RequestBody>> + Send + 'static,
{
    Origin::start(move |stream| {
        let (answer, close) = (answer.clone(), Arc::clone(&close));
        async move {
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
            let closing = close.notified();
            tokio::select! {
                _ = connection.as_mut() => return,
                () = closing => connection.as_mut().graceful_shutdown(),
            }
            let _ended = connection.await;
        }
    })
    .await
}

fn bench(origin: &Origin) -> Bench {
    let mut config = config(&[&origin.label()]);
    config.protocol = UpstreamProtocol::H2;
    Bench::new(config)
}

fn text(text: &'static str) -> RequestBody {
    let (feed, body) = fed();
    feed.send(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
        .unwrap();
    body
}

#[tokio::test]
async fn exchanges_share_one_connection() {
    let origin = origin(
        |request: Request<Incoming>| async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.uri().authority().unwrap(), "hub.local");
            assert!(!request.headers().contains_key("host"));
            assert_eq!(
                request.headers().get("te").map(|te| te.as_bytes()),
                Some(&b"trailers"[..])
            );
            Response::new(text("ok"))
        },
        Arc::default(),
    )
    .await;
    let bench = bench(&origin);
    let exchanges = (0..20).map(|_| {
        let mut request = get("/a");
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        bench.send(request)
    });
    for response in futures_util::future::join_all(exchanges).await {
        assert_eq!(read(response.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(origin.accepted(), 1);
    assert_eq!(
        (bench.endpoint().in_flight(), bench.endpoint().open_connections()),
        (0, 1)
    );
}

#[tokio::test]
async fn a_connection_that_says_goaway_is_replaced_and_its_streams_end_well() {
    let close = Arc::new(Notify::new());
    let (feed, mut feeds) = mpsc::unbounded_channel();
    let origin = origin(
        move |_| {
            let (frames, body) = fed();
            feed.send(frames).unwrap();
            async move { Response::new(body) }
        },
        Arc::clone(&close),
    )
    .await;
    let bench = bench(&origin);
    let early = bench.send(get("/")).await.unwrap();
    let early_feed = soon(feeds.recv()).await.unwrap();
    close.notify_waiters();
    let late = loop {
        // The old connection takes streams until the client has seen GOAWAY.
        let response = bench.send(get("/")).await.unwrap();
        let frames = soon(feeds.recv()).await.unwrap();
        if origin.accepted() == 2 {
            break (frames, response);
        }
    };
    early_feed.send(Ok(Frame::data("early".into()))).unwrap();
    late.0.send(Ok(Frame::data("late".into()))).unwrap();
    drop((early_feed, late.0));
    assert_eq!(read(early).await.unwrap(), "early");
    assert_eq!(read(late.1).await.unwrap(), "late");
}

/// An origin that hands out the feed of each body it answers with.
async fn fed_origin() -> (Origin, mpsc::UnboundedReceiver<Frames>) {
    let (feed, feeds) = mpsc::unbounded_channel();
    let answer = move |_| {
        let (frames, body) = fed();
        feed.send(frames).unwrap();
        async move { Response::new(body) }
    };
    (origin(answer, Arc::default()).await, feeds)
}

#[tokio::test]
async fn a_reset_stream_is_an_error_and_the_connection_goes_on() {
    let (origin, mut feeds) = fed_origin().await;
    let bench = bench(&origin);
    let response = bench.send(get("/")).await.unwrap();
    let feed = soon(feeds.recv()).await.unwrap();
    feed.send(Ok(Frame::data("half".into()))).unwrap();
    feed.send(Err("broken".into())).unwrap();
    assert_eq!(read(response).await.unwrap_err().kind, ErrorKind::Reset);
    let response = bench.send(get("/")).await.unwrap();
    drop(soon(feeds.recv()).await.unwrap());
    assert_eq!(read(response).await.unwrap(), "");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_cancelled_connection_never_looks_like_an_end() {
    let (origin, mut feeds) = fed_origin().await;
    let bench = bench(&origin);
    let response = bench.send(get("/")).await.unwrap();
    let _feed = soon(feeds.recv()).await.unwrap();
    bench.tasks.cancel();
    assert_eq!(read(response).await.unwrap_err().kind, ErrorKind::Reset);
}

#[tokio::test]
async fn a_complete_answer_before_the_end_of_the_upload_is_complete() {
    let origin = origin(|_| async { Response::new(text("ok")) }, Arc::default()).await;
    let bench = bench(&origin);
    let (_feed, request) = streaming_post();
    assert_eq!(read(bench.send(request).await.unwrap()).await.unwrap(), "ok");
}

#[tokio::test]
async fn dropping_a_response_resets_its_stream_even_during_the_upload() {
    let (seen, mut sights) = mpsc::unbounded_channel();
    let origin = origin(
        move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let (feed, body) = fed();
                let mut upload = request.into_body();
                seen.send(true).unwrap();
                let watcher = async move {
                    // The upload fails when the stream is reset.
                    while let Some(Ok(_)) = upload.frame().await {}
                    feed.closed().await;
                    seen.send(false).unwrap();
                };
                crate::tasks::Tasks::new().spawn_to_end(watcher);
                Response::new(body)
            }
        },
        Arc::default(),
    )
    .await;
    let bench = bench(&origin);
    let (_feed, request) = streaming_post();
    let response = bench.send(request).await.unwrap();
    assert_eq!(soon(sights.recv()).await, Some(true));
    drop(response);
    assert_eq!(soon(sights.recv()).await, Some(false));
    assert_eq!(bench.endpoint().in_flight(), 0);
}

#[tokio::test]
async fn auto_takes_http2_for_grpc_only() {
    let origin = origin(|_| async { Response::new(text("ok")) }, Arc::default()).await;
    let mut config = config(&[&origin.label()]);
    config.protocol = UpstreamProtocol::Auto;
    let bench = Bench::new(config);
    let response = bench.send_as(get("/"), ExchangeKind::Grpc).await.unwrap();
    assert_eq!(
        (response.version(), read(response).await.unwrap().as_str()),
        (Version::HTTP_2, "ok")
    );
    assert!(bench.send(get("/")).await.is_err());
}

#[tokio::test]
async fn an_unused_shared_connection_is_closed() {
    let origin = origin(|_| async { Response::new(text("ok")) }, Arc::default()).await;
    let bench = bench(&origin);
    bench.get().await.unwrap();
    bench.clock.advance(std::time::Duration::from_secs(61));
    until(|| bench.endpoint().open_connections() == 0).await;
    bench.get().await.unwrap();
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn an_upgrade_is_refused_before_anything_is_sent() {
    let origin = origin(|_| async { Response::new(text("ok")) }, Arc::default()).await;
    let error = bench(&origin)
        .send_as(get("/"), ExchangeKind::Upgrade)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.request.is_some(), origin.accepted()),
        (ErrorKind::Protocol, true, 0)
    );
}

#[tokio::test]
async fn a_shared_connection_with_a_long_stream_is_kept() {
    let (origin, mut feeds) = fed_origin().await;
    let bench = bench(&origin);
    let _long = bench.send(get("/")).await.unwrap();
    let _feed = soon(feeds.recv()).await.unwrap();
    bench.clock.advance(std::time::Duration::from_secs(61));
    bench.pool.prune();
    bench.send(get("/")).await.unwrap();
    assert_eq!(origin.accepted(), 1);
}

/// One HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test]
async fn a_reset_without_an_error_code_is_no_end() {
    let origin = Origin::start(|mut stream| async move {
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == 1 {
                // HEADERS with `:status: 200`, DATA, RST_STREAM(NO_ERROR).
                let answer = [
                    frame(1, 4, 1, &[0x88]),
                    frame(0, 0, 1, b"half"),
                    frame(3, 0, 1, &[0; 4]),
                ];
                stream.write_all(&answer.concat()).await.unwrap();
            }
        }
    })
    .await;
    let response = bench(&origin).send(get("/")).await.unwrap();
    assert_eq!(read(response).await.unwrap_err().kind, ErrorKind::Reset);
}

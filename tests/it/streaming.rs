//! Bodies and upgrades pass as they come, in both directions.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{
    BodySender, Call, ConfigText, Connection, Gate, Origin, Raw, RawOrigin, Reply, Sidecar, channel,
    read_all, try_fetch, within,
};

/// An origin whose one answer for `/stream` is sent by the test.
async fn scripted(origin: &Origin, reply: impl Fn() -> Reply + Send + Sync + 'static) -> BodySender {
    let (sender, payload) = channel();
    let payload = Mutex::new(Some(payload));
    origin.on("/stream", move |_| match payload.lock().take() {
        Some(payload) => reply().body(payload),
        None => Reply::status(410),
    });
    sender
}

async fn chunk(response: &mut Response<Incoming>) -> Bytes {
    let frame = within("a chunk", response.body_mut().frame())
        .await
        .unwrap()
        .unwrap();
    frame.into_data().unwrap()
}

#[tokio::test]
async fn the_first_event_arrives_before_the_last_is_made() {
    let origin = Origin::start().await;
    let events = || Reply::ok("").header("content-type", "text/event-stream");
    let sender = scripted(&origin, events).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    // Not even the head waits for the first event.
    let mut response = within("the head", client.send(Call::get("/stream")))
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        assert!(sender.chunk(event.clone()).await);
        assert_eq!(chunk(&mut response).await, event);
    }
    drop(sender);
    let (rest, _) = within("the end", read_all(response.into_body())).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_request_body_streams_to_the_origin() {
    let seen = Gate::closed();
    let reached = seen.clone();
    let origin = RawOrigin::start(move |mut stream| {
        let reached = reached.clone();
        async move {
            RawOrigin::read_head(&mut stream).await;
            // The first chunk is here before the client has made the second.
            let mut first = [0; 10];
            stream.read_exact(&mut first).await.unwrap();
            reached.open();
            let mut rest = Vec::new();
            while !rest.ends_with(b"0\r\n\r\n") {
                rest.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
            drop(stream.read_u8().await);
        }
    })
    .await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let (sender, payload) = channel();
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    let (answer, ()) = tokio::join!(client.fetch(Call::new("POST", "/upload").body(payload)), async {
        assert!(sender.chunk("hello").await);
        within("the first chunk at the origin", seen.passed()).await;
        assert!(sender.chunk("world").await);
        drop(sender);
    });
    assert_eq!(answer.unwrap().text(), "ok");
}

#[tokio::test]
async fn a_large_body_arrives_unchanged_both_ways() {
    let origin = Origin::start().await;
    origin.on("/echo", |seen| Reply::ok(seen.body));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let large: Bytes = (0..8 * 1024 * 1024_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let answer = sidecar.fetch(Call::json("/echo", large.clone())).await;
    assert!(answer.body == large, "{} bytes came back", answer.body.len());
}

#[tokio::test]
async fn trailers_pass_over_http1() {
    let origin = Origin::start().await;
    let sender = scripted(&origin, || Reply::ok("").header("trailer", "x-checksum")).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    let (answer, ()) = tokio::join!(
        client.fetch(Call::get("/stream").header("te", "trailers")),
        async {
            assert!(sender.chunk("body").await);
            sender.trailers(trailer("x-checksum", "42")).await;
        }
    );
    let answer = answer.unwrap();
    assert_eq!(answer.text(), "body");
    assert_eq!(answer.trailers.unwrap()["x-checksum"], "42");
    assert!(
        !answer.headers.contains_key("x-checksum"),
        "trailers are not merged into the header"
    );
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_origin() {
    let origin = Origin::start().await;
    origin.on("/upload", |seen| Reply::ok(seen.body));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    let (sender, payload) = channel();
    let call = Call::new("POST", "/upload")
        .header("trailer", "x-checksum")
        .body(payload);
    let (answer, ()) = tokio::join!(client.fetch(call), async {
        assert!(sender.chunk("body").await);
        sender.trailers(trailer("x-checksum", "42")).await;
    });
    assert_eq!(answer.unwrap().text(), "body");
    let seen = origin.last("/upload");
    assert!(!seen.headers.contains_key("x-checksum"), "{seen:?}");
    assert_eq!(seen.trailers.unwrap()["x-checksum"], "42");
}

#[tokio::test]
async fn grpc_shaped_answers_pass_over_http2_with_their_trailers() {
    let origin = Origin::start_h2().await;
    let sender = scripted(&origin, || {
        Reply::ok("").header("content-type", "application/grpc")
    })
    .await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).upstream("protocol: h2")).await;
    let mut client = Connection::open_h2(sidecar.address()).await.unwrap();
    let call = Call::new("POST", "/stream")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (answer, ()) = tokio::join!(client.fetch(call), async {
        assert!(sender.chunk("message").await);
        sender.trailers(trailer("grpc-status", "0")).await;
    });
    let answer = answer.unwrap();
    assert_eq!(answer.text(), "message");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    assert_eq!(origin.last("/stream").version, http::Version::HTTP_2);
    assert_eq!(origin.last("/stream").header("te"), "trailers");
}

#[tokio::test]
async fn http2_clients_share_a_connection_and_the_cache() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("x").cache_control("max-age=60"));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Connection::open_h2(sidecar.address()).await.unwrap();
    assert!(client.fetch(Call::get("/a")).await.unwrap().cache_says("stored"));
    assert!(client.fetch(Call::get("/a")).await.unwrap().cache_says("hit"));
    let authority = sidecar.address().to_string();
    assert_eq!(origin.last("/a").header("host"), authority);
    assert!(
        sidecar.get("/a").await.cache_says("hit"),
        "the same key over HTTP/1.1"
    );
}

#[tokio::test]
async fn websockets_pass_and_close() {
    let origin = RawOrigin::start(|stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let request = format!("ws://{}/ws", sidecar.address())
        .into_client_request()
        .unwrap();
    let stream = TcpStream::connect(sidecar.address()).await.unwrap();
    let opening = tokio_tungstenite::client_async(request, stream);
    let (mut socket, response) = within("the upgrade", opening).await.unwrap();
    assert_eq!(response.status(), 101);
    for message in [Message::text("hello"), Message::binary(vec![0_u8; 100_000])] {
        socket.send(message.clone()).await.unwrap();
        let echo = within("the echo", socket.next()).await.unwrap().unwrap();
        assert!(echo == message);
    }
    socket.close(None).await.unwrap();
    while within("the end", socket.next())
        .await
        .is_some_and(|message| message.is_ok())
    {}
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let origin = Origin::start().await;
    origin.on("/upload", |seen| Reply::ok(seen.body));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Raw::connect(sidecar.address()).await;
    client
        .send("POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.bytes(5).await, b"hello");
}

#[tokio::test]
async fn an_unasked_upgrade_and_bad_framing_are_502_and_the_connection_is_not_used_again() {
    let answers = [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "garbage\r\n\r\n",
    ];
    for answer in answers {
        let origin = RawOrigin::start(move |mut stream| async move {
            RawOrigin::read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream.read_u8().await);
        })
        .await;
        let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
        for round in 1..=2 {
            let refused = sidecar.get("/a").await;
            assert_eq!(refused.status, 502, "{answer:?}: {refused:?}");
            assert!(origin.connections() >= round, "{answer:?}");
        }
    }
}

/// PROOF, fault 3.
#[tokio::test]
async fn a_truncated_answer_is_never_a_clean_end_and_never_stored() {
    let truncated = [
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nten bytes.",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\na\r\nten bytes.\r\n",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\na\r\nten",
    ];
    for answer in truncated {
        let origin = RawOrigin::start(move |mut stream| async move {
            RawOrigin::read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
        for round in 1..=2 {
            let broken = try_fetch(sidecar.address(), Call::get("/a")).await;
            assert!(broken.is_err(), "{answer:?}: {broken:?}");
            assert_eq!(origin.connections(), round, "nothing is stored: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_reset_stream_of_the_origin_is_a_reset_stream_of_the_client() {
    let origin = Origin::start_h2().await;
    let sender = scripted(&origin, || Reply::ok("").cache_control("max-age=60")).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).upstream("protocol: h2")).await;
    let mut client = Connection::open_h2(sidecar.address()).await.unwrap();
    let mut response = within("the head", client.send(Call::get("/stream")))
        .await
        .unwrap();
    assert!(sender.chunk("part").await);
    assert_eq!(chunk(&mut response).await, "part");
    sender.abort().await;
    assert!(within("the reset", read_all(response.into_body())).await.is_err());
    assert_eq!(
        client.fetch(Call::get("/stream")).await.unwrap().status,
        410,
        "nothing is stored"
    );
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_upstream_request() {
    let origin = Origin::start().await;
    let sender = Arc::new(scripted(&origin, || Reply::ok("").cache_control("no-store")).await);
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    let mut response = within("the head", client.send(Call::get("/stream")))
        .await
        .unwrap();
    assert!(sender.chunk("one").await);
    assert_eq!(chunk(&mut response).await, "one");
    drop((response, client));
    within("the upstream's end", sender.abandoned()).await;
    sidecar.active(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_it_too() {
    let origin = Origin::start().await;
    let gone = Gate::closed();
    let dropped = gone.clone();
    origin.on_async("/slow", move |_| {
        let on_drop = OpenOnDrop(dropped.clone());
        async move {
            let _on_drop = on_drop;
            std::future::pending().await
        }
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Raw::connect(sidecar.address()).await;
    client
        .send("POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        .await;
    origin.reached("/slow", 1).await;
    drop(client);
    within("the upstream's end", gone.passed()).await;
}

#[tokio::test]
async fn deadlines_are_504_with_a_reason() {
    let origin = Origin::start().await;
    origin.on_async("/never", |_| std::future::pending());
    let timeouts = "timeouts: {connect: 1s, first_byte: 100ms, idle: 1s, total: 5s}";
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).upstream(timeouts)).await;
    let answer = sidecar.get("/never").await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(answer.json()["type"].is_string());
}

struct OpenOnDrop(Gate);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

fn trailer(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
}

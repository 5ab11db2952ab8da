//! HTTP/1.1 messages: how requests are written and responses are read, in pieces of every size.

use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::chunked::{Chunked, Piece};
use super::head::{Framing, Head};
use super::*;
use crate::upstream::connect::Offer;
use crate::upstream::slot::Terms;
use crate::upstream::testing::{Bench, Origin, get, post, read, read_head, soon, streaming_post};

fn parse(head: &'static str) -> Result<Option<Head>, &'static str> {
    Head::parse(&Bytes::from_static(head.as_bytes()), &mut Names::default())
}

fn framing(method: Method, head: &'static str) -> Result<Framing, &'static str> {
    let head = parse(head)?.unwrap();
    Framing::of(&head.response, &head.terms, &method)
}

#[test]
fn the_length_of_a_body_follows_rfc_9112_section_6_3() {
    use Framing::{Chunked, Length, UntilClose};
    for (method, head, expected) in [
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            Length(5),
        ),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
            Length(5),
        ),
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\n", UntilClose),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
            Chunked,
        ),
        (
            Method::HEAD,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            Length(0),
        ),
        (Method::HEAD, "HTTP/1.1 200 OK\r\n\r\n", Length(0)),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", Length(0)),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            Length(0),
        ),
        (Method::GET, "HTTP/1.0 200 OK\r\n\r\n", UntilClose),
    ] {
        assert_eq!(framing(method, head), Ok(expected), "{head}");
    }
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        assert!(framing(Method::GET, head).is_err(), "{head}");
    }
}

#[test]
fn a_head_is_whole_or_awaited_or_malformed() {
    let whole = "HTTP/1.0 299 Odd\r\nX-A: 1\r\nx-a:  2 \r\n\r\nbody";
    let head = Head::parse(&Bytes::from_static(whole.as_bytes()), &mut Names::default())
        .unwrap()
        .unwrap();
    assert_eq!(head.length, whole.len() - 4);
    assert_eq!(head.response.status().as_u16(), 299);
    assert_eq!(head.response.version(), Version::HTTP_10);
    let values: Vec<_> = head.response.headers().get_all("x-a").iter().collect();
    assert_eq!(values, ["1", "2"]);
    for begun in ["", "\r", "HT", "HTTP/1.1", "HTTP/1.1 200 OK\r\nx-a: 1\r\n"] {
        assert!(parse(begun).unwrap().is_none(), "{begun:?}");
    }
    for bare in [
        "HTTP/1.1 200\n\n",
        "HTTP/1.1 200 \r\n\r\n",
        "\r\n\nHTTP/1.1 200 OK\n\r\n",
    ] {
        assert_eq!(parse(bare).unwrap().unwrap().length, bare.len(), "{bare:?}");
    }
    for head in [
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx a: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: 1\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: \u{0}\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "SSH",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 200 O\u{1}K\r\n\r\n",
        "HTTP/1.1 200 OK\rx-a: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: 1\rx-b: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
    ] {
        assert!(parse(head).is_err(), "{head:?}");
    }
}

#[test]
fn a_connection_is_kept_as_its_version_and_options_say() {
    for (head, kept) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n\r\n", true),
    ] {
        let parsed = parse(head).unwrap().unwrap();
        assert_eq!(
            parsed.terms.keeps_alive(parsed.response.version()),
            kept,
            "{head}"
        );
    }
}

#[test]
fn what_is_for_the_connection_alone_is_left_out_unless_it_changes_its_protocol() {
    let left = |head| -> Vec<String> {
        let fields = parse(head).unwrap().unwrap().response;
        fields.headers().keys().map(|name| name.to_string()).collect()
    };
    let fields = "connection: keep-alive\r\ntransfer-encoding: chunked\r\netag: a\r\n\r\n";
    assert_eq!(left(format!("HTTP/1.1 200 OK\r\n{fields}").leak()), ["etag"]);
    assert_eq!(
        left("HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\n\r\n"),
        ["connection", "x-hop"],
        "whoever removes what it names needs it"
    );
    assert_eq!(
        left("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
        ["connection", "upgrade"]
    );
}

/// What a chunked body of these bytes is, shown in pieces of `size`; the data, whether it ended, and its trailers.
fn decode(bytes: &[u8], size: usize) -> Result<(Vec<u8>, bool, HeaderMap, usize), &'static str> {
    let mut chunked = Chunked::default();
    let (mut data, mut unused) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(decoded) = chunked.next(&mut piece)? {
            match decoded {
                Piece::Data(part) => data.extend_from_slice(&part),
                Piece::End(trailers) => {
                    unused += piece.len();
                    return Ok((data, true, trailers.unwrap_or_default(), unused));
                }
            }
        }
    }
    Ok((data, false, HeaderMap::new(), unused))
}

#[test]
fn chunks_are_the_same_in_pieces_of_every_size() {
    let body = b"5;ext=\"a b\"\r\nhello\r\n1 \r\n \r\n0A\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n";
    for size in 1..=body.len() {
        let (data, ended, trailers, _) = decode(body, size).unwrap();
        assert_eq!((&data[..], ended), (&b"hello 0123456789"[..], true), "{size}");
        assert_eq!(trailers["x-sum"], "7");
    }
    assert_eq!(decode(b"0\r\n\r\nHTTP", 64).unwrap().3, 4);
    for cut in 1..body.len() {
        assert!(!decode(&body[..cut], 7).unwrap().1, "cut at {cut}");
    }
}

#[test]
fn what_two_readers_could_take_differently_is_an_error() {
    for body in [
        &b"zz\r\n"[..],
        b"\r\n",
        b";a\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b"5\nhello\r\n",
        b"5\r hello",
        b"5;a\nb\r\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\rX",
        b"5\r\nhello\n0\r\n\r\n",
        b"1000000000000000\r\n",
        b"0\r\nx y: 1\r\n\r\n",
        b"0\r\nx-a: 1\n\nx-b: 2\r\n\r\n",
    ] {
        assert!(decode(body, 3).is_err(), "{}", String::from_utf8_lossy(body));
    }
    let extension = format!("1;{}\r\na\r\n", "e".repeat(20_000));
    assert!(decode(extension.as_bytes(), 1000).is_err());
    let trailers = format!("0\r\nx: {}\r\n\r\n", "e".repeat(20_000));
    assert!(decode(trailers.as_bytes(), 1000).is_err());
}

/// An origin that answers once all of `request` has come, and gives what came.
async fn asked(bench_request: Request<RequestBody>, ends_with: &'static [u8]) -> String {
    let (seen, sight) = oneshot::channel();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Some(seen)));
    let origin = Origin::start(move |mut stream| {
        let seen = std::sync::Arc::clone(&seen);
        async move {
            let mut all = Vec::new();
            while !all.ends_with(ends_with) {
                all.push(stream.read_u8().await.unwrap());
            }
            let seen = seen.lock().unwrap().take().unwrap();
            seen.send(String::from_utf8(all).unwrap()).unwrap();
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
        }
    })
    .await;
    let bench = Bench::before(&origin);
    soon(bench.send(bench_request)).await.unwrap();
    sight.await.unwrap()
}

#[tokio::test]
async fn a_request_is_written_with_the_framing_of_its_body() {
    assert_eq!(
        asked(get("/a?b"), b"\r\n\r\n").await,
        "GET /a?b HTTP/1.1\r\nhost: hub.local\r\n\r\n"
    );
    assert_eq!(
        asked(post("hello"), b"hello").await,
        "POST / HTTP/1.1\r\nhost: hub.local\r\ncontent-length: 5\r\n\r\nhello"
    );
    let (feed, mut request) = streaming_post();
    let fields = request.headers_mut();
    fields.insert("trailer", "x-sum, content-length".parse().unwrap());
    let mut trailers = HeaderMap::new();
    for (name, value) in [("x-sum", "7"), ("content-length", "9"), ("x-unannounced", "1")] {
        trailers.insert(name, value.parse().unwrap());
    }
    feed.send(Ok(Frame::data("hello world, hello".into())))
        .await
        .unwrap();
    feed.send(Ok(Frame::data(Bytes::new()))).await.unwrap();
    feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(feed);
    let written = asked(request, b"0\r\nx-sum: 7\r\n\r\n").await;
    assert!(
        written
            .ends_with("transfer-encoding: chunked\r\n\r\n12\r\nhello world, hello\r\n0\r\nx-sum: 7\r\n\r\n"),
        "{written}"
    );
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_was_declared_is_our_clients_fault() {
    for (declared, sent) in [("9", "hello"), ("3", "hello"), ("9", "")] {
        let origin = Origin::answering(b"").await;
        let (feed, mut request) = streaming_post();
        request
            .headers_mut()
            .insert("content-length", declared.parse().unwrap());
        if !sent.is_empty() {
            feed.send(Ok(Frame::data(sent.into()))).await.unwrap();
        }
        drop(feed);
        let error = soon(Bench::before(&origin).send(request)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RequestBody, "{declared} {sent}");
    }
}

#[tokio::test]
async fn a_large_body_is_sent_whole_and_in_order() {
    let sent: &'static str = (0..40_000).map(|n| format!("{n:05}")).collect::<String>().leak();
    let origin = Origin::start(move |mut stream| async move {
        read_head(&mut stream).await.unwrap();
        let mut body = vec![0; sent.len()];
        stream.read_exact(&mut body).await.unwrap();
        let answer = if body == sent.as_bytes() { 204 } else { 500 };
        let answer = format!("HTTP/1.1 {answer} X\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let response = soon(Bench::before(&origin).send(post(sent))).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn parts_wait_for_the_ones_before_them() {
    const PARTS: u8 = 200;
    const PART: usize = 64 * 1024;
    let (go, gone) = oneshot::channel::<()>();
    let gone = std::sync::Arc::new(tokio::sync::Mutex::new(gone));
    let origin = Origin::start(move |mut stream| {
        let gone = std::sync::Arc::clone(&gone);
        async move {
            read_head(&mut stream).await.unwrap();
            // Nothing is read before the sockets are full.
            (&mut *gone.lock().await).await.unwrap();
            let mut part = vec![0; PART];
            for number in 0..PARTS {
                stream.read_exact(&mut part).await.unwrap();
                assert!(part.iter().all(|octet| *octet == number), "{number}");
            }
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
        }
    })
    .await;
    let (feed, mut request) = streaming_post();
    let length = (usize::from(PARTS) * PART).to_string();
    request
        .headers_mut()
        .insert("content-length", length.parse().unwrap());
    let bench = Bench::before(&origin);
    let feeding = async {
        let mut go = Some(go);
        for number in 0..PARTS {
            let frame = Frame::data(vec![number; PART].into());
            for _ in 0..1000 {
                if feed.capacity() > 0 || go.is_none() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if feed.capacity() == 0
                && let Some(go) = go.take()
            {
                go.send(()).unwrap();
            }
            feed.send(Ok(frame)).await.unwrap();
        }
    };
    let (response, ()) = soon(async { tokio::join!(bench.send(request), feeding) }).await;
    assert_eq!(response.unwrap().status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_early_answer_is_read_while_the_request_is_still_sent() {
    const PARTS: usize = 64;
    const PART: usize = 64 * 1024;
    // An origin that echoes: it stops reading when nobody takes what it writes.
    let origin = Origin::start(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PARTS * PART);
        stream.write_all(head.as_bytes()).await.unwrap();
        let (from, mut to) = stream.split();
        let _end = tokio::io::copy(&mut from.take((PARTS * PART) as u64), &mut to).await;
    })
    .await;
    let (feed, mut request) = streaming_post();
    let length = (PARTS * PART).to_string();
    request
        .headers_mut()
        .insert("content-length", length.parse().unwrap());
    let bench = Bench::before(&origin);
    let response = soon(bench.send(request)).await.unwrap();
    let sending = async {
        // Nobody reads the answer before the whole request is sent, but for what fits into the sockets and one frame.
        for _ in 0..8 {
            feed.send(Ok(Frame::data(vec![b'x'; PART].into()))).await.unwrap();
        }
        feed
    };
    let feed = soon(sending).await;
    let rest = async move {
        for _ in 8..PARTS {
            feed.send(Ok(Frame::data(vec![b'x'; PART].into()))).await.unwrap();
        }
    };
    let (text, ()) = soon(async { tokio::join!(read(response), rest) }).await;
    assert_eq!(text.unwrap().len(), PARTS * PART);
    assert_eq!(bench.endpoint().idle_connections(), 0);
}

#[tokio::test]
async fn a_head_in_small_pieces_is_read_and_one_without_an_end_refused() {
    let origin = Origin::start(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for octet in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" {
            stream.write_all(&[*octet]).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let response = soon(Bench::before(&origin).send(get("/"))).await.unwrap();
    assert_eq!(read(response).await.unwrap(), "ok");
    let endless = Origin::start(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.unwrap();
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    })
    .await;
    let error = soon(Bench::before(&endless).send(get("/"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Protocol);
}

#[tokio::test]
async fn the_last_frame_tells_that_it_is_the_last() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let bench = Bench::before(&origin);
    let mut body = bench.send(get("/")).await.unwrap().into_body();
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(2));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
    assert!(http_body::Body::is_end_stream(&body));
    assert_eq!(
        bench.endpoint().idle_connections(),
        1,
        "it went back without another poll"
    );
}

#[tokio::test]
async fn small_parts_share_a_read_buffer_and_large_bodies_get_larger_ones() {
    const LARGE: usize = 4 << 20;
    let (step, steps) = tokio::sync::mpsc::unbounded_channel::<usize>();
    let steps = std::sync::Arc::new(tokio::sync::Mutex::new(steps));
    let origin = Origin::start(move |mut stream| {
        let steps = std::sync::Arc::clone(&steps);
        async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while let Some(length) = steps.lock().await.recv().await {
                stream.write_all(&vec![b'x'; length]).await.unwrap();
            }
        }
    })
    .await;
    let mut body = Bench::before(&origin).send(get("/")).await.unwrap().into_body();
    let mut next = async |length| {
        step.send(length).unwrap();
        soon(body.frame()).await.unwrap().unwrap().into_data().unwrap()
    };
    let parts = [next(10).await, next(10).await, next(10).await];
    for pair in parts.windows(2) {
        assert_eq!(pair[0].as_ptr_range().end, pair[1].as_ptr_range().start);
    }
    let mut largest = next(LARGE).await.len();
    let mut left = LARGE - largest;
    while left > 0 {
        let part = soon(body.frame()).await.unwrap().unwrap().into_data().unwrap();
        left -= part.len();
        largest = largest.max(part.len());
    }
    assert!(largest > 4 * READ_MIN, "{largest}");
}

#[tokio::test]
async fn an_idle_connection_keeps_no_large_buffer() {
    const LARGE: usize = 4 << 20;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n{}",
        "x".repeat(LARGE)
    );
    let origin = Origin::answering(answer.leak().as_bytes()).await;
    let bench = Bench::before(&origin);
    assert_eq!(bench.get().await.unwrap().len(), LARGE);
    let slot = bench.pool.slot(&bench.cluster, &bench.endpoint());
    let idle = slot.at_hand(Terms {
        offer: Offer::Http1,
        deadline: Instant::now(),
        prefer_new: false,
    });
    let idle = idle.unwrap();
    assert!(
        idle.reused && idle.buffer.capacity() <= READ_MIN,
        "{}",
        idle.buffer.capacity()
    );
}

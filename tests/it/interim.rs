//! Interim answers (1xx) reach the client that waits, before the final answer and apart from it.

use std::fmt::Write;

use tokio::io::AsyncWriteExt;

use crate::harness::{Call, ConfigText, Connection, Gate, Raw, RawOrigin, Sidecar};

/// An origin that sends `hints`, and its final answer once `gate` is open. `@` in the hints is the target.
async fn hinting(hints: impl Into<String>, gate: &Gate) -> RawOrigin {
    let (hints, gate) = (hints.into(), gate.clone());
    RawOrigin::start(move |mut stream| {
        let (hints, gate) = (hints.clone(), gate.clone());
        async move {
            loop {
                let head = RawOrigin::read_head(&mut stream).await;
                let Some(target) = head.split(' ').nth(1) else {
                    return;
                };
                // A client of another test may have left.
                drop(stream.write_all(hints.replace('@', target).as_bytes()).await);
                gate.passed().await;
                let length = target.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nCache-Control: max-age=60\r\n\r\n{target}"
                );
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }
    })
    .await
}

fn early(link: &str) -> String {
    format!(
        "HTTP/1.1 103 Early Hints\r\nLink: <{link}>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"
    )
}

fn opened() -> Gate {
    let gate = Gate::closed();
    gate.open();
    gate
}

/// Reads the final answer of `client`, which has no sign of a hint, and its body.
async fn final_answer(client: &mut Raw, body: &str) {
    let head = client.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("link"), "", "a hint is no header of the answer");
    assert_eq!(client.bytes(body.len()).await, body.as_bytes());
}

async fn hint(client: &mut Raw, target: &str) {
    let head = client.head().await;
    assert_eq!(head.status, 103);
    assert_eq!(head.header("link"), format!("<{target}.css>; rel=preload"));
    assert_eq!(head.header("via"), "1.1 outrigger");
    assert_eq!(head.header("connection"), "");
    assert_eq!(head.header("x-hop"), "");
}

#[tokio::test]
async fn early_hints_arrive_before_the_origin_makes_the_answer() {
    // A miss that fills the cache, and one that the cache takes no part in.
    for (method, fields) in [("GET", ""), ("POST", "Content-Length: 0\r\n")] {
        let gate = Gate::closed();
        let origin = hinting(early("@.css"), &gate).await;
        let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
        let mut client = Raw::connect(sidecar.address()).await;
        client
            .send(format!("{method} /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
            .await;
        hint(&mut client, "/a").await;
        gate.open();
        final_answer(&mut client, "/a").await;
        // The connection goes on, in order.
        let pipelined = ["/b", "/c", "/b"].map(|target| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client.send(pipelined.concat()).await;
        for target in ["/b", "/c"] {
            hint(&mut client, target).await;
            final_answer(&mut client, target).await;
        }
        // A hit: hints are not stored.
        final_answer(&mut client, "/b").await;
    }
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_cut_and_the_final_one_arrives() {
    let mut flood = String::new();
    for number in 0..10_000 {
        // Neither is for the client: the first is between two hops, the second too large.
        flood.push_str("HTTP/1.1 100 Continue\r\n\r\n");
        if number == 2 {
            flood.push_str(&early(&"x".repeat(17_000)));
        }
        write!(
            flood,
            "HTTP/1.1 102 Processing\r\nX-Number: {number}\r\nContent-Length: 5\r\n\r\n"
        )
        .unwrap();
    }
    let origin = hinting(flood, &opened()).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Raw::connect(sidecar.address()).await;
    for target in ["/a", "/b"] {
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        for number in 0..7 {
            let head = client.head().await;
            assert_eq!(head.status, 102, "{target}");
            assert_eq!(head.header("x-number"), number.to_string());
            assert_eq!(head.header("content-length"), "", "there is no body");
        }
        final_answer(&mut client, target).await;
    }
}

#[tokio::test]
async fn clients_that_cannot_have_interim_answers_get_the_final_one() {
    let origin = hinting(early("@.css"), &opened()).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut old = Raw::connect(sidecar.address()).await;
    old.send("GET /a HTTP/1.0\r\nHost: h\r\n\r\n").await;
    final_answer(&mut old, "/a").await;
    let mut client = Connection::open_h2(sidecar.address()).await.unwrap();
    let answer = client.fetch(Call::get("/b")).await.unwrap();
    assert_eq!(answer.text(), "/b");
    assert!(!answer.headers.contains_key("link"));
}

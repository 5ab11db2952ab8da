//! HTTP/1: bodies, upgrades, leaving clients.

use super::*;

#[tokio::test]
async fn the_rest_of_a_refused_request_is_read_for_a_while() {
    let running = run();
    let mut client = running.connect().await;
    client
        .write_all(b"G{}T / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 400 "));
    // A closed socket would answer the first byte with a reset, and the answer might be lost with it.
    for _ in 0..10 {
        client.write_all(&[b'x'; 1000]).await.unwrap();
        tokio::task::yield_now().await;
    }
    drop(client);
    until(|| running.site.tasks.len() == 1).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_a_malformed_one_in_its_turn() {
    let running = run();
    let requests = get("/1") + &get("/2") + "GET /3 HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n" + &get("/4");
    let answer = running.exchange(requests.as_bytes()).await;
    let answers: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(answers.len(), 3, "{answer}");
    for (answer, (status, body)) in
        answers
            .iter()
            .zip([("200", "/1"), ("200", "/2"), ("400", "space-before-colon")])
    {
        assert!(
            answer.starts_with(status) && answer.ends_with(&format!("\r\n\r\n{body}")),
            "{answer}"
        );
    }
    assert_eq!(running.site.calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn interim_responses_stay_between_the_response_before_and_their_own() {
    let running = run();
    let requests = get("/large") + &get("/hints") + &get("/hints") + &get("/last").replace("1.1", "1.0");
    let answer = running.exchange(requests.as_bytes()).await;
    let answers: Vec<&str> = answer.split("HTTP/1.").skip(1).collect();
    let hinted = [
        "103 Early Hints\r\nlink: </1>\r\n\r\n",
        "103 Early Hints\r\nlink: </2>\r\n\r\n",
        "hinted",
    ];
    let expected = ["xxx"].iter().chain(&hinted).chain(&hinted).chain(&["/last"]);
    let ends: Vec<&str> = answers
        .iter()
        .map(|answer| &answer[answer.len().saturating_sub(60)..])
        .collect();
    assert_eq!(answers.len(), 8, "{ends:?}");
    for (answer, end) in answers.iter().zip(expected) {
        assert!(answer.ends_with(end), "{end} in {ends:?}");
    }
}

#[tokio::test]
async fn a_head_in_single_bytes_is_served() {
    let running = run();
    let mut client = running.connect().await;
    client.set_nodelay(true).unwrap();
    for byte in (get("/slow")
        + "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .bytes()
    {
        client.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = until_end(&mut client, "abc").await;
    assert!(answer.contains("\r\n\r\n/slowHTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_body_that_breaks_later_fails_for_its_reader() {
    let running = run();
    let mut client = running.connect().await;
    let head = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    running.called(1).await;
    client.write_all(b"5 \r\nworld\r\n0\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("chunk-size"),
        "{answer}"
    );
}

#[tokio::test]
async fn expect_is_answered_when_the_body_is_wanted() {
    let running = run();
    let mut client = running.connect().await;
    let head = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(
        until_end(&mut client, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.write_all(b"ok").await.unwrap();
    assert!(
        until_end(&mut client, "\r\n\r\nok")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn an_upgraded_connection_is_a_byte_stream_until_it_is_idle() {
    let running = run();
    let mut client = running.connect().await;
    let head = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    // Bytes of the new protocol may come before the answer; they must not be taken for a request.
    client
        .write_all(format!("{head}\n\0early").as_bytes())
        .await
        .unwrap();
    let answer = until_end(&mut client, "\n\0early").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.write_all(b"late").await.unwrap();
    assert_eq!(until_end(&mut client, "late").await, "late");
    running.clock.advance(Duration::from_secs(76));
    running.sweeper.sweep();
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn after_a_refused_upgrade_requests_go_on_and_are_checked() {
    let running = run();
    let head =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n");
    let answer = running
        .exchange((head("/1") + &head("/2") + "GET / HTTP/1.1\n").as_bytes())
        .await;
    let bodies: Vec<&str> = answer.split("\r\n\r\n").collect();
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(bodies.last(), Some(&"bare-lf"), "{answer}");
}

#[tokio::test]
async fn the_handler_is_dropped_when_the_client_leaves() {
    let running = run();
    let mut client = running.connect().await;
    client.write_all(get("/hang").as_bytes()).await.unwrap();
    running.called(1).await;
    drop(client);
    until(|| running.site.dropped.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn draining_makes_the_next_answer_the_last_and_then_closes_idle_connections() {
    let running = run();
    let (mut used, mut idle) = (running.connect().await, running.connect().await);
    for client in [&mut used, &mut idle] {
        client.write_all(get("/x").as_bytes()).await.unwrap();
        until_end(client, "/x").await;
    }
    running.sweeper.advance_to(Stage::Draining);
    used.write_all(get("/last").as_bytes()).await.unwrap();
    assert!(rest(&mut used).await.contains("\r\nconnection: close\r\n"));
    running.sweeper.advance_to(Stage::Closing);
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn an_answer_that_breaks_has_no_clean_end() {
    let running = run();
    let answer = running.exchange(get("/broken").as_bytes()).await;
    assert!(
        answer.contains("begun") && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );

    let mut client = running.h2().await;
    let request = Request::get("http://a/broken").body(Empty::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert!(whole(response.into_body()).await.is_err());
}

#[tokio::test]
async fn a_request_that_has_begun_when_the_worker_closes_is_answered() {
    let running = run();
    let mut begun = running.connect().await;
    begun.write_all(b"GET /begun HTTP/1.1\r\n").await.unwrap();
    let mut second = running.connect().await;
    second.write_all(get("/first").as_bytes()).await.unwrap();
    until_end(&mut second, "/first").await;
    second.write_all(b"GET /second HTTP/1.1\r\n").await.unwrap();
    // The listener was asked after both: what they have sent has been read.
    running.exchange(b"GET / HTTP/1.0\r\n\r\n").await;
    running.sweeper.advance_to(Stage::Closing);
    let late = running.exchange(get("/late").as_bytes()).await;
    assert!(late.ends_with("\r\n\r\n/late"), "{late}");
    for (client, path) in [(&mut begun, "/begun"), (&mut second, "/second")] {
        client.write_all(b"Host: a\r\n\r\n").await.unwrap();
        let answer = rest(client).await;
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with(path), "{answer}");
    }
}

#[tokio::test]
async fn an_incomplete_answer_that_only_the_close_delimits_ends_in_a_reset() {
    let running = run();
    let mut client = running.connect().await;
    client.write_all(b"GET /broken HTTP/1.0\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut all));
    let end = end.await.expect("the connection stays open");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

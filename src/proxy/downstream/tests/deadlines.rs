//! Slow and silent clients.

use super::*;

#[tokio::test]
async fn slow_heads_and_idle_connections_are_ended() {
    let running = run();
    let mut slow = running.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut idle = running.connect().await;
    idle.write_all(get("/x").as_bytes()).await.unwrap();
    until_end(&mut idle, "/x").await;
    until(|| running.sweeper.open() == 2).await;

    running.clock.advance(Duration::from_secs(11));
    running.sweeper.sweep();
    assert_eq!(rest(&mut slow).await, "");
    idle.write_all(get("/y").as_bytes()).await.unwrap();
    until_end(&mut idle, "/y").await;

    running.clock.advance(Duration::from_secs(76));
    running.sweeper.sweep();
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn slow_bodies_and_slow_readers_are_ended() {
    let running = run();
    let mut body = running.connect().await;
    body.write_all(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nx")
        .await
        .unwrap();
    let mut reader = running.connect().await;
    reader
        .write_all(get("/large").repeat(20).as_bytes())
        .await
        .unwrap();
    running.called(2).await;
    for _ in 0..8 {
        running.clock.advance(Duration::from_secs(1));
        running.sweeper.sweep();
        tokio::task::yield_now().await;
    }
    assert_eq!(rest(&mut body).await, "");
    for _ in 0..2 {
        running.clock.advance(Duration::from_secs(76));
        running.sweeper.sweep();
    }
    let received = rest_or_reset(&mut reader).await;
    assert!(received < 20 << 20, "the server gave up after {received} bytes");
}

#[tokio::test]
async fn a_slow_body_is_ended_on_http2_as_well_but_not_a_grpc_stream() {
    let running = run();
    let mut answers = Vec::new();
    for media_type in ["application/json", "application/grpc+proto"] {
        let executor = StreamTasks(running.site.tasks.clone());
        let io = TokioIo::new(running.connect().await);
        let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        running
            .site
            .tasks
            .spawn("client", async move { drop(connection.await) });
        let (sender, mut chunks) = tokio::sync::mpsc::channel(1);
        sender
            .send(Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))))
            .await
            .unwrap();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx)));
        let request = Request::post("http://a/body")
            .header("content-type", media_type)
            .body(body)
            .unwrap();
        let answer = running.site.tasks.child();
        let (done, ended) = tokio::sync::oneshot::channel();
        answer.spawn("request", async move {
            assert!(
                done.send(client.send_request(request).await.is_ok()).is_ok(),
                "nobody waits"
            );
        });
        answers.push((sender, ended));
    }
    running.called(2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    for _ in 0..8 {
        running.clock.advance(Duration::from_secs(1));
        running.sweeper.sweep();
    }
    let (grpc, grpc_ended) = answers.pop().unwrap();
    let (_json, json_ended) = answers.pop().unwrap();
    assert!(!json_ended.await.unwrap(), "the connection is ended");
    drop(grpc);
    assert!(grpc_ended.await.unwrap(), "the stream is answered");
}

async fn rest_or_reset(client: &mut TcpStream) -> usize {
    let mut all = Vec::new();
    drop(
        tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut all))
            .await
            .unwrap(),
    );
    all.len()
}

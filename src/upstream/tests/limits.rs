//! Bounds of the pool: connections, idle connections, their age, and fairness between workers.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;

use crate::config::PoolLimits;
use crate::upstream::testing::{Bench, Origin, config, get, post, read, until};
use crate::upstream::{Cluster, ErrorKind, ExchangeKind, WorkerPool};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn limited(origin: &Origin, max_connections: usize, max_idle: usize) -> Bench {
    let mut config = config(&[&origin.label()]);
    config.pool = PoolLimits {
        max_connections,
        max_idle,
        idle_timeout: Duration::from_secs(60),
    };
    Bench::new(config)
}

#[tokio::test]
async fn a_request_beyond_the_limit_waits_for_the_connection_of_another() {
    let origin = Origin::answering(OK).await;
    let bench = limited(&origin, 1, 1);
    let first = bench.send(post("a")).await.unwrap();
    let mut held = first.into_body();
    // The first body is complete in the pool's eyes only once it was read.
    let second = bench.send(post("b"));
    let finish = async { held.frame().await.unwrap().unwrap() };
    let (second, _) = tokio::join!(second, finish);
    assert_eq!(read(second.unwrap()).await.unwrap(), "ok");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn waiting_too_long_is_exhaustion_and_gives_the_request_back() {
    let origin = Origin::answering(OK).await;
    let mut bench = limited(&origin, 1, 1);
    let _held = bench.send(get("/")).await.unwrap();
    bench.timeouts.connect = Duration::from_millis(20);
    let error = bench.send(post("b")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PoolExhausted);
    assert!(error.request.is_some());
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn no_more_connections_are_kept_than_allowed() {
    let origin = Origin::answering(OK).await;
    let bench = limited(&origin, 8, 2);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(bench.send(get("/")).await.unwrap());
    }
    assert_eq!(bench.endpoint().open_connections(), 4);
    for response in held {
        read(response).await.unwrap();
    }
    assert_eq!(bench.endpoint().idle_connections(), 2);
    until(|| bench.endpoint().open_connections() == 2).await;
}

#[tokio::test]
async fn an_old_idle_connection_is_not_used() {
    let origin = Origin::answering(OK).await;
    let bench = limited(&origin, 8, 8);
    bench.get().await.unwrap();
    bench.clock.advance(Duration::from_secs(59));
    bench.pool.prune();
    bench.get().await.unwrap();
    assert_eq!(origin.accepted(), 1);
    bench.clock.advance(Duration::from_secs(61));
    bench.pool.prune();
    bench.get().await.unwrap();
    assert_eq!(origin.accepted(), 2);
    bench.clock.advance(Duration::from_secs(61));
    until(|| bench.endpoint().open_connections() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_another_worker() {
    let origin = Origin::answering(OK).await;
    let bench = limited(&origin, 1, 1);
    bench.get().await.unwrap();
    assert_eq!(bench.endpoint().idle_connections(), 1);
    let other = WorkerPool::new(&bench.tasks, bench.clock.clone());
    let endpoint = bench.endpoint();
    let sent = other.send(
        &bench.cluster,
        &endpoint,
        Box::new(get("/")),
        bench.manner(ExchangeKind::Ordinary),
    );
    assert_eq!(read(sent.await.unwrap()).await.unwrap(), "ok");
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn connections_of_a_replaced_cluster_are_closed() {
    let origin = Origin::answering(OK).await;
    let mut bench = limited(&origin, 8, 8);
    let endpoint = bench.endpoint();
    bench.get().await.unwrap();
    assert_eq!(endpoint.open_connections(), 1);
    bench.cluster = Cluster::build(Arc::clone(bench.cluster.config()), bench.clock.clone()).unwrap();
    until(|| endpoint.open_connections() == 0).await;
    assert_eq!(bench.get().await.unwrap(), "ok");
}

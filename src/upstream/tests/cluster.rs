//! Selection, health, draining and discovery.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::HeaderName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::clock::{Clock, Timestamp};
use crate::config::{self, ActiveCheck, Balance, HashOn, Probe, UpstreamProtocol};
use crate::tasks::Tasks;
use crate::upstream::testing::{Origin, config, read_head, until};
use crate::upstream::{Cluster, Endpoint};

fn cluster(config: config::Upstream) -> Arc<Cluster> {
    Cluster::build(Arc::new(config), Clock::manual(Timestamp::from_secs(1))).unwrap()
}

fn ketama(endpoints: &[&str]) -> Arc<Cluster> {
    let mut config = config(endpoints);
    config.balance = Balance::Ketama(HashOn::Header(HeaderName::from_static("x-session-id")));
    cluster(config)
}

fn check(probe: Probe) -> ActiveCheck {
    ActiveCheck {
        probe,
        interval: Duration::from_millis(5),
        timeout: Duration::from_secs(5),
        healthy_after: 2,
        unhealthy_after: 3,
    }
}

fn healthz() -> Probe {
    Probe::Http {
        path: "/healthz".to_owned(),
        status: vec![(200, 299)],
    }
}

fn label(endpoint: Option<Arc<Endpoint>>) -> String {
    endpoint.unwrap().label().to_string()
}

#[test]
fn round_robin_is_fair_by_weight() {
    let mut config = config(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    config.endpoints[0].weight = 300;
    config.endpoints[1].weight = 200;
    config.endpoints[2].weight = 100;
    let cluster = cluster(config);
    let mut counts = HashMap::new();
    for _ in 0..600 {
        *counts.entry(label(cluster.select(b"", &[]))).or_insert(0) += 1;
    }
    let count = |name: &str| counts[name];
    assert_eq!(
        (count("10.0.0.1:80"), count("10.0.0.2:80"), count("10.0.0.3:80")),
        (300, 200, 100)
    );
}

#[test]
fn ketama_sticks_and_moves_few_keys() {
    let endpoints = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
    let before = ketama(&endpoints);
    let after = ketama(&endpoints[..3]);
    let mut moved = 0;
    for key in 0_u32..1_000 {
        let key = key.to_string();
        let place = label(before.select(key.as_bytes(), &[]));
        assert_eq!(place, label(before.select(key.as_bytes(), &[])));
        let new = label(after.select(key.as_bytes(), &[]));
        if place == endpoints[3] {
            moved += 1;
        } else {
            assert_eq!(place, new);
        }
    }
    assert!((150..350).contains(&moved), "{moved}");
}

#[test]
fn tried_endpoints_are_not_selected_again() {
    for cluster in [
        cluster(config(&["10.0.0.1:80", "10.0.0.2:80"])),
        ketama(&["10.0.0.1:80", "10.0.0.2:80"]),
    ] {
        let first = cluster.select(b"k", &[]).unwrap();
        let second = cluster.select(b"k", std::slice::from_ref(&first)).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(cluster.select(b"k", &[first, second]).is_none());
    }
}

#[test]
fn an_endpoint_with_few_points_on_the_ring_is_still_found() {
    let mut config = config(&["10.0.0.1:80", "10.0.0.2:80"]);
    config.balance = Balance::Ketama(HashOn::Key);
    config.endpoints[0].weight = 1_000;
    let cluster = cluster(config);
    for key in 0_u32..100 {
        let heavy = cluster.select(&key.to_be_bytes(), &[]).unwrap();
        let other = cluster
            .select(&key.to_be_bytes(), std::slice::from_ref(&heavy))
            .unwrap();
        assert!(!Arc::ptr_eq(&heavy, &other));
    }
}

#[test]
fn a_drained_endpoint_is_not_selected_until_taken_back() {
    let cluster = cluster(config(&["10.0.0.1:80", "10.0.0.2:80"]));
    assert!(cluster.set_enabled("10.0.0.1:80", false));
    assert!(!cluster.set_enabled("10.0.0.9:80", false));
    for _ in 0..10 {
        assert_eq!(label(cluster.select(b"", &[])), "10.0.0.2:80");
    }
    let drained = &cluster.status()[0];
    assert_eq!(
        (drained.address.as_str(), drained.enabled, drained.healthy),
        ("10.0.0.1:80", false, true)
    );
    cluster.set_enabled("10.0.0.2:80", false);
    assert!(cluster.select(b"", &[]).is_none());
    cluster.set_enabled("10.0.0.1:80", true);
    assert_eq!(label(cluster.select(b"", &[])), "10.0.0.1:80");
}

#[tokio::test]
async fn http_checks_flip_health_after_the_thresholds() {
    let status = Arc::new(AtomicU16::new(200));
    let shown = Arc::clone(&status);
    let origin = Origin::start(move |mut stream| {
        let status = shown.load(Ordering::SeqCst);
        async move {
            let head = read_head(&mut stream).await.unwrap_or_default();
            assert!(head.starts_with("GET /healthz HTTP/1.1\r\n"), "{head}");
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let other = Origin::answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut config = config(&[&origin.label(), &other.label()]);
    config.active_check = Some(check(healthz()));
    let cluster = cluster(config);
    let tasks = Tasks::new();
    cluster.start(&tasks);
    cluster.first_checked().await;
    assert!(cluster.status().iter().all(|row| row.healthy));

    status.store(503, Ordering::SeqCst);
    let row = |cluster: &Cluster| {
        let rows = cluster.status();
        rows.into_iter()
            .find(|row| row.address == origin.label())
            .unwrap()
    };
    until(|| !row(&cluster).healthy).await;
    let unhealthy = row(&cluster);
    assert!(unhealthy.consecutive_failures >= 3);
    assert_eq!(unhealthy.last_error.as_deref(), Some("status 503"));
    for _ in 0..10 {
        assert_eq!(label(cluster.select(b"", &[])), other.label());
    }
    status.store(200, Ordering::SeqCst);
    until(|| row(&cluster).healthy).await;
    tasks.cancel();
    assert!(tasks.drained(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn tcp_checks_notice_a_closed_port_and_all_unhealthy_means_any() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut config = config(&[&address]);
    config.active_check = Some(check(Probe::Tcp));
    let cluster = cluster(config);
    let tasks = Tasks::new();
    cluster.start(&tasks);
    cluster.first_checked().await;
    assert!(!cluster.status()[0].healthy);
    assert_eq!(label(cluster.select(b"", &[])), address);
    cluster.set_enabled(&address, false);
    assert!(cluster.select(b"", &[]).is_none());
    tasks.cancel();
}

#[tokio::test]
async fn checks_speak_the_protocol_of_the_traffic() {
    let origin = Origin::start(|stream| async move {
        let answer = |request: http::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.uri().path(), "/healthz");
            let body = http_body_util::Empty::<bytes::Bytes>::new();
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        };
        let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let io = hyper_util::rt::TokioIo::new(stream);
        let _ended = server
            .serve_connection(io, hyper::service::service_fn(answer))
            .await;
    })
    .await;
    let mut config = config(&[&origin.label()]);
    config.protocol = UpstreamProtocol::H2;
    config.active_check = Some(ActiveCheck {
        unhealthy_after: 1,
        ..check(healthz())
    });
    let cluster = cluster(config);
    let tasks = Tasks::new();
    cluster.start(&tasks);
    cluster.first_checked().await;
    assert!(cluster.status()[0].healthy, "{:?}", cluster.status());
    tasks.cancel();
}

#[tokio::test]
async fn a_name_is_resolved_and_unresolved_ones_are_shown() {
    let cluster = cluster(config(&["localhost:8080"]));
    assert!(cluster.select(b"", &[]).is_none());
    assert_eq!(cluster.status()[0].resolved, None);
    let tasks = Tasks::new();
    cluster.start(&tasks);
    cluster.first_checked().await;
    assert_eq!(label(cluster.select(b"", &[])), "localhost:8080");
    let resolved = cluster.status()[0].resolved.unwrap();
    assert!(resolved.ip().is_loopback());
    tasks.cancel();
}

#[tokio::test]
async fn a_successor_knows_what_its_predecessor_knew() {
    let old = cluster(config(&["localhost:8080", "10.0.0.1:80"]));
    let tasks = Tasks::new();
    old.start(&tasks);
    old.first_resolved().await;
    old.set_enabled("10.0.0.1:80", false);
    let mut changed = config(&["localhost:8080", "10.0.0.1:80"]);
    changed.attempts = 3;
    let new = cluster(changed);
    assert!(!new.is_resolved());
    new.inherit(&old);
    // Before anything was resolved again.
    for _ in 0..4 {
        assert_eq!(label(new.select(b"", &[])), "localhost:8080");
    }
    tasks.cancel();
}

#[tokio::test]
async fn tasks_end_with_the_cluster() {
    let mut config = config(&["localhost:8080"]);
    config.active_check = Some(ActiveCheck {
        interval: Duration::from_secs(3_600),
        ..check(Probe::Tcp)
    });
    let cluster = cluster(config);
    let tasks = Tasks::new();
    cluster.start(&tasks);
    cluster.first_checked().await;
    drop(cluster);
    assert!(tasks.drained(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn without_names_and_checks_everything_counts_as_checked() {
    cluster(config(&["10.0.0.1:80"])).first_checked().await;
}

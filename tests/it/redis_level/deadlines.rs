//! What a server that is down, frozen or slow costs a caller: at most the deadline, and it comes back by itself.

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use outrigger::cache::level::LevelError;

use super::{Stage, soon};
use crate::harness::{Fault, FaultProxy, RedisServer, eventually};

/// Whether the call ended because of its deadline, or without one.
fn is_unusable<T>(answer: &Result<T, LevelError>) -> bool {
    matches!(answer, Err(LevelError::Timeout | LevelError::Unreachable(_)))
}

#[tokio::test]
async fn a_server_that_is_down_from_the_beginning_costs_nothing_and_is_used_when_it_comes() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let stage = Stage::before(&server, "");
    let answer = soon(stage.get(1)).await;
    assert!(matches!(answer, Err(LevelError::Unreachable(_))), "{answer:?}");
    for _ in 0..1000 {
        // Nobody waits for what is known to be down.
        assert!(is_unusable(&soon(stage.get(1)).await));
    }
    server.restart().await;
    stage.works().await;
}

#[tokio::test]
async fn an_address_that_swallows_everything_costs_the_deadline() {
    // A socket whose queue is full: the kernel answers nothing more.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..4 {
        let connect = tokio::net::TcpStream::connect(address);
        queued.push(tokio::time::timeout(Duration::from_millis(50), connect).await);
    }
    let stage = Stage::new(&format!("url: \"redis://{address}\""));
    for _ in 0..20 {
        assert!(is_unusable(&soon(stage.get(1)).await));
    }
}

#[tokio::test]
async fn a_frozen_server_costs_the_deadline_and_is_used_when_it_goes_on() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    stage.put(1, "before").await.unwrap();
    server.freeze();
    for _ in 0..40 {
        assert!(is_unusable(&soon(stage.get(1)).await));
    }
    // Soon it is known, and then nobody waits.
    eventually("the freeze to be noticed", async || {
        matches!(soon(stage.get(1)).await, Err(LevelError::Unreachable(_))).then_some(())
    })
    .await;
    server.thaw();
    stage.works().await;
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"before"))));
}

#[tokio::test]
async fn a_killed_server_is_used_again_when_it_is_back() {
    let mut server = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    for _ in 0..3 {
        stage.works().await;
        server.kill().await;
        for _ in 0..20 {
            assert!(is_unusable(&soon(stage.get(1)).await));
        }
        server.restart().await;
    }
    stage.works().await;
}

#[tokio::test]
async fn a_server_that_answers_two_seconds_late_costs_the_deadline() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let stage = Stage::new(&format!("url: \"redis://{}\"", proxy.address()));
    stage.works().await;
    proxy.set(Fault::Delay(Duration::from_secs(2)));
    for _ in 0..40 {
        assert!(is_unusable(&soon(stage.get(1)).await));
    }
    proxy.set(Fault::None);
    stage.works().await;
}

#[tokio::test]
async fn an_answer_that_was_given_up_is_not_the_answer_to_the_next_call() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let stage = Stage::new(&format!("url: \"redis://{}\", timeout: 40ms", proxy.address()));
    stage.works().await;
    for number in 1..100 {
        let text: &str = Box::leak(number.to_string().into_boxed_str());
        eventually("a value to be put", async || stage.put(number, text).await.ok()).await;
    }
    for round in 0..5 {
        proxy.set(Fault::Delay(Duration::from_millis(60)));
        for number in 1..10 {
            assert!(is_unusable(&soon(stage.get(number)).await));
        }
        proxy.set(Fault::None);
        for number in (1..100).rev() {
            if let Ok(found) = soon(stage.get(number)).await {
                assert_eq!(found, Some(Bytes::from(number.to_string())), "round {round}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_takes_part_in_a_crowd_without_waiting_for_the_others() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    server.freeze();
    // More than are let through: the rest is told at once, and the memory that they take has a bound.
    let calls = (0..5000_u32).map(|number| stage.get((number % 200) as u8));
    let answers = tokio::time::timeout(Duration::from_secs(5), futures_util::future::join_all(calls)).await;
    assert!(answers.unwrap().iter().all(is_unusable));
    server.thaw();
    stage.works().await;
}

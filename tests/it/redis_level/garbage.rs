//! What is no answer: cut, broken and senseless bytes end a connection, never a call's deadline, and never the process.

use std::time::Duration;

use bytes::Bytes;
use outrigger::cache::level::LevelError;

use super::{Stage, soon};
use crate::harness::{Fault, FaultProxy, RedisServer};

/// Bytes that no server should send.
const SENSELESS: &[&[u8]] = &[
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x00\xff\xfe\r\n",
    b"$-5\r\n",
    b"$99999999999999999999\r\n",
    b"$9223372036854775807\r\nabc",
    b"*2147483647\r\n",
    b"*9223372036854775807\r\n:1\r\n",
    b"%9223372036854775807\r\n:1\r\n",
    b"%-1\r\n",
    b"|1\r\n+a\r\n+b\r\n",
    b"|-1\r\n",
    b">0\r\n",
    b">1\r\n:1\r\n",
    b"!-1\r\n",
    b"=4\r\nabcd\r\n",
    b"(abc\r\n",
    b",nan?\r\n",
    b"#x\r\n",
    b"_\r\n",
    b":notanumber\r\n",
    b"-\r\n",
    b"+OK\r\n+OK\r\n+OK\r\n",
    b"~2\r\n:1\r\n",
    b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    b"\r\n\r\n",
    b"$5\r\nabcdefg\r\n",
];

#[tokio::test]
async fn senseless_answers_are_errors_or_values_and_the_level_recovers() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let stage = Stage::new(&format!("url: \"redis://{}\"", proxy.address()));
    for bytes in SENSELESS {
        proxy.set(Fault::None);
        stage.works().await;
        stage.put(1, "value").await.unwrap();
        proxy.set(Fault::Garbage(bytes.to_vec()));
        for _ in 0..5 {
            // Another value may come of it; that is for whoever checks values. What must not be is a wait or a panic.
            drop(soon(stage.get(1)).await);
        }
    }
    proxy.set(Fault::None);
    stage.works().await;
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"value"))));
}

#[tokio::test]
async fn answers_that_break_off_are_errors() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let stage = Stage::new(&format!("url: \"redis://{}\"", proxy.address()));
    for fault in [
        Fault::Half,
        Fault::Cut,
        Fault::Reset,
        Fault::Freeze,
        Fault::Refuse,
    ] {
        proxy.set(Fault::None);
        stage.works().await;
        stage.put(1, "a value of some length").await.unwrap();
        proxy.set(fault.clone());
        if fault == Fault::Refuse {
            proxy.cut();
        }
        for _ in 0..5 {
            let answer = soon(stage.get(1)).await;
            let is_error = matches!(answer, Err(LevelError::Timeout | LevelError::Unreachable(_)));
            assert!(is_error, "{fault:?}: {answer:?}");
        }
    }
    proxy.set(Fault::None);
    stage.works().await;
    assert_eq!(
        stage.get(1).await,
        Ok(Some(Bytes::from_static(b"a value of some length")))
    );
}

#[tokio::test]
async fn a_connection_that_is_cut_all_the_time_is_made_again_all_the_time() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let stage = Stage::new(&format!("url: \"redis://{}\", timeout: 100ms", proxy.address()));
    for _ in 0..20 {
        stage.works().await;
        proxy.cut();
    }
    // A connection that was good for a while is made again without an error in between.
    stage.works().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    proxy.cut();
    stage.works().await;
}

//! What a server refuses is told in its words, and the level goes on.

use bytes::Bytes;
use outrigger::cache::level::{Level, LevelError};
use redis::Cmd;

use super::{Stage, TTL, key, name, soon};
use crate::harness::{RedisServer, eventually};

/// The words of a refusal.
#[track_caller]
fn words<T: std::fmt::Debug>(answer: Result<T, LevelError>) -> String {
    match answer {
        Err(LevelError::Refused(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_told() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    let () = server.command(&format!("LPUSH {} a", name(1))).await;
    let answer = stage.get(1).await;
    assert!(matches!(answer, Err(LevelError::WrongType(_))), "{answer:?}");
    // To put and to remove it is fine.
    stage.put(1, "value").await.unwrap();
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"value"))));
}

#[tokio::test]
async fn a_server_without_memory_refuses_to_store_and_still_answers() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    stage.put(1, "value").await.unwrap();
    let () = server.command("CONFIG SET maxmemory-policy noeviction").await;
    let () = server.command("CONFIG SET maxmemory 1").await;
    assert!(words(stage.put(2, "value").await).starts_with("OOM "));
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"value"))));
    let () = server.command("CONFIG SET maxmemory 0").await;
    stage.put(2, "value").await.unwrap();
}

#[tokio::test]
async fn a_replica_refuses_to_store_and_still_answers() {
    let server = RedisServer::start().await;
    let other = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    let () = server
        .command(&format!("REPLICAOF 127.0.0.1 {}", other.port()))
        .await;
    server.until("master_link_status", "up").await;
    assert!(words(stage.put(1, "value").await).starts_with("READONLY "));
    let () = other.command(&format!("SET {} value", name(2))).await;
    eventually("the replica to answer", async || {
        (stage.get(2).await == Ok(Some(Bytes::from_static(b"value")))).then_some(())
    })
    .await;
    let () = server.command("REPLICAOF NO ONE").await;
    stage.works().await;
}

#[tokio::test]
async fn a_server_that_loads_its_data_refuses_until_it_has() {
    let mut server =
        RedisServer::start_with("loading-process-events-interval-bytes 1024\nkey-load-delay 500").await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    let () = server.command("DEBUG POPULATE 4000 filler 1000").await;
    let () = server.command("SAVE").await;
    server.kill().await;
    server.restart().await;
    let refusal = eventually("the server to load", async || match soon(stage.get(1)).await {
        Err(LevelError::Refused(words)) => Some(words),
        _ => None,
    })
    .await;
    assert!(refusal.starts_with("LOADING "), "{refusal}");
    stage.works().await;
}

#[tokio::test]
async fn a_value_of_half_a_gigabyte_is_not_read() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, ", timeout: 2s");
    stage.works().await;
    let _: u64 = server
        .send(&[b"SETRANGE", name(1).as_bytes(), b"536870911", b"x"])
        .await;
    let before: u64 = server.info("total_net_output_bytes").await.parse().unwrap();
    let answer = stage.level.get(&key(1), 1 << 20).await;
    assert_eq!(answer, Err(LevelError::TooLarge((1 << 20) + 1)));
    let after: u64 = server.info("total_net_output_bytes").await.parse().unwrap();
    assert!(after - before < 2 << 20, "{} bytes were sent", after - before);
    stage.level.remove(&key(1)).await.unwrap();
    assert_eq!(stage.get(1).await, Ok(None));
}

#[tokio::test]
async fn a_command_that_blocks_has_a_connection_of_its_own() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    let mut alone = stage.client.dedicated(b"outrigger:stream").await.unwrap();
    let mut read = Cmd::new();
    read.arg("XREAD")
        .arg("BLOCK")
        .arg(0)
        .arg("STREAMS")
        .arg("outrigger:stream")
        .arg("$");
    let limit = std::time::Duration::from_secs(30);
    let others = async {
        // It blocks, and nobody else does.
        server.until("blocked_clients", "1").await;
        stage.put(1, "value").await.unwrap();
        let _: String = server.command("XADD outrigger:stream * a b").await;
    };
    let (answer, ()) = tokio::join!(alone.call::<redis::Value>(limit, &read), others);
    assert!(matches!(answer, Ok(redis::Value::Map(_))), "{answer:?}");
    drop(alone);
    let unknown = stage.client.call::<()>(b"", &redis::cmd("NONSENSE")).await;
    assert!(words(unknown).starts_with("ERR unknown command"));
}

#[tokio::test]
async fn what_a_value_may_not_be_is_an_error_and_no_panic() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, "");
    stage.works().await;
    let number = stage
        .client
        .call::<u64>(b"", redis::cmd("ECHO").arg("text"))
        .await;
    assert!(number.is_err(), "{number:?}");
    stage.level.put(&key(1), Bytes::new(), TTL).await.unwrap();
    assert_eq!(stage.get(1).await, Ok(None));
}

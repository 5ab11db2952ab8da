//! What lies in Redis is not what was put there: a miss, deleted, counted, never served, and no fault of the level.

use super::{ask, body, config, counted, opened, origin, url};
use crate::harness::{Origin, RedisServer, Sidecar, eventually};

const FAILURES: &str = "outrigger_integrity_failures_total";

/// Targets whose values are spoiled: more in a row than failures that a level may have.
const SPOILED: usize = 20;

fn target(number: usize) -> String {
    format!("/spoiled/{number}")
}

async fn start(origin: &Origin, server: &RedisServer) -> Sidecar {
    let keys = format!("{}, timeout: 2s", url(server.address()));
    let sidecar = Sidecar::start(&config(origin, &keys)).await;
    opened(&sidecar).await;
    sidecar
}

/// Lets a sidecar fill Redis; the keys of the values.
async fn filled(origin: &Origin, server: &RedisServer) -> Vec<String> {
    let writer = start(origin, server).await;
    for number in 0..SPOILED {
        assert_eq!(ask(&writer, &target(number)).await.status, 200);
    }
    eventually("the values to be written", async || {
        let keys = server.values().await;
        (keys.len() == SPOILED).then_some(keys)
    })
    .await
}

/// Another sidecar asks for everything: it gets nothing of what is there, and the level goes on.
async fn is_refused(origin: &Origin, server: &RedisServer) -> Sidecar {
    let reader = start(origin, server).await;
    let lines = reader.logs().len();
    for number in 0..SPOILED {
        let target = target(number);
        let before = origin.count(&target);
        let answer = ask(&reader, &target).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), body(&target));
        assert_eq!(origin.count(&target), before + 1, "{target} was a miss");
    }
    let failures = reader.metric(FAILURES, &[("level", "fleet")]).await;
    assert!((failures - SPOILED as f64).abs() < 0.5, "{failures}");
    let degraded = reader
        .logs()
        .find(lines, |line| line.text("message") == "cache level degraded");
    assert!(degraded.is_none(), "{degraded:?}");
    reader
}

/// Waits until good values are there again, which a third sidecar then hits.
async fn are_replaced(origin: &Origin, server: &RedisServer, keys: &[String]) {
    for key in keys {
        eventually("a value to be replaced", async || {
            let kind: String = server.command(&format!("TYPE {key}")).await;
            if kind != "string" {
                return None;
            }
            let length: u64 = server.command(&format!("STRLEN {key}")).await;
            (1..1 << 20).contains(&length).then_some(())
        })
        .await;
    }
    let late = start(origin, server).await;
    for number in 0..SPOILED {
        let answer = ask(&late, &target(number)).await;
        assert!(answer.cache_says("hit"), "{answer:?}");
    }
}

/// A way to spoil a value, given one of another key.
type Spoil = fn(&[u8], &[u8]) -> Vec<u8>;

#[tokio::test]
async fn spoiled_values() {
    let ways: [(&str, Spoil); 7] = [
        ("garbage", |_, _| b"garbage".to_vec()),
        ("zeros", |_, _| vec![0; 100_000]),
        ("one byte", |_, _| vec![0xff]),
        ("truncated", |own, _| own[..own.len() / 2].to_vec()),
        ("a flipped bit", |own, _| {
            let mut own = own.to_vec();
            let middle = own.len() / 2;
            own[middle] ^= 1;
            own
        }),
        ("of another key", |_, other| other.to_vec()),
        ("of another format", |own, _| {
            let mut own = own.to_vec();
            own.iter_mut()
                .take(4)
                .for_each(|byte| *byte = byte.wrapping_add(1));
            own
        }),
    ];
    let origin = origin().await;
    for (way, spoil) in ways {
        println!("{way}");
        let server = RedisServer::start().await;
        let keys = filled(&origin, &server).await;
        let mut values: Vec<Vec<u8>> = Vec::new();
        for key in &keys {
            values.push(server.send(&[b"GET", key.as_bytes()]).await);
        }
        for (index, key) in keys.iter().enumerate() {
            let spoilt = spoil(&values[index], &values[(index + 1) % SPOILED]);
            let () = server.send(&[b"SET", key.as_bytes(), &spoilt]).await;
        }
        drop(is_refused(&origin, &server).await);
    }
}

#[tokio::test]
async fn values_of_another_type() {
    let (origin, server) = (origin().await, RedisServer::start().await);
    let keys = filled(&origin, &server).await;
    for key in &keys {
        let _: u64 = server.command(&format!("DEL {key}")).await;
        let _: u64 = server.command(&format!("LPUSH {key} a b c")).await;
    }
    // Also under the key that tells whether the level works.
    let probe = format!("outrigger:{}", hex::encode(b"outrigger probe, not a response!"));
    let _: u64 = server.command(&format!("LPUSH {probe} a")).await;
    let reader = is_refused(&origin, &server).await;
    let errors = counted(&reader, "outrigger_level_errors_total", ("error", "wrong-type")).await;
    assert!((errors - SPOILED as f64).abs() < 0.5, "{errors}");
    are_replaced(&origin, &server, &keys).await;
}

#[tokio::test]
async fn values_of_half_a_gigabyte() {
    let (origin, server) = (origin().await, RedisServer::start().await);
    let keys = filled(&origin, &server).await;
    let probe = format!("outrigger:{}", hex::encode(b"outrigger probe, not a response!"));
    for key in [&keys[0], &probe] {
        let _: u64 = server
            .send(&[b"SETRANGE", key.as_bytes(), b"536870911", b"x"])
            .await;
    }
    for key in &keys[1..] {
        let _: u64 = server
            .send(&[b"SETRANGE", key.as_bytes(), b"4194304", b"x"])
            .await;
    }
    let reader = is_refused(&origin, &server).await;
    let errors = counted(&reader, "outrigger_level_errors_total", ("error", "too-large")).await;
    assert!((errors - SPOILED as f64).abs() < 0.5, "{errors}");
    let peak = reader.peak_memory();
    assert!(peak < 200 << 20, "{peak} bytes");
    are_replaced(&origin, &server, &keys).await;
}

//! What was answered is in the audit log: with many callers at once, and with the process killed at any moment.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{all, as_admin, stage, verified};
use crate::harness::{Answer, try_fetch};

#[tokio::test]
async fn a_hundred_purges_at_once_have_a_hundred_records_in_one_chain() {
    let (_origin, sidecar) = stage().await;
    let purges = (0..100).map(|number| {
        let sidecar = &sidecar;
        async move {
            sidecar.purge(&json!({"tags": [number.to_string()]})).await["audit_id"]
                .as_str()
                .unwrap()
                .to_owned()
        }
    });
    let ids: BTreeSet<String> = join_all(purges).await.into_iter().collect();
    assert_eq!(ids.len(), 100);
    let told: BTreeSet<String> = all(&sidecar)
        .await
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, ids);
    let (code, text) = verified(&sidecar).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("201 records in 1 files"), "{text}");
}

/// A thousand changes, and the process killed at moments that a seed decides: what was answered is in the log.
#[tokio::test]
async fn no_acknowledged_change_is_lost_to_a_kill() {
    const CHANGES: usize = 1_000;
    let (_origin, mut sidecar) = stage().await;
    let mut seed = 0x5eed_u64;
    let mut draw = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut acknowledged: Vec<(String, usize)> = Vec::new();
    let (mut number, mut kills) = (0, 0);
    while number < CHANGES {
        // Some are answered, the kill comes while the others are under way.
        let (count, answered) = (20 + draw(120), draw(40));
        let admin = sidecar.admin_address();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let calls = (number..number + count).map(|number| {
            let tell = tell.clone();
            async move {
                let body = json!({"tags": [format!("t{number}")]}).to_string();
                let call = as_admin("POST", "/api/v1/performance/cache/purge", &body);
                let answer: Option<Answer> = try_fetch(admin, call).await.ok();
                if let Some(answer) = answer.filter(|answer| answer.status == 200) {
                    tell.send((answer.json()["audit_id"].as_str().unwrap().to_owned(), number))
                        .unwrap();
                }
            }
        });
        let kill = async {
            let mut seen = Vec::new();
            for _ in 0..answered.min(count) {
                seen.extend(told.recv().await);
            }
            sidecar.signal(Signal::SIGKILL);
            seen
        };
        let (_, seen) = tokio::join!(join_all(calls), kill);
        drop(tell);
        acknowledged.extend(seen);
        while let Some(late) = told.recv().await {
            acknowledged.push(late);
        }
        sidecar = sidecar.restart(Signal::SIGKILL).await;
        number += count;
        kills += 1;
    }
    let told = all(&sidecar).await;
    for (id, number) in &acknowledged {
        let entry = told.iter().find(|entry| entry["id"] == **id);
        let entry = entry.unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(entry["parameters"]["tags"][0], format!("t{number}"));
        assert_eq!(
            (&entry["result"], &entry["status"]),
            (&json!("done"), &json!(200))
        );
    }
    let (code, text) = verified(&sidecar).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        kills > 5 && acknowledged.len() > 100,
        "{kills} kills, {} acknowledged",
        acknowledged.len()
    );
}

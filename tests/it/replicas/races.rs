//! Reads that race purges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Fleet, SOON, get, patient};
use crate::harness::Connection;

/// 100 purges race reads on every replica, 1,000 and 100,000 in full: `OUTRIGGER_PURGES=1000`.
#[tokio::test]
async fn reads_that_race_purges_see_nothing_older_than_an_acknowledged_one() {
    let purges: usize = std::env::var("OUTRIGGER_PURGES").map_or(100, |text| text.parse().unwrap());
    let wanted = 100 * purges;
    let fleet = Arc::new(Fleet::start("30s").await);
    let (acknowledged, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let tasks = outrigger::tasks::Tasks::new();
    for at in 0..6 {
        let (fleet, acknowledged) = (Arc::clone(&fleet), Arc::clone(&acknowledged));
        let (reads, done) = (Arc::clone(&reads), Arc::clone(&done));
        tasks.spawn("reader", async move {
            let address = fleet.replicas[at % 3].address();
            let mut connection = Connection::open(address).await.unwrap();
            while !done.load(Ordering::Acquire) {
                let floor = acknowledged.load(Ordering::Acquire);
                let answer = connection.fetch(get()).await.unwrap();
                let version: u64 = answer.text().parse().unwrap();
                assert!(
                    version >= floor,
                    "replica {} serves {version} after {floor} was acknowledged",
                    at % 3
                );
                reads.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    for round in 0..purges {
        let version = fleet.versions.change();
        let answer = fleet.replicas[round % 3].purge(&patient()).await;
        assert_eq!(answer["replicas_confirmed"], 2, "{answer}");
        acknowledged.store(version, Ordering::Release);
        // So that reads and purges are mixed evenly.
        while reads.load(Ordering::Acquire) < (wanted * (round + 1) / purges) as u64 {
            assert_eq!(tasks.len(), 6, "a reader has seen an old answer");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    done.store(true, Ordering::Release);
    assert!(tasks.drained(SOON).await);
    let reads = reads.load(Ordering::Acquire);
    println!("{reads} reads, {purges} purges, no old answer");
    assert!(reads >= wanted as u64);
}

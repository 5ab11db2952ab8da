//! What a restart costs: the hit ratio before it and after it, with a level on disk and without.

use nix::sys::signal::Signal;

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar, eventually};

/// Different requests.
const TARGETS: usize = 200;

/// The ends of paths as a popular site is asked for them: the first is asked for most.
fn traffic() -> Vec<usize> {
    let often = |number: usize| (TARGETS / (number + 1)).max(1);
    let mut all: Vec<usize> = (0..TARGETS)
        .flat_map(|number| std::iter::repeat_n(number, often(number)))
        .collect();
    // Mixed, and always in the same way.
    all.sort_by_key(|number| blake3::hash(&number.to_le_bytes()).as_bytes()[0]);
    all
}

/// Sends the traffic; the share of hits, and how often the origin was asked.
async fn serve(sidecar: &Sidecar, origin: &Origin) -> (f64, usize) {
    let (traffic, asked) = (traffic(), origin.requests().len());
    let mut hits = 0_u32;
    for number in &traffic {
        let call = Call::get(&format!("/item/{number}")).header("host", "hub.local");
        let answer = sidecar.fetch(call).await;
        assert_eq!(answer.text(), format!("/item/{number}"));
        hits += u32::from(answer.cache_says("hit"));
    }
    (
        f64::from(hits) / traffic.len() as f64,
        origin.requests().len() - asked,
    )
}

/// Waits until nothing waits to be written.
async fn written(sidecar: &Sidecar) {
    eventually("the writes", async || {
        let labels = [("level", "l2"), ("op", "put")];
        let done = sidecar
            .metric("outrigger_level_duration_seconds_count", &labels)
            .await;
        (done as usize >= TARGETS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_a_level_on_disk_the_hit_ratio_stays() {
    let origin = Origin::start().await;
    origin.on("*", |seen| Reply::ok(seen.path).cache_control("max-age=3600"));
    let without = ConfigText::new(origin.address());
    let with = without
        .clone()
        .level("disk: {name: l2, path: \"@DIR@/l2\", capacity: 64MiB}");

    let sidecar = Sidecar::start(&without).await;
    let first = serve(&sidecar, &origin).await;
    let warm = serve(&sidecar, &origin).await;
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    let cold = serve(&sidecar, &origin).await;
    assert_eq!((first, warm), (cold, (1.0, 0)));
    drop(sidecar);

    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let sidecar = Sidecar::start(&with).await;
        assert_eq!(serve(&sidecar, &origin).await, first);
        written(&sidecar).await;
        let before = serve(&sidecar, &origin).await;
        let sidecar = sidecar.restart(signal).await;
        let after = serve(&sidecar, &origin).await;
        println!(
            "hit ratio by {signal}: {:.3} before, {:.3} after with the disk level ({} requests to the origin), \
             {:.3} without ({})",
            before.0, after.0, after.1, cold.0, cold.1
        );
        assert_eq!((before, after), ((1.0, 0), (1.0, 0)));
    }
}

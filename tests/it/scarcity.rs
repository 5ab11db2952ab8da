//! What happens when the machine gives too little: descriptors, a state directory.

use std::fs;

use tokio::net::TcpStream;

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar, Token, eventually};

#[tokio::test]
async fn with_few_descriptors_probes_are_answered_and_traffic_recovers() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("ok"));
    let config = ConfigText::new(origin.address());
    let sidecar = Sidecar::start_with_descriptors(&config, 256).await;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(sidecar.address()).await.unwrap());
    }
    eventually("the crowd to be counted", async || {
        let open = sidecar.metric("outrigger_connections", &[]).await;
        (open >= 64.0).then_some(())
    })
    .await;
    for probe in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(sidecar.admin(Call::get(probe)).await.status, 200, "{probe}");
    }
    drop(crowd);
    assert_eq!(sidecar.get("/a").await.text(), "ok");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_does_not_stop_traffic() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("ok").cache_control("max-age=60"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("outrigger.yaml");
    // A file stands where the directory should be: nothing can be created below it.
    fs::write(directory.path().join("state"), "").unwrap();
    let text = ConfigText::new(origin.address()).text();
    fs::write(&file, text.replace("@DIR@", directory.path().to_str().unwrap())).unwrap();
    let sidecar = Sidecar::start_in(directory, &file).await;
    assert_eq!(sidecar.get("/a").await.text(), "ok");
    assert!(sidecar.get("/a").await.cache_says("hit"));
    let purge = Call::json("/api/v1/performance/cache/purge", r#"{"all": true}"#);
    let answer = sidecar.admin(purge.bearer(&Token::Operator.secret())).await;
    assert_eq!(
        answer.status, 503,
        "a change that cannot be recorded is not made: {answer:?}"
    );
    assert!(sidecar.get("/a").await.cache_says("hit"), "nothing was purged");
    let told = sidecar.logs().text();
    assert!(told.contains("WARN"), "{told}");
}

//! Start, readiness and the end.

use nix::sys::signal::Signal;

use crate::harness::{
    Call, ConfigText, Connection, Gate, Load, OnClose, Origin, Reply, Sidecar, eventually, fetch, try_fetch,
    within,
};

async fn answering() -> Origin {
    let origin = Origin::start().await;
    origin.on("/hit", |_| {
        Reply::ok("x".repeat(1024)).cache_control("max-age=600")
    });
    origin.on("/pass", |_| Reply::ok("x".repeat(1024)).cache_control("no-store"));
    origin
}

/// PROOF, fault 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_request() {
    let origin = answering().await;
    let mut sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let load = Load::start(sidecar.address(), 16, &["/hit", "/pass"], OnClose::Leave);
    load.more(2_000).await;
    sidecar.signal(Signal::SIGTERM);
    // Every client is told `Connection: close` and leaves; nobody is cut off.
    let report = load.left().await;
    assert_eq!(report.failures, Vec::<String>::new());
    let status = sidecar.wait_exit().await;
    assert_eq!(status.code(), Some(0), "{}", sidecar.logs().text());
}

#[tokio::test]
async fn draining_is_unready_at_once_and_still_accepts() {
    let origin = answering().await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/slow", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("finished")
        }
    });
    let mut sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let (admin, address) = (sidecar.admin_address(), sidecar.address());
    let mut idle = Connection::open(address).await.unwrap();
    assert_eq!(idle.fetch(Call::get("/hit")).await.unwrap().status, 200);
    let mut busy = Connection::open(address).await.unwrap();
    let (answer, ()) = tokio::join!(busy.fetch(Call::get("/slow")), async {
        origin.reached("/slow", 1).await;
        sidecar.signal(Signal::SIGTERM);
        eventually("the end of readiness", async || {
            let answer = fetch(admin, Call::get("/readyz")).await;
            (answer.status == 503).then_some(())
        })
        .await;
        assert_eq!(fetch(admin, Call::get("/livez")).await.status, 200);
        // A client that has not heard of it yet is served, and told to go.
        let late = fetch(address, Call::get("/hit")).await;
        assert_eq!(late.status, 200);
        assert_eq!(late.header("connection"), "close");
        gate.open();
    });
    assert_eq!(answer.unwrap().text(), "finished");
    assert_eq!(sidecar.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let origin = answering().await;
    origin.on_async("/never", |_| std::future::pending());
    let mut sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let (address, admin) = (sidecar.address(), sidecar.admin_address());
    let (answer, status) = tokio::join!(try_fetch(address, Call::get("/never")), async {
        origin.reached("/never", 1).await;
        sidecar.signal(Signal::SIGTERM);
        eventually("the drain", async || {
            let answer = fetch(admin, Call::get("/readyz")).await;
            (answer.status == 503).then_some(())
        })
        .await;
        sidecar.signal(Signal::SIGTERM);
        sidecar.wait_exit().await
    });
    assert!(answer.is_err(), "the request was cut off: {answer:?}");
    assert!(
        status.code() != Some(0),
        "it did not end cleanly, and says so: {status}"
    );
}

#[tokio::test]
async fn an_http2_client_is_told_to_go_and_finishes() {
    let origin = answering().await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/slow", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("finished")
        }
    });
    let mut sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut client = Connection::open_h2(sidecar.address()).await.unwrap();
    let (answer, ()) = tokio::join!(client.fetch(Call::get("/slow")), async {
        origin.reached("/slow", 1).await;
        sidecar.signal(Signal::SIGTERM);
        gate.open();
    });
    assert_eq!(answer.unwrap().text(), "finished");
    assert_eq!(sidecar.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_keep_alive_connection_does_not_hold_up_the_end() {
    let origin = answering().await;
    let mut sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let mut idle = Connection::open(sidecar.address()).await.unwrap();
    assert_eq!(idle.fetch(Call::get("/hit")).await.unwrap().status, 200);
    sidecar.signal(Signal::SIGTERM);
    assert_eq!(sidecar.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_worker_without_requests_does_not_end_those_of_another() {
    let origin = answering().await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/slow", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("finished")
        }
    });
    let mut sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let address = sidecar.address();
    let (answer, ()) = tokio::join!(try_fetch(address, Call::get("/slow")), async {
        origin.reached("/slow", 1).await;
        sidecar.signal(Signal::SIGTERM);
        for _ in 0..50 {
            eventually("the listener to close", async || {
                Connection::open(address).await.is_err().then_some(())
            })
            .await;
        }
        gate.open();
    });
    assert_eq!(answer.unwrap().text(), "finished");
    assert_eq!(sidecar.wait_exit().await.code(), Some(0));
    assert!(
        !sidecar.logs().text().contains("still under way"),
        "{}",
        sidecar.logs().text()
    );
}

#[tokio::test]
async fn an_upstream_that_is_down_does_not_keep_it_from_starting() {
    let origin = Origin::start().await;
    let address = origin.address();
    drop(origin);
    let check = "health: {active: {http: {path: /healthz, status: [200-299]}, interval: 1s, timeout: 200ms}}";
    let sidecar = Sidecar::start(&ConfigText::new(address).upstream(check)).await;
    let answer = sidecar.get("/a").await;
    assert!([502, 503].contains(&answer.status.as_u16()), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(answer.json()["trace_id"].is_string(), "{answer:?}");
    assert!(!answer.cache_says("stored"), "{answer:?}");
}

#[tokio::test]
async fn a_port_in_use_is_a_failure_with_its_reason() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (upstream, listen) = ("http://127.0.0.1:9", taken.local_addr().unwrap().to_string());
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "run",
        "--upstream",
        upstream,
        "--listen",
        &listen,
        "--admin",
        "127.0.0.1:0",
    ];
    let ended = within(
        "the refusal",
        crate::harness::outrigger(directory.path(), &arguments),
    )
    .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&listen), "{ended:?}");
}

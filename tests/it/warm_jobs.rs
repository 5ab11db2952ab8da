//! Warm-ups as jobs: asked for, followed, bounded, ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Answer, Call, ConfigText, Gate, Origin, Reply, Sidecar, Token, eventually, outrigger};

const PATH: &str = "/api/v1/performance/cache/warm";

async fn start(sidecar: &Sidecar, body: &Value) -> Answer {
    let call = Call::json(PATH, body.to_string());
    sidecar.admin(call.bearer(&Token::Operator.secret())).await
}

async fn job(sidecar: &Sidecar, id: &str) -> Value {
    let call = Call::get(&format!("{PATH}/{id}"));
    let answer = sidecar.admin(call.bearer(&Token::Viewer.secret())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn ended(sidecar: &Sidecar, started: &Answer) -> Value {
    assert_eq!(started.status, 202, "{started:?}");
    let id = started.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(started.header("location"), format!("{PATH}/{id}"));
    eventually("the end of a warm-up", async || {
        let job = job(sidecar, &id).await;
        (!job["ended_at"].is_null()).then_some(job)
    })
    .await
}

fn urls(sidecar: &Sidecar, paths: impl IntoIterator<Item = String>) -> Vec<String> {
    let address = sidecar.address();
    paths
        .into_iter()
        .map(|path| format!("http://{address}{path}"))
        .collect()
}

/// An origin whose answers wait for the gate; it knows how many wait, and the most that did.
struct Held {
    origin: Origin,
    gate: Gate,
    most: Arc<AtomicUsize>,
}

impl Held {
    async fn start() -> Self {
        let (origin, gate) = (Origin::start().await, Gate::closed());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (held, peak) = (gate.clone(), Arc::clone(&most));
        origin.on_async("*", move |seen| {
            let (gate, now, most) = (held.clone(), Arc::clone(&now), Arc::clone(&peak));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if !seen.path.starts_with("/quick") {
                    gate.passed().await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
                Reply::ok(seen.path).cache_control("max-age=600")
            }
        });
        Self { origin, gate, most }
    }
}

#[tokio::test]
async fn a_job_tells_its_progress_and_what_became_of_each_request() {
    let origin = Origin::start().await;
    origin.on("/good", |_| Reply::ok("good").cache_control("max-age=600"));
    origin.on("/never", |_| Reply::ok("never").cache_control("no-store"));
    origin.on("/broken", |_| Reply::status(500));
    origin.on("/worse", |_| Reply::status(502));
    let config = ConfigText::new(origin.address()).routes(
        r#"
- {name: off, match: {path_prefix: /off}, upstream: hub}
- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: "on"}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    let paths = ["/good", "/never", "/broken", "/off"].map(str::to_owned);
    let wish = json!({"urls": urls(&sidecar, paths), "parallel": 1});
    let first = ended(&sidecar, &start(&sidecar, &wish).await).await;
    let figures = |job: &Value| {
        ["total", "done", "fetched", "fresh", "skipped", "failed"].map(|field| job[field].as_u64().unwrap())
    };
    assert_eq!(figures(&first), [4, 4, 1, 0, 2, 1], "{first}");
    assert_eq!(
        first["reasons"],
        json!({"no-store": 1, "route-off": 1, "status": 1}),
        "{first}"
    );
    assert_eq!(
        (&first["state"], &first["trigger"]),
        (&json!("done"), &json!("call"))
    );
    // What is there is left alone.
    let second = ended(
        &sidecar,
        &start(&sidecar, &json!({"urls": urls(&sidecar, ["/good".to_owned()])})).await,
    )
    .await;
    assert_eq!(figures(&second), [1, 1, 0, 1, 0, 0], "{second}");
    assert_eq!(origin.count("/good"), 1);
    let broken = ended(
        &sidecar,
        &start(&sidecar, &json!({"requests": [{"path": "/worse"}]})).await,
    )
    .await;
    assert_eq!(broken["state"], "failed", "{broken}");
    let listed = sidecar
        .admin(Call::get(PATH).bearer(&Token::Viewer.secret()))
        .await
        .json();
    let ids: Vec<&str> = listed["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["3", "2", "1"]);
}

#[tokio::test]
async fn a_failing_upstream_is_left_alone() {
    let origin = Origin::start().await;
    origin.on("*", |_| Reply::status(503));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let paths = (0..50).map(|number| format!("/{number}"));
    let wish = json!({"urls": urls(&sidecar, paths), "parallel": 1});
    let job = ended(&sidecar, &start(&sidecar, &wish).await).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["reasons"], json!({"status": 5, "upstream-failing": 45}));
    assert_eq!(origin.requests().len(), 5);
}

#[tokio::test]
async fn no_more_than_allowed_run_at_once_and_clients_do_not_wait() {
    let held = Held::start().await;
    let sidecar = Sidecar::start(&ConfigText::new(held.origin.address())).await;
    let paths = (0..20).map(|number| format!("/slow/{number}"));
    let wish = json!({"urls": urls(&sidecar, paths), "parallel": 3});
    let started = start(&sidecar, &wish).await;
    eventually("three requests", async || {
        (held.origin.requests().len() == 3).then_some(())
    })
    .await;
    // A second one waits for its turn, and clients for neither.
    let other = start(&sidecar, &json!({"requests": [{"path": "/quick/other"}]})).await;
    assert_eq!(job(&sidecar, "2").await["state"], "queued");
    assert_eq!(job(&sidecar, "1").await["state"], "running");
    assert_eq!(sidecar.get("/quick/client").await.status, 200);
    assert_eq!(held.origin.requests().len(), 4);
    held.gate.open();
    assert_eq!(ended(&sidecar, &started).await["fetched"], 20);
    assert_eq!(ended(&sidecar, &other).await["fetched"], 1);
    // The client's was one more.
    assert!(held.most.load(Ordering::SeqCst) <= 4);
}

#[tokio::test]
async fn it_pauses_while_clients_need_the_upstream() {
    let held = Held::start().await;
    let config = ConfigText::new(held.origin.address()).upstream("pool: {max_connections: 4}");
    let sidecar = Arc::new(Sidecar::start(&config).await);
    let mut clients = Vec::new();
    for number in 0..3 {
        let sidecar = Arc::clone(&sidecar);
        clients.push(async move { sidecar.get(&format!("/slow/{number}")).await.status });
    }
    let clients = futures_util::future::join_all(clients);
    let warm = async {
        eventually("the clients", async || {
            (held.origin.requests().len() == 3).then_some(())
        })
        .await;
        let started = start(&sidecar, &json!({"requests": [{"path": "/quick"}]})).await;
        eventually("the job to run", async || {
            (job(&sidecar, "1").await["state"] == "running").then_some(())
        })
        .await;
        // Longer than it takes to fetch: three quarters of the connections are taken.
        for _ in 0..20 {
            assert_eq!(job(&sidecar, "1").await["done"], 0);
        }
        assert_eq!(held.origin.count("/quick"), 0);
        held.gate.open();
        ended(&sidecar, &started).await
    };
    let (statuses, ended) = tokio::join!(clients, warm);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(ended["fetched"], 1, "{ended}");
}

#[tokio::test]
async fn a_job_is_cancelled_by_hand_and_by_a_drain() {
    let held = Held::start().await;
    let mut sidecar = Sidecar::start(&ConfigText::new(held.origin.address())).await;
    let wish = |name: &str| json!({"requests": [{"path": format!("/slow/{name}")}]});
    let running = start(&sidecar, &wish("a")).await;
    held.origin.reached("/slow/a", 1).await;
    let waiting = start(&sidecar, &wish("b")).await;
    let cancel = async |id: &str| {
        let call = Call::new("DELETE", &format!("{PATH}/{id}"));
        sidecar
            .admin(call.bearer(&Token::Operator.secret()))
            .await
            .status
            .as_u16()
    };
    assert_eq!((cancel("2").await, cancel("1").await), (202, 202));
    for started in [&running, &waiting] {
        assert_eq!(ended(&sidecar, started).await["state"], "cancelled");
    }
    assert_eq!((cancel("1").await, cancel("9").await), (409, 404));
    assert_eq!(held.origin.count("/slow/b"), 0);
    start(&sidecar, &wish("c")).await;
    held.origin.reached("/slow/c", 1).await;
    sidecar.signal(Signal::SIGTERM);
    assert!(sidecar.wait_exit().await.success());
    let told = sidecar.logs().find(0, |line| {
        line.text("message") == "warm-up ended"
            && line.text("state") == "cancelled"
            && line.number("fetched") == Some(0)
    });
    assert!(told.is_some(), "{}", sidecar.logs().text());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_a_problem() {
    let origin = Origin::start().await;
    let config = ConfigText::new(origin.address()).cache("warm: [{name: next, predict: {routes: [api]}}]");
    let sidecar = Sidecar::start(&config).await;
    let many = vec!["http://hub/"; 1_001];
    for (wish, status) in [
        (json!({}), 400),
        (json!({"name": "a", "top_keys": 1}), 400),
        (json!({"name": "a"}), 404),
        (json!({"name": "next"}), 409),
        (json!({"top_keys": 5}), 409),
        (json!({"top_keys": 0}), 400),
        (json!({"urls": ["/a"]}), 400),
        (json!({"urls": ["ftp://hub/a"]}), 400),
        (json!({"urls": ["http://canary@hub/a"]}), 400),
        (json!({"urls": many}), 400),
        (json!({"urls": ["http://hub/a"], "parallel": 65}), 400),
        (json!({"requests": [{"path": "a"}]}), 400),
        (json!({"requests": [{"path": "/a", "method": "HEAD"}]}), 400),
        (
            json!({"requests": [{"path": "/a", "headers": {"content-length": "5"}}]}),
            400,
        ),
        (json!({"requests": [{"path": "/a", "host": "a b"}]}), 400),
        (json!({"requests": [{"path": "/a", "scheme": "ftp"}]}), 400),
        (json!({"requests": [{"path": "/a", "nope": 1}]}), 422),
    ] {
        let answer = start(&sidecar, &wish).await;
        assert_eq!(answer.status, status, "{wish}: {answer:?}");
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{wish}"
        );
        assert!(!answer.text().contains("canary"), "{answer:?}");
    }
    // Too many wait.
    let held = Held::start().await;
    let sidecar = Sidecar::start(&ConfigText::new(held.origin.address())).await;
    let wish = json!({"requests": [{"path": "/slow"}]});
    for _ in 0..17 {
        assert_eq!(start(&sidecar, &wish).await.status, 202);
        held.origin.reached("/slow", 1).await;
    }
    let full = start(&sidecar, &wish).await;
    assert_eq!((full.status.as_u16(), full.header("retry-after")), (503, "10"));
}

#[tokio::test]
async fn the_command_line_waits_for_the_end() {
    let origin = Origin::start().await;
    origin.on("*", |seen| Reply::ok(seen.path).cache_control("max-age=600"));
    origin.on("/broken", |_| Reply::status(500));
    let config =
        ConfigText::new(origin.address()).cache("warm: [{name: models, requests: [{path: /models}]}]");
    let sidecar = Sidecar::start(&config).await;
    let token = sidecar.directory().join("token");
    std::fs::write(&token, Token::Operator.secret()).unwrap();
    let admin = format!("http://{}", sidecar.admin_address());
    let run = async |arguments: &[&str]| {
        let target = [
            "cache",
            "warm",
            "--admin",
            &admin,
            "--token-file",
            token.to_str().unwrap(),
        ];
        outrigger(sidecar.directory(), &[&target[..], arguments].concat()).await
    };
    let ended = run(&["models"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("warm-up 1 done: 1 of 1; 1 fetched"),
        "{ended:?}"
    );
    let url = format!("{}/by-url", sidecar.address());
    let ended = run(&["--url", &url, "-o", "json"]).await;
    let job: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&job["state"], &job["fetched"]),
        (&json!("done"), &json!(1)),
        "{ended:?}"
    );
    assert!(sidecar.get("/by-url").await.cache_says("hit"));
    let url = format!("http://{}/broken", sidecar.address());
    let ended = run(&["--url", &url]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let ended = run(&["--url", &url, "--no-wait", "-o", "json"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for wrong in [&[][..], &["models", "--top", "5"]] {
        assert_eq!(run(wrong).await.code, Some(2), "{wrong:?}");
    }
    assert_eq!(run(&["nothing"]).await.code, Some(1));
}

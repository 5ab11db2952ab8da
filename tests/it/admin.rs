//! The admin listener: who may do what, and what strangers hear.

use crate::harness::{Answer, Call, ConfigText, Connection, Origin, Reply, Sidecar, Token, eventually};

pub(crate) async fn stage() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("*", |_| Reply::ok("x").cache_control("max-age=60"));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    (origin, sidecar)
}

pub(crate) fn problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{answer:?}"
    );
    let body = answer.json();
    assert!(body["type"].is_string() && body["title"].is_string(), "{body}");
    assert_eq!(body["status"], status, "{body}");
}

#[tokio::test]
async fn a_401_says_how_to_come_in() {
    let (_origin, sidecar) = stage().await;
    let answer = sidecar.admin(Call::get("/config")).await;
    assert!(
        answer.header("www-authenticate").starts_with("Bearer"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn probes_and_metrics_need_no_token() {
    let (_origin, sidecar) = stage().await;
    for target in ["/livez", "/readyz", "/readyz?verbose", "/startupz", "/metrics"] {
        let answer = sidecar.admin(Call::get(target)).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
    }
    let text = sidecar.admin(Call::get("/metrics")).await;
    assert!(text.header("content-type").starts_with("text/plain"), "{text:?}");
    let accept = "application/openmetrics-text; version=1.0.0";
    let open = sidecar
        .admin(Call::get("/metrics").header("accept", accept))
        .await;
    assert!(
        open.header("content-type")
            .starts_with("application/openmetrics-text"),
        "{open:?}"
    );
    assert!(open.text().ends_with("# EOF\n"));
}

#[tokio::test]
async fn reading_does_not_change_and_changing_is_no_reading() {
    let (_origin, sidecar) = stage().await;
    for target in [
        "/api/v1/performance/cache/explain",
        "/api/v1/performance/cache/purge",
        "/api/v1/performance/api/cache/clear",
        "/config/reload",
        "/drain",
    ] {
        let answer = sidecar
            .admin(Call::get(target).bearer(&Token::Admin.secret()))
            .await;
        problem(&answer, 405);
        assert!(answer.header("allow").contains("POST"), "{answer:?}");
    }
    problem(
        &sidecar
            .admin(Call::get("/nowhere").bearer(&Token::Admin.secret()))
            .await,
        404,
    );
    assert_eq!(sidecar.get("/a").await.status, 200, "nothing was drained");
}

/// A page in a browser cannot reach the API through a name of its own, nor post to it.
#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let (_origin, sidecar) = stage().await;
    let admin = || Call::get("/config").bearer(&Token::Admin.secret());
    problem(&sidecar.admin(admin().header("host", "evil.example")).await, 421);
    problem(
        &sidecar
            .admin(admin().header("host", "127.0.0.1.evil.example:9901"))
            .await,
        421,
    );
    problem(
        &sidecar
            .admin(admin().header("origin", "http://evil.example"))
            .await,
        403,
    );
    problem(&sidecar.admin(admin().header("origin", "null")).await, 403);
    assert_eq!(
        sidecar
            .admin(admin().header("host", "LOCALHOST:1234"))
            .await
            .status,
        200
    );
    let own = format!("http://{}", sidecar.admin_address());
    assert_eq!(sidecar.admin(admin().header("origin", &own)).await.status, 200);
    let form = Call::new("POST", "/api/v1/performance/cache/purge").header("content-type", "text/plain");
    let answer = sidecar
        .admin(form.bearer(&Token::Operator.secret()).text(r#"{"all": true}"#))
        .await;
    assert!(answer.status.is_client_error(), "{answer:?}");
}

#[tokio::test]
async fn repeated_bad_tokens_are_slowed_down() {
    let (_origin, sidecar) = stage().await;
    let mut statuses = Vec::new();
    for number in 0..100 {
        let answer = sidecar
            .admin(Call::get("/config").bearer(&format!("guess-{number}")))
            .await;
        statuses.push(answer.status.as_u16());
        if answer.status == 429 {
            assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
            assert_eq!(statuses.first(), Some(&401));
            return;
        }
    }
    panic!("a hundred guesses: {statuses:?}");
}

#[tokio::test]
async fn without_tokens_one_may_look_and_not_touch() {
    let origin = Origin::start().await;
    let text = ConfigText::new(origin.address()).text();
    let without: String = text
        .lines()
        .filter(|line| !line.contains("sha256_file") && !line.contains("tokens:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let sidecar = Sidecar::start_text(&without).await;
    assert_eq!(sidecar.admin(Call::get("/config")).await.status, 200);
    let answer = sidecar
        .admin(Call::json("/api/v1/performance/cache/purge", r#"{"all": true}"#))
        .await;
    assert!([401, 403].contains(&answer.status.as_u16()), "{answer:?}");
}

#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let (_origin, sidecar) = stage().await;
    let answer = sidecar
        .admin(Call::get("/config").bearer(&Token::Viewer.secret()))
        .await;
    let body = answer.json();
    assert!(body["hash"].is_string() && body["generation"].is_u64(), "{body}");
    let hash = std::fs::read_to_string(sidecar.directory().join("admin.sha256")).unwrap();
    assert!(!answer.text().contains(&hash));
}

#[tokio::test]
async fn the_log_level_changes_at_once() {
    let (_origin, sidecar) = stage().await;
    let set = |body: &'static str| {
        Call::json("/log-level", body)
            .method("PUT")
            .bearer(&Token::Admin.secret())
    };
    let told = || sidecar.logs().text().matches("log level changed").count();
    for body in [r#"{"level": "error"}"#, r#"{"level": "info"}"#] {
        assert!(sidecar.admin(set(body)).await.status.is_success());
    }
    sidecar
        .logs()
        .wait_for("the second change", 0, |line| {
            line.text("message") == "log level changed"
        })
        .await;
    assert_eq!(told(), 1, "the first was not logged any more");
    problem(&sidecar.admin(set(r#"{"level": "a=very=loud"}"#)).await, 400);
}

#[tokio::test]
async fn drain_takes_it_out_of_service_as_sigterm_does() {
    let (_origin, mut sidecar) = stage().await;
    let drain = || Call::new("POST", "/drain");
    problem(&sidecar.admin(drain().bearer(&Token::Viewer.secret())).await, 403);
    assert_eq!(sidecar.admin(Call::get("/readyz")).await.status, 200);
    let answer = sidecar.admin(drain().bearer(&Token::Operator.secret())).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(sidecar.admin(Call::get("/readyz")).await.status, 503);
    assert_eq!(sidecar.admin(Call::get("/livez")).await.status, 200);
    let late = sidecar.get("/a").await;
    assert_eq!((late.status.as_u16(), late.header("connection")), (200, "close"));
    assert_eq!(sidecar.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn statistics_and_endpoints_are_told() {
    let (origin, sidecar) = stage().await;
    sidecar.get("/a").await;
    sidecar.get("/a").await;
    let viewer = |target: &str| Call::get(target).bearer(&Token::Viewer.secret());
    let stats = sidecar.admin(viewer("/api/v1/performance/cache/stats")).await;
    assert_eq!(stats.status, 200);
    assert!(
        stats.text().contains("l1") && stats.text().contains("api"),
        "{stats:?}"
    );
    let upstreams = sidecar.admin(viewer("/api/v1/performance/upstreams")).await;
    assert!(
        upstreams.text().contains(&origin.address().to_string()),
        "{upstreams:?}"
    );
}

#[tokio::test]
async fn nothing_of_it_is_on_the_data_plane() {
    let (origin, sidecar) = stage().await;
    for path in ["/livez", "/metrics", "/config"] {
        assert_eq!(sidecar.get(path).await.text(), "x", "the origin's own {path}");
        assert_eq!(origin.count(path), 1);
    }
}

#[tokio::test]
async fn open_connections_are_counted_by_listener() {
    let (_origin, sidecar) = stage().await;
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    client.fetch(Call::get("/a")).await.unwrap();
    let labels = [("listener", "http")];
    assert_eq!(sidecar.metric("outrigger_connections", &labels).await, 1.0);
    drop(client);
    eventually("the connection to be counted out", async || {
        (sidecar.metric("outrigger_connections", &labels).await < 0.5).then_some(())
    })
    .await;
}

//! Explanations of requests that no listener lets through: they tell the reason that the wire tells.

use serde_json::{Value, json};

use crate::explain::{EXPLAIN, admin, explain, stage};
use crate::harness::{Call, Raw, get};

#[tokio::test]
async fn what_no_listener_lets_through_is_told_by_its_name() {
    let (origin, sidecar) = stage().await;
    let rows = [
        (get("/api/a").by("TRACE"), "method-refused"),
        (get("/api/a\\b"), "target"),
        (get("/api/a?\"b"), "target"),
        (get("/api/a").with("host", "a b"), "host"),
        (get("/api/a").with("host", "a").with("host", "a"), "host-repeated"),
        (
            get("/api/a").with("transfer-encoding", "gzip"),
            "transfer-encoding",
        ),
        (get("/api/a").with("content-length", "x"), "content-length"),
        (
            get("/api/a").with("content-length", "9999999999999"),
            "body-too-large",
        ),
    ];
    for (ask, reason) in rows {
        let told = explain(&sidecar, &ask).await;
        assert_eq!(
            (&told["verdict"], &told["reasons"], &told["route"]),
            (&json!("refused"), &json!([reason]), &Value::Null),
            "{ask:?}: {told}"
        );
        let counted = async || {
            let labels = [("reason", reason)];
            sidecar.metric("outrigger_requests_refused_total", &labels).await
        };
        let before = counted().await;
        let mut raw = Raw::connect(sidecar.address()).await;
        raw.send(ask.head()).await;
        let answer = raw.head().await;
        assert!(answer.status >= 400, "{ask:?}: {answer:?}");
        assert!(counted().await > before, "{ask:?}: {answer:?}");
    }
    // What no client library sends.
    for path in ["/api/a#token=secret", "/api/a b", "/api/<"] {
        let call = Call::json(EXPLAIN, json!({"host": "hub", "path": path}).to_string());
        let told = admin(&sidecar, call).await.json();
        assert_eq!(told["reasons"], json!(["target"]), "{told}");
        assert!(!told.to_string().contains("secret"), "{told}");
    }
    let told = explain(&sidecar, &get("/api/a#token=secret")).await;
    assert_eq!(told["verdict"], "miss", "no client sends a fragment: {told}");
    assert_eq!(origin.requests().len(), 0);
}

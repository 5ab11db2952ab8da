//! Tokens and dollars: counted once where they are spent, and as saved where the cache answers.

use outrigger::tasks::Tasks;

use crate::harness::{Call, ConfigText, Gate, Origin, Reply, Sidecar, eventually, fetch, full};

const PRICES: &str = "usage: {prices: {gpt-4o: {input: 2.5, output: 10, cached_input: 1.25}}}";

const CHAT: &str = r#"{"model":"gpt-4o-2024-08-06","choices":[],
    "usage":{"prompt_tokens":1000,"completion_tokens":200,"prompt_tokens_details":{"cached_tokens":600}}}"#;

/// Dollars of one answer like [`CHAT`].
const DOLLARS: f64 = (400.0 * 2.5 + 200.0 * 10.0 + 600.0 * 1.25) / 1e6;

const EVENTS: &str = "data: {\"model\":\"gpt-4o\",\"choices\":[],\"usage\":null}\n\n\
    data: {\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":200,\
    \"prompt_tokens_details\":{\"cached_tokens\":600}}}\n\ndata: [DONE]\n\n";

async fn sidecar(origin: &Origin, usage: &str) -> Sidecar {
    let routes = format!(
        "- {{name: chat, match: {{path: /chat}}, upstream: hub, usage: {usage}, \
         cache: {{methods: [POST], ttl: 300s}}}}\n\
         - {{name: plain, match: {{path: /plain}}, upstream: hub, usage: {usage}}}"
    );
    Sidecar::start(&ConfigText::new(origin.address()).routes(&routes).with(PRICES)).await
}

/// Waits until a route has counted tokens of this type and source, in all.
async fn counted(sidecar: &Sidecar, route: &str, kind: &str, source: &str, expected: u32) {
    let labels = [("route", route), ("type", kind), ("source", source)];
    eventually(&format!("{expected} {kind} tokens, {source}"), async || {
        let count = sidecar.metric("outrigger_tokens_total", &labels).await;
        ((count - f64::from(expected)).abs() < 0.5).then_some(())
    })
    .await;
}

async fn dollars(sidecar: &Sidecar, what: &str, model: &str, expected: f64) {
    let labels = [("route", "chat"), ("model", model)];
    let found = sidecar.metric(what, &labels).await;
    assert!((found - expected).abs() < 1e-9, "{what}: {found}, not {expected}");
}

fn json(body: &str) -> Reply {
    Reply::ok(body.to_owned()).header("content-type", "application/json")
}

fn events(body: &str) -> Reply {
    Reply::ok("")
        .header("content-type", "text/event-stream")
        .body(full(body.to_owned()))
}

#[tokio::test]
async fn what_is_fetched_is_spent_and_what_is_hit_is_saved() {
    for (reply, model) in [(CHAT, "gpt-4o-2024-08-06"), (EVENTS, "gpt-4o")] {
        let origin = Origin::start().await;
        origin.on(
            "/chat",
            move |_| if reply == CHAT { json(reply) } else { events(reply) },
        );
        let sidecar = sidecar(&origin, "openai").await;
        for round in 0..3 {
            let answer = sidecar.fetch(Call::json("/chat", "{}")).await;
            assert_eq!(answer.text(), reply);
            assert_eq!(answer.cache_says("hit"), round > 0);
        }
        for (kind, each) in [("input", 400), ("output", 200), ("cached_input", 600)] {
            counted(&sidecar, "chat", kind, "upstream", each).await;
            counted(&sidecar, "chat", kind, "cache", 2 * each).await;
        }
        dollars(&sidecar, "outrigger_cost_dollars_total", model, DOLLARS).await;
        dollars(
            &sidecar,
            "outrigger_cost_saved_dollars_total",
            model,
            2.0 * DOLLARS,
        )
        .await;
    }
}

#[tokio::test]
async fn who_reads_along_was_spared_a_fetch() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/chat", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            events(EVENTS)
        }
    });
    let sidecar = sidecar(&origin, "openai").await;
    let tasks = Tasks::new();
    for _ in 0..3 {
        let address = sidecar.address();
        tasks.spawn("client", async move {
            drop(fetch(address, Call::json("/chat", "{}")).await);
        });
    }
    sidecar.active(3).await;
    gate.open();
    counted(&sidecar, "chat", "output", "upstream", 200).await;
    counted(&sidecar, "chat", "output", "cache", 400).await;
    assert_eq!(origin.count("/chat"), 1);
}

#[tokio::test]
async fn what_only_passes_is_counted_too() {
    let origin = Origin::start().await;
    origin.on("/plain", |seen| {
        if seen.body == "stream" {
            events(EVENTS)
        } else {
            json(CHAT)
        }
    });
    origin.on("/chat", |_| json(CHAT).cache_control("no-store"));
    let sidecar = sidecar(&origin, "openai").await;
    for body in ["json", "stream"] {
        sidecar.fetch(Call::json("/plain", body)).await;
    }
    counted(&sidecar, "plain", "output", "upstream", 400).await;
    for _ in 0..2 {
        sidecar.fetch(Call::json("/chat", "{}")).await;
    }
    counted(&sidecar, "chat", "output", "upstream", 400).await;
    counted(&sidecar, "chat", "output", "cache", 0).await;
}

#[tokio::test]
async fn other_apis_say_it_elsewhere() {
    let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\
        \"usage\":{\"input_tokens\":10,\"output_tokens\":1,\"cache_read_input_tokens\":5,\"cache_creation_input_tokens\":1000000}}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":20}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let origin = Origin::start().await;
    origin.on("/chat", move |_| events(anthropic));
    let claude = sidecar(&origin, "anthropic").await;
    claude.fetch(Call::json("/chat", "{}")).await;
    for (kind, count) in [
        ("input", 10),
        ("cached_input", 5),
        ("cache_write", 1_000_000),
        ("output", 20),
    ] {
        counted(&claude, "chat", kind, "upstream", count).await;
    }
    assert!(claude.fetch(Call::json("/chat", "{}")).await.cache_says("hit"));
    counted(&claude, "chat", "output", "cache", 20).await;

    origin.on("/chat", |_| {
        json(r#"{"meta": {"in": 7, "out": 8}, "name": "own model"}"#)
    });
    let own = sidecar(
        &origin,
        "{json: {input: /meta/in, output: /meta/out, model: /name}}",
    )
    .await;
    own.fetch(Call::json("/chat", "{}")).await;
    counted(&own, "chat", "input", "upstream", 7).await;
    let cleaned = own
        .metric("outrigger_tokens_total", &[("model", "own_model")])
        .await;
    assert!((cleaned - 15.0).abs() < 0.5, "{cleaned}");
}

#[tokio::test]
async fn without_usage_nothing_is_counted() {
    let origin = Origin::start().await;
    origin.on("/chat", |_| json(CHAT));
    let sidecar = sidecar(&origin, "off").await;
    for _ in 0..2 {
        sidecar.fetch(Call::json("/chat", "{}")).await;
    }
    assert!(sidecar.metric("outrigger_tokens_total", &[]).await.abs() < 0.5);
}

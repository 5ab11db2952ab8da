//! Spans as a collector receives them: one SERVER span with its CLIENT child in the caller's trace.

use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use outrigger::tasks::Tasks;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Spans that have arrived.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<watch::Sender<Vec<Span>>>);

impl Spans {
    fn take(&self, request: ExportTraceServiceRequest) {
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        let spans: Vec<_> = scopes.flat_map(|scope| scope.spans).collect();
        self.0.send_modify(|all| all.extend(spans));
    }

    /// Waits for `count` spans.
    async fn reached(&self, count: usize) -> Vec<Span> {
        let mut spans = self.0.subscribe();
        let enough = spans.wait_for(|spans| spans.len() >= count);
        within("spans at the collector", enough).await.unwrap().clone()
    }
}

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.take(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn grpc_collector(tasks: &Tasks) -> (SocketAddr, Spans) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, spans) = (listener.local_addr().unwrap(), Spans::default());
    let service = TraceServiceServer::new(Collector(spans.clone()));
    let server = Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener));
    tasks.spawn("collector", async move { server.await.unwrap() });
    (address, spans)
}

async fn http_collector() -> (Origin, Spans) {
    let (collector, spans) = (Origin::start().await, Spans::default());
    let taken = spans.clone();
    collector.on("/v1/traces", move |seen| {
        taken.take(ExportTraceServiceRequest::decode(seen.body).unwrap());
        Reply::ok("").header("content-type", "application/x-protobuf")
    });
    (collector, spans)
}

fn telemetry(collector: SocketAddr, protocol: &str, sample: &str) -> String {
    let otlp = format!("otlp: {{endpoint: \"http://{collector}\", protocol: {protocol}, sample: {sample}}}");
    format!("telemetry:\n  {otlp}\n")
}

/// A request with the caller's trace makes one SERVER span with a CLIENT child, and the origin hears of it.
async fn one_trace(telemetry: &str, spans: &Spans) {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("x").cache_control("no-store"));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).with(telemetry)).await;
    let call = Call::get("/a?key=canary").header("traceparent", &format!("00-{TRACE}-{CALLER}-01"));
    sidecar.fetch(call.header("tracestate", "vendor=1")).await;

    let spans = spans.reached(2).await;
    assert_eq!(spans.len(), 2, "{spans:?}");
    let of_kind = |kind: SpanKind| {
        spans
            .iter()
            .find(|span| span.kind == kind as i32)
            .expect("a span of the kind")
    };
    let (server, client) = (of_kind(SpanKind::Server), of_kind(SpanKind::Client));
    assert_eq!(server.name, "GET api");
    assert_eq!(hex::encode(&server.trace_id), TRACE);
    assert_eq!(hex::encode(&server.parent_span_id), CALLER);
    assert_eq!(client.trace_id, server.trace_id);
    assert_eq!(client.parent_span_id, server.span_id);
    assert!(server.start_time_unix_nano <= client.start_time_unix_nano);
    assert!(client.end_time_unix_nano <= server.end_time_unix_nano);
    assert!(!format!("{spans:?}").contains("canary"), "{spans:?}");

    let seen = origin.last("/a");
    let expected = format!("00-{TRACE}-{}-01", hex::encode(&client.span_id));
    assert_eq!(seen.header("traceparent"), expected);
    assert_eq!(seen.header("tracestate"), "vendor=1");
}

#[tokio::test]
async fn over_grpc() {
    let tasks = Tasks::new();
    let (collector, spans) = grpc_collector(&tasks).await;
    one_trace(&telemetry(collector, "grpc", "100%"), &spans).await;
    tasks.cancel();
}

#[tokio::test]
async fn over_http() {
    let (collector, spans) = http_collector().await;
    one_trace(&telemetry(collector.address(), "http/protobuf", "100%"), &spans).await;
}

#[tokio::test]
async fn a_hit_has_no_client_span_and_an_error_is_kept_against_the_odds() {
    let (collector, spans) = http_collector().await;
    let origin = Origin::start().await;
    origin.on("/hit", |_| Reply::ok("x").cache_control("max-age=60"));
    origin.on("/error", |_| Reply::status(500));
    let yaml = format!(
        "telemetry:\n  otlp: {{endpoint: \"http://{}\", protocol: http/protobuf, sample: 0%, keep: {{errors: true}}}}\n",
        collector.address()
    );
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).with(&yaml)).await;
    sidecar.get("/hit").await;
    let sampled =
        |flags: &str| Call::get("/hit").header("traceparent", &format!("00-{TRACE}-{CALLER}-{flags}"));
    // The caller's decision is followed; where there is none, nothing is kept here but what failed.
    sidecar.fetch(sampled("00")).await;
    sidecar.fetch(sampled("01")).await;
    let hit = spans.reached(1).await;
    assert_eq!(hit.len(), 1, "{hit:?}");
    assert_eq!(hit[0].kind, SpanKind::Server as i32);
    sidecar.get("/error").await;
    let all = spans.reached(3).await;
    assert_eq!(all.len(), 3, "a SERVER and a CLIENT span of the error: {all:?}");
}

#[tokio::test]
async fn tokens_are_told_where_they_were_spent_and_where_they_were_spared() {
    const CHAT: &str = r#"{"model":"gpt-4o","choices":[{"message":{"content":"canary"}}],
        "usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
    let (collector, spans) = http_collector().await;
    let origin = Origin::start().await;
    for path in ["/v1/chat/completions", "/pass/v1/chat/completions"] {
        origin.on(path, |_| {
            Reply::ok(CHAT).header("content-type", "application/json")
        });
    }
    let yaml = format!(
        "telemetry:\n  otlp: {{endpoint: \"http://{}\", protocol: http/protobuf, sample: 100%, genai: true}}\n",
        collector.address()
    );
    let routes = "- {name: chat, match: {path_prefix: /v1}, upstream: hub, usage: openai, \
                  cache: {methods: [POST], ttl: 300s}}\n\
                  - {name: pass, match: {path_prefix: /pass}, upstream: hub, usage: openai}";
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).routes(routes).with(&yaml)).await;
    let told = |all: &[Span]| {
        let told = |span: &Span| {
            let of_tokens = |key: &str| key.starts_with("gen_ai.") || key.starts_with("outrigger.saved.");
            let keys = span.attributes.iter().map(|one| one.key.as_str());
            keys.filter(|key| of_tokens(key))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let of_kind = |kind: SpanKind| {
            all.iter()
                .filter(|span| span.kind == kind as i32)
                .map(told)
                .collect()
        };
        let (server, client): (Vec<_>, Vec<_>) = (of_kind(SpanKind::Server), of_kind(SpanKind::Client));
        (server.concat(), client.concat())
    };
    let about = [
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.response.model",
    ];
    let spent = [
        &about[..],
        &["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"],
    ]
    .concat();
    let spared = [
        &about[..],
        &["outrigger.saved.input_tokens", "outrigger.saved.output_tokens"],
    ]
    .concat();
    let mut seen = 0;
    for (path, server, client) in [
        ("/v1/chat/completions", vec![], spent.clone()),
        ("/v1/chat/completions", spared, vec![]),
        ("/pass/v1/chat/completions", vec![], spent),
    ] {
        sidecar.fetch(Call::json(path, r#"{"prompt":"canary"}"#)).await;
        let expected = seen + 1 + usize::from(!client.is_empty());
        let all = spans.reached(expected).await;
        let found = told(&all[seen..]);
        assert_eq!(
            found,
            (
                server.iter().map(|key| (*key).to_owned()).collect(),
                client.iter().map(|key| (*key).to_owned()).collect()
            ),
            "{path}"
        );
        assert!(!format!("{all:?}").contains("canary"));
        seen = expected;
    }
}

#[tokio::test]
async fn a_dead_collector_hurts_nobody() {
    let (collector, _) = http_collector().await;
    let address = collector.address();
    drop(collector);
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("x"));
    let yaml = telemetry(address, "http/protobuf", "100%");
    let mut sidecar = Sidecar::start(&ConfigText::new(origin.address()).with(&yaml)).await;
    for _ in 0..50 {
        assert_eq!(sidecar.get("/a").await.status, 200);
    }
    sidecar.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(sidecar.wait_exit().await.code(), Some(0));
}

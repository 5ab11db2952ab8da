//! What a collector sees, and what a request sees of a collector that does not work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;

use super::super::exposition::Format;
use super::super::metrics::BuildInfo;
use super::super::{Telemetry, fixture};
use crate::clock::Clock;
use crate::config::model::{self, Otlp, OtlpProtocol};
use crate::tasks::Tasks;

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).unwrap();
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

pub(super) fn config(address: SocketAddr, protocol: OtlpProtocol) -> model::Telemetry {
    model::Telemetry {
        history: model::History::default(),
        otlp: Some(Otlp {
            endpoint: format!("http://{address}"),
            protocol,
            sample: 0.0,
            keep_errors: true,
            keep_slower_than: Some(Duration::from_secs(2)),
            metrics: None,
            genai: false,
        }),
        access_log: model::AccessLog {
            enabled: false,
            sample: 1.0,
        },
        mask: model::Mask {
            headers: Vec::new(),
            query: vec!["*".to_owned()],
        },
    }
}

pub(super) fn start(config: &model::Telemetry, tasks: &Tasks) -> Arc<Telemetry> {
    let build = BuildInfo {
        version: "1.2.3",
        commit: "abc",
    };
    let telemetry = Telemetry::new(Clock::manual(fixture::STARTED), build);
    telemetry.apply(config).unwrap();
    telemetry
        .start_exporter(config.otlp.as_ref().unwrap(), tasks)
        .unwrap();
    telemetry
}

#[track_caller]
fn assert_seen(request: &ExportTraceServiceRequest) {
    let [resource_spans] = &request.resource_spans[..] else {
        panic!("one resource")
    };
    let resource = resource_spans.resource.as_ref().unwrap();
    let service = resource
        .attributes
        .iter()
        .find(|attribute| attribute.key == "service.name")
        .unwrap();
    let service = service.value.as_ref().unwrap().value.clone().unwrap();
    assert_eq!(service, any_value::Value::StringValue("outrigger".to_owned()));
    let spans: Vec<&Span> = resource_spans
        .scope_spans
        .iter()
        .flat_map(|scope| &scope.spans)
        .collect();
    let [server, client] = spans[..] else {
        panic!("two spans, got {}", spans.len())
    };
    assert_eq!(
        (server.kind(), client.kind()),
        (SpanKind::Server, SpanKind::Client)
    );
    assert_eq!(server.name, "POST chat");
    assert_eq!(server.trace_id, [1; 16]);
    assert_eq!(server.parent_span_id, [7; 8]);
    assert_eq!(client.trace_id, server.trace_id);
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(client.span_id, [3; 8]);
    assert_eq!(
        server.end_time_unix_nano - server.start_time_unix_nano,
        40_000_000
    );
    assert!(!format!("{request:?}").contains("canary"));
}

#[tokio::test]
async fn a_grpc_collector_sees_server_and_client_spans() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut requests) = mpsc::unbounded_channel();
    let tasks = Tasks::new();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tasks.spawn("collector", async move {
        server
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    });
    let telemetry = start(&config(address, OtlpProtocol::Grpc), &tasks);
    telemetry.record(Some(&telemetry.route("chat")), &fixture::record());
    telemetry.shutdown(Duration::from_secs(30)).await;
    assert_seen(&requests.recv().await.unwrap());
}

#[tokio::test]
async fn an_http_collector_sees_server_and_client_spans() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut requests) = mpsc::unbounded_channel();
    let tasks = Tasks::new();
    let receive = move |body: Bytes| async move {
        sender
            .send(ExportTraceServiceRequest::decode(body).unwrap())
            .unwrap();
        ExportTraceServiceResponse::default().encode_to_vec()
    };
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(receive));
    tasks.spawn("collector", async move {
        axum::serve(listener, router).await.unwrap()
    });
    let telemetry = start(&config(address, OtlpProtocol::HttpProtobuf), &tasks);
    telemetry.record(Some(&telemetry.route("chat")), &fixture::record());
    telemetry.shutdown(Duration::from_secs(30)).await;
    assert_seen(&requests.recv().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_dead_collector_costs_spans_and_no_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = Tasks::new();
    // The kernel takes connections and bytes for the listener; nobody ever answers.
    let telemetry = start(
        &config(listener.local_addr().unwrap(), OtlpProtocol::Grpc),
        &tasks,
    );
    let route = telemetry.route("chat");
    let began = tokio::time::Instant::now();
    for _ in 0..3000 {
        telemetry.record(Some(&route), &fixture::record());
        tokio::task::yield_now().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "nothing waited");
    let text = telemetry.encode(Format::Text).unwrap();
    let dropped = text
        .lines()
        .find_map(|line| line.strip_prefix("outrigger_spans_dropped_total "))
        .unwrap();
    assert!(
        dropped.parse::<u64>().unwrap() >= 2 * (3000 - 2048 - 512),
        "{dropped}"
    );
    telemetry.shutdown(Duration::from_secs(2)).await;
    assert!(began.elapsed() <= Duration::from_secs(3));
    tasks.cancel();
}

#[tokio::test]
async fn unsampled_requests_are_kept_when_they_fail_or_are_slow() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut requests) = mpsc::unbounded_channel();
    let tasks = Tasks::new();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tasks.spawn("collector", async move {
        server
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    });
    let telemetry = start(&config(address, OtlpProtocol::Grpc), &tasks);
    let mut record = fixture::record();
    record.trace.sampled = false;
    record.attempts.clear();
    let mut slow = record.clone();
    slow.ended = slow.started.plus(Duration::from_secs(2));
    slow.trace.span_id = [21; 8];
    let mut failed = record.clone();
    failed.status = 502;
    failed.trace.span_id = [22; 8];
    for record in [&record, &slow, &failed] {
        telemetry.record(Some(&telemetry.route("chat")), record);
    }
    telemetry.shutdown(Duration::from_secs(30)).await;
    let mut ids = Vec::new();
    requests.close();
    while let Some(request) = requests.recv().await {
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        ids.extend(scopes.flat_map(|scope| scope.spans).map(|span| span.span_id));
    }
    assert_eq!(ids, [[21; 8], [22; 8]]);
}

#[tokio::test]
async fn endpoints_that_cannot_work_are_refused_at_start() {
    let telemetry = Telemetry::new(
        Clock::system(),
        BuildInfo {
            version: "1",
            commit: "a",
        },
    );
    let mut otlp = config("127.0.0.1:1".parse().unwrap(), OtlpProtocol::HttpProtobuf)
        .otlp
        .unwrap();
    otlp.endpoint = "not a url".to_owned();
    assert!(telemetry.start_exporter(&otlp, &Tasks::new()).is_err());
    otlp.protocol = OtlpProtocol::Grpc;
    assert!(telemetry.start_exporter(&otlp, &Tasks::new()).is_err());
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf] {
        otlp.endpoint = "https://collector".to_owned();
        otlp.protocol = protocol;
        telemetry.start_exporter(&otlp, &Tasks::new()).unwrap();
    }
}

//! The metrics that a collector gets are those of a scrape.

use std::time::Duration;

use axum::body::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;

use super::otlp::{config, start};
use crate::config::model::OtlpProtocol;
use crate::tasks::Tasks;
use crate::telemetry::fixture;

struct Collector(mpsc::UnboundedSender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).unwrap();
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn metric<'a>(request: &'a ExportMetricsServiceRequest, name: &str) -> &'a Metric {
    let resources = request.resource_metrics.iter();
    let scopes = resources.flat_map(|resource| &resource.scope_metrics);
    let found = scopes
        .flat_map(|scope| &scope.metrics)
        .find(|metric| metric.name == name);
    found.unwrap_or_else(|| panic!("no {name}: {request:#?}"))
}

fn says(attributes: &[KeyValue], key: &str, expected: &str) -> bool {
    attributes.iter().any(|one| {
        let value = one.value.as_ref().and_then(|value| value.value.as_ref());
        one.key == key && matches!(value, Some(any_value::Value::StringValue(value)) if value == expected)
    })
}

#[track_caller]
fn assert_seen(request: &ExportMetricsServiceRequest, requests: f64) {
    let resource = request.resource_metrics[0].resource.as_ref().unwrap();
    assert!(says(&resource.attributes, "service.name", "outrigger"));
    assert!(says(&resource.attributes, "service.version", "1.2.3"));
    let counter = metric(request, "outrigger_cache_requests");
    let Some(metric::Data::Sum(sum)) = &counter.data else {
        panic!("a counter is a sum: {counter:?}")
    };
    assert!(sum.is_monotonic);
    let point = sum
        .data_points
        .iter()
        .find(|point| says(&point.attributes, "route", "chat"))
        .unwrap();
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(requests)));
    assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano <= point.time_unix_nano);
    let duration = metric(request, "outrigger_http_server_request_duration_seconds");
    assert_eq!(duration.unit, "s");
    let Some(metric::Data::Histogram(histogram)) = &duration.data else {
        panic!("a histogram: {duration:?}")
    };
    let point = histogram
        .data_points
        .iter()
        .find(|point| says(&point.attributes, "route", "chat"))
        .unwrap();
    assert!((f64::from(u32::try_from(point.count).unwrap()) - requests).abs() < 0.5);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!((point.sum.unwrap() - requests * 0.04).abs() < 1e-9, "{point:?}");
    let active = metric(request, "outrigger_http_server_active_requests");
    assert!(matches!(active.data, Some(metric::Data::Gauge(_))), "{active:?}");
}

#[tokio::test]
async fn a_grpc_collector_gets_the_metrics_again_and_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(listener.local_addr().unwrap(), OtlpProtocol::Grpc);
    config.otlp.as_mut().unwrap().metrics = Some(Duration::from_millis(1));
    let (sender, mut requests) = mpsc::unbounded_channel();
    let tasks = Tasks::new();
    let server =
        tonic::transport::Server::builder().add_service(MetricsServiceServer::new(Collector(sender)));
    tasks.spawn("collector", async move {
        server
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    });
    let telemetry = start(&config, &tasks);
    telemetry.record(Some(&telemetry.route("chat")), &fixture::record());
    assert_seen(&requests.recv().await.unwrap(), 1.0);
    assert_seen(&requests.recv().await.unwrap(), 1.0);
    telemetry.record(Some(&telemetry.route("chat")), &fixture::record());
    telemetry.shutdown(Duration::from_secs(30)).await;
    requests.close();
    let mut last = None;
    while let Some(request) = requests.recv().await {
        last = Some(request);
    }
    assert_seen(&last.unwrap(), 2.0);
    tasks.cancel();
}

#[tokio::test]
async fn an_http_collector_gets_the_last_metrics() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(listener.local_addr().unwrap(), OtlpProtocol::HttpProtobuf);
    config.otlp.as_mut().unwrap().metrics = Some(Duration::from_secs(3600));
    let (sender, mut requests) = mpsc::unbounded_channel();
    let tasks = Tasks::new();
    let receive = move |body: Bytes| async move {
        sender
            .send(ExportMetricsServiceRequest::decode(body).unwrap())
            .unwrap();
        ExportMetricsServiceResponse::default().encode_to_vec()
    };
    let router = axum::Router::new().route("/v1/metrics", axum::routing::post(receive));
    tasks.spawn("collector", async move {
        axum::serve(listener, router).await.unwrap()
    });
    let telemetry = start(&config, &tasks);
    telemetry.record(Some(&telemetry.route("chat")), &fixture::record());
    telemetry.shutdown(Duration::from_secs(30)).await;
    assert_seen(&requests.recv().await.unwrap(), 1.0);
    tasks.cancel();
}

#[tokio::test]
async fn a_collector_without_metrics_delays_no_shutdown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(listener.local_addr().unwrap(), OtlpProtocol::HttpProtobuf);
    drop(listener);
    config.otlp.as_mut().unwrap().metrics = Some(Duration::from_secs(3600));
    let tasks = Tasks::new();
    let telemetry = start(&config, &tasks);
    telemetry.shutdown(Duration::from_secs(30)).await;
    assert!(
        !telemetry
            .encode(crate::telemetry::exposition::Format::Text)
            .unwrap()
            .is_empty()
    );
    tasks.cancel();
}

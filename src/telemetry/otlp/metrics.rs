//! Sends the metrics to a collector by OTLP, from the registry that scrapes read.
//!
//! The SDK's own metric pipeline would be a second registry, counting everything twice. So values are taken from the text
//! of a scrape, once a minute, and put into the messages of the protocol.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::http::CollectorClient;
use super::{EXPORT_TIMEOUT, Ending, OtlpError, system_roots, url};
use crate::clock::Timestamp;
use crate::config::model::{Otlp, OtlpProtocol};
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;
use crate::telemetry::exposition::Format;
use crate::telemetry::openmetrics::{self, Family, Series, Value};

/// Starts a task on the current runtime that sends the metrics of `telemetry` every `interval`, and a last time when it
/// is told to end.
///
/// # Errors
/// When the endpoint cannot be used.
pub(in crate::telemetry) fn start(
    config: &Otlp,
    interval: Duration,
    version: &'static str,
    telemetry: Weak<Telemetry>,
    tasks: &Tasks,
) -> Result<Ending, OtlpError> {
    let finish = tasks.token().child_token();
    let worker = Worker {
        collector: Collector::of(config)?,
        telemetry,
        resource: resource(version),
        reachable: true,
    };
    let task = tasks.spawn_to_end(worker.run(interval, finish.clone()));
    Ok(Ending::new(finish, task))
}

struct Worker {
    collector: Collector,
    telemetry: Weak<Telemetry>,
    resource: Resource,
    /// Whether the last export worked: trouble is logged once, and so is its end.
    reachable: bool,
}

impl Worker {
    async fn run(mut self, interval: Duration, finish: CancellationToken) {
        loop {
            let last = tokio::select! {
                () = tokio::time::sleep(interval) => false,
                () = finish.cancelled() => true,
            };
            self.export().await;
            if last {
                return;
            }
        }
    }

    async fn export(&mut self) {
        let Some(request) = self.request() else { return };
        let sent = tokio::time::timeout(EXPORT_TIMEOUT, self.collector.send(request)).await;
        let error = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_elapsed) => Some("no answer in time".to_owned()),
        };
        match &error {
            Some(error) if self.reachable => {
                tracing::warn!(
                    error,
                    "the collector does not take metrics; scrapes have them still"
                );
            }
            None if !self.reachable => tracing::info!("the collector takes metrics again"),
            _ => {}
        }
        self.reachable = error.is_none();
    }

    /// All that is measured; none when the process has ended, or when nothing can be written.
    fn request(&self) -> Option<ExportMetricsServiceRequest> {
        let telemetry = self.telemetry.upgrade()?;
        let text = telemetry.encode(Format::OpenMetrics).ok()?;
        let span = Span {
            started: nanoseconds(telemetry.started()),
            now: nanoseconds(telemetry.clock().now()),
        };
        let metrics = openmetrics::families(&text).into_iter();
        Some(ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(InstrumentationScope {
                        name: "outrigger".to_owned(),
                        ..InstrumentationScope::default()
                    }),
                    metrics: metrics.map(|family| span.metric(family)).collect(),
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        })
    }
}

fn resource(version: &str) -> Resource {
    Resource {
        attributes: [("service.name", "outrigger"), ("service.version", version)]
            .map(|(name, value)| attribute(name.to_owned(), value.to_owned()))
            .to_vec(),
        ..Resource::default()
    }
}

/// The time that cumulative values speak of, in nanoseconds since 1970.
struct Span {
    started: u64,
    now: u64,
}

impl Span {
    fn metric(&self, family: Family<'_>) -> Metric {
        let cumulative = AggregationTemporality::Cumulative as i32;
        let (mut numbers, mut histograms) = (Vec::new(), Vec::new());
        for Series { labels, value } in family.series {
            let attributes = labels
                .into_iter()
                .map(|(name, value)| attribute(name, value))
                .collect();
            match value {
                Value::Number(value) => numbers.push(NumberDataPoint {
                    attributes,
                    start_time_unix_nano: if family.is_counter { self.started } else { 0 },
                    time_unix_nano: self.now,
                    value: Some(number_data_point::Value::AsDouble(value)),
                    ..NumberDataPoint::default()
                }),
                Value::Histogram(buckets) => histograms.push(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: self.started,
                    time_unix_nano: self.now,
                    count: buckets.count,
                    sum: Some(buckets.sum),
                    bucket_counts: buckets.counts,
                    explicit_bounds: buckets.bounds,
                    ..HistogramDataPoint::default()
                }),
            }
        }
        let data = if !histograms.is_empty() {
            metric::Data::Histogram(Histogram {
                data_points: histograms,
                aggregation_temporality: cumulative,
            })
        } else if family.is_counter {
            metric::Data::Sum(Sum {
                data_points: numbers,
                aggregation_temporality: cumulative,
                is_monotonic: true,
            })
        } else {
            metric::Data::Gauge(Gauge { data_points: numbers })
        };
        Metric {
            name: family.name.to_owned(),
            description: family.help.to_owned(),
            unit: unit(family.name).to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }
}

/// The unit of a metric, which its name ends with, as UCUM writes it; empty without one.
fn unit(name: &str) -> &'static str {
    match name.rsplit_once('_') {
        Some((_, "seconds")) => "s",
        Some((_, "bytes")) => "By",
        Some((_, "ratio")) => "1",
        _ => "",
    }
}

fn attribute(key: String, value: String) -> KeyValue {
    KeyValue {
        key,
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

fn nanoseconds(at: Timestamp) -> u64 {
    let since = at.to_system_time().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Where requests go.
enum Collector {
    Grpc(MetricsServiceClient<Channel>),
    Http { client: CollectorClient, url: String },
}

impl Collector {
    fn of(config: &Otlp) -> Result<Self, OtlpError> {
        let tls = config.endpoint.starts_with("https://");
        Ok(match config.protocol {
            OtlpProtocol::Grpc => {
                let mut endpoint = Endpoint::from_shared(config.endpoint.clone())?.timeout(EXPORT_TIMEOUT);
                if tls {
                    let trusted = ClientTlsConfig::new().trust_anchors(system_roots().roots);
                    endpoint = endpoint.tls_config(trusted)?;
                }
                Self::Grpc(MetricsServiceClient::new(endpoint.connect_lazy()))
            }
            OtlpProtocol::HttpProtobuf => Self::Http {
                client: CollectorClient::new(tls.then(system_roots))?,
                url: url(&config.endpoint, "metrics"),
            },
        })
    }

    async fn send(&mut self, request: ExportMetricsServiceRequest) -> Result<(), String> {
        match self {
            Self::Grpc(client) => match client.export(request).await {
                Ok(_accepted) => Ok(()),
                Err(status) => Err(format!("{}: {}", status.code(), status.message())),
            },
            Self::Http { client, url } => {
                let request = Request::post(&*url)
                    .header(header::CONTENT_TYPE, "application/x-protobuf")
                    .body(Bytes::from(request.encode_to_vec()))
                    .map_err(|error| error.to_string())?;
                let answer = client
                    .send_bytes(request)
                    .await
                    .map_err(|error| error.to_string())?;
                match answer.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(format!("status {status}")),
                }
            }
        }
    }
}

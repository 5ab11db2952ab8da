//! Sends spans to a collector by OTLP: a bounded queue that requests offer their spans to, and one task that empties it.
//! Metrics have a task of their own.
//!
//! A dead or slow collector costs spans, which are counted, and nothing else: offering never waits, and every export
//! has a deadline.

pub(super) mod genai;
mod http;
pub(super) mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;
use rustls::RootCertStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::http::CollectorClient;
use crate::config::model::{Otlp, OtlpProtocol};
use crate::tasks::Tasks;

/// Requests whose spans may wait.
const QUEUE: usize = 2048;
/// Spans in one export, about: the spans of one request stay together.
const BATCH: usize = 512;
/// How long a span may wait for company.
const DELAY: Duration = Duration::from_secs(1);
/// Deadline of one export, retries included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint cannot be used.
    #[error("telemetry.otlp.endpoint: {0}")]
    Endpoint(#[from] ExporterBuildError),
    /// No TLS connection can be made.
    #[error("telemetry.otlp.endpoint: {0}")]
    Tls(#[from] rustls::Error),
    /// No gRPC client can be made.
    #[error("telemetry.otlp.endpoint: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

/// The end of an exporting task: it is told to send what is left and to end.
#[derive(Debug)]
pub(super) struct Ending {
    finish: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Ending {
    fn new(finish: CancellationToken, task: JoinHandle<()>) -> Self {
        Self {
            finish,
            task: Mutex::new(Some(task)),
        }
    }

    /// Ends the task within `limit`. Returns whether everything was sent or counted in time.
    pub(super) async fn shutdown(&self, limit: Duration) -> bool {
        self.finish.cancel();
        let Some(mut task) = self.task.lock().take() else {
            return true;
        };
        let finished = tokio::time::timeout(limit, &mut task).await.is_ok();
        if !finished {
            task.abort();
        }
        finished
    }
}

/// The workers' end of the exporter.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Sender<Vec<SpanData>>,
    dropped: Arc<AtomicU64>,
    ending: Ending,
}

impl Exporter {
    /// Starts the exporting task on the current runtime; spans lost are counted in `dropped`.
    ///
    /// The task ends, after a last export, when `tasks` is cancelled or [`Exporter::shutdown`] is called.
    ///
    /// # Errors
    /// When the endpoint cannot be used.
    pub fn start(
        config: &Otlp,
        version: &'static str,
        tasks: &Tasks,
        dropped: Arc<AtomicU64>,
    ) -> Result<Self, OtlpError> {
        let mut exporter = build(config)?;
        exporter.set_resource(
            &Resource::builder()
                .with_service_name("outrigger")
                .with_attribute(KeyValue::new("service.version", version))
                .build(),
        );
        let (queue, spans) = mpsc::channel(QUEUE);
        let finish = tasks.token().child_token();
        let worker = Worker {
            exporter,
            spans,
            dropped: Arc::clone(&dropped),
            finish: finish.clone(),
            reachable: true,
        };
        let task = tasks.spawn_to_end(worker.run());
        Ok(Self {
            queue,
            dropped,
            ending: Ending::new(finish, task),
        })
    }

    /// Offers the spans of one request.
    pub fn offer(&self, spans: Vec<SpanData>) {
        if let Err(mpsc::error::TrySendError::Full(spans) | mpsc::error::TrySendError::Closed(spans)) =
            self.queue.try_send(spans)
        {
            count(&self.dropped, spans.len());
        }
    }

    /// Sends what waits and ends the task, within `limit`. Returns whether everything was sent or counted in time.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.ending.shutdown(limit).await
    }
}

fn build(config: &Otlp) -> Result<SpanExporter, OtlpError> {
    let roots = if config.endpoint.starts_with("https://") {
        Some(system_roots())
    } else {
        None
    };
    let exporter = match config.protocol {
        OtlpProtocol::Grpc => {
            let mut builder = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&config.endpoint)
                .with_timeout(EXPORT_TIMEOUT);
            if let Some(roots) = roots {
                builder = builder.with_tls_config(ClientTlsConfig::new().trust_anchors(roots.roots));
            }
            builder.build()?
        }
        OtlpProtocol::HttpProtobuf => SpanExporter::builder()
            .with_http()
            .with_http_client(CollectorClient::new(roots)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url(&config.endpoint, "traces"))
            .with_timeout(EXPORT_TIMEOUT)
            .build()?,
    };
    Ok(exporter)
}

/// Where a signal goes. A base URL gets the signal's path of the OTLP/HTTP specification; a URL with a path is the one
/// for traces, which others follow as far as it has the usual form.
fn url(endpoint: &str, signal: &str) -> String {
    let after_scheme = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let base = match after_scheme.split_once('/') {
        Some((_, path)) if !path.is_empty() => match endpoint.strip_suffix("/v1/traces") {
            Some(base) => base,
            None => return endpoint.to_owned(),
        },
        _ => endpoint.trim_end_matches('/'),
    };
    format!("{base}/v1/{signal}")
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

struct Worker {
    exporter: SpanExporter,
    spans: mpsc::Receiver<Vec<SpanData>>,
    dropped: Arc<AtomicU64>,
    finish: CancellationToken,
    /// Whether the last export worked: trouble is logged once, and so is its end.
    reachable: bool,
}

impl Worker {
    async fn run(mut self) {
        let finish = self.finish.clone();
        while let Some(batch) = self.next_batch(&finish).await {
            self.export(batch).await;
        }
    }

    /// Spans to send now: after [`DELAY`], when there are enough, or at once when it is time to finish. None when it
    /// is time to finish and nothing waits.
    async fn next_batch(&mut self, finish: &CancellationToken) -> Option<Vec<SpanData>> {
        let mut batch = tokio::select! {
            spans = self.spans.recv() => spans?,
            () = finish.cancelled() => self.spans.try_recv().ok()?,
        };
        let delay = tokio::time::sleep(DELAY);
        tokio::pin!(delay);
        while batch.len() < BATCH {
            let more = tokio::select! {
                biased;
                spans = self.spans.recv() => spans,
                () = finish.cancelled() => None,
                () = &mut delay => None,
            };
            match more {
                Some(spans) => batch.extend(spans),
                None => break,
            }
        }
        Some(batch)
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        let result = tokio::time::timeout(EXPORT_TIMEOUT, self.exporter.export(batch)).await;
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_elapsed) => Some("no answer in time".to_owned()),
        };
        match &error {
            Some(error) => {
                count(&self.dropped, spans);
                if self.reachable {
                    tracing::warn!(
                        error,
                        "the trace collector does not take spans; they are dropped and counted"
                    );
                }
            }
            None if !self.reachable => tracing::info!("the trace collector takes spans again"),
            None => {}
        }
        self.reachable = error.is_none();
    }
}

fn count(counter: &AtomicU64, spans: usize) {
    counter.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
}

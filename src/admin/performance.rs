//! What routes did and what the system used, in a window that ends now.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::problem::{Problem, Query};
use crate::insight::history::{Gauge, History, Sample, Scope};

/// Longest window, hours: 400 days, the longest that anything is kept.
const MAX_HOURS: f64 = 9_600.0;
/// Shortest window, hours: 36 seconds.
const MIN_HOURS: f64 = 0.01;
/// Points of a series, about.
const POINTS: u32 = 60;

/// A window.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Window {
    /// Its length in hours, 0.01 to 9600; 1 when absent.
    #[param(minimum = 0.01, maximum = 9600, default = 1)]
    hours: Option<f64>,
}

impl Window {
    /// Its length.
    fn length(&self) -> Result<Duration, Problem> {
        let hours = self.hours.unwrap_or(1.0);
        if !(MIN_HOURS..=MAX_HOURS).contains(&hours) {
            return Err(Problem::bad_request(format!(
                "`hours` is between {MIN_HOURS} and {MAX_HOURS}"
            )));
        }
        Ok(Duration::from_secs_f64(hours * 3600.0))
    }
}

/// What routes, upstreams and levels did.
#[derive(Serialize, ToSchema)]
pub(super) struct Endpoints {
    /// Beginning of the window, seconds since the epoch.
    from: u64,
    /// End of the window.
    to: u64,
    /// All routes together; null when nothing was recorded.
    total: Option<Figures>,
    /// Routes by name, those without a request too.
    routes: Vec<Named>,
    /// Attempts by upstream.
    upstreams: Vec<Named>,
    /// Requests by the cache level that decided.
    levels: Vec<Named>,
}

/// Figures of one scope.
#[derive(Serialize, ToSchema)]
struct Named {
    /// Its name.
    name: String,
    #[serde(flatten)]
    figures: Figures,
}

/// Sums over the window. Latencies are known to 5 %.
#[derive(Serialize, ToSchema)]
struct Figures {
    /// Requests; attempts of an upstream.
    requests: u64,
    /// Requests per second.
    rate: f64,
    /// Those that failed: a status of 500 or above, or no answer.
    errors: u64,
    /// Errors as a share of requests; null without requests.
    error_ratio: Option<f64>,
    /// Half of the requests took at most this, seconds.
    p50_seconds: Option<f64>,
    /// 95 of 100 took at most this.
    p95_seconds: Option<f64>,
    /// 99 of 100 took at most this.
    p99_seconds: Option<f64>,
    /// Hits as a share of the requests that the cache could answer; null without such requests.
    hit_ratio: Option<f64>,
    /// Requests that were hits.
    hits: u64,
    /// Bytes of request bodies.
    bytes_in: u64,
    /// Bytes of response bodies.
    bytes_out: u64,
    /// Tokens that upstreams made.
    tokens: u64,
    /// Tokens that the cache spared them.
    tokens_saved: u64,
    /// Dollars spent.
    cost: f64,
    /// Dollars saved.
    saved: f64,
    /// Different principals, to a few percent.
    unique_principals: u64,
}

impl Figures {
    fn of(sample: &Sample, window: Duration) -> Self {
        let quantile = |quantile| sample.latency.quantile(quantile);
        Self {
            requests: sample.requests,
            rate: sample.requests as f64 / window.as_secs_f64(),
            errors: sample.errors,
            error_ratio: sample.error_ratio(),
            p50_seconds: quantile(0.5),
            p95_seconds: quantile(0.95),
            p99_seconds: quantile(0.99),
            hit_ratio: sample.hit_ratio(),
            hits: sample.hits(),
            bytes_in: sample.bytes_in,
            bytes_out: sample.bytes_out,
            tokens: sample.tokens_upstream,
            tokens_saved: sample.tokens_cache,
            cost: sample.cost,
            saved: sample.saved,
            unique_principals: sample.principals.count().round() as u64,
        }
    }
}

/// Shows what each route did: requests, errors, latency, hits, bytes, tokens, dollars.
#[utoipa::path(get, path = "/api/v1/performance/endpoints", tag = "performance", params(Window),
    responses((status = 200, body = Endpoints), (status = 400, body = Problem)))]
pub(super) async fn endpoints(
    State(context): State<Arc<Context>>,
    Query(window): Query<Window>,
) -> Result<Json<Endpoints>, Problem> {
    let length = window.length()?;
    read(context, move |history| {
        let (from, to) = history.last(length);
        let scopes = history.scopes();
        let totals = history.totals(&scopes, from, to);
        let mut shown = Endpoints {
            from: from.as_secs(),
            to: to.as_secs(),
            total: None,
            routes: Vec::new(),
            upstreams: Vec::new(),
            levels: Vec::new(),
        };
        for (scope, total) in scopes.iter().zip(&totals) {
            let Some(figures) = total.as_ref().map(|total| Figures::of(total, length)) else {
                continue;
            };
            let (list, name) = match scope {
                Scope::All => {
                    shown.total = Some(figures);
                    continue;
                }
                Scope::System | Scope::Endpoint(..) => continue,
                Scope::Route(name) => (&mut shown.routes, name),
                Scope::Upstream(name) => (&mut shown.upstreams, name),
                Scope::Level(name) => (&mut shown.levels, name),
            };
            list.push(Named {
                name: name.to_string(),
                figures,
            });
        }
        shown
    })
    .await
}

/// What the system used.
#[derive(Serialize, ToSchema)]
pub(super) struct System {
    /// Beginning of the first step, seconds since the epoch.
    from: u64,
    /// End of the window.
    to: u64,
    /// Width of a step, seconds.
    step: u64,
    /// Over the whole window; null when nothing was recorded.
    total: Option<Uses>,
    /// By step; null where nothing was recorded.
    series: Vec<Option<Uses>>,
}

/// What was used over a time.
#[derive(Clone, Serialize, ToSchema)]
struct Uses {
    /// This process.
    process: ProcessUses,
    /// The container, by its cgroup; null outside of one.
    container: ContainerUses,
    /// The host.
    host: HostUses,
}

/// What this process used.
#[derive(Clone, Serialize, ToSchema)]
struct ProcessUses {
    /// CPU, percent; 100 is one CPU.
    cpu_percent: Option<Use>,
    /// Resident memory, bytes.
    memory_bytes: Option<Use>,
    /// Threads.
    threads: Option<Use>,
    /// Open file descriptors.
    open_files: Option<Use>,
}

/// What the container used.
#[derive(Clone, Serialize, ToSchema)]
struct ContainerUses {
    /// CPU, percent; 100 is one CPU.
    cpu_percent: Option<Use>,
    /// Time in which its quota held it back, percent.
    cpu_throttled_percent: Option<Use>,
    /// Memory, bytes, page cache included.
    memory_bytes: Option<Use>,
}

/// What the host used.
#[derive(Clone, Serialize, ToSchema)]
struct HostUses {
    /// CPU, percent; 100 is every CPU.
    cpu_percent: Option<Use>,
    /// Memory that new work could not have, bytes.
    memory_bytes: Option<Use>,
    /// Load average of one minute.
    load: Option<Use>,
    /// Bytes used on the file systems.
    disk_bytes: Option<Use>,
    /// Network, bytes received per second.
    network_received_per_second: Option<Use>,
    /// Network, bytes sent per second.
    network_sent_per_second: Option<Use>,
}

/// What was read over a time.
#[derive(Clone, Serialize, ToSchema)]
struct Use {
    /// The mean.
    mean: f64,
    /// The largest.
    max: f64,
}

impl Uses {
    fn of(sample: &Sample) -> Self {
        let reading = |gauge| {
            let reading = sample.gauge(gauge);
            reading.mean().map(|mean| Use {
                mean,
                max: reading.max,
            })
        };
        Self {
            process: ProcessUses {
                cpu_percent: reading(Gauge::ProcessCpu),
                memory_bytes: reading(Gauge::ProcessMemory),
                threads: reading(Gauge::ProcessThreads),
                open_files: reading(Gauge::ProcessFiles),
            },
            container: ContainerUses {
                cpu_percent: reading(Gauge::ContainerCpu),
                cpu_throttled_percent: reading(Gauge::ContainerThrottled),
                memory_bytes: reading(Gauge::ContainerMemory),
            },
            host: HostUses {
                cpu_percent: reading(Gauge::HostCpu),
                memory_bytes: reading(Gauge::HostMemory),
                load: reading(Gauge::HostLoad),
                disk_bytes: reading(Gauge::HostDisk),
                network_received_per_second: reading(Gauge::NetworkReceived),
                network_sent_per_second: reading(Gauge::NetworkSent),
            },
        }
    }
}

/// Shows CPU, memory, disk and network of the process, the container and the host.
#[utoipa::path(get, path = "/api/v1/performance/system", tag = "performance", params(Window),
    responses((status = 200, body = System), (status = 400, body = Problem)))]
pub(super) async fn system(
    State(context): State<Arc<Context>>,
    Query(window): Query<Window>,
) -> Result<Json<System>, Problem> {
    let length = window.length()?;
    read(context, move |history| {
        let (from, to) = history.last(length);
        let series = history.series(&Scope::System, from, to, length / POINTS, |sample, _| {
            Uses::of(sample)
        });
        System {
            from: series.from.as_secs(),
            to: to.as_secs(),
            step: series.step.as_secs(),
            total: history.total(&Scope::System, from, to).as_ref().map(Uses::of),
            series: series.points,
        }
    })
    .await
}

/// Reads the history where it may wait for the disk.
async fn read<T: Send + 'static>(
    context: Arc<Context>,
    question: impl FnOnce(&History) -> T + Send + 'static,
) -> Result<Json<T>, Problem> {
    tokio::task::spawn_blocking(move || question(&context.history))
        .await
        .map(Json)
        .map_err(|error| Problem::internal(error.to_string()))
}

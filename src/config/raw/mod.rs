//! The configuration as it is written: the shape of the YAML and its reference.
//!
//! Every field is optional here, so that all faults of a file are found in one go; `resolve` says what is
//! missing. The comments become the descriptions of the JSON Schema and of the printed reference, where each
//! field has a meaning, a default, and a word on what a change needs.

mod alerts;
mod cache;
mod later;
mod purge;
mod redis;
mod route;
mod route_cache;
mod telemetry;
mod ttl;
mod upstream;
mod usage;
mod warm;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::model::Role;
use super::scalar::{Map, Refusal, Scalar, Text, Whole};
use super::units::{Positive, Rate, Size};
use super::values::{HostText, NameText};

pub use alerts::*;
pub use cache::*;
pub use later::*;
pub use purge::*;
pub use redis::*;
pub use route::*;
pub use route_cache::*;
pub use telemetry::*;
pub use ttl::*;
pub use upstream::*;
pub use usage::*;
pub use warm::*;

/// The whole file. A change takes effect on reload, in one step, unless a field says that it needs a restart.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Version of this format; 1 is the only one.
    #[schemars(extend("default" = 1))]
    pub version: Option<u64>,
    /// Data-plane threads: a number, or `auto` for the CPU quota of the cgroup, rounded up, and at most the CPUs
    /// that the process may run on.
    #[schemars(extend("default" = "auto", "x-restart" = true))]
    pub workers: Option<Text<Workers>>,
    /// Where clients connect; at least one. Adding, removing or rebinding one needs a restart.
    #[schemars(extend("x-required" = true))]
    pub listeners: Option<Vec<Listener>>,
    /// The listener for probes, metrics and operators.
    pub admin: Option<Admin>,
    /// Groups of interchangeable endpoints, by name; at least one.
    #[schemars(extend("x-required" = true))]
    pub upstreams: Option<Map<Text<NameText>, Upstream>>,
    /// Where cached responses are kept.
    pub cache: Option<Cache>,
    /// Which request goes where; at least one. The most specific route wins: by host, then exact path, then the
    /// longest prefix or template.
    #[schemars(extend("x-required" = true))]
    pub routes: Option<Vec<Route>>,
    /// What tokens cost, for the metrics of routes with `usage`.
    pub usage: Option<UsagePrices>,
    /// Traces, access log and masking.
    pub telemetry: Option<Telemetry>,
    /// Alert rules and who is told.
    #[schemars(extend("x-not-available-yet" = true))]
    pub alerts: Option<Alerts>,
}

/// `auto` or a number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// From the CPU quota.
    Auto,
    /// So many.
    Exactly(usize),
}

impl Scalar for Workers {
    const NAME: &'static str = "`auto` or number";
    const EXAMPLE: &'static str = "auto";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(number)) if (1..=512).contains(&number) => Ok(Self::Exactly(number)),
            _ => {
                Err(Refusal::new(format!("`{text}` is not a number of workers")).hint("`auto`, or 1 to 512"))
            }
        }
    }
}

/// One address where clients connect, by HTTP/1.1 and HTTP/2 alike.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Name in logs and metrics.
    #[schemars(extend("x-required" = true, "x-restart" = true))]
    pub name: Option<Text<NameText>>,
    /// Address and port to bind.
    #[schemars(extend("x-required" = true, "x-restart" = true))]
    pub bind: Option<Text<SocketAddr>>,
    /// TLS towards clients; absent: none. The files are read again when they change.
    pub tls: Option<ServerTls>,
    /// Bounds that one client or connection cannot exceed.
    pub limits: Option<Limits>,
    /// Networks whose `X-Forwarded-*` and `Forwarded` headers are believed; others' are rebuilt.
    #[schemars(extend("default" = []))]
    pub trusted_proxies: Option<Vec<Text<IpNet>>>,
}

/// TLS towards clients, with HTTP/2 offered by ALPN.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM file with the certificate and its chain; relative to the configuration file.
    #[schemars(extend("x-required" = true))]
    pub cert_file: Option<Text<PathBuf>>,
    /// PEM file with the private key.
    #[schemars(extend("x-required" = true))]
    pub key_file: Option<Text<PathBuf>>,
    /// PEM file with authorities; when given, clients must present a certificate of one of them.
    pub client_ca_file: Option<Text<PathBuf>>,
}

/// Bounds that one client or connection cannot exceed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open connections on this listener, over all workers.
    #[schemars(extend("default" = 10000))]
    pub connections: Option<Whole<1, 10_000_000>>,
    /// Header fields of one request; more are answered with 431.
    #[schemars(extend("default" = 100))]
    pub headers: Option<Whole<1, 1000>>,
    /// Bytes of one request head; more are answered with 431.
    #[schemars(extend("default" = "64KiB"))]
    pub header_bytes: Option<Text<Size>>,
    /// Time for a whole request head.
    #[schemars(extend("default" = "10s"))]
    pub header_timeout: Option<Text<Positive<Duration>>>,
    /// Lowest average rate of a request body; `0` for no bound.
    #[schemars(extend("default" = "500B/s"))]
    pub body_min_rate: Option<Text<Rate>>,
    /// Time without a byte in either direction after which a connection is closed.
    #[schemars(extend("default" = "75s"))]
    pub idle_timeout: Option<Text<Positive<Duration>>>,
    /// Bytes of one request body; more are answered with 413.
    #[schemars(extend("default" = "64MiB"))]
    pub max_body: Option<Text<Size>>,
    /// Concurrent streams of one HTTP/2 connection.
    #[schemars(extend("default" = 100))]
    pub h2_streams: Option<Whole<1, 10_000>>,
}

/// The listener for probes, metrics and operators.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port to bind.
    #[schemars(extend("default" = "127.0.0.1:9901", "x-restart" = true))]
    pub bind: Option<Text<SocketAddr>>,
    /// Who may do what. None given: peers on the loopback interface may read, and nobody may change anything.
    #[schemars(extend("default" = []))]
    pub tokens: Option<Vec<Token>>,
    /// Values of `Host`, without port, that are answered; others get 421, which stops DNS rebinding.
    #[schemars(extend("default" = ["localhost", "127.0.0.1", "[::1]"]))]
    pub allowed_hosts: Option<Vec<Text<HostText>>>,
    /// Directory for what must survive a restart (the purge log, the audit log, the requests asked for most, the history);
    /// absent: memory only.
    #[schemars(extend("x-restart" = true))]
    pub state_dir: Option<Text<PathBuf>>,
    /// Whether `/metrics` needs a token as well.
    #[schemars(extend("default" = false))]
    pub protect_metrics: Option<bool>,
}

/// One bearer token of the admin API.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who uses it; named in logs.
    #[schemars(extend("x-required" = true))]
    pub name: Option<Text<NameText>>,
    /// What it allows; each role includes the ones before it.
    #[schemars(extend("x-required" = true))]
    pub role: Option<RoleWord>,
    /// File with the SHA-256 of the token, 64 hexadecimal digits: `printf %s "$TOKEN" | sha256sum`.
    #[schemars(extend("x-required" = true))]
    pub sha256_file: Option<Text<PathBuf>>,
}

/// A role of the admin API.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RoleWord {
    /// May read.
    Viewer,
    /// May also purge and drain.
    Operator,
    /// May also reload and set the log level.
    Admin,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Viewer => Self::Viewer,
            RoleWord::Operator => Self::Operator,
            RoleWord::Admin => Self::Admin,
        }
    }
}

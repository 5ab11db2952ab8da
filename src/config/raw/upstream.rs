//! `upstreams`.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::{ConcurrencyQueue, Hedge, Outlier};
use crate::config::scalar::{Later, Text, Whole};
use crate::config::units::{Positive, Share};
use crate::config::values::{Address, CookieName, HostText, StatusRange, TargetText};

/// A group of interchangeable endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Where requests go; at least one.
    #[schemars(extend("x-required" = true))]
    pub endpoints: Option<Vec<Endpoint>>,
    /// Protocol towards the endpoints.
    #[schemars(extend("default" = "http1"))]
    pub protocol: Option<ProtocolWord>,
    /// TLS towards the endpoints; absent: none. `{}` checks certificates against the system's authorities.
    pub tls: Option<ClientTls>,
    /// How an endpoint is chosen.
    #[schemars(extend("default" = "round_robin"))]
    pub balance: Option<BalanceWord>,
    /// What `balance: ketama` hashes.
    #[schemars(extend("default" = "key"))]
    pub hash_on: Option<HashOnChoice>,
    /// When an endpoint counts as healthy.
    pub health: Option<Health>,
    /// Deadlines of one exchange.
    pub timeouts: Option<Timeouts>,
    /// Bounds of the connection pool.
    pub pool: Option<Pool>,
    /// When a request is tried again.
    pub retry: Option<Retry>,
    /// A second request when the first is slow; for idempotent requests only.
    pub hedge: Option<Later<Hedge>>,
    /// Requests in flight to this upstream: only `off` for now.
    #[schemars(extend("default" = "off"))]
    pub concurrency: Option<Concurrency>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Host or IP address, and port. A name is resolved again every few seconds.
    #[schemars(extend("x-required" = true))]
    pub address: Option<Text<Address>>,
    /// Share of the traffic compared with the others' weights.
    #[schemars(extend("default" = 1))]
    pub weight: Option<Whole<1, 1000>>,
    /// Tier for failover; only tier 0 for now.
    #[schemars(extend("default" = 0))]
    pub tier: Option<Whole<0, 9>>,
    /// A DNS name whose addresses are all endpoints.
    pub dns: Option<Later<Text<HostText>>>,
    /// Port of the endpoints behind `dns`.
    pub port: Option<Later<Whole<1, 65_535>>>,
    /// Time after which `dns` is resolved again.
    pub refresh: Option<Later<Text<Positive<Duration>>>>,
}

/// Protocol towards an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ProtocolWord {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    H2,
    /// By ALPN over TLS; without TLS HTTP/1.1, and HTTP/2 for gRPC.
    Auto,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BalanceWord {
    /// In turn, by weight.
    RoundRobin,
    /// By consistent hashing of `hash_on`.
    Ketama,
    /// Not available yet: the one with the fewest requests in flight.
    LeastRequest,
    /// Not available yet: the faster of two.
    P2cEwma,
}

/// What consistent hashing hashes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum HashOnChoice {
    /// The cache key, or method and target where there is none.
    Key,
    /// The client's address.
    ClientIp,
    /// A request header.
    Header(Text<HeaderName>),
    /// A request cookie.
    Cookie(Text<CookieName>),
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// Server name to ask for and to check; absent: the endpoint's host.
    pub sni: Option<Text<HostText>>,
    /// PEM file with authorities; absent: the system's.
    pub ca_file: Option<Text<PathBuf>>,
    /// PEM file with a certificate to present; needs `key_file`.
    pub cert_file: Option<Text<PathBuf>>,
    /// PEM file with the key of `cert_file`.
    pub key_file: Option<Text<PathBuf>>,
}

/// When an endpoint counts as healthy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Regular checks; absent: every endpoint counts as healthy.
    pub active: Option<ActiveCheck>,
    /// Ejection of endpoints by what traffic shows.
    pub outlier: Option<Later<Outlier>>,
    /// Time over which a recovered endpoint gets its full share.
    pub slow_start: Option<Later<Text<Positive<Duration>>>>,
}

/// Regular checks; `http` or `tcp` must be given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActiveCheck {
    /// Check by a request.
    pub http: Option<HttpProbe>,
    /// Check by a connection (with TLS, its handshake too): `{}`.
    pub tcp: Option<TcpProbe>,
    /// Check by the gRPC health protocol.
    pub grpc: Option<Later<TcpProbe>>,
    /// Time between two checks of one endpoint.
    #[schemars(extend("default" = "5s"))]
    pub interval: Option<Text<Positive<Duration>>>,
    /// Time that one check may take.
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<Text<Positive<Duration>>>,
    /// Good checks in a row that make an endpoint healthy.
    #[schemars(extend("default" = 2))]
    pub healthy_after: Option<Whole<1, 100>>,
    /// Bad checks in a row that make an endpoint unhealthy.
    #[schemars(extend("default" = 3))]
    pub unhealthy_after: Option<Whole<1, 100>>,
}

/// A check by `GET`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// Path and query.
    #[schemars(extend("x-required" = true))]
    pub path: Option<Text<TargetText>>,
    /// Statuses that are good.
    #[schemars(extend("default" = ["200-299"]))]
    pub status: Option<Vec<Text<StatusRange>>>,
}

/// A check without settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {}

/// Deadlines of one exchange with an upstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// For a connection, TLS included.
    #[schemars(extend("default" = "1s"))]
    pub connect: Option<Text<Positive<Duration>>>,
    /// From the end of the request to the head of the response.
    #[schemars(extend("default" = "30s"))]
    pub first_byte: Option<Text<Positive<Duration>>>,
    /// Without a byte of the body.
    #[schemars(extend("default" = "60s"))]
    pub idle: Option<Text<Positive<Duration>>>,
    /// For the whole exchange; upgraded connections are exempt.
    #[schemars(extend("default" = "300s"))]
    pub total: Option<Text<Positive<Duration>>>,
}

/// Bounds of an upstream's connections, over all workers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Open connections per endpoint.
    #[schemars(extend("default" = 256))]
    pub max_connections: Option<Whole<1, 1_000_000>>,
    /// Idle connections per endpoint.
    #[schemars(extend("default" = 64))]
    pub max_idle: Option<Whole<0, 1_000_000>>,
    /// Life of an idle connection.
    #[schemars(extend("default" = "60s"))]
    pub idle_timeout: Option<Text<Positive<Duration>>>,
}

/// When a request is tried again, on another endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first included; 1 for no retry.
    #[schemars(extend("default" = 2))]
    pub attempts: Option<Whole<1, 10>>,
    /// After what: only `connect` (no connection could be made) for now.
    #[schemars(extend("default" = ["connect"]))]
    pub on: Option<Vec<RetryOn>>,
    /// Retries as a share of requests.
    pub budget: Option<Later<Text<Share>>>,
    /// Time that one attempt may take.
    pub per_try_timeout: Option<Later<Text<Positive<Duration>>>>,
}

/// What a retry follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RetryOn {
    /// No connection could be made.
    Connect,
    /// Not available yet: the connection broke before the response.
    Reset,
    /// Not available yet: status 502.
    #[serde(rename = "502")]
    BadGateway,
    /// Not available yet: status 503.
    #[serde(rename = "503")]
    Unavailable,
    /// Not available yet: status 504.
    #[serde(rename = "504")]
    GatewayTimeout,
}

/// Requests in flight.
#[derive(Clone, Debug)]
pub enum Concurrency {
    /// Without a limit.
    Off,
    /// With one.
    Limit(ConcurrencyQueue),
}

impl<'de> Deserialize<'de> for Concurrency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ConcurrencyVisitor)
    }
}

struct ConcurrencyVisitor;

impl<'de> Visitor<'de> for ConcurrencyVisitor {
    type Value = Concurrency;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("`off` or a map")
    }

    /// YAML 1.1 reads `off` as false.
    fn visit_bool<E: Error>(self, on: bool) -> Result<Concurrency, E> {
        match on {
            false => Ok(Concurrency::Off),
            true => Err(E::invalid_value(Unexpected::Bool(on), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Concurrency, E> {
        match text {
            "off" => Ok(Concurrency::Off),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Concurrency, A::Error> {
        ConcurrencyQueue::deserialize(MapAccessDeserializer::new(map)).map(Concurrency::Limit)
    }
}

impl JsonSchema for Concurrency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"enum": ["off", false]},
            generator.subschema_for::<ConcurrencyQueue>(),
        ]})
    }
}

//! `telemetry`.

use std::time::Duration;

use globset::GlobMatcher;
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::{Later, Text};
use crate::config::units::{Positive, Share, Size};
use crate::config::values::{Plain, Pointer, UrlText};

/// Traces, access log and masking.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Where spans go; absent: nowhere.
    #[schemars(extend("x-restart" = true))]
    pub otlp: Option<Otlp>,
    /// One line per request on standard output.
    pub access_log: Option<AccessLog>,
    /// What is hidden wherever requests are described. `Authorization` and cookies always are.
    pub mask: Option<Mask>,
    /// How long what happened is remembered, for the admin API and for alerts. The file is in `admin.state_dir`;
    /// without that, it is in memory only, and within 12 MiB.
    #[schemars(extend("x-restart" = true))]
    pub history: Option<History>,
}

/// How long what happened is remembered. The longer, the coarser.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// By the second, in memory, within 6 MiB: 1m to 1h.
    #[schemars(extend("default" = "15m", "x-restart" = true))]
    pub raw: Option<Text<Positive<Duration>>>,
    /// By the minute: 1h to 31d.
    #[schemars(extend("default" = "7d", "x-restart" = true))]
    pub minute: Option<Text<Positive<Duration>>>,
    /// By the hour: 1d to 400d, and no shorter than `minute`.
    #[schemars(extend("default" = "90d", "x-restart" = true))]
    pub hour: Option<Text<Positive<Duration>>>,
    /// Bytes of the file with its log: 16MiB to 16GiB. The oldest make room, minutes before hours.
    #[schemars(extend("default" = "128MiB", "x-restart" = true))]
    pub max_size: Option<Text<Positive<Size>>>,
}

/// Where spans go.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// URL of the collector.
    #[schemars(extend("x-required" = true, "x-restart" = true))]
    pub endpoint: Option<Text<UrlText>>,
    /// Encoding.
    #[schemars(extend("default" = "grpc", "x-restart" = true))]
    pub protocol: Option<OtlpWord>,
    /// Share of the traces begun here that are kept; a caller's decision is followed.
    #[schemars(extend("default" = "1%", "x-restart" = true))]
    pub sample: Option<Text<Share>>,
    /// What is kept whatever the share.
    #[schemars(extend("x-restart" = true))]
    pub keep: Option<Keep>,
    /// Metrics for the collector.
    #[schemars(extend("x-restart" = true))]
    pub metrics: Option<OtlpMetrics>,
    /// Whether spans carry the model and the tokens of an answer, by the GenAI semantic conventions.
    #[schemars(extend("default" = false, "x-restart" = true))]
    pub genai: Option<bool>,
}

/// Metrics for the collector: the same as at `/metrics`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpMetrics {
    /// Whether they are sent.
    #[schemars(extend("default" = false, "x-restart" = true))]
    pub enabled: Option<bool>,
    /// How often.
    #[schemars(extend("default" = "1m", "x-restart" = true))]
    pub interval: Option<Text<Positive<Duration>>>,
}

/// Encoding of OTLP.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum OtlpWord {
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP/1.1.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// What is kept whatever the share.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Requests that failed.
    #[schemars(extend("default" = true, "x-restart" = true))]
    pub errors: Option<bool>,
    /// Requests that took at least so long; absent: no such rule.
    #[schemars(extend("x-restart" = true))]
    pub slower_than: Option<Text<Positive<Duration>>>,
}

/// One line per request on standard output.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// Whether it is written.
    #[schemars(extend("default" = false))]
    pub enabled: Option<bool>,
    /// Format; only `json` for now.
    #[schemars(extend("default" = "json"))]
    pub format: Option<Text<Plain>>,
    /// Share of requests written.
    #[schemars(extend("default" = "100%"))]
    pub sample: Option<Text<Share>>,
}

/// What is hidden wherever requests are described.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Header fields.
    #[schemars(extend("default" = []))]
    pub headers: Option<Vec<Text<HeaderName>>>,
    /// Globs over the names of query parameters whose values are hidden.
    #[schemars(extend("default" = ["*"]))]
    pub query: Option<Vec<Text<GlobMatcher>>>,
    /// JSON pointers into bodies.
    pub json: Option<Later<Vec<Text<Pointer>>>>,
}

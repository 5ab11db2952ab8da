//! `cache.warm`.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::{Map, Text, Whole};
use crate::config::units::{Positive, Share};
use crate::config::values::{NameText, Plain, ScheduleText, TargetText};

/// Something that is fetched before it is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Warm {
    /// Name in jobs and logs, and for `cache warm NAME`.
    #[schemars(extend("x-required" = true))]
    pub name: Option<Text<NameText>>,
    /// `start`: once, when the process starts; not on a reload.
    pub at: Option<WarmAt>,
    /// Again and again: a cron expression of five fields (minute, hour, day, month, weekday) in UTC. A run is left out
    /// while the one before it goes on. What would expire before the next run is fetched anew.
    pub schedule: Option<Text<ScheduleText>>,
    /// These requests.
    pub requests: Option<Vec<WarmRequest>>,
    /// As many of the requests that were asked for most, those of the last run included. Only GET without credentials
    /// is remembered, not of `sensitive` routes, and not with a query parameter that `telemetry.mask.query` masks
    /// (the default masks all); bodies never are. With `at: start` it needs `admin.state_dir`.
    pub top_keys: Option<Whole<1, 10_000>>,
    /// What the same client will probably ask for next. Has neither `at` nor `schedule`.
    pub predict: Option<Predict>,
    /// Requests at once.
    #[schemars(extend("default" = 2))]
    pub parallel: Option<Whole<1, 64>>,
    /// Pauses while clients' exchanges with the upstream take more than this share of `pool.max_connections`.
    #[schemars(extend("default" = "50%"))]
    pub busy: Option<Text<Share>>,
    /// Time for one run; what is left then is skipped.
    #[schemars(extend("default" = "10m"))]
    pub timeout: Option<Text<Positive<Duration>>>,
}

/// When something is fetched once.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum WarmAt {
    /// When the process starts.
    Start,
}

/// A request to warm the cache with. It takes the way of a client's request, so that what it stores is what a client
/// with the same method, URL, body and header fields would find.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmRequest {
    /// Method: one that its route caches.
    #[schemars(extend("default" = "GET"))]
    pub method: Option<Text<Method>>,
    /// Path and query.
    #[schemars(extend("x-required" = true))]
    pub path: Option<Text<TargetText>>,
    /// Host, and port if it is not the default, as clients ask for it: it is part of the key. Absent: the host of the
    /// route that takes the request, else the address of the first listener.
    pub host: Option<Text<Plain>>,
    /// `http` or `https`, as clients come. Absent: as the first listener has it.
    pub scheme: Option<SchemeWord>,
    /// Header fields, without credentials.
    #[schemars(extend("default" = {}))]
    pub headers: Option<Map<Text<HeaderName>, Text<HeaderValue>>>,
    /// Body, for routes whose key holds it.
    pub body: Option<Text<Plain>>,
}

/// A scheme.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SchemeWord {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// Learns which request follows which from one client address, and fetches the next one when the first was served.
/// Learns from, and fetches, only requests without credentials.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Predict {
    /// Names of the routes whose requests are looked at and fetched.
    #[schemars(extend("x-required" = true))]
    pub routes: Option<Vec<Text<NameText>>>,
    /// How often, at least, the next request has followed: a share of the uses of the first one, 8 or more of them.
    #[schemars(extend("default" = "30%"))]
    pub confidence: Option<Text<Share>>,
}

//! `routes`.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{RouteCache, Timeouts, Usage};
use crate::config::model::{HostPattern, Terminal};
use crate::config::scalar::{Later, Map, Text, Whole};
use crate::config::units::{Frequency, Positive};
use crate::config::values::{NameText, PathText, Plain, RegexText, TemplateText};

/// Which requests go where, and how they are cached.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name in logs, metrics and purges.
    #[schemars(extend("x-required" = true))]
    pub name: Option<Text<NameText>>,
    /// Which requests belong here; absent: all.
    #[serde(rename = "match")]
    pub matcher: Option<Match>,
    /// Name of the upstream that answers.
    #[schemars(extend("x-required" = true))]
    pub upstream: Option<Text<NameText>>,
    /// Which requests wait when there are too many.
    pub priority: Option<Later<PriorityWord>>,
    /// How often one client may ask.
    pub rate_limit: Option<Later<RateLimit>>,
    /// Deadlines; what is absent is the upstream's.
    pub timeouts: Option<RouteTimeouts>,
    /// Caching; absent: nothing is cached. `{}` caches GET and HEAD as the origin's headers allow.
    pub cache: Option<RouteCache>,
    /// Event streams from the cache.
    pub stream: Option<Stream>,
    /// API whose conventions the route follows: where answers say how many tokens they took, for the metrics.
    #[schemars(extend("default" = "off"))]
    pub usage: Option<Usage>,
    /// Header changes.
    pub headers: Option<HeaderChanges>,
}

/// Which requests belong to a route: every part that is given must match. One kind of path may be given; absent,
/// it is `path_prefix: /`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Hosts, without port; `*.hub.local` stands for every host below. Absent: any host.
    #[schemars(extend("default" = []))]
    pub hosts: Option<Vec<Text<HostPattern>>>,
    /// This path.
    pub path: Option<Text<PathText>>,
    /// Paths that begin so.
    pub path_prefix: Option<Text<PathText>>,
    /// Paths of this form; `{id}` stands for one segment.
    pub path_template: Option<Text<TemplateText>>,
    /// Paths that match this regular expression as a whole.
    pub path_regex: Option<Text<RegexText>>,
    /// Methods. Absent: any.
    #[schemars(extend("default" = []))]
    pub methods: Option<Vec<Text<Method>>>,
    /// Header fields and the exact values they must have.
    #[schemars(extend("default" = {}))]
    pub headers: Option<Map<Text<HeaderName>, Text<HeaderValue>>>,
}

/// Deadlines of one exchange; what is absent is the upstream's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeouts {
    /// For a connection, TLS included.
    pub connect: Option<Text<Positive<Duration>>>,
    /// From the end of the request to the head of the response.
    pub first_byte: Option<Text<Positive<Duration>>>,
    /// Without a byte of the body.
    pub idle: Option<Text<Positive<Duration>>>,
    /// For the whole exchange; upgraded connections are exempt.
    pub total: Option<Text<Positive<Duration>>>,
}

impl From<RouteTimeouts> for Timeouts {
    fn from(route: RouteTimeouts) -> Self {
        Self {
            connect: route.connect,
            first_byte: route.first_byte,
            idle: route.idle,
            total: route.total,
        }
    }
}

/// Which requests wait when there are too many.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PriorityWord {
    /// Last to be refused.
    Critical,
    /// Someone is waiting.
    Interactive,
    /// Nobody is waiting.
    Batch,
}

/// How often one client may ask.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Whose requests are counted together.
    pub per: Option<Text<Plain>>,
    /// Requests per time.
    pub rate: Option<Text<Frequency>>,
    /// Requests at once.
    pub burst: Option<Whole<1, 1_000_000>>,
}

/// Event streams from the cache.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// The pace at which a stored stream is sent.
    #[schemars(extend("default" = "instant"))]
    pub replay: Option<Replay>,
    /// The event that ends a whole stream: `data: TEXT` or `event: NAME`. A stream that ends without it is not stored.
    /// Absent: `data: [DONE]`, or an event `message_stop` or `response.completed`.
    pub terminal: Option<Text<Terminal>>,
}

/// The pace of a stream from the cache.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Replay {
    /// At once.
    Instant,
    /// As it came from the origin.
    Recorded,
}

/// Header changes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderChanges {
    /// On the request to the upstream.
    pub request: Option<Changes>,
    /// On the response to the client.
    pub response: Option<Changes>,
}

/// Changes of one message's header. Hop-by-hop and framing fields cannot be changed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Fields to set; a value replaces what is there.
    #[schemars(extend("default" = {}))]
    pub set: Option<Map<Text<HeaderName>, Text<HeaderValue>>>,
    /// Fields to remove.
    #[schemars(extend("default" = []))]
    pub remove: Option<Vec<Text<HeaderName>>>,
}

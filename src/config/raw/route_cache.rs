//! `routes[].cache`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use globset::GlobMatcher;
use http::{HeaderName, Method};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::config::scalar::{Later, Refusal, Scalar, Text, Whole};
use crate::config::units::{Positive, Share, Size};
use crate::config::values::{CookieName, Plain, Pointer, TagText};

use super::RouteTtl;
use crate::config::model::Collapse;

/// How responses of a route are cached.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteCache {
    /// `on`; `read_only` stores nothing; `write_only` answers nothing; `off`.
    #[schemars(extend("default" = "on"))]
    pub mode: Option<Text<Mode>>,
    /// Methods that are cached: GET, HEAD, POST, QUERY.
    #[schemars(extend("default" = ["GET", "HEAD"]))]
    pub methods: Option<Vec<Text<Method>>>,
    /// How long a response is fresh, whatever the origin says; or by status: `{200: 300s, 404: 10s}`, where a
    /// status not listed follows the origin, and errors are stored if listed; or `{adaptive: {min: 10s, max: 1h}}`, by how often the answer changes.
    /// Absent: the origin's headers alone decide.
    pub ttl: Option<RouteTtl>,
    /// Freshness from `Last-Modified` where nothing else gives one; absent: none.
    pub heuristic: Option<HeuristicRule>,
    /// Time after the end of freshness in which an entry is served while it is being validated; absent: the
    /// origin's `stale-while-revalidate`.
    pub stale_while_revalidate: Option<Text<Duration>>,
    /// Time after the end of freshness in which an entry is served when the origin fails; absent: the origin's
    /// `stale-if-error`, else 60s when no answer comes at all.
    pub stale_if_error: Option<Text<Duration>>,
    /// What makes two requests different.
    pub vary: Option<Vary>,
    /// Who may be given an entry. Absent: whoever carries the same credentials as the request that filled it;
    /// everyone, if that carried none or the response is explicitly public. `principal`: always the former;
    /// `all`: everyone, but an answer to `Authorization` only if `ttl` gives its life or the origin sends `public`,
    /// `s-maxage` or `must-revalidate`; `tenant: {header: x-tenant}`: everyone with the same value of that header.
    pub share: Option<ShareChoice>,
    /// Whether requests whose JSON body has a `temperature` above 0 are cached.
    #[schemars(extend("default" = "allow"))]
    pub nondeterministic: Option<Nondeterministic>,
    /// Tags by which entries can be purged.
    pub tags: Option<Tags>,
    /// `true`: one fill at a time per key; other requests for it wait and stream along. `fleet`: one among all replicas that
    /// share a Redis level; requests of the others wait until it is in that level, at most as long as they wait for
    /// another request's fetch, and never without Redis. `false`: everyone fetches.
    #[schemars(extend("default" = true))]
    pub collapse: Option<Text<Collapse>>,
    /// What becomes of a fill that nobody reads any more.
    #[schemars(extend("default" = "cancel"))]
    pub on_last_reader_gone: Option<LastReaderGoneWord>,
    /// Whether the request's `Cache-Control` may force or refuse the cache.
    #[schemars(extend("default" = "ignore"))]
    pub client_control: Option<ClientControl>,
    /// From which request for a key on its answer is stored. Requests before that pass, each on its own. They are
    /// counted roughly: sometimes too many, and halved with every 65,536 of them.
    #[schemars(extend("default" = 1))]
    pub min_uses: Option<Whole<1, 1000>>,
    /// Bytes of one entry, at most the level's `max_object`.
    #[schemars(extend("default" = "2MiB"))]
    pub max_object: Option<Text<Positive<Size>>>,
    /// Refresh of popular entries before they expire: the client gets the fresh entry at once, and the origin is asked
    /// behind it. Absent: never.
    pub refresh_ahead: Option<RefreshAhead>,
    /// Whether entries are kept below the memory level only where that level encrypts.
    #[schemars(extend("default" = false))]
    pub sensitive: Option<bool>,
}

/// Whether entries may be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Both.
    On,
    /// Neither.
    Off,
    /// Read.
    ReadOnly,
    /// Written.
    WriteOnly,
}

impl Scalar for Mode {
    const NAME: &'static str = "mode";
    const EXAMPLE: &'static str = "on";
    /// YAML 1.1 reads `on` and `off` as booleans.
    const TYPES: &'static [&'static str] = &["string", "boolean"];

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "on" | "true" => Ok(Self::On),
            "off" | "false" => Ok(Self::Off),
            "read_only" => Ok(Self::ReadOnly),
            "write_only" => Ok(Self::WriteOnly),
            _ => Err(Refusal::new(format!("unknown value `{text}`"))
                .hint("one of `on`, `off`, `read_only`, `write_only`")),
        }
    }
}

/// Freshness from `Last-Modified` (RFC 9111, section 4.2.2).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeuristicRule {
    /// Share of the time since `Last-Modified`.
    #[schemars(extend("default" = "10%"))]
    pub fraction: Option<Text<Share>>,
    /// Longest life.
    #[schemars(extend("default" = "24h"))]
    pub max: Option<Text<Duration>>,
}

/// What makes two requests different, besides method, scheme, host and path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vary {
    /// Who the request is for: `true` for the credentials (`Authorization` and `Cookie`), or where the name of the
    /// user is found: `{header: x-user-id}`, `{cookie: sid}`. Absent: `share` decides.
    pub principal: Option<Principal>,
    /// Which query parameters count; absent: the query as it is.
    pub query: Option<Query>,
    /// Request headers that count.
    #[schemars(extend("default" = []))]
    pub headers: Option<Vec<Text<HeaderName>>>,
    /// How the body counts; absent: not at all, or with its defaults when POST or QUERY is cached.
    pub body: Option<Body>,
}

/// Where the principal is found.
#[derive(Clone, Debug)]
pub enum Principal {
    /// `true` or `false`: in the credentials, or nowhere.
    Credentials(bool),
    /// Elsewhere.
    From(PrincipalFrom),
}

/// Where the principal is found; one must be given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalFrom {
    /// In a request header.
    pub header: Option<Text<HeaderName>>,
    /// In a request cookie.
    pub cookie: Option<Text<CookieName>>,
    /// In a claim of the JSON Web Token.
    pub claim: Option<Later<Text<Plain>>>,
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PrincipalVisitor)
    }
}

struct PrincipalVisitor;

impl<'de> Visitor<'de> for PrincipalVisitor {
    type Value = Principal;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("true, false or a map like `{header: x-user-id}`")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Principal, E> {
        Ok(Principal::Credentials(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Principal, A::Error> {
        PrincipalFrom::deserialize(MapAccessDeserializer::new(map)).map(Principal::From)
    }
}

impl JsonSchema for Principal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Principal".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "boolean"}, generator.subschema_for::<PrincipalFrom>()]})
    }
}

/// Which query parameters count.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Globs over names of parameters that count.
    #[schemars(extend("default" = ["*"]))]
    pub include: Option<Vec<Text<GlobMatcher>>>,
    /// Globs over names of parameters that do not count after all.
    #[schemars(extend("default" = []))]
    pub exclude: Option<Vec<Text<GlobMatcher>>>,
    /// Whether the order of parameters is ignored.
    #[schemars(extend("default" = false))]
    pub sort: Option<bool>,
}

/// How the body counts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// JSON bodies count by their content, whatever the order of members (RFC 8785); others byte for byte.
    pub json: Option<JsonBody>,
    /// Bytes; a larger body passes uncached.
    #[schemars(extend("default" = "1MiB"))]
    pub max: Option<Text<Positive<Size>>>,
}

/// How a JSON body counts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonBody {
    /// JSON pointers to what does not count.
    #[schemars(extend("default" = []))]
    pub ignore: Option<Vec<Text<Pointer>>>,
}

/// Who may be given an entry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ShareChoice {
    /// Only the principal whose request filled it.
    Principal,
    /// Everyone, within those bounds.
    All,
    /// Everyone of the same tenant.
    Tenant(Tenant),
}

/// Where the tenant is found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// In a request header; a request without it is not cached.
    #[schemars(extend("x-required" = true))]
    pub header: Option<Text<HeaderName>>,
}

/// Whether requests with `temperature` above 0 are cached.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Nondeterministic {
    /// They are.
    Allow,
    /// They are not.
    Bypass,
}

/// Tags by which entries can be purged: up to 128 for each entry, of up to 1024 bytes; what is more or longer is left
/// out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    /// Response headers that carry tags: `surrogate-key` separated by spaces, `cache-tag` and `edge-cache-tag` by
    /// commas, `cache-groups` as a list of strings (RFC 9875), any other by spaces or commas. The client gets them
    /// too, unless `headers.response.remove` names them.
    #[schemars(extend("default" = ["surrogate-key", "cache-tag"]))]
    pub header: Option<Vec<Text<HeaderName>>>,
    /// Tags of every entry of this route.
    #[serde(rename = "static")]
    #[schemars(extend("default" = []))]
    pub fixed: Option<Vec<Text<TagText>>>,
    /// JSON pointers into the request body, which must be part of the key. The text, number or truth value there is a
    /// tag, and each of a list of them; the response body is not looked at.
    #[schemars(extend("default" = []))]
    pub json: Option<Vec<Text<Pointer>>>,
}

/// What becomes of a fill that nobody reads any more.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LastReaderGoneWord {
    /// It is cancelled.
    Cancel,
    /// It goes on and is stored.
    Finish,
}

/// What the request's `Cache-Control` does.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ClientControl {
    /// Nothing.
    Ignore,
    /// What RFC 9111 says.
    Honour,
}

/// Refresh of popular entries before they expire. Each hit draws a number; the nearer the end of freshness, and the
/// longer the last fetch took, the more likely it is that this hit starts the refresh (XFetch; Vattani, Chierichetti,
/// Lowenstein 2015). So an entry that is asked for often is hardly ever waited for, and one that is not just expires.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshAhead {
    /// Above 1 refreshes earlier, below 1 later; more than 0, at most 1000.
    #[schemars(extend("default" = 1.0))]
    pub beta: Option<Text<Beta>>,
}

/// How early entries are refreshed, in units of the time that a fetch takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beta(pub f64);

impl Scalar for Beta {
    const NAME: &'static str = "number";
    const EXAMPLE: &'static str = "1.0";
    const TYPES: &'static [&'static str] = &["number"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text.parse() {
            Ok(beta) if beta > 0.0 && beta <= 1000.0 => Ok(Self(beta)),
            _ => Err(Refusal::new(format!("`{text}` is no such factor")).hint("more than 0, at most 1000")),
        }
    }
}

impl Scalar for Collapse {
    const NAME: &'static str = "`true`, `false` or `fleet`";
    const EXAMPLE: &'static str = "true";
    const TYPES: &'static [&'static str] = &["boolean", "string"];

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            // A bare `true` comes as `on`.
            "true" | "on" => Ok(Self::Replica),
            "false" | "off" => Ok(Self::Off),
            "fleet" => Ok(Self::Fleet),
            _ => Err(Refusal::new(format!("unknown value `{text}`")).hint("`true`, `false` or `fleet`")),
        }
    }
}

//! The resolved configuration: valid by construction, with every default filled in.
//!
//! Longer than most files: it is one list of types without any logic, and is read as one.
//!
//! Only `config::resolve` makes these values, so the rest of the product neither checks nor defaults anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use regex::Regex;

use super::alerts::Alerts;
use super::keyring::Keyring;
use super::prices::Prices;
use super::secret::Secret;
use super::warm::Warm;

/// A name given in the configuration; cheap to clone.
pub type Name = Arc<str>;

/// Everything the product was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data-plane threads. Changing it needs a restart.
    pub workers: usize,
    /// Where clients connect. Adding, removing or rebinding one needs a restart.
    pub listeners: Vec<Arc<Listener>>,
    /// The admin listener.
    pub admin: Admin,
    /// Groups of endpoints by name.
    pub upstreams: BTreeMap<Name, Arc<Upstream>>,
    /// Cache-wide settings.
    pub cache: Cache,
    /// What is fetched before it is asked for.
    pub warm: Arc<[Warm]>,
    /// How purges reach the other replicas; none if there is no level that replicas share. Changing it needs a restart.
    pub replicas: Option<Replicas>,
    /// Routes in the order of the file.
    pub routes: Vec<Arc<Route>>,
    /// What tokens cost.
    pub prices: Prices,
    /// Traces and logs.
    pub telemetry: Telemetry,
    /// Alert rules and who is told.
    pub alerts: Arc<Alerts>,
    /// First 16 hex digits of the BLAKE3 digest of the effective configuration.
    pub hash: Arc<str>,
}

/// A data-plane listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Name in logs and metrics.
    pub name: Name,
    /// Address to bind.
    pub bind: SocketAddr,
    /// TLS towards clients.
    pub tls: Option<ServerTls>,
    /// Bounds for one client.
    pub limits: ListenerLimits,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Certificate files of a listener; re-read when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM chain.
    pub cert_file: PathBuf,
    /// PEM private key.
    pub key_file: PathBuf,
    /// PEM authorities; when given, clients must present a certificate of one of them.
    pub client_ca_file: Option<PathBuf>,
}

/// Bounds that one client or connection cannot exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Open connections on this listener, over all workers.
    pub connections: usize,
    /// Header fields in one request.
    pub headers: usize,
    /// Bytes of one request head.
    pub header_bytes: usize,
    /// Time for a whole request head.
    pub header_timeout: Duration,
    /// Lowest average rate of a request body, bytes per second; 0 for no bound.
    pub body_min_rate: u64,
    /// Time without a byte in either direction.
    pub idle_timeout: Duration,
    /// Bytes of one request body.
    pub max_body: u64,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: u32,
}

/// The admin listener and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind. Changing it needs a restart.
    pub bind: SocketAddr,
    /// Bearer tokens; with none, only loopback peers may read and nobody may change anything.
    pub tokens: Vec<Token>,
    /// Values of `Host` (without the port) that are answered.
    pub allowed_hosts: Vec<String>,
    /// Where the purge log, the audit log and the requests asked for most (and later history, reports) live; RAM only if absent. Needs a restart.
    pub state_dir: Option<PathBuf>,
    /// Whether `/metrics` needs a token as well.
    pub protect_metrics: bool,
}

/// What a token's bearer may do; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Viewer,
    /// Purge, drain.
    Operator,
    /// Reload, set the log level.
    Admin,
}

/// One admin token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who uses it; named in logs.
    pub name: Name,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of the token.
    pub sha256: Secret<[u8; 32]>,
    /// Where it was read.
    pub sha256_file: PathBuf,
}

/// A group of interchangeable endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Name in routes, logs and metrics.
    pub name: Name,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Protocol towards the endpoints.
    pub protocol: UpstreamProtocol,
    /// TLS towards the endpoints.
    pub tls: Option<ClientTls>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Active checks; none means every endpoint counts as healthy.
    pub active_check: Option<ActiveCheck>,
    /// Deadlines of one exchange.
    pub timeouts: Timeouts,
    /// Bounds of the connection pool.
    pub pool: PoolLimits,
    /// Attempts in all (first included) when connecting to an endpoint fails; at least 1.
    pub attempts: u32,
}

/// One endpoint of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IP address or host name; a name is resolved again every few seconds.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Share of the traffic, 1 to 1000.
    pub weight: u16,
}

/// Protocol towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    H2,
    /// By ALPN over TLS; without TLS HTTP/1.1, and HTTP/2 for requests that arrived by HTTP/2 with gRPC content.
    Auto,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Server name; the endpoint's host when absent.
    pub sni: Option<String>,
    /// PEM authorities; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// PEM chain and key presented to the upstream.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// Consistent hashing.
    Ketama(HashOn),
}

/// What consistent hashing hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The cache key, or method and target where there is none.
    Key,
    /// A request header.
    Header(HeaderName),
    /// A request cookie.
    Cookie(String),
    /// The client's address.
    ClientIp,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveCheck {
    /// What is asked of the endpoint.
    pub probe: Probe,
    /// Time between two checks of one endpoint.
    pub interval: Duration,
    /// Time one check may take.
    pub timeout: Duration,
    /// Good checks in a row that make an endpoint healthy.
    pub healthy_after: usize,
    /// Bad checks in a row that make an endpoint unhealthy.
    pub unhealthy_after: usize,
}

/// What an active check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET path`, good when the status lies in one of the inclusive ranges.
    Http {
        /// Path and query.
        path: String,
        /// Inclusive status ranges.
        status: Vec<(u16, u16)>,
    },
    /// A TCP (and, with TLS, a TLS) connection.
    Tcp,
}

/// Deadlines of one exchange with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection including TLS.
    pub connect: Duration,
    /// From the last byte of the request to the response head; each part of the request body starts it anew.
    pub first_byte: Duration,
    /// Without a byte of the body.
    pub idle: Duration,
    /// For the whole exchange; upgraded connections are exempt.
    pub total: Duration,
}

/// Bounds of an upstream's connections, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Open connections per endpoint.
    pub max_connections: usize,
    /// Idle connections per endpoint.
    pub max_idle: usize,
    /// Life of an idle connection.
    pub idle_timeout: Duration,
}

/// Cache-wide settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// The memory level; none means nothing is cached. Changing it needs a restart.
    pub memory: Option<MemoryLevel>,
    /// The levels below it, in the order in which they are asked.
    pub lower: Vec<LowerLevel>,
    /// How values of the levels below it are compressed. A reload applies it.
    pub compress: Compress,
    /// The keys of those levels that encrypt, by the level's name. A reload applies them.
    pub keyrings: BTreeMap<Name, Keyring>,
}

/// How values of the levels below memory are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compress {
    /// By which algorithm.
    pub algorithm: Compression,
    /// Values of which fewer bytes are compressible stay as they are.
    pub min_size: u64,
}

/// An algorithm that compresses values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Off,
    /// Zstandard.
    Zstd,
    /// LZ4.
    Lz4,
}

/// How many fills of one key there are at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collapse {
    /// As many as requests miss.
    Off,
    /// One in each replica.
    Replica,
    /// One among all replicas, as far as they can agree.
    Fleet,
}

/// How purges reach the other replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Name of the Redis level whose servers carry them.
    pub via: Name,
    /// How long an entry is trusted when they cannot be reached.
    pub cap: Duration,
}

/// The memory level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLevel {
    /// Name in metrics.
    pub name: Name,
    /// Bytes, keys and overhead included.
    pub capacity: u64,
    /// Which entries make room.
    pub policy: EvictionPolicy,
    /// Bytes of one entry; routes may set less.
    pub max_object: u64,
}

/// A level below the memory level. Changing one needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LowerLevel {
    /// On disk.
    Disk(DiskLevel),
    /// In Redis.
    Redis(Box<RedisLevel>),
}

impl LowerLevel {
    /// Its name in metrics.
    pub fn name(&self) -> &Name {
        match self {
            Self::Disk(level) => &level.name,
            Self::Redis(level) => &level.name,
        }
    }
}

/// A level on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskLevel {
    /// Name in metrics.
    pub name: Name,
    /// Its directory.
    pub path: PathBuf,
    /// Bytes that it may take.
    pub capacity: u64,
}

/// A level in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisLevel {
    /// Name in metrics.
    pub name: Name,
    /// The servers that are asked first: the server, the sentinels, or some nodes of the cluster. Never empty.
    pub servers: Vec<RedisServer>,
    /// Number of the database; 0 in a cluster.
    pub database: u16,
    /// How they are organised.
    pub mode: RedisMode,
    /// What every key begins with, before a colon.
    pub prefix: String,
    /// Time that one call may take.
    pub timeout: Duration,
    /// Who we say we are.
    pub credentials: RedisCredentials,
    /// TLS towards every server, the sentinels included.
    pub tls: Option<ClientTls>,
    /// Longest life of a value.
    pub max_ttl: Duration,
}

/// Where a Redis server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisServer {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How Redis servers are organised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    Single,
    /// Sentinels name the primary.
    Sentinel {
        /// The name that the sentinels know the primary by.
        master: String,
        /// Who we say we are to the sentinels.
        credentials: RedisCredentials,
    },
    /// A cluster.
    Cluster,
}

/// Who we say we are to Redis servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisCredentials {
    /// ACL user; the user `default` when absent.
    pub username: Option<String>,
    /// File with the password; read for every connection, so that a new password needs no restart.
    pub password_file: Option<PathBuf>,
}

/// Which entries make room for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// CLOCK-Pro (quick_cache).
    ClockPro,
    /// W-TinyLFU (moka).
    WTinyLfu,
    /// Least recently used (moka).
    Lru,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name in logs, metrics and purges.
    pub name: Name,
    /// Digest of everything that decides what a cached response of this route means: entries of an unchanged
    /// route survive a reload, entries of a changed one are not found again.
    pub fingerprint: [u8; 16],
    /// Which requests belong here.
    pub matcher: Matcher,
    /// Who answers.
    pub upstream: Name,
    /// The upstream's deadlines with the route's own over them.
    pub timeouts: Timeouts,
    /// The cache rules; none when the route is not cached.
    pub cache: Option<RouteCache>,
    /// Event streams from the cache.
    pub stream: StreamRules,
    /// Header changes.
    pub headers: HeaderRules,
    /// The API whose conventions it follows.
    pub usage: Usage,
}

/// Which requests belong to a route. Every part given must match.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// Empty: any method.
    pub methods: Vec<Method>,
    /// Header fields and the exact values they must have.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A host of a route; lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// Any host below this suffix; `*.hub.local` is kept as `.hub.local`.
    Suffix(String),
}

/// A path of a route.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// Paths that begin so.
    Prefix(String),
    /// `/v1/models/{id}`: a segment in braces matches any one non-empty segment.
    Template(Vec<Segment>),
    /// A regular expression over the whole path.
    Regex(Regex),
}

/// One segment of a path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// Any non-empty text.
    Parameter,
}

/// Cache rules of a route.
#[derive(Clone, Debug)]
pub struct RouteCache {
    /// May entries be read.
    pub read: bool,
    /// May entries be written.
    pub write: bool,
    /// Methods that are cached.
    pub methods: Vec<Method>,
    /// How long a response is fresh.
    pub ttl: Ttl,
    /// Heuristic freshness from `Last-Modified`.
    pub heuristic: Option<Heuristic>,
    /// Overrides the origin's `stale-while-revalidate`.
    pub stale_while_revalidate: Option<Duration>,
    /// Overrides the origin's `stale-if-error`, and how long an entry is used while no answer comes at all.
    pub stale_if_error: Option<Duration>,
    /// What makes two requests different.
    pub vary: VaryRules,
    /// Who may be given an entry.
    pub share: Share,
    /// Whether requests with `temperature` above 0 are cached.
    pub nondeterministic: bool,
    /// Tags of every entry of this route.
    pub static_tags: Vec<Arc<str>>,
    /// Response headers that carry tags.
    pub tag_headers: Vec<HeaderName>,
    /// JSON pointers into the request body to values that are tags; empty where the body is not part of the key.
    pub tag_pointers: Vec<String>,
    /// How many fills of a key there are at a time.
    pub collapse: Collapse,
    /// Whether a fill ends when nobody reads it any more.
    pub on_last_reader_gone: LastReaderGone,
    /// Whether the request's `Cache-Control` may force or refuse the cache.
    pub client_control: bool,
    /// From which use of a key on its answer is stored, 1 to 1000.
    pub min_uses: u16,
    /// Bytes of one entry.
    pub max_object: u64,
    /// How early popular entries are refreshed, above 0; none: not before they expire.
    pub refresh_ahead: Option<f64>,
    /// Kept below the memory level only where that level encrypts.
    pub sensitive: bool,
}

/// How long a response is fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// As the origin's headers say.
    Origin,
    /// So long, whatever the origin says.
    Fixed(Duration),
    /// By status; a status not listed follows the origin.
    ByStatus(BTreeMap<u16, Duration>),
    /// By how often the answer changes.
    Adaptive(Adaptive),
}

/// Bounds of a life that follows how often the answer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// The shortest life, and the first one; more than zero.
    pub min: Duration,
    /// The longest life; at least `min`.
    pub max: Duration,
}

/// Heuristic freshness (RFC 9111, section 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heuristic {
    /// Share of the time since `Last-Modified`, 0 to 1.
    pub fraction: f64,
    /// Longest life.
    pub max: Duration,
}

/// What makes two requests for one route different.
#[derive(Clone, Debug)]
pub struct VaryRules {
    /// Who the request is for, when the route names it.
    pub principal: Option<PrincipalSource>,
    /// Which query parameters count.
    pub query: QueryRule,
    /// Request headers that count.
    pub headers: Vec<HeaderName>,
    /// Whether and how the body counts.
    pub body: Option<BodyKey>,
}

/// Where the principal is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalSource {
    /// `Authorization` and `Cookie` together.
    Credentials,
    /// A request header.
    Header(HeaderName),
    /// A request cookie.
    Cookie(String),
}

/// Which query parameters count.
#[derive(Clone, Debug)]
pub struct QueryRule {
    /// Globs over parameter names; a parameter counts if one matches.
    pub include: Vec<GlobMatcher>,
    /// Globs over parameter names that do not count after all.
    pub exclude: Vec<GlobMatcher>,
    /// Whether the order of parameters is ignored.
    pub sort: bool,
    /// True when every parameter counts in its order: the query is used as it is.
    pub verbatim: bool,
}

/// How a request body counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyKey {
    /// JSON pointers that do not count.
    pub ignore: Vec<String>,
    /// Bytes; a larger body passes uncached.
    pub max: usize,
}

/// Who may be given an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// The principal whose request filled it; everyone if the request carried no credentials, or the response is
    /// explicitly public by RFC 9111.
    Safe,
    /// Only the principal whose request filled it, even if the response is public.
    Principal,
    /// Everyone.
    All,
    /// Everyone with the same value of this header.
    Tenant(HeaderName),
}

/// What becomes of a fill nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastReaderGone {
    /// It is cancelled.
    Cancel,
    /// It goes on and is stored.
    Finish,
}

/// The API whose conventions a route follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// None; tokens are not counted.
    #[default]
    Off,
    /// OpenAI's; errors made here take its shape.
    Openai,
    /// Anthropic's.
    Anthropic,
    /// Another.
    Json(UsagePointers),
}

impl Usage {
    /// Whose API it is, by its name in the GenAI semantic conventions; none if that is not known.
    pub const fn provider(&self) -> Option<&'static str> {
        match self {
            Self::Openai => Some("openai"),
            Self::Anthropic => Some("anthropic"),
            Self::Off | Self::Json(_) => None,
        }
    }
}

/// JSON pointers to what an answer says about its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePointers {
    /// To the tokens of the prompt, the cached part included.
    pub input: Option<String>,
    /// To the tokens of the answer.
    pub output: Option<String>,
    /// To the tokens of the prompt that the provider had cached.
    pub cached_input: Option<String>,
    /// To the name of the model.
    pub model: String,
}

/// Event streams of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRules {
    /// The pace at which a stored stream is sent.
    pub replay: Replay,
    /// The event that ends a whole stream, in place of those of the known APIs.
    pub terminal: Option<Terminal>,
}

/// The pace at which a stored stream is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// At once.
    #[default]
    Instant,
    /// As it came from the origin.
    Recorded,
}

/// The event that ends a whole stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// One with this data.
    Data(String),
    /// One of this name.
    Event(String),
}

/// Header changes of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Set on the request to the upstream.
    pub request_set: Vec<(HeaderName, HeaderValue)>,
    /// Removed from the request to the upstream.
    pub request_remove: Vec<HeaderName>,
    /// Set on the response to the client.
    pub response_set: Vec<(HeaderName, HeaderValue)>,
    /// Removed from the response to the client.
    pub response_remove: Vec<HeaderName>,
}

/// Traces and logs.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Where spans go.
    pub otlp: Option<Otlp>,
    /// The access log.
    pub access_log: AccessLog,
    /// What is masked wherever requests are described.
    pub mask: Mask,
    /// How long what happened is remembered. Changing it needs a restart.
    pub history: History,
}

/// How long what happened is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// By the second.
    pub raw: Duration,
    /// By the minute.
    pub minute: Duration,
    /// By the hour.
    pub hour: Duration,
    /// Bytes of the file with its log.
    pub max_size: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            raw: Duration::from_secs(15 * 60),
            minute: Duration::from_secs(7 * 24 * 3600),
            hour: Duration::from_secs(90 * 24 * 3600),
            max_size: 128 << 20,
        }
    }
}

/// Where spans go. Changing it needs a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// `http://` or `https://` URL of the collector.
    pub endpoint: String,
    /// Encoding.
    pub protocol: OtlpProtocol,
    /// Share of traces started here that are kept, 0 to 1; a caller's decision is followed.
    pub sample: f64,
    /// Errors are kept whatever the share.
    pub keep_errors: bool,
    /// Requests at least this slow are kept whatever the share.
    pub keep_slower_than: Option<Duration>,
    /// How often metrics are sent too; none: never.
    pub metrics: Option<Duration>,
    /// Whether spans carry the model and the tokens of an answer.
    pub genai: bool,
}

/// Encoding of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP/1.1.
    HttpProtobuf,
}

/// The access log, JSON lines on standard output.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Whether it is written.
    pub enabled: bool,
    /// Share of requests written, 0 to 1.
    pub sample: f64,
}

/// What is masked. Credentials and cookies always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Header fields.
    pub headers: Vec<HeaderName>,
    /// Globs over names of query parameters; the default masks every value.
    pub query: Vec<String>,
}

//! What the cache decided about a request and why; the reasons are the labels of metrics, `Cache-Status` and spans.

/// Why a request is not answered from, and does not fill, the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BypassReason {
    /// The route is not cached.
    RouteOff,
    /// The route's cache is off on purpose for reading and writing.
    Method,
    /// The request asks not to be stored (`no-store`, honoured by the route).
    RequestNoStore,
    /// The request carries `Range` that cannot be answered from a full entry.
    Range,
    /// The body is larger than the route's limit.
    BodyTooLarge,
    /// The request has a body that is not part of the key.
    BodyNotKeyed,
    /// The request upgrades the connection.
    Upgrade,
    /// The key was found uncacheable a moment ago.
    HitForMiss,
    /// The request has a conditional that the cache does not evaluate (`If-Match`, `If-Unmodified-Since`).
    Conditional,
    /// The request needs a tenant and has none.
    NoTenant,
    /// Another request's fill of the key took too long to wait for.
    LockTimeout,
    /// There is no level to keep entries in.
    NoLevel,
    /// The request asks the provider to keep the answer (`store: true`).
    Store,
    /// The request continues an answer that the provider keeps (`previous_response_id`).
    PreviousResponse,
    /// The request belongs to a conversation that the provider keeps (`conversation`).
    Conversation,
    /// The request asks for another answer each time (`temperature` above 0), and the route does not cache those.
    Temperature,
}

impl BypassReason {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RouteOff => "route-off",
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::Range => "range",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyNotKeyed => "body-not-keyed",
            Self::Upgrade => "upgrade",
            Self::HitForMiss => "hit-for-miss",
            Self::Conditional => "conditional",
            Self::NoTenant => "no-tenant",
            Self::LockTimeout => "lock-timeout",
            Self::NoLevel => "no-level",
            Self::Store => "store",
            Self::PreviousResponse => "previous-response",
            Self::Conversation => "conversation",
            Self::Temperature => "temperature",
        }
    }
}

/// Why no entry could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissReason {
    /// Nothing is stored under the key.
    Uri,
    /// Something is stored, for other values of the headers that `Vary` names.
    Vary,
    /// What is stored was purged.
    Purged,
    /// An unsafe request has changed the target since.
    Invalidated,
    /// For too long nobody could say what other replicas have purged.
    Unreachable,
    /// What is stored is too old to be used without asking.
    Stale,
    /// The request refuses what is stored (`no-cache`, `max-age`, `min-fresh`, honoured by the route).
    Request,
    /// The route only writes.
    WriteOnly,
}

impl MissReason {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uri => "uri-miss",
            Self::Vary => "vary-miss",
            Self::Purged => "purged",
            Self::Invalidated => "invalidated",
            Self::Unreachable => "replicas-unreachable",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::WriteOnly => "write-only",
        }
    }
}

/// Why a response was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// The route does not write.
    ReadOnly,
    /// `no-store` in the response.
    NoStore,
    /// `private` in the response to a shared cache.
    Private,
    /// The response sets a cookie.
    SetCookie,
    /// The key was not asked for often enough yet.
    MinUses,
    /// The answer to this method is no entry (`HEAD`, or a method that is not cached).
    Method,
    /// The status is not cacheable here.
    Status,
    /// Neither the origin nor the route gives a life, and there is no validator.
    NoFreshness,
    /// The request had credentials, the key has no principal, and the response does not allow sharing.
    Authorization,
    /// `Vary: *`.
    VaryStar,
    /// The response is larger than the route's limit.
    TooLarge,
    /// A part of a representation.
    Partial,
    /// An event stream in a content coding: whether it is whole cannot be seen.
    EventStream,
    /// An event stream that ended without its terminal event.
    NoTerminalEvent,
    /// An event stream in which the origin told of an error.
    StreamError,
    /// The response ended before it was complete.
    Incomplete,
    /// The response has trailers.
    Trailers,
    /// The entry was purged while it was filled.
    Purged,
    /// The response is malformed: conflicting or invalid freshness or framing.
    Malformed,
}

impl RefuseReason {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::MinUses => "min-uses",
            Self::Method => "method",
            Self::Status => "status",
            Self::NoFreshness => "no-freshness",
            Self::Authorization => "authorization",
            Self::VaryStar => "vary-star",
            Self::TooLarge => "too-large",
            Self::Partial => "partial",
            Self::EventStream => "event-stream",
            Self::NoTerminalEvent => "no-terminal-event",
            Self::StreamError => "stream-error",
            Self::Incomplete => "incomplete",
            Self::Trailers => "trailers",
            Self::Purged => "purged",
            Self::Malformed => "malformed",
        }
    }
}

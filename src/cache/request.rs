//! The steps from a request to what the cache does with it. They are pure, so that whoever only asks what would happen
//! takes the very steps that a request takes.

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_TYPE, RANGE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};

use super::as_sent::{as_upstream_sees, key_headers};
use super::control::RequestControl;
use super::engine::{Cache, Lookup, Request};
use super::failures::Failed;
use super::key::{Key, KeyParts};
use super::partition::{Partition, counted_as, partition, tenant_of};
use super::verdict::{BypassReason, MissReason, RefuseReason};
use super::{canonical, conditional, range, reuse};
use crate::clock::Timestamp;
use crate::config::{BodyKey, Route, RouteCache};

/// A request with its key.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The key.
    pub key: Key,
    /// Whether the entry is for one principal or tenant.
    pub partitioned: bool,
    /// The tenant, on routes that share by tenant.
    pub tenant: Option<[u8; 32]>,
    /// By which its principal is counted; none without one.
    pub principal: Option<u64>,
}

/// What a request fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The whole response.
    Whole,
    /// The one range that it asks for.
    Part,
    /// The head, to find out whether what is stored is still the same.
    Head,
}

impl Errand {
    /// What a request that missed fetches; none if nothing of it could be kept. `has_stale` when there is an entry that
    /// may be validated.
    pub fn of(method: &Method, headers: &HeaderMap, has_stale: bool) -> Result<Self, RefuseReason> {
        if *method == Method::HEAD {
            return if has_stale {
                Ok(Self::Head)
            } else {
                Err(RefuseReason::Method)
            };
        }
        if *method != Method::GET || has_stale || !headers.contains_key(RANGE) {
            return Ok(Self::Whole);
        }
        if range::is_single(headers) && !conditional::is_conditional(headers) {
            Ok(Self::Part)
        } else {
            Err(RefuseReason::Partial)
        }
    }

    /// The key that requests on the same errand share; `key` is that of the whole response.
    pub fn key<'k>(self, key: &'k Key, headers: &HeaderMap) -> Cow<'k, Key> {
        match self {
            Self::Whole => Cow::Borrowed(key),
            Self::Part => Cow::Owned(key.of_range(headers)),
            Self::Head => Cow::Owned(key.of_head()),
        }
    }
}

/// What happens to a request that nothing stored can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterMiss {
    /// It fetches its answer for the cache, or waits for one who does.
    Fill(Errand),
    /// The origin answers it and nothing is stored, because of this.
    Pass(RefuseReason),
    /// The cache takes no part after all.
    Bypass(BypassReason),
    /// The last fetch for its key failed so short ago that the origin is not asked again: it shares that failure.
    BackOff(Failed),
    /// It wants a stored response or none (`only-if-cached`).
    Refuse,
}

/// Whether the request asks to change the protocol of its connection.
///
/// Another version of HTTP does not count, and is an ordinary request (RFC 9110, section 7.8: a server may ignore
/// the field): many clients offer h2c with every request, and a tunnel to an upstream that takes the offer would
/// carry requests that nobody here has looked at.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    let http = |value: &HeaderValue| {
        value.to_str().map_or(true, |value| {
            value.split(',').any(|protocol| {
                let name = protocol.split('/').next().unwrap_or_default().trim();
                ["h2c", "h2", "h3", "http", "tls"]
                    .iter()
                    .any(|version| name.eq_ignore_ascii_case(version))
            })
        })
    };
    headers.contains_key(UPGRADE)
        && !headers.get_all(UPGRADE).iter().any(http)
        && headers.get_all(CONNECTION).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value
                    .split(',')
                    .any(|item| item.trim().eq_ignore_ascii_case("upgrade"))
            })
        })
}

/// The cache rules of the request's route, or why the cache takes no part, as far as the head tells. Makes `headers`
/// what the origin will see of them; a `trusted` peer may say how the request came here.
///
/// # Errors
/// The reason of the bypass.
pub fn admit<'r>(
    route: &'r Route,
    has_level: bool,
    method: &Method,
    headers: &mut HeaderMap,
    trusted: bool,
) -> Result<&'r RouteCache, BypassReason> {
    let rules = route.cache.as_ref().ok_or(BypassReason::RouteOff)?;
    if !has_level {
        return Err(BypassReason::NoLevel);
    }
    as_upstream_sees(headers, trusted, || key_headers(Some(rules)));
    match reuse::request_bypass(rules, method, headers) {
        Some(reason) => Err(reason),
        None => Ok(rules),
    }
}

/// The digest by which a body counts that is no larger than the rule allows, or why a request with this body takes no
/// part.
///
/// # Errors
/// The reason of the bypass.
pub fn body_digest(
    rules: &RouteCache,
    rule: &BodyKey,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<[u8; 32], BypassReason> {
    let reading = canonical::read(headers.get(CONTENT_TYPE), body, &rule.ignore);
    match reading.traits.bypass(rules.nondeterministic) {
        None => Ok(reading.digest),
        Some(reason) => Err(reason),
    }
}

/// Whose request it is, and its key.
///
/// # Errors
/// The reason why it has none.
pub fn identify(rules: &RouteCache, parts: &KeyParts<'_>) -> Result<Keyed, BypassReason> {
    let (partition, also_public) = partition(rules, parts.headers)?;
    Ok(Keyed {
        key: Key::build(parts, partition, also_public),
        partitioned: partition != Partition::None,
        tenant: tenant_of(rules, parts.headers),
        principal: counted_as(partition, parts.headers),
    })
}

/// What the request's own `Cache-Control` asks for, where the route honours it.
pub fn control(rules: &RouteCache, headers: &HeaderMap) -> RequestControl {
    if rules.client_control {
        RequestControl::of(headers)
    } else {
        RequestControl::default()
    }
}

impl Cache {
    /// Looks a request up as its route says.
    pub fn answer_from(&self, rules: &RouteCache, request: &Request<'_>, now: Timestamp) -> Lookup {
        if rules.read {
            self.lookup(request, &control(rules, request.headers), now)
        } else {
            WRITE_ONLY
        }
    }

    /// What [`Cache::answer_from`] would find; it does not count as a use.
    pub fn would_answer_from(&self, rules: &RouteCache, request: &Request<'_>, now: Timestamp) -> Lookup {
        if rules.read {
            self.peek(request, &control(rules, request.headers), now)
        } else {
            WRITE_ONLY
        }
    }
}

const WRITE_ONLY: Lookup = Lookup::Miss {
    reason: MissReason::WriteOnly,
    stale: None,
};

/// What happens next to a request that missed; `has_stale` when there is an entry that may be validated.
pub fn after_miss(cache: &Cache, rules: &RouteCache, request: &Request<'_>, has_stale: bool) -> AfterMiss {
    if control(rules, request.headers).only_if_cached {
        return AfterMiss::Refuse;
    }
    if !rules.write {
        return AfterMiss::Pass(RefuseReason::ReadOnly);
    }
    let errand = match Errand::of(request.method, request.headers, has_stale) {
        Ok(errand) => errand,
        Err(reason) => return AfterMiss::Pass(reason),
    };
    let key = errand.key(request.key, request.headers);
    if cache.hit_for_miss.recalls(key.primary()) {
        return AfterMiss::Bypass(BypassReason::HitForMiss);
    }
    match cache.failures.recall_shared(key.primary()) {
        Some(failed) => AfterMiss::BackOff(failed),
        None => AfterMiss::Fill(errand),
    }
}

/// The authority as keys have it: in lower case, without the default port (RFC 3986, section 6.2).
pub fn canonical_authority<'a>(authority: &'a str, scheme: &str) -> Cow<'a, str> {
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    if authority.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(authority.to_ascii_lowercase())
    } else {
        Cow::Borrowed(authority)
    }
}

/// The host of an authority, without its port.
pub fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_other_protocols_than_http_are_an_upgrade() {
        let asked = |connection, protocol| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static(protocol));
            wants_upgrade(&headers)
        };
        for protocol in ["websocket", "WebSocket", "example/1"] {
            assert!(asked("keep-alive, Upgrade", protocol), "{protocol}");
            assert!(!asked("keep-alive", protocol), "{protocol}");
        }
        for protocol in ["h2c", "websocket, H2C", "HTTP/2.0", "TLS/1.0"] {
            assert!(!asked("upgrade", protocol), "{protocol}");
        }
    }
}

//! Who may use the admin API: Host and Origin checks, bearer tokens with roles, lock-out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use super::problem::Problem;
use super::{Context, audit};
use crate::clock::Timestamp;
use crate::config::{Admin, Name, Role};

/// Bad tokens from one address that lock it out.
const BAD_TOKENS: u32 = 10;
/// How long bad tokens count, and how long an address stays locked out.
const LOCK_OUT: Duration = Duration::from_secs(60);
/// Addresses remembered; beyond, the oldest are forgotten.
const ADDRESSES: usize = 4_096;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token; `anonymous` without one.
    pub name: Name,
    /// What the caller may do; none means nothing that needs a role.
    pub role: Option<Role>,
}

impl Caller {
    fn anonymous(role: Option<Role>) -> Self {
        Self {
            name: "anonymous".into(),
            role,
        }
    }
}

/// Counts bad tokens per address.
#[derive(Debug, Default)]
pub struct LockOut(Mutex<HashMap<IpAddr, (u32, Timestamp)>>);

impl LockOut {
    /// Seconds until `address` may try again; none when it may now.
    pub fn remaining(&self, address: IpAddr, now: Timestamp) -> Option<u64> {
        let table = self.0.lock();
        let (count, last) = table.get(&address)?;
        let left = LOCK_OUT.checked_sub(now.since(*last))?;
        (*count >= BAD_TOKENS).then(|| left.as_secs().max(1))
    }

    /// Notes a bad token.
    pub fn bad(&self, address: IpAddr, now: Timestamp) {
        let mut table = self.0.lock();
        if table.len() >= ADDRESSES && !table.contains_key(&address) {
            table.retain(|_, (_, last)| now.since(*last) < LOCK_OUT);
            if table.len() >= ADDRESSES
                && let Some(oldest) = table.iter().min_by_key(|(_, (_, last))| *last).map(|(ip, _)| *ip)
            {
                table.remove(&oldest);
            }
        }
        let entry = table.entry(address).or_insert((0, now));
        if now.since(entry.1) >= LOCK_OUT {
            entry.0 = 0;
        }
        *entry = (entry.0.saturating_add(1), now);
    }

    /// Notes a good token.
    pub fn good(&self, address: IpAddr) {
        self.0.lock().remove(&address);
    }
}

/// The role that a request needs; none for what is open to everyone who can connect.
pub(super) fn required_role(method: &Method, path: &str, protect_metrics: bool) -> Option<Role> {
    match path {
        "/livez" | "/readyz" | "/startupz" => None,
        "/metrics" if !protect_metrics => None,
        "/config/reload" | "/log-level" => Some(Role::Admin),
        // Both are asked by POST for the body's sake, and change nothing.
        "/config/validate" | "/api/v1/performance/cache/explain" => Some(Role::Viewer),
        _ if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => Some(Role::Viewer),
        _ => Some(Role::Operator),
    }
}

/// Lets a request through only when its Host, its Origin and its token allow it.
pub async fn guard(
    State(context): State<Arc<Context>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let admin = context.state.snapshot.load().config.admin.clone();
    let now = context.state.clock.now();
    let known = host_allowed(&admin, request.uri(), request.headers())
        .and_then(|()| same_origin(request.headers()))
        .and_then(|()| authenticate(&context.lock_out, &admin, peer, request.headers(), now));
    let (caller, allowed) = match known {
        Ok(caller) => {
            let allowed = authorize(&admin, &request, &caller);
            (caller, allowed)
        }
        Err(problem) => (Caller::anonymous(None), Err(problem)),
    };
    let change = request.extensions().get::<MatchedPath>().is_some()
        && required_role(request.method(), request.uri().path(), admin.protect_metrics) > Some(Role::Viewer);
    match allowed {
        Ok(()) if change => audit::run(context, &caller, peer, request, next).await,
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let response = problem.into_response();
            if change && [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status()) {
                let (request, _) = request.into_parts();
                audit::refused(&context, &caller, peer, &request, response.status()).await;
            }
            response
        }
    }
}

/// A foreign `Host` means that a browser was tricked into resolving another name to this address.
fn host_allowed(admin: &Admin, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let authority = uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()))
        .unwrap_or_default();
    let host = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    let bound = admin.bind.ip().to_string();
    let known = admin
        .allowed_hosts
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(host));
    // Probes of an orchestrator name the pod's address, which nobody can know beforehand.
    let literal = !admin.bind.ip().is_loopback() && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if known || host == bound || literal {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected",
        "This host is not served here",
    )
    .detail("add the name to admin.allowed_hosts if it is yours"))
}

/// Requests of a page from elsewhere carry its `Origin` (or say `Sec-Fetch-Site`), and are refused.
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = || {
        Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "Requests of other sites are refused",
        )
    };
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site" || site == "same-site")
    {
        return Err(refused());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let origin = origin.to_str().map_err(|_| refused())?;
    let same = origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    if same { Ok(()) } else { Err(refused()) }
}

fn authenticate(
    lock_out: &LockOut,
    admin: &Admin,
    peer: SocketAddr,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Caller, Problem> {
    let address = peer.ip().to_canonical();
    let Some(token) = bearer(headers) else {
        // Without tokens in the configuration, a loopback peer may read.
        let role = (admin.tokens.is_empty() && address.is_loopback()).then_some(Role::Viewer);
        return Ok(Caller::anonymous(role));
    };
    if let Some(seconds) = lock_out.remaining(address, now) {
        let mut problem = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "locked-out",
            "Too many bad tokens from this address",
        );
        problem.retry_after = Some(seconds);
        return Err(problem);
    }
    let sha256 = digest::digest(&digest::SHA256, token);
    // Every token is compared, so that the time taken does not tell which one came close.
    let mut found = None;
    for candidate in &admin.tokens {
        if constant_time::verify_slices_are_equal(candidate.sha256.reveal(), sha256.as_ref()).is_ok() {
            found = Some(Caller {
                name: Arc::clone(&candidate.name),
                role: Some(candidate.role),
            });
        }
    }
    match found {
        Some(caller) => {
            lock_out.good(address);
            Ok(caller)
        }
        None => {
            lock_out.bad(address, now);
            Err(unauthorized("the token is not known"))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn authorize(admin: &Admin, request: &Request, caller: &Caller) -> Result<(), Problem> {
    let Some(needed) = required_role(request.method(), request.uri().path(), admin.protect_metrics) else {
        return Ok(());
    };
    match caller.role {
        Some(role) if role >= needed => Ok(()),
        Some(_) if !admin.tokens.is_empty() => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The token's role is too small",
        )
        .detail(format!("this needs the role {}", name(needed)))),
        _ => Err(unauthorized(
            "send a token of admin.tokens as `Authorization: Bearer TOKEN`",
        )),
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed").detail(detail)
}

/// The name of a role in configurations.
pub(super) fn name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    #[test]
    fn an_address_is_locked_out_after_ten_bad_tokens_and_let_in_a_minute_later() {
        let lock_out = LockOut::default();
        let now = Timestamp::from_secs(1_000);
        for _ in 0..9 {
            lock_out.bad(address(), now);
        }
        assert_eq!(lock_out.remaining(address(), now), None);
        lock_out.bad(address(), now);
        assert_eq!(lock_out.remaining(address(), now), Some(60));
        assert_eq!(
            lock_out.remaining(address(), now.plus(Duration::from_secs(61))),
            None
        );
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let lock_out = LockOut::default();
        for n in 0..10_000_u32 {
            lock_out.bad(
                IpAddr::from(n.to_be_bytes()),
                Timestamp::from_secs(1_000 + u64::from(n)),
            );
        }
        assert!(lock_out.0.lock().len() <= ADDRESSES);
    }

    #[test]
    fn foreign_origins_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost:9901".parse().unwrap());
        assert!(same_origin(&headers).is_ok());
        headers.insert(header::ORIGIN, "http://localhost:9901".parse().unwrap());
        assert!(same_origin(&headers).is_ok());
        headers.insert(header::ORIGIN, "http://evil.example".parse().unwrap());
        assert!(same_origin(&headers).is_err());
        headers.insert(header::ORIGIN, "null".parse().unwrap());
        assert!(same_origin(&headers).is_err());
    }
}

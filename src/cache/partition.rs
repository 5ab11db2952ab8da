//! Whose entry a request may see: the principal or tenant that becomes part of the key.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::control::ResponseControl;
use super::frame::{length, write_frame};
use super::verdict::BypassReason;
use crate::config::values::CREDENTIALS;
use crate::config::{PrincipalSource, RouteCache, Share};

/// Bytes of `Cookie` that are searched for a configured name.
const SEARCHED_COOKIES: usize = 16 * 1024;

/// The part of the key that keeps principals apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Nobody in particular.
    None,
    /// Digest of what identifies a principal.
    Principal([u8; 32]),
    /// Digest of the tenant, and of the principal where the route varies on it as well.
    Tenant([u8; 32]),
}

impl Partition {
    /// The partition of requests without credentials on a route where nothing is shared: no digest is zero.
    pub const ANONYMOUS: Self = Self::Principal([0; 32]);
}

/// The partition of a request, and whether responses that are for everyone may be found and stored outside of it:
/// those to requests without credentials, and explicitly public ones (RFC 9111, section 3.5).
///
/// A source that the route names (`vary.principal`) identifies the principal alone: whoever may choose its value is
/// that principal. Where the request lacks it, its credentials count, so that nothing is shared by accident; and it
/// counts under `share: all` and with a tenant too, since the route says that it makes a difference.
///
/// # Errors
/// [`BypassReason::NoTenant`] when the route needs a tenant and the request does not have exactly one.
pub fn partition(rules: &RouteCache, headers: &HeaderMap) -> Result<(Partition, bool), BypassReason> {
    let source = rules.vary.principal.as_ref();
    match &rules.share {
        Share::Safe => Ok(match principal(source, headers) {
            Some(digest) => (Partition::Principal(digest), true),
            None => (Partition::None, false),
        }),
        Share::Principal => {
            let partition = principal(source, headers).map_or(Partition::ANONYMOUS, Partition::Principal);
            Ok((partition, false))
        }
        Share::All => {
            let named = source.and_then(|source| named_principal(source, headers));
            Ok((named.map_or(Partition::None, Partition::Principal), false))
        }
        Share::Tenant(name) => {
            let mut identity = vec![b't'];
            write_frame(&mut identity, tenant(name, headers)?.as_bytes());
            if let Some(digest) = source.and_then(|source| principal(Some(source), headers)) {
                write_frame(&mut identity, &digest);
            }
            Ok((Partition::Tenant(digest(&identity)), false))
        }
    }
}

/// What the partition of a request is made from: names of header fields, and `cookie NAME`; never a value.
pub fn sources(rules: &RouteCache, headers: &HeaderMap) -> Vec<String> {
    let source = rules.vary.principal.as_ref();
    let named = source.filter(|source| named_principal(source, headers).is_some());
    let of_credentials = || credentials(headers).map(|name| name.as_str().to_owned());
    let principal: Vec<String> = match named {
        Some(PrincipalSource::Header(name)) => vec![name.as_str().to_owned()],
        Some(PrincipalSource::Cookie(name)) => vec![format!("cookie {name}")],
        Some(PrincipalSource::Credentials) => of_credentials().collect(),
        // As in `partition`: credentials stand in for a source, and count by themselves, only there.
        None => match (&rules.share, source) {
            (Share::Safe | Share::Principal, _) | (Share::Tenant(_), Some(_)) => of_credentials().collect(),
            (Share::All, _) | (Share::Tenant(_), None) => Vec::new(),
        },
    };
    let tenant = match &rules.share {
        Share::Tenant(name) => Some(name.as_str().to_owned()),
        _ => None,
    };
    tenant.into_iter().chain(principal).collect()
}

/// The digest by which purges name a tenant, whatever else the partition holds.
pub fn tenant_digest(tenant: &[u8]) -> [u8; 32] {
    let mut identity = vec![b't'];
    write_frame(&mut identity, tenant.trim_ascii());
    digest(&identity)
}

/// The tenant of a request, on a route that shares by tenant.
pub fn tenant_of(rules: &RouteCache, headers: &HeaderMap) -> Option<[u8; 32]> {
    let Share::Tenant(name) = &rules.share else {
        return None;
    };
    tenant(name, headers)
        .ok()
        .map(|value| tenant_digest(value.as_bytes()))
}

/// The value of the first cookie called `name`, as a request identifies itself by it.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &'a str) -> Option<&'a [u8]> {
    cookies(headers, name.as_bytes()).next()
}

/// Whether a field carries credentials.
pub fn is_credential(name: &HeaderName) -> bool {
    place(name).is_some()
}

/// The credential fields that a request carries, in an order that does not depend on the request's.
pub fn credentials(headers: &HeaderMap) -> impl Iterator<Item = &'static HeaderName> {
    carried(headers).map(|(_, name)| name)
}

/// The same with their places in [`CREDENTIALS`]. One walk over the request's fields costs less than a search for each
/// of the names.
fn carried(headers: &HeaderMap) -> impl Iterator<Item = (u8, &'static HeaderName)> {
    let places = headers.keys().filter_map(place);
    let carried = places.fold(0_u8, |carried, place| carried | 1 << place);
    (0_u8..)
        .zip(&CREDENTIALS)
        .filter(move |(place, _)| carried & 1 << place != 0)
}

/// The place of a field in [`CREDENTIALS`].
fn place(name: &HeaderName) -> Option<u8> {
    Some(match name.as_str() {
        "authorization" => 0,
        "cookie" => 1,
        "proxy-authorization" => 2,
        "x-api-key" => 3,
        "api-key" => 4,
        "x-goog-api-key" => 5,
        "x-auth-token" => 6,
        "x-access-token" => 7,
        _ => return None,
    })
}

/// Whether a response to `request` may be given to every principal (RFC 9111, section 3.5).
///
/// `must-revalidate` speaks of `Authorization` and of nothing else that tells principals
/// apart: frameworks send it with pages made for a cookie as well, so those need `public` or `s-maxage`.
pub fn is_public(rules: &RouteCache, request: &HeaderMap, control: &ResponseControl) -> bool {
    let by_authorization = || {
        let by_credentials = matches!(rules.vary.principal, None | Some(PrincipalSource::Credentials));
        let mut present = credentials(request);
        by_credentials && present.next() == Some(&header::AUTHORIZATION) && present.next().is_none()
    };
    control.public || control.s_maxage.is_some() || (control.must_revalidate && by_authorization())
}

/// A part of the digest of the principal behind a request of this partition, by which principals are counted; none when
/// nothing identifies one. Who is behind a tenant's request is told by its credentials.
pub fn counted_as(partition: Partition, headers: &HeaderMap) -> Option<u64> {
    let digest = match partition {
        Partition::ANONYMOUS => None,
        Partition::Principal(digest) => Some(digest),
        Partition::None | Partition::Tenant(_) => credentials_principal(headers),
    }?;
    let [a, b, c, d, e, f, g, h, ..] = digest;
    Some(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// The principal: by the named source, else by credentials, else nobody.
fn principal(source: Option<&PrincipalSource>, headers: &HeaderMap) -> Option<[u8; 32]> {
    source
        .and_then(|source| named_principal(source, headers))
        .or_else(|| credentials_principal(headers))
}

fn named_principal(source: &PrincipalSource, headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut identity = Vec::with_capacity(64);
    match source {
        PrincipalSource::Credentials => return credentials_principal(headers),
        PrincipalSource::Header(name) => {
            identity.push(b'h');
            headers
                .get_all(name)
                .iter()
                .for_each(|value| write_frame(&mut identity, value.as_bytes()));
        }
        PrincipalSource::Cookie(name) => {
            identity.push(b'k');
            // Every cookie of the name: which one the origin believes is not known here.
            cookies(headers, name.as_bytes()).for_each(|value| write_frame(&mut identity, value));
        }
    }
    (identity.len() > 1).then(|| digest(&identity))
}

/// Names stand here by their places: a token of usual size and what frames it are one block of the hash.
fn credentials_principal(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut carried = carried(headers).peekable();
    carried.peek()?;
    let mut identity = Vec::with_capacity(256);
    identity.push(b'c');
    for (place, name) in carried {
        let values = headers.get_all(name);
        identity.push(place);
        identity.extend_from_slice(&length(values.iter().count()));
        values
            .iter()
            .for_each(|value| write_frame(&mut identity, value.as_bytes()));
    }
    Some(digest(&identity))
}

fn digest(identity: &[u8]) -> [u8; 32] {
    *blake3::hash(identity).as_bytes()
}

fn tenant<'a>(name: &HeaderName, headers: &'a HeaderMap) -> Result<&'a HeaderValue, BypassReason> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (Some(tenant), None) if !tenant.as_bytes().trim_ascii().is_empty() => Ok(tenant),
        _ => Err(BypassReason::NoTenant),
    }
}

/// The values of the cookies called `name` (RFC 6265, section 5.4), within the bound.
fn cookies<'a>(headers: &'a HeaderMap, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut left = SEARCHED_COOKIES;
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .map_while(move |line| {
            left = left.checked_sub(line.len())?;
            Some(line.as_bytes())
        })
        .flat_map(|line| line.split(|octet| *octet == b';'))
        .filter_map(move |pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::fixture::{headers, rules};

    fn of(share: Share, source: Option<PrincipalSource>, fields: &[(&str, &str)]) -> (Partition, bool) {
        let mut rules = rules();
        rules.share = share;
        rules.vary.principal = source;
        partition(&rules, &headers(fields)).unwrap()
    }

    #[test]
    fn every_credential_has_its_place() {
        for (expected, name) in (0..).zip(&CREDENTIALS) {
            assert_eq!(place(name), Some(expected), "{name}");
        }
        assert!(!is_credential(&header::ACCEPT));
    }

    #[test]
    fn safe_sharing_keeps_every_credential_apart() {
        assert_eq!(
            of(Share::Safe, None, &[("accept", "a")]),
            (Partition::None, false)
        );
        let mut seen = Vec::new();
        for name in &CREDENTIALS {
            for value in ["a", "b"] {
                let (partition, also_public) = of(Share::Safe, None, &[(name.as_str(), value)]);
                assert!(
                    also_public && matches!(partition, Partition::Principal(_)),
                    "{name}"
                );
                assert!(!seen.contains(&partition), "{name}: {value}");
                seen.push(partition);
            }
        }
        let both = of(Share::Safe, None, &[("authorization", "a"), ("cookie", "a")]).0;
        assert!(!seen.contains(&both));
        let posing = [
            ("authorization", "a"),
            ("authorization", "cookie"),
            ("authorization", "a"),
        ];
        assert_ne!(both, of(Share::Safe, None, &posing).0);
        let reordered = of(Share::Safe, None, &[("cookie", "a"), ("authorization", "a")]).0;
        assert_eq!(both, reordered);
    }

    #[test]
    fn principal_sharing_gives_the_anonymous_their_own() {
        assert_eq!(of(Share::Principal, None, &[]), (Partition::ANONYMOUS, false));
        let (partition, also_public) = of(Share::Principal, None, &[("cookie", "a=b")]);
        assert!(!also_public && partition != Partition::ANONYMOUS);
    }

    #[test]
    fn a_named_source_counts_alone_and_credentials_stand_in() {
        let name = HeaderName::from_static("x-user");
        let source = || Some(PrincipalSource::Header(name.clone()));
        let (token, other) = (("authorization", "a"), ("authorization", "b"));
        let user = of(Share::Safe, source(), &[("x-user", "1"), token]);
        assert_eq!(user, of(Share::Safe, source(), &[("x-user", "1"), other]));
        assert_ne!(user, of(Share::Safe, source(), &[("x-user", "2"), token]));
        assert_ne!(
            user,
            of(Share::Safe, source(), &[("x-user", "1"), ("x-user", "2"), token])
        );
        assert_eq!(
            of(Share::Safe, source(), &[token]),
            of(Share::Safe, None, &[token])
        );
        assert_eq!(
            of(Share::Principal, source(), &[token]).0,
            of(Share::Safe, None, &[token]).0
        );
        assert_eq!(of(Share::Safe, source(), &[]), (Partition::None, false));
        assert_eq!(of(Share::Principal, source(), &[]), (Partition::ANONYMOUS, false));
    }

    #[test]
    fn cookies_by_name() {
        let source = || Some(PrincipalSource::Cookie("sid".to_owned()));
        let by = |cookie: &str| of(Share::Safe, source(), &[("cookie", cookie)]).0;
        assert_eq!(by("sid=1; theme=dark"), by("theme=light;sid=1"));
        assert_ne!(by("sid=1"), by("sid=2"));
        assert_ne!(by("sid=1"), by("sid=1; sid=2"));
        assert_ne!(by("xsid=1"), by("xsid=2"));
        let long = format!("sid=1; pad={}", "x".repeat(SEARCHED_COOKIES));
        assert_eq!(by(&long), of(Share::Safe, None, &[("cookie", &long)]).0);
    }

    #[test]
    fn all_shares_but_for_a_named_source() {
        assert_eq!(
            of(Share::All, None, &[("cookie", "a=b")]),
            (Partition::None, false)
        );
        let source = || Some(PrincipalSource::Header(HeaderName::from_static("x-user")));
        assert_eq!(
            of(Share::All, source(), &[("cookie", "a=b")]),
            (Partition::None, false)
        );
        assert!(matches!(
            of(Share::All, source(), &[("x-user", "1")]).0,
            Partition::Principal(_)
        ));
    }

    #[test]
    fn a_tenant_must_be_one() {
        let share = || Share::Tenant(HeaderName::from_static("x-tenant"));
        let source = || Some(PrincipalSource::Credentials);
        let (acme, token) = (("x-tenant", "acme"), ("authorization", "a"));
        assert_eq!(of(share(), None, &[acme]), of(share(), None, &[acme, token]));
        assert_ne!(
            of(share(), None, &[acme]),
            of(share(), None, &[("x-tenant", "other")])
        );
        assert_ne!(
            of(share(), source(), &[acme]),
            of(share(), source(), &[acme, token])
        );
        let mut rules = rules();
        rules.share = share();
        for fields in [vec![], vec![("x-tenant", " ")], vec![acme, acme]] {
            assert_eq!(
                partition(&rules, &headers(&fields)),
                Err(BypassReason::NoTenant),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn public_responses() {
        // RFC 9111, section 3.5.
        let public = |source: Option<PrincipalSource>, request: &[(&str, &str)], control: &str| {
            let mut rules = rules();
            rules.vary.principal = source;
            let control = ResponseControl::of(&headers(&[("cache-control", control)]));
            is_public(&rules, &headers(request), &control)
        };
        let (token, cookie) = (("authorization", "Bearer a"), ("cookie", "a=b"));
        for (control, by_token, by_cookie) in [
            ("max-age=9", false, false),
            ("max-age=9, public", true, true),
            ("s-maxage=9", true, true),
            ("max-age=9, must-revalidate", true, false),
            ("max-age=9, proxy-revalidate", false, false),
        ] {
            assert_eq!(public(None, &[token], control), by_token, "{control}");
            assert_eq!(public(None, &[cookie], control), by_cookie, "{control}");
            assert_eq!(public(None, &[token, cookie], control), by_cookie, "{control}");
            let source = Some(PrincipalSource::Header(HeaderName::from_static("x-user")));
            assert_eq!(
                public(source, &[token, ("x-user", "1")], control),
                by_cookie,
                "{control}"
            );
        }
    }

    proptest! {
        #[test]
        fn partitions_are_equal_only_for_equal_credentials(
            left in proptest::collection::vec(("authorization|cookie|x-api-key", "[a-c]{0,2}"), 0..3),
            right in proptest::collection::vec(("authorization|cookie|x-api-key", "[a-c]{0,2}"), 0..3),
        ) {
            let build = |fields: &[(String, String)]| {
                headers(&fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>())
            };
            let (left, right) = (build(&left), build(&right));
            let same = partition(&rules(), &left) == partition(&rules(), &right);
            prop_assert_eq!(same, left == right);
        }
    }
}

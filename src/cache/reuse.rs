//! Whether a request may be answered from the cache (RFC 9111, section 4).

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, header};

use super::control::RequestControl;
use super::life::Life;
use super::range;
use super::verdict::{BypassReason, MissReason};
use crate::clock::Timestamp;
use crate::config::RouteCache;

/// How a stored response may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is fresh.
    Fresh,
    /// It is stale; it is served while somebody validates it (RFC 5861, section 3).
    StaleWhileRevalidate,
    /// It is stale, which the request accepts (`max-stale`).
    StaleAccepted,
    /// Not before the origin has confirmed it.
    Validate(MissReason),
}

/// Decides how an entry may be used. `request` is the default unless the route honours client control.
pub fn may_use(life: &Life, request: &RequestControl, now: Timestamp) -> Use {
    if life.always_validate {
        return Use::Validate(MissReason::Stale);
    }
    let age = life.age(now);
    let too_old = request.max_age.is_some_and(|most| most.is_zero() || age > most);
    if request.no_cache || too_old {
        return Use::Validate(MissReason::Request);
    }
    if let Some(left) = life.fresh_for.checked_sub(age).filter(|left| !left.is_zero()) {
        return match request.min_fresh {
            Some(wanted) if left < wanted => Use::Validate(MissReason::Request),
            _ => Use::Fresh,
        };
    }
    if life.must_revalidate || request.min_fresh.is_some() {
        return Use::Validate(MissReason::Stale);
    }
    let stale_for = age.saturating_sub(life.fresh_for);
    if request.max_stale.is_some_and(|most| stale_for <= most) {
        Use::StaleAccepted
    } else if stale_for < life.stale_while_revalidate {
        Use::StaleWhileRevalidate
    } else {
        Use::Validate(MissReason::Stale)
    }
}

/// How the origin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It answered 500, 502, 503 or 504, or what is no answer.
    Error,
    /// It gave no answer: no connection, a broken one, or a deadline that passed.
    Disconnected,
}

impl Failure {
    /// The stable name of the use of a stale entry that it allows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "stale-if-error",
            Self::Disconnected => "stale-if-disconnected",
        }
    }
}

/// Whether an entry may stand in when the origin failed (RFC 5861, section 4). An error needs an explicit window; a
/// cache that is disconnected may do more (RFC 9111, section 4.2.4).
pub fn may_use_on_error(life: &Life, request: &RequestControl, failure: Failure, now: Timestamp) -> bool {
    if life.always_validate || request.no_cache {
        return false;
    }
    let stale_for = life.age(now).saturating_sub(life.fresh_for);
    if stale_for.is_zero() {
        return true;
    }
    let by_failure = match failure {
        Failure::Error => life.stale_if_error,
        Failure::Disconnected => life.stale_if_disconnected.max(life.stale_if_error),
    };
    let windows = [Some(by_failure), request.stale_if_error, request.max_stale];
    let window: Duration = windows.into_iter().flatten().max().unwrap_or_default();
    !life.must_revalidate && stale_for < window
}

/// Why a request neither reads nor fills the cache, as far as its head tells. A range that the cache understands
/// does not bypass: it may be answered from a full entry.
pub fn request_bypass(rules: &RouteCache, method: &Method, headers: &HeaderMap) -> Option<BypassReason> {
    let head_of_get = *method == Method::HEAD && rules.methods.contains(&Method::GET);
    if !head_of_get && !rules.methods.contains(method) {
        return Some(BypassReason::Method);
    }
    if rules.vary.body.is_none() && has_body(headers) {
        return Some(BypassReason::BodyNotKeyed);
    }
    if rules.client_control && RequestControl::of(headers).no_store {
        return Some(BypassReason::RequestNoStore);
    }
    // Evaluated by the origin only (RFC 9110, sections 13.1.1 and 13.1.4); an unsafe-looking `If-None-Match` too,
    // whose failure is 412 (section 13.1.2).
    let safe = matches!(*method, Method::GET | Method::HEAD);
    if headers.contains_key(header::IF_MATCH)
        || headers.contains_key(header::IF_UNMODIFIED_SINCE)
        || (!safe && headers.contains_key(header::IF_NONE_MATCH))
    {
        return Some(BypassReason::Conditional);
    }
    (*method == Method::GET && range::is_foreign(headers)).then_some(BypassReason::Range)
}

/// Whether the head announces a body. One that is not part of the key could change the answer that others get.
fn has_body(headers: &HeaderMap) -> bool {
    const LENGTH: HeaderName = header::CONTENT_LENGTH;
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(LENGTH)
            .iter()
            .any(|length| length.as_bytes().trim_ascii() != b"0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::{headers, rules};
    use crate::config::BodyKey;

    const MADE: Timestamp = Timestamp::from_secs(1_000_000);

    /// Fresh for 10 s, then 5 s stale-while-revalidate, 60 s stale-if-error.
    const LIFE: Life = Life {
        generated_at: MADE,
        fresh_for: Duration::from_secs(10),
        stale_while_revalidate: Duration::from_secs(5),
        stale_if_error: Duration::from_secs(60),
        stale_if_disconnected: Duration::from_secs(80),
        must_revalidate: false,
        always_validate: false,
        adapted: None,
    };

    fn after(seconds: u64) -> Timestamp {
        MADE.plus(Duration::from_secs(seconds))
    }

    fn request(control: &str) -> RequestControl {
        RequestControl::of(&headers(&[("cache-control", control)]))
    }

    #[test]
    fn freshness_and_the_windows_after_it() {
        // RFC 9111, section 4.2; RFC 5861, section 3.
        let none = RequestControl::default();
        let stale = Use::Validate(MissReason::Stale);
        for (age, expected) in [
            (0, Use::Fresh),
            (9, Use::Fresh),
            (10, Use::StaleWhileRevalidate),
            (14, Use::StaleWhileRevalidate),
            (15, stale),
        ] {
            assert_eq!(may_use(&LIFE, &none, after(age)), expected, "{age}");
        }
        let strict = Life {
            must_revalidate: true,
            ..LIFE
        };
        assert_eq!(may_use(&strict, &none, after(9)), Use::Fresh);
        assert_eq!(may_use(&strict, &request("max-stale"), after(10)), stale);
        let always = Life {
            always_validate: true,
            ..LIFE
        };
        assert_eq!(may_use(&always, &request("max-stale"), after(0)), stale);
    }

    #[test]
    fn what_the_request_asks() {
        // RFC 9111, section 5.2.1.
        let refused = Use::Validate(MissReason::Request);
        let stale = Use::Validate(MissReason::Stale);
        for (control, age, expected) in [
            ("no-cache", 0, refused),
            ("max-age=0", 0, refused),
            ("max-age=5", 5, Use::Fresh),
            ("max-age=5", 6, refused),
            ("min-fresh=4", 6, Use::Fresh),
            ("min-fresh=4", 7, refused),
            ("min-fresh=0", 12, stale),
            ("max-stale=20", 30, Use::StaleAccepted),
            ("max-stale=20", 31, stale),
            ("max-stale", 9999, Use::StaleAccepted),
            ("only-if-cached", 20, stale),
        ] {
            assert_eq!(
                may_use(&LIFE, &request(control), after(age)),
                expected,
                "{control} {age}"
            );
        }
    }

    #[test]
    fn when_the_origin_fails() {
        // RFC 5861, section 4; RFC 9111, section 4.2.4.
        let none = RequestControl::default();
        assert!(may_use_on_error(&LIFE, &none, Failure::Error, after(69)));
        assert!(!may_use_on_error(&LIFE, &none, Failure::Error, after(70)));
        assert!(may_use_on_error(
            &LIFE,
            &request("stale-if-error=100"),
            Failure::Error,
            after(70)
        ));
        assert!(may_use_on_error(
            &LIFE,
            &request("max-age=0"),
            Failure::Error,
            after(5)
        ));
        assert!(!may_use_on_error(
            &LIFE,
            &request("no-cache"),
            Failure::Error,
            after(5)
        ));
        let strict = Life {
            must_revalidate: true,
            ..LIFE
        };
        assert!(may_use_on_error(&strict, &none, Failure::Error, after(5)));
        assert!(!may_use_on_error(
            &strict,
            &request("max-stale"),
            Failure::Error,
            after(11)
        ));
        let always = Life {
            always_validate: true,
            ..LIFE
        };
        assert!(!may_use_on_error(&always, &none, Failure::Error, after(5)));
        let without = Life {
            stale_if_error: Duration::ZERO,
            ..LIFE
        };
        assert!(!may_use_on_error(&without, &none, Failure::Error, after(11)));
        let disconnected =
            |life: &Life, after: Timestamp| may_use_on_error(life, &none, Failure::Disconnected, after);
        assert!(disconnected(&LIFE, after(89)) && !disconnected(&LIFE, after(90)));
        assert!(!disconnected(&strict, after(11)) && !disconnected(&always, after(5)));
    }

    #[test]
    fn bypasses() {
        let mut rules = rules();
        let bypass = |rules: &RouteCache, method: Method, fields: &[(&str, &str)]| {
            request_bypass(rules, &method, &headers(fields))
        };
        assert_eq!(bypass(&rules, Method::GET, &[]), None);
        assert_eq!(bypass(&rules, Method::HEAD, &[]), None);
        assert_eq!(bypass(&rules, Method::POST, &[]), Some(BypassReason::Method));
        for field in ["if-match", "if-unmodified-since"] {
            assert_eq!(
                bypass(&rules, Method::GET, &[(field, "*")]),
                Some(BypassReason::Conditional)
            );
        }
        assert_eq!(bypass(&rules, Method::GET, &[("if-none-match", "*")]), None);
        assert_eq!(bypass(&rules, Method::GET, &[("range", "bytes=0-1")]), None);
        assert_eq!(
            bypass(&rules, Method::GET, &[("range", "items=0-1")]),
            Some(BypassReason::Range)
        );
        assert_eq!(
            bypass(&rules, Method::GET, &[("cache-control", "no-store")]),
            None
        );
        rules.client_control = true;
        let no_store = [("cache-control", "no-store")];
        assert_eq!(
            bypass(&rules, Method::GET, &no_store),
            Some(BypassReason::RequestNoStore)
        );
        rules.methods = vec![Method::POST];
        assert_eq!(bypass(&rules, Method::HEAD, &[]), Some(BypassReason::Method));
        assert_eq!(
            bypass(&rules, Method::POST, &[("if-none-match", "*")]),
            Some(BypassReason::Conditional)
        );
    }

    #[test]
    fn a_body_that_is_not_in_the_key_bypasses() {
        let mut rules = rules();
        let bypass = |rules: &RouteCache, field| request_bypass(rules, &Method::GET, &headers(&[field]));
        assert_eq!(bypass(&rules, ("content-length", "0")), None);
        for field in [("content-length", "2"), ("transfer-encoding", "chunked")] {
            assert_eq!(bypass(&rules, field), Some(BypassReason::BodyNotKeyed));
        }
        rules.vary.body = Some(BodyKey {
            ignore: Vec::new(),
            max: 1024,
        });
        assert_eq!(bypass(&rules, ("content-length", "2")), None);
    }
}

//! Whether a response may be stored (RFC 9111, section 3).

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

pub use super::age::Times;
use super::conditional::can_validate;
use super::control::{Limit, ResponseControl};
use super::freshness::{Judged, Lifetime, heuristically_cacheable, is_understood, route_ttl};
use super::life::Life;
use super::partition::{credentials, is_public};
use super::range::Part;
use super::verdict::RefuseReason;
use super::{stream, vary};
use crate::config::{Adaptive, RouteCache, Share};

/// What counts of the request that fetched the response.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its header fields as the client sent them.
    pub headers: &'a HeaderMap,
    /// The entry will live under a key that contains the request's principal or tenant.
    pub partitioned: bool,
    /// A part of the content can be stored as what it is: exactly one range was asked for.
    pub for_part: bool,
}

/// How a response is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How long it may be used.
    pub life: Life,
    /// The origin says that every principal may have it (RFC 9111, section 3.5).
    pub public: bool,
    /// Fields that are not stored with it (`no-cache="field"`, `private="field"`).
    pub strip: Vec<HeaderName>,
    /// The bounds of its life, if that follows how often the body changes.
    pub adaptive: Option<Adaptive>,
}

/// Decides whether the response may be stored, and for how long.
///
/// The reading of RFC 9111, section 3, for statuses: any final status but 304, and 206 unless it is stored as a part,
/// is stored while the origin
/// gives it explicit freshness; without, only those that are cacheable by default, and errors only when the route
/// lists them. What is already stale is kept only if it can be validated or served stale, and an error never is:
/// an error that is not fresh is of no use. `no-store`, `private` and `Set-Cookie` refuse whatever the route says.
///
/// # Errors
/// The reason why it is not stored.
pub fn may_store(
    rules: &RouteCache,
    request: &RequestFacts<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    times: Times,
) -> Result<Stored, RefuseReason> {
    // A part lives as its whole would.
    let is_part = status == StatusCode::PARTIAL_CONTENT && request.for_part;
    if is_part && Part::of(headers).is_none_or(|part| part.length() > rules.max_object) {
        return Err(RefuseReason::Partial);
    }
    let status = if is_part { StatusCode::OK } else { status };
    let control = ResponseControl::of(headers);
    let strip = control.named_fields();
    refuse_exchange(rules, request, status)?;
    refuse_directives(&control, &strip, status, headers)?;
    refuse_sharing(rules, request, status, &control)?;
    refuse_content(rules, headers)?;
    let judged = Judged {
        rules,
        method: request.method,
        status,
        headers,
        control: &control,
        times,
    };
    let life = useful_life(&judged)?;
    Ok(Stored {
        life,
        public: is_public(rules, request.headers, &control),
        adaptive: judged.adaptive(),
        strip,
    })
}

/// How long the route itself lets an answer with this status live; none where the origin decides.
pub fn life_by_route(rules: &RouteCache, status: StatusCode) -> Option<Duration> {
    route_ttl(&rules.ttl, status)
}

fn refuse_exchange(
    rules: &RouteCache,
    request: &RequestFacts<'_>,
    status: StatusCode,
) -> Result<(), RefuseReason> {
    if !rules.write {
        return Err(RefuseReason::ReadOnly);
    }
    // The answer to HEAD has no content that a GET could be answered with.
    if request.method == Method::HEAD || !rules.methods.contains(request.method) {
        return Err(RefuseReason::Method);
    }
    match status {
        StatusCode::PARTIAL_CONTENT => Err(RefuseReason::Partial),
        StatusCode::NOT_MODIFIED => Err(RefuseReason::Status),
        _ if status.is_informational() => Err(RefuseReason::Status),
        _ => Ok(()),
    }
}

fn refuse_directives(
    control: &ResponseControl,
    strip: &[HeaderName],
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(), RefuseReason> {
    // RFC 9111, section 5.2.2.3: `must-understand` comes with a `no-store` for caches that do not know the status.
    if control.must_understand && !is_understood(status) {
        return Err(RefuseReason::Status);
    }
    if control.no_store && !control.must_understand {
        return Err(RefuseReason::NoStore);
    }
    if control.private == Limit::Whole {
        return Err(RefuseReason::Private);
    }
    if headers.contains_key(header::SET_COOKIE) && !strip.contains(&header::SET_COOKIE) {
        return Err(RefuseReason::SetCookie);
    }
    Ok(())
}

fn refuse_sharing(
    rules: &RouteCache,
    request: &RequestFacts<'_>,
    status: StatusCode,
    control: &ResponseControl,
) -> Result<(), RefuseReason> {
    let guarded = match rules.share {
        // The route says that credentials make no difference. What it leaves to the origin is still bound by RFC 9111,
        // section 3.5, which is about `Authorization` alone; its own time to live speaks for the origin.
        Share::All => {
            route_ttl(&rules.ttl, status).is_none() && request.headers.contains_key(header::AUTHORIZATION)
        }
        _ => credentials(request.headers).next().is_some(),
    };
    if guarded && !request.partitioned && !is_public(rules, request.headers, control) {
        return Err(RefuseReason::Authorization);
    }
    Ok(())
}

fn refuse_content(rules: &RouteCache, headers: &HeaderMap) -> Result<(), RefuseReason> {
    if vary::is_star(headers) {
        return Err(RefuseReason::VaryStar);
    }
    // Whether a stream is whole is seen from its events.
    if stream::is_event_stream(headers) && stream::is_coded(headers) {
        return Err(RefuseReason::EventStream);
    }
    if content_length(headers).is_some_and(|length| length > rules.max_object) {
        return Err(RefuseReason::TooLarge);
    }
    Ok(())
}

/// The life of the response, if there is any use for it.
fn useful_life(judged: &Judged<'_>) -> Result<Life, RefuseReason> {
    let lifetime = judged.lifetime();
    let life = judged.life(lifetime);
    let status = judged.status;
    let fresh = !life.always_validate && life.fresh_until() > judged.times.received;
    if fresh {
        return Ok(life);
    }
    if status.is_client_error() || status.is_server_error() {
        return Err(match lifetime {
            Lifetime::None => RefuseReason::Status,
            Lifetime::Route(_) | Lifetime::Origin(_) => RefuseReason::NoFreshness,
        });
    }
    if lifetime == Lifetime::None && !heuristically_cacheable(status) && !judged.control.public {
        return Err(RefuseReason::Status);
    }
    let servable = lifetime != Lifetime::None
        && !life.always_validate
        && !life.stale_while_revalidate.max(life.stale_if_error).is_zero();
    if servable || (judged.method == Method::GET && can_validate(judged.headers)) {
        Ok(life)
    } else {
        Err(RefuseReason::NoFreshness)
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::{headers, rules};
    use crate::clock::Timestamp;
    use crate::config::Ttl;

    const NOW: Timestamp = Timestamp::from_secs(1_600_000_000);
    const FRESH: (&str, &str) = ("cache-control", "max-age=60");

    struct Exchange<'a> {
        rules: RouteCache,
        method: Method,
        request: &'a [(&'a str, &'a str)],
        partitioned: bool,
    }

    impl Exchange<'_> {
        fn get() -> Self {
            Self {
                rules: rules(),
                method: Method::GET,
                request: &[],
                partitioned: false,
            }
        }

        fn store(&self, status: u16, response: &[(&str, &str)]) -> Result<Stored, RefuseReason> {
            let facts = RequestFacts {
                method: &self.method,
                headers: &headers(self.request),
                partitioned: self.partitioned,
                for_part: false,
            };
            let (requested, received) = (NOW, NOW);
            let times = Times { requested, received };
            let status = StatusCode::from_u16(status).unwrap();
            may_store(&self.rules, &facts, status, &headers(response), times)
        }

        #[track_caller]
        fn refuses(&self, status: u16, response: &[(&str, &str)], reason: RefuseReason) {
            assert_eq!(self.store(status, response), Err(reason), "{status} {response:?}");
        }
    }

    #[test]
    fn explicit_freshness_makes_any_final_status_storable() {
        for status in [
            200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599,
        ] {
            let exchange = Exchange::get();
            assert!(exchange.store(status, &[FRESH]).is_ok(), "{status}");
            let stale = [("expires", "0"), ("etag", "\"a\"")];
            assert_eq!(exchange.store(status, &stale).is_ok(), status < 400, "{status}");
        }
        Exchange::get().refuses(206, &[FRESH], RefuseReason::Partial);
        Exchange::get().refuses(304, &[FRESH], RefuseReason::Status);
        Exchange::get().refuses(103, &[FRESH], RefuseReason::Status);
    }

    #[test]
    fn without_freshness_a_validator_is_needed() {
        let exchange = Exchange::get();
        exchange.refuses(200, &[], RefuseReason::NoFreshness);
        exchange.refuses(404, &[("etag", "\"a\"")], RefuseReason::Status);
        exchange.refuses(201, &[("etag", "\"a\"")], RefuseReason::Status);
        for control in ["max-age=0", "no-cache", "no-cache, max-age=60", "max-age=x"] {
            let plain = [("cache-control", control)];
            exchange.refuses(200, &plain, RefuseReason::NoFreshness);
            let stored = exchange
                .store(200, &[("cache-control", control), ("etag", "\"a\"")])
                .unwrap();
            assert!(
                stored.life.always_validate || stored.life.fresh_for.is_zero(),
                "{control}"
            );
        }
        exchange.refuses(200, &[FRESH, ("age", "61")], RefuseReason::NoFreshness);
        let windows = [("cache-control", "max-age=0, stale-while-revalidate=5")];
        assert!(exchange.store(200, &windows).is_ok());
    }

    #[test]
    fn a_stale_window_of_the_route_stores_nothing_by_itself() {
        let mut exchange = Exchange::get();
        exchange.rules.stale_while_revalidate = Some(Duration::from_secs(30));
        exchange.rules.stale_if_error = Some(Duration::from_secs(30));
        exchange.refuses(200, &[], RefuseReason::NoFreshness);
        let stored = exchange.store(200, &[("etag", "\"a\"")]).unwrap();
        assert!(stored.life.stale_while_revalidate.is_zero());
    }

    #[test]
    fn a_validator_is_of_no_use_for_post() {
        let mut exchange = Exchange::get();
        exchange.method = Method::POST;
        exchange.rules.methods = vec![Method::POST];
        exchange.refuses(200, &[("etag", "\"a\"")], RefuseReason::NoFreshness);
        assert!(exchange.store(200, &[FRESH]).is_ok());
    }

    #[test]
    fn methods_and_modes() {
        let mut exchange = Exchange::get();
        exchange.method = Method::HEAD;
        exchange.refuses(200, &[FRESH], RefuseReason::Method);
        exchange.method = Method::POST;
        exchange.refuses(200, &[FRESH], RefuseReason::Method);
        exchange.method = Method::GET;
        exchange.rules.write = false;
        exchange.refuses(200, &[FRESH], RefuseReason::ReadOnly);
    }

    #[test]
    fn no_route_overrides_no_store_private_and_set_cookie() {
        for ttl in [
            Ttl::Origin,
            Ttl::Fixed(Duration::from_secs(9)),
            Ttl::ByStatus([(200, Duration::MAX)].into()),
            Ttl::Adaptive(Adaptive {
                min: Duration::from_secs(9),
                max: Duration::MAX,
            }),
        ] {
            for share in [Share::Safe, Share::Principal, Share::All] {
                let mut exchange = Exchange::get();
                exchange.rules.ttl = ttl.clone();
                exchange.rules.share = share;
                exchange.partitioned = true;
                exchange.refuses(
                    200,
                    &[FRESH, ("cache-control", "No-Store")],
                    RefuseReason::NoStore,
                );
                exchange.refuses(200, &[FRESH, ("cache-control", "private")], RefuseReason::Private);
                exchange.refuses(200, &[FRESH, ("set-cookie", "a=b")], RefuseReason::SetCookie);
            }
        }
    }

    #[test]
    fn named_fields_are_stripped_and_the_rest_stored() {
        // RFC 9111, sections 5.2.2.4 and 5.2.2.7.
        let fields = [
            (
                "cache-control",
                "max-age=9, no-cache=\"set-cookie\", private=\"a\"",
            ),
            ("set-cookie", "a=b"),
        ];
        let stored = Exchange::get().store(200, &fields).unwrap();
        assert_eq!(stored.strip, [HeaderName::from_static("a"), header::SET_COOKIE]);
        assert!(!stored.life.always_validate);
    }

    #[test]
    fn credentials_need_a_partition_or_a_public_response() {
        // RFC 9111, section 3.5.
        let mut exchange = Exchange::get();
        exchange.request = &[("cookie", "a=b")];
        exchange.refuses(200, &[FRESH], RefuseReason::Authorization);
        let public = [("cache-control", "max-age=9, public")];
        assert!(exchange.store(200, &public).unwrap().public);
        exchange.rules.share = Share::All;
        assert!(exchange.store(200, &[FRESH]).is_ok());
        exchange.rules.share = Share::Safe;
        exchange.partitioned = true;
        assert!(!exchange.store(200, &[FRESH]).unwrap().public);
    }

    #[test]
    fn what_all_share_is_bound_by_the_origin_unless_the_route_gives_the_life() {
        // RFC 9111, section 3.5.
        let mut exchange = Exchange::get();
        exchange.rules.share = Share::All;
        exchange.request = &[("authorization", "a")];
        exchange.refuses(200, &[FRESH], RefuseReason::Authorization);
        for control in ["max-age=9, public", "max-age=9, must-revalidate", "s-maxage=9"] {
            assert!(
                exchange.store(200, &[("cache-control", control)]).is_ok(),
                "{control}"
            );
        }
        exchange.rules.ttl = Ttl::Fixed(Duration::from_secs(9));
        assert!(exchange.store(200, &[]).is_ok());
        exchange.rules.ttl = Ttl::Origin;
        exchange.request = &[("cookie", "a"), ("x-api-key", "b")];
        assert!(exchange.store(200, &[FRESH]).is_ok());
    }

    #[test]
    fn must_understand() {
        // RFC 9111, section 5.2.2.3.
        let fields = [("cache-control", "max-age=3600, no-store, must-understand")];
        assert!(Exchange::get().store(200, &fields).is_ok());
        Exchange::get().refuses(599, &fields, RefuseReason::Status);
    }

    #[test]
    fn contents_that_are_not_stored() {
        let event_stream = ("content-type", "Text/Event-Stream; charset=utf-8");
        let coded = [FRESH, event_stream, ("content-encoding", "gzip")];
        Exchange::get().refuses(200, &coded, RefuseReason::EventStream);
        assert!(Exchange::get().store(200, &[FRESH, event_stream]).is_ok());
        for (field, reason) in [
            (("vary", "a, *"), RefuseReason::VaryStar),
            (("content-length", "1048577"), RefuseReason::TooLarge),
        ] {
            Exchange::get().refuses(200, &[FRESH, field], reason);
        }
        let kept = [
            FRESH,
            ("content-length", "1048576"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "a/b"),
        ];
        assert!(Exchange::get().store(200, &kept).is_ok());
    }

    #[test]
    fn a_status_the_route_lists_is_stored_without_freshness() {
        let mut exchange = Exchange::get();
        exchange.rules.ttl = Ttl::ByStatus([(404, Duration::from_secs(10)), (500, Duration::ZERO)].into());
        assert_eq!(
            exchange.store(404, &[]).unwrap().life.fresh_for,
            Duration::from_secs(10)
        );
        exchange.refuses(500, &[], RefuseReason::NoFreshness);
        exchange.refuses(502, &[], RefuseReason::Status);
    }
}

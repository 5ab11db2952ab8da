//! How long a response is fresh, and how long it may be used after that (RFC 9111, section 4.2; RFC 5861).

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use super::age::{Times, initial_age};
use super::control::{Limit, ResponseControl};
use super::date::DateField;
use super::life::Life;
use crate::clock::Timestamp;
use crate::config::{Adaptive, Heuristic, RouteCache, Ttl};

/// How long past its freshness a response is used while the origin gives no answer at all, where neither the route nor
/// the origin says so. RFC 9111, section 4.2.4, sets no bound; this one outlasts a restart of the origin.
const DISCONNECTED: Duration = Duration::from_secs(60);

/// What decides the life of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged<'a> {
    pub(super) rules: &'a RouteCache,
    pub(super) method: &'a Method,
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) control: &'a ResponseControl,
    pub(super) times: Times,
}

/// Where a freshness lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The route gives it; it counts from the moment of reception.
    Route(Duration),
    /// The origin gives it; it counts from the moment the response was made.
    Origin(Duration),
    /// Nobody gives one.
    None,
}

impl Judged<'_> {
    /// The lifetime, by whoever has the first say: the route, the origin, the route's heuristic.
    pub(super) fn lifetime(&self) -> Lifetime {
        if let Some(ttl) = route_ttl(&self.rules.ttl, self.status) {
            return Lifetime::Route(ttl);
        }
        explicit(self.control, self.headers, self.times.received)
            .or_else(|| self.heuristic())
            .map_or(Lifetime::None, Lifetime::Origin)
    }

    /// The life of the response.
    ///
    /// A route's own time to live speaks for the origin: it replaces `no-cache` too, and counts from reception,
    /// however old the response was. It does not touch what forbids stale use.
    pub(super) fn life(&self, lifetime: Lifetime) -> Life {
        let age = initial_age(self.headers, self.times);
        let always_validate =
            self.control.no_cache == Limit::Whole && !matches!(lifetime, Lifetime::Route(_));
        let strict = self.control.must_revalidate || self.control.proxy_revalidate || always_validate;
        // A stored server error must never stand in for an answer.
        let window = |route: Option<Duration>, origin: Option<Duration>| {
            // `s-maxage` implies `proxy-revalidate` (RFC 9111, section 5.2.2.10), unless the origin allows the
            // stale use in the same breath.
            let forbidden = strict || (self.control.s_maxage.is_some() && origin.is_none());
            if forbidden || self.status.is_server_error() {
                Some(Duration::ZERO)
            } else {
                route.or(origin)
            }
        };
        let control = self.control;
        let stale_while_revalidate = match lifetime {
            Lifetime::None => Duration::ZERO,
            _ => {
                window(self.rules.stale_while_revalidate, control.stale_while_revalidate).unwrap_or_default()
            }
        };
        let stale_if_error = window(self.rules.stale_if_error, control.stale_if_error);
        let stale_allowed = control.stale_while_revalidate.is_some() || control.stale_if_error.is_some();
        // An `Age` may reach back before the beginning of time; what cannot be counted must not lengthen the life.
        let generated_at = self.times.received.minus(age);
        let counted = self.times.received.since(generated_at);
        let fresh_for = match lifetime {
            Lifetime::Route(ttl) => counted.saturating_add(ttl),
            Lifetime::Origin(lifetime) => lifetime.saturating_sub(age.saturating_sub(counted)),
            Lifetime::None => Duration::ZERO,
        };
        // What was never fresh here is not used without asking.
        let by_default = if fresh_for > counted {
            DISCONNECTED
        } else {
            Duration::ZERO
        };
        Life {
            generated_at,
            fresh_for,
            stale_while_revalidate,
            stale_if_error: stale_if_error.unwrap_or_default(),
            stale_if_disconnected: stale_if_error.unwrap_or(by_default),
            must_revalidate: strict || (control.s_maxage.is_some() && !stale_allowed),
            always_validate,
            adapted: match lifetime {
                Lifetime::Route(ttl) => self.adaptive().map(|_| ttl),
                _ => None,
            },
        }
    }

    /// The bounds of the life, if it follows how often the body changes.
    pub(super) fn adaptive(&self) -> Option<Adaptive> {
        match self.rules.ttl {
            Ttl::Adaptive(bounds) => route_ttl(&self.rules.ttl, self.status).map(|_| bounds),
            _ => None,
        }
    }

    /// RFC 9111, section 4.2.2: only without explicit freshness, only where the status or `public` allows it.
    fn heuristic(&self) -> Option<Duration> {
        let rule: Heuristic = self.rules.heuristic?;
        let allowed = heuristically_cacheable(self.status) || self.control.public;
        if self.method != Method::GET || !allowed {
            return None;
        }
        let modified = DateField::of(self.headers, &header::LAST_MODIFIED).valid()?;
        let made = DateField::of(self.headers, &header::DATE)
            .valid()
            .unwrap_or(self.times.received);
        let lifetime = made.since(modified).as_secs_f64() * rule.fraction;
        Some(
            Duration::try_from_secs_f64(lifetime)
                .unwrap_or_default()
                .min(rule.max),
        )
    }
}

/// Statuses that may be stored without explicit freshness (RFC 9110, section 15.1), 206 left out: parts of a
/// representation are not stored.
pub(super) fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Final statuses of RFC 9110 whose caching needs nothing special.
pub(super) fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

/// A fixed time is meant for what the route is for: final answers, not errors and temporary redirects.
pub(super) fn route_ttl(ttl: &Ttl, status: StatusCode) -> Option<Duration> {
    let final_answer = matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308);
    match ttl {
        Ttl::Origin => None,
        Ttl::Fixed(ttl) => final_answer.then_some(*ttl),
        // The first life; what follows from the entry before is `adaptive::adapt`.
        Ttl::Adaptive(bounds) => final_answer.then_some(bounds.min),
        Ttl::ByStatus(by_status) => by_status.get(&status.as_u16()).copied(),
    }
}

/// RFC 9111, section 4.2.1, for a shared cache. An invalid `Expires` is in the past (section 5.3).
fn explicit(control: &ResponseControl, headers: &HeaderMap, received: Timestamp) -> Option<Duration> {
    if let Some(lifetime) = control.s_maxage.or(control.max_age) {
        return Some(lifetime);
    }
    if control.targeted {
        return None;
    }
    match DateField::of(headers, &header::EXPIRES) {
        DateField::Absent => None,
        DateField::Invalid => Some(Duration::ZERO),
        DateField::At(expires) => {
            let made = DateField::of(headers, &header::DATE).valid().unwrap_or(received);
            Some(Duration::from_secs(
                expires.as_secs().saturating_sub(made.as_secs()),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::{headers, rules};

    const NOW: Timestamp = Timestamp::from_secs(1_600_000_000);

    fn life_of(rules: &RouteCache, status: u16, fields: &[(&str, &str)]) -> (Lifetime, Life) {
        let headers = headers(fields);
        let judged = Judged {
            rules,
            method: &Method::GET,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            control: &ResponseControl::of(&headers),
            times: Times {
                requested: NOW,
                received: NOW,
            },
        };
        let lifetime = judged.lifetime();
        (lifetime, judged.life(lifetime))
    }

    fn origin(seconds: u64) -> Lifetime {
        Lifetime::Origin(Duration::from_secs(seconds))
    }

    #[test]
    fn explicit_lifetimes() {
        // RFC 9111, sections 4.2.1 and 5.3; NOW is Sun, 13 Sep 2020 12:26:40 GMT.
        let date = ("date", "Sun, 13 Sep 2020 12:26:40 GMT");
        let ten_later = ("expires", "Sun, 13 Sep 2020 12:26:50 GMT");
        let table: [(&[(&str, &str)], Lifetime); 12] = [
            (&[], Lifetime::None),
            (&[("cache-control", "max-age=60"), ten_later], origin(60)),
            (&[("cache-control", "max-age=0"), ten_later], origin(0)),
            (&[("cache-control", "max-age=1, s-maxage=60")], origin(60)),
            (&[("cache-control", "s-maxage=1, max-age=60")], origin(1)),
            (&[date, ten_later], origin(10)),
            (&[("date", "foo"), ten_later], origin(10)),
            (&[ten_later], origin(10)),
            (&[("date", "Sun, 13 Sep 2020 12:26:55 GMT"), ten_later], origin(0)),
            (&[("expires", "0"), date], origin(0)),
            (&[("cdn-cache-control", "no-cache"), ten_later], Lifetime::None),
            (
                &[
                    ("cdn-cache-control", "max-age=9"),
                    ("cache-control", "max-age=60"),
                    ten_later,
                ],
                origin(9),
            ),
        ];
        for (fields, expected) in table {
            assert_eq!(life_of(&rules(), 200, fields).0, expected, "{fields:?}");
        }
    }

    #[test]
    fn heuristics_need_the_route_a_status_and_no_explicit_freshness() {
        // RFC 9111, section 4.2.2.
        let mut rules = rules();
        let day_old = ("last-modified", "Sat, 12 Sep 2020 12:26:40 GMT");
        assert_eq!(life_of(&rules, 200, &[day_old]).0, Lifetime::None);
        rules.heuristic = Some(Heuristic {
            fraction: 0.1,
            max: Duration::from_secs(86_400),
        });
        assert_eq!(life_of(&rules, 200, &[day_old]).0, origin(8640));
        assert_eq!(life_of(&rules, 404, &[day_old]).0, origin(8640));
        assert_eq!(life_of(&rules, 201, &[day_old]).0, Lifetime::None);
        assert_eq!(life_of(&rules, 599, &[day_old]).0, Lifetime::None);
        assert_eq!(
            life_of(&rules, 599, &[day_old, ("cache-control", "public")]).0,
            origin(8640)
        );
        assert_eq!(life_of(&rules, 200, &[day_old, ("expires", "0")]).0, origin(0));
        let ahead = ("last-modified", "Mon, 14 Sep 2020 12:26:40 GMT");
        assert_eq!(life_of(&rules, 200, &[ahead]).0, origin(0));
        rules.heuristic = Some(Heuristic {
            fraction: 1.0,
            max: Duration::from_secs(60),
        });
        assert_eq!(life_of(&rules, 200, &[day_old]).0, origin(60));
    }

    #[test]
    fn a_fixed_ttl_counts_from_reception_and_replaces_no_cache() {
        let mut rules = rules();
        rules.ttl = Ttl::Fixed(Duration::from_secs(300));
        let (lifetime, life) = life_of(
            &rules,
            200,
            &[("age", "7200"), ("cache-control", "no-cache, max-age=1")],
        );
        assert_eq!(lifetime, Lifetime::Route(Duration::from_secs(300)));
        assert_eq!(life.fresh_until(), NOW.plus(Duration::from_secs(300)));
        assert_eq!(life.age(NOW), Duration::from_secs(7200));
        assert!(!life.always_validate);
        for status in [206, 302, 404, 500] {
            assert_eq!(life_of(&rules, status, &[]).0, Lifetime::None, "{status}");
        }
    }

    #[test]
    fn a_ttl_by_status_leaves_the_others_to_the_origin() {
        let mut rules = rules();
        rules.ttl = Ttl::ByStatus([(404, Duration::from_secs(10))].into());
        assert_eq!(
            life_of(&rules, 404, &[]).0,
            Lifetime::Route(Duration::from_secs(10))
        );
        assert_eq!(
            life_of(&rules, 200, &[("cache-control", "max-age=7")]).0,
            origin(7)
        );
    }

    #[test]
    fn windows_of_stale_use() {
        // RFC 5861; RFC 9111, sections 4.2.4 and 5.2.2.10. Columns: origin, route's windows, expected windows in
        // seconds, whether nothing stale may be served.
        let table = [
            ("max-age=1", None, (0, 0), false),
            (
                "max-age=1, stale-while-revalidate=5, stale-if-error=9",
                None,
                (5, 9),
                false,
            ),
            ("max-age=1, stale-while-revalidate=5", Some(30), (30, 30), false),
            (
                "max-age=1, must-revalidate, stale-if-error=9",
                Some(30),
                (0, 0),
                true,
            ),
            ("max-age=1, proxy-revalidate", Some(30), (0, 0), true),
            ("max-age=1, no-cache", Some(30), (0, 0), true),
            ("s-maxage=1", Some(30), (0, 0), true),
            ("s-maxage=1, stale-while-revalidate=5", Some(30), (30, 0), false),
            ("public", Some(30), (0, 30), false),
        ];
        for (control, route, (while_revalidate, if_error), strict) in table {
            let mut rules = rules();
            rules.stale_while_revalidate = route.map(Duration::from_secs);
            rules.stale_if_error = rules.stale_while_revalidate;
            let life = life_of(&rules, 200, &[("cache-control", control)]).1;
            assert_eq!(
                life.stale_while_revalidate,
                Duration::from_secs(while_revalidate),
                "{control}"
            );
            assert_eq!(life.stale_if_error, Duration::from_secs(if_error), "{control}");
            assert_eq!(life.must_revalidate, strict, "{control}");
            let error = life_of(&rules, 503, &[("cache-control", control)]).1;
            assert_eq!(error.stale_if_error, Duration::ZERO, "{control}");
        }
    }

    #[test]
    fn how_long_a_response_outlasts_the_origin() {
        // RFC 9111, section 4.2.4. Columns: status, origin, route's window, expected seconds.
        let table = [
            (200, "max-age=1", None, 60),
            (404, "max-age=1", None, 60),
            (200, "max-age=1, stale-if-error=9", None, 9),
            (200, "max-age=1, stale-if-error=0", None, 0),
            (200, "max-age=1", Some(30), 30),
            (200, "max-age=1", Some(0), 0),
            (200, "max-age=1, must-revalidate", None, 0),
            (200, "max-age=1, proxy-revalidate", None, 0),
            (200, "max-age=1, no-cache", Some(30), 0),
            (200, "max-age=1, s-maxage=1", None, 0),
            // It was never fresh.
            (200, "max-age=0", None, 0),
            (200, "public", None, 0),
            (503, "max-age=1", None, 0),
        ];
        for (status, control, route, expected) in table {
            let mut rules = rules();
            rules.stale_if_error = route.map(Duration::from_secs);
            let life = life_of(&rules, status, &[("cache-control", control)]).1;
            assert_eq!(
                life.stale_if_disconnected,
                Duration::from_secs(expected),
                "{status} {control}"
            );
        }
        let aged = [("cache-control", "max-age=60"), ("age", "60")];
        assert_eq!(
            life_of(&rules(), 200, &aged).1.stale_if_disconnected,
            Duration::ZERO
        );
    }

    #[test]
    fn an_age_from_before_the_beginning_of_time_lengthens_no_life() {
        let rules_with_ttl = RouteCache {
            ttl: Ttl::Fixed(Duration::from_secs(60)),
            ..rules()
        };
        let aged = [("age", "2147483648"), ("cache-control", "max-age=2147483648")];
        let (_, life) = life_of(&rules_with_ttl, 200, &aged);
        assert_eq!(life.fresh_until(), NOW.plus(Duration::from_secs(60)));
        let (_, life) = life_of(&rules(), 200, &aged);
        assert_eq!(life.fresh_until(), NOW);
    }
}

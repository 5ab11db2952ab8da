//! The age of a response when it arrived (RFC 9111, section 4.2.3).

use std::time::Duration;

use http::{HeaderMap, header};

use super::date::DateField;
use super::directive::delta_seconds;
use super::list::{Quotes, members};
use crate::clock::Timestamp;

/// When an exchange with the origin took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the request was sent.
    pub requested: Timestamp,
    /// When the head of the response had arrived.
    pub received: Timestamp,
}

/// Corrected initial age: the greater of what `Date` and what `Age` and the delay of the exchange tell.
///
/// The apparent age counts in whole seconds, as `Date` does; else each response would seem up to a second old.
pub fn initial_age(headers: &HeaderMap, times: Times) -> Duration {
    let apparent = match DateField::of(headers, &header::DATE).valid() {
        Some(date) => Duration::from_secs(times.received.as_secs().saturating_sub(date.as_secs())),
        None => Duration::ZERO,
    };
    let corrected = age_field(headers).saturating_add(times.received.since(times.requested));
    apparent.max(corrected)
}

/// The first member of the first `Age` line that has one; zero when it is not a number (RFC 9111, section 5.1).
fn age_field(headers: &HeaderMap) -> Duration {
    headers
        .get_all(header::AGE)
        .into_iter()
        .flat_map(|line| members(line.as_bytes(), Quotes::Escaped))
        .next()
        .and_then(delta_seconds)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::date;
    use crate::cache::fixture::headers;
    use crate::cache::life::Life;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const AT_ONCE: Times = Times {
        requested: NOW,
        received: NOW,
    };

    #[test]
    fn age_lines() {
        // RFC 9111, section 5.1; the names of the public caching suite's `age-parse`.
        let table: [(&[&str], u64); 12] = [
            (&[], 0),
            (&["7200"], 7200),
            (&["abc"], 0),
            (&["-7200"], 0),
            (&["7200.0"], 0),
            (&["2147483649"], 1 << 31),
            (&["7200, 0"], 7200),
            (&["0, 7200"], 0),
            (&["7200", "0"], 7200),
            (&["0", "7200"], 0),
            (&["", ", 9"], 9),
            (&["7200;foo=bar"], 0),
        ];
        for (lines, expected) in table {
            let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("age", *line)).collect();
            assert_eq!(
                initial_age(&headers(&fields), AT_ONCE),
                Duration::from_secs(expected),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn the_greater_of_apparent_and_corrected_age() {
        let times = Times {
            requested: NOW.minus(Duration::from_millis(1500)),
            received: NOW.plus(Duration::from_millis(900)),
        };
        let mut fields = HeaderMap::new();
        assert_eq!(initial_age(&fields, times), Duration::from_millis(2400));
        fields.insert(header::DATE, date::format(NOW.minus(Duration::from_secs(7200))));
        assert_eq!(initial_age(&fields, times), Duration::from_secs(7200));
        fields.insert(header::DATE, date::format(NOW.plus(Duration::from_secs(50))));
        assert_eq!(initial_age(&fields, times), Duration::from_millis(2400));
        fields.insert(header::DATE, http::HeaderValue::from_static("foo"));
        assert_eq!(initial_age(&fields, times), Duration::from_millis(2400));
    }

    proptest! {
        #[test]
        fn an_age_is_never_negative_and_never_panics(
            age in "[ -~]{0,24}", date in "[ -~]{0,32}", requested: u64, received: u64,
        ) {
            let times = Times {
                requested: Timestamp::from_micros(requested),
                received: Timestamp::from_micros(received),
            };
            let found = initial_age(&headers(&[("age", &age), ("date", &date)]), times);
            prop_assert!(times.received.minus(found) <= times.received);
            prop_assert!(found >= times.received.since(times.requested));
        }

        /// RFC 9111, section 4.2.3. Whoever had the response before says in whole seconds how long; the origin's clock
        /// says anything; and ours may go back.
        #[test]
        fn an_age_is_never_smaller_than_reality(
            held in 0..1_u64 << 50,
            skew in prop_oneof![-100_000_000..100_000_000_i64, any::<i64>()],
            received in prop_oneof![1_600_000_000_000_000..1_700_000_000_000_000_u64, any::<u64>()],
            delay in 0..100_000_000_u64,
            on_the_way in 0.0..=1.0,
            later in prop_oneof![0..1_u64 << 40, any::<u64>()],
        ) {
            let received = Timestamp::from_micros(received);
            let requested = received.minus(Duration::from_micros(delay));
            let times = Times { requested, received };
            let age = (held / 1_000_000).to_string();
            let date = Timestamp::from_secs(received.as_secs().saturating_add_signed(skew).min(253_402_300_799));
            let mut fields = headers(&[("age", &age)]);
            fields.insert(header::DATE, date::format(date));
            let life = Life::over(received.minus(initial_age(&fields, times)));
            let arrived = Duration::from_micros(held) + times.received.since(requested).mul_f64(on_the_way);
            // Nothing is older than the beginning of time, and no second is told in parts.
            let real = |now: Timestamp| (arrived + now.since(received)).min(now.since(Timestamp::default()));
            let now = received.plus(Duration::from_micros(later));
            prop_assert!(life.age(now) + Duration::from_secs(1) > real(now), "{:?} < {:?}", life.age(now), real(now));
            let before = received.minus(Duration::from_micros(later));
            prop_assert!(life.age(before) <= life.age(received));
            prop_assert!(life.age(received) <= life.age(now));
        }
    }
}

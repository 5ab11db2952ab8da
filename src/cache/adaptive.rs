//! Adaptive time to live: the life of an entry follows how often its body changes.

use std::time::Duration;

use super::entry::Entry;
use super::life::Life;
use super::policy::Stored;
use crate::config::Adaptive;

/// The life of a response that takes the place of `previous`, or confirms it; `unchanged` tells whether the body is
/// still the same, and is asked only where that decides. `stored.life` is the life of a response without a
/// predecessor.
pub(super) fn adapt(
    stored: &Stored,
    previous: Option<&Entry>,
    unchanged: impl FnOnce(&Entry) -> bool,
) -> Life {
    let life = stored.life;
    let last = previous.and_then(|entry| Some((entry, entry.life().adapted?)));
    let (Some(bounds), Some(first), Some((entry, last))) = (stored.adaptive, life.adapted, last) else {
        return life;
    };
    let next = next(bounds, last, unchanged(entry));
    Life {
        fresh_for: life.fresh_for.saturating_sub(first).saturating_add(next),
        adapted: Some(next),
        ..life
    }
}

/// The next time to live: half as much again after a check that found the same body, half of it after one that found
/// another. Slow up and fast down, so that what begins to change is noticed soon.
fn next(bounds: Adaptive, last: Duration, unchanged: bool) -> Duration {
    let half = last / 2;
    let next = if unchanged {
        last.saturating_add(half)
    } else {
        half
    };
    next.min(bounds.max).max(bounds.min)
}

#[cfg(test)]
mod tests {
    use super::super::entry::sample;
    use super::*;

    const BOUNDS: Adaptive = Adaptive {
        min: Duration::from_secs(10),
        max: Duration::from_secs(60),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_life_grows_by_half_and_halves_within_its_bounds() {
        let table = [
            (10, true, 15),
            (20, true, 30),
            (40, true, 60),
            (50, true, 60),
            (60, true, 60),
            (60, false, 30),
            (30, false, 15),
            (15, false, 10),
            (10, false, 10),
            // The bounds have changed since.
            (1, true, 10),
            (1000, false, 60),
        ];
        for (last, unchanged, expected) in table {
            assert_eq!(
                next(BOUNDS, seconds(last), unchanged),
                seconds(expected),
                "{last} {unchanged}"
            );
        }
        assert_eq!(next(BOUNDS, Duration::MAX, true), BOUNDS.max);
    }

    fn stored(adapted: Option<u64>) -> Stored {
        Stored {
            life: Life {
                // Its age was 7 s when it came.
                fresh_for: seconds(7 + adapted.unwrap_or(10)),
                adapted: adapted.map(seconds),
                ..sample::life()
            },
            public: false,
            strip: Vec::new(),
            adaptive: adapted.map(|_| BOUNDS),
        }
    }

    #[test]
    fn a_life_follows_from_the_entry_before() {
        let mut life = stored(Some(10)).life;
        let mut lives = Vec::new();
        for unchanged in [true, true, false, false, false] {
            let before = sample::entry_with_life("a:GET h/", life);
            life = adapt(&stored(Some(10)), Some(&before), |_| unchanged);
            assert_eq!(life.fresh_for, life.adapted.unwrap() + seconds(7));
            lives.push(life.adapted.unwrap().as_millis());
        }
        assert_eq!(lives, [15_000, 22_500, 11_250, 10_000, 10_000]);
    }

    #[test]
    fn without_a_predecessor_of_its_kind_it_begins_at_the_shortest() {
        let unasked = |_: &Entry| panic!("nothing to compare with");
        let first = stored(Some(10));
        assert_eq!(adapt(&first, None, unasked), first.life);
        let other = sample::entry("a:GET h/", &[], 0);
        assert_eq!(adapt(&first, Some(&other), unasked), first.life);
        // The route no longer adapts, or not for this status.
        let before = sample::entry_with_life("a:GET h/", first.life);
        let fixed = stored(None);
        assert_eq!(adapt(&fixed, Some(&before), unasked), fixed.life);
    }
}

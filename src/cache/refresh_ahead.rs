//! Refresh of popular entries before they expire: XFetch, after Vattani, Chierichetti, Lowenstein, "Optimal
//! Probabilistic Cache Stampede Prevention", VLDB 2015.

use std::time::Duration;

use super::life::Life;
use crate::clock::Timestamp;

/// Whether the request at `now`, which the entry answers, shall also start its refresh: `now - delta * beta *
/// ln(random)` has reached the end of freshness. `delta` is how long the last fetch took; `random` is above 0 and at
/// most 1, evenly spread.
///
/// The gap before the end is exponentially distributed, which is what keeps requests that do not know of each other
/// from starting together (section 3 of the paper).
pub fn is_due(life: &Life, delta: Duration, beta: f64, now: Timestamp, random: f64) -> bool {
    let left = life.fresh_until().since(now);
    let gap = delta.as_secs_f64() * beta * -random.ln();
    gap >= left.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::super::entry::sample;
    use super::*;

    /// The number drawn for which the gap is `times` times delta and beta.
    fn drawn(times: f64) -> f64 {
        (-times).exp()
    }

    #[test]
    fn an_entry_is_due_the_sooner_the_longer_its_fetch_took() {
        // Fresh until second 60. Columns: delta in ms, beta, now, the random number, whether it is due.
        let table = [
            (1_000, 1.0, 58, drawn(1.9), false),
            (1_000, 1.0, 58, drawn(2.1), true),
            (2_000, 1.0, 58, drawn(1.1), true),
            (500, 1.0, 58, drawn(2.1), false),
            (1_000, 2.0, 58, drawn(1.1), true),
            (1_000, 0.5, 58, drawn(2.1), false),
            (1_000, 1.0, 0, drawn(59.9), false),
            (1_000, 1.0, 0, drawn(60.1), true),
            // The greatest number gives no gap at all.
            (1_000, 1.0, 59, 1.0, false),
            (1_000, 1.0, 60, 1.0, true),
            // What took no time can be fetched when it is needed.
            (0, 1000.0, 59, f64::MIN_POSITIVE, false),
        ];
        for (delta, beta, now, random, expected) in table {
            let (delta, now) = (Duration::from_millis(delta), Timestamp::from_secs(now));
            assert_eq!(
                is_due(&sample::life(), delta, beta, now, random),
                expected,
                "{delta:?} {beta} {now:?} {random}"
            );
        }
    }

    #[test]
    fn no_number_is_trouble() {
        let due = |delta, random| is_due(&sample::life(), delta, 1.0, Timestamp::from_secs(1), random);
        assert!(due(Duration::MAX, 0.5) && due(Duration::from_secs(1), 0.0));
        assert!(!due(Duration::ZERO, 0.0) && !due(Duration::ZERO, f64::NAN));
    }
}

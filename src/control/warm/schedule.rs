//! Running something again and again.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::config::values::ScheduleText;

/// Calls `run` at every moment that `schedule` names, with the time until the next one. What was missed, because the
/// machine slept, is not made up for.
pub(super) async fn repeat(clock: &Clock, schedule: &ScheduleText, mut run: impl FnMut(Timestamp, Duration)) {
    let mut now = clock.now();
    while let Some(next) = schedule.next_after(now) {
        tokio::time::sleep(next.since(clock.now())).await;
        let after = schedule.next_after(next);
        run(next, after.map_or(Duration::ZERO, |after| after.since(next)));
        now = next.max(clock.now());
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config::scalar::Scalar;

    #[tokio::test(start_paused = true)]
    async fn it_runs_when_the_schedule_says_so() {
        // 2023-11-14 22:13:20.
        let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
        let schedule = ScheduleText::parse("*/10 * * * *").unwrap();
        let (began, mut runs) = (Instant::now(), Vec::new());
        let repeated = repeat(&clock, &schedule, |at, until_next| {
            clock.advance(at.since(clock.now()));
            runs.push((at.as_secs(), began.elapsed().as_secs(), until_next.as_secs()));
            if runs.len() == 3 {
                // The machine sleeps through two runs.
                clock.advance(Duration::from_secs(1_500));
            }
        });
        drop(tokio::time::timeout(Duration::from_secs(2_500), repeated).await);
        let at = |secs: u64| 1_700_000_000 + secs;
        let expected = [
            (at(400), 400, 600),
            (at(1_000), 1_000, 600),
            (at(1_600), 1_600, 600),
            (at(3_400), 1_900, 600),
        ];
        assert_eq!(
            runs,
            [&expected[..], &[(at(4_000), 2_500, 600)]].concat()[..runs.len()]
        );
        assert!(runs.len() >= expected.len());
    }
}

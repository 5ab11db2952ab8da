//! Cron expressions.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp as Moment;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::config::scalar::{Refusal, Scalar};

/// Bytes of an expression as it is written.
const MAX_EXPRESSION: usize = 256;

/// A cron expression of five fields, in UTC; two are equal if they are written alike.
#[derive(Clone, Debug)]
pub struct ScheduleText {
    written: String,
    cron: Cron,
}

impl ScheduleText {
    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The first moment after `now` that it names, in whole seconds; none if there is none.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let seconds = i64::try_from(now.as_secs()).ok()?;
        let now = Moment::from_second(seconds).ok()?.to_zoned(TimeZone::UTC);
        let next = self.cron.find_next_occurrence(&now, false).ok()?;
        u64::try_from(next.timestamp().as_second())
            .ok()
            .map(Timestamp::from_secs)
    }
}

impl PartialEq for ScheduleText {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Scalar for ScheduleText {
    const NAME: &'static str = "cron expression";
    const EXAMPLE: &'static str = "*/10 * * * *";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let hint = "minute, hour, day of the month, month, day of the week, in UTC: `*/10 * * * *`";
        if text.len() > MAX_EXPRESSION {
            return Err(Refusal::new("the cron expression is too long").hint(hint));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| {
            Refusal::new(format!(
                "`{}` is not a cron expression: {error}",
                text.escape_debug()
            ))
            .hint(hint)
        })?;
        let schedule = Self {
            written: text.to_owned(),
            cron,
        };
        // One year of thought about a 31st of February is enough.
        match schedule.next_after(Timestamp::from_secs(1_767_225_600)) {
            Some(_) => Ok(schedule),
            None => Err(Refusal::new(format!("`{text}` names no moment")).hint(hint)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::tests::hint;

    #[test]
    fn schedules_name_moments_in_utc() {
        let next = |text: &str, now: u64| {
            let schedule = ScheduleText::parse(text).unwrap();
            schedule.next_after(Timestamp::from_secs(now)).unwrap().as_secs()
        };
        // 2023-11-14 22:13:20, a Tuesday.
        let now = 1_700_000_000;
        assert_eq!(next("*/10 * * * *", now), 1_700_000_400);
        assert_eq!(next("*/10 * * * *", 1_700_000_400), 1_700_001_000);
        assert_eq!(next("0 6 * * MON", now), 1_700_460_000);
        assert_eq!(next("@hourly", now), 1_700_002_800);
        // A leap day.
        assert_eq!(next("0 0 29 2 *", now), 1_709_164_800);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "*",
            "* * * *",
            "* * * * * *",
            "61 * * * *",
            "0 0 31 2 *",
            "every hour",
        ] {
            assert!(hint::<ScheduleText>(text).starts_with("minute, hour"), "{text}");
        }
    }
}

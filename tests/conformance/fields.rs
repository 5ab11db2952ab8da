//! Header fields as the suite writes them: dates by seconds from now, locations by name.

use std::time::Duration;

use http::HeaderMap;
use outrigger::cache::date;
use outrigger::clock::Timestamp;

use super::cases::{Magic, Step};

const DATES: [&str; 5] = [
    "date",
    "expires",
    "last-modified",
    "if-modified-since",
    "if-unmodified-since",
];

/// What relative values count from: what the origin says in the response, or is about to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base<'a> {
    /// Milliseconds of the Unix epoch.
    pub(super) now: i64,
    /// The target that the origin saw.
    pub(super) target: &'a str,
}

impl Base<'_> {
    /// The value that a field is sent or expected with.
    pub(super) fn value(self, name: &str, value: &Magic, step: &Step) -> String {
        let name = name.to_ascii_lowercase();
        match value {
            Magic::Seconds(seconds) if DATES.contains(&name.as_str()) => {
                let rfc850 = step.rfc850date.contains(&name);
                self.date(*seconds, rfc850)
            }
            Magic::Seconds(number) => number.to_string(),
            Magic::Text(text)
                if step.magic_locations && ["location", "content-location"].contains(&&*name) =>
            {
                match text.as_str() {
                    "" => self.target.to_owned(),
                    below => format!("{}/{below}", self.target),
                }
            }
            Magic::Text(text) => text.clone(),
        }
    }

    fn date(self, seconds: i64, rfc850: bool) -> String {
        let at = (self.now + seconds * 1000).div_euclid(1000);
        let at = Timestamp::from_secs(u64::try_from(at).expect("a date after 1970"));
        let text = date::format(at);
        let text = text.to_str().expect("a readable date");
        if !rfc850 {
            return text.to_owned();
        }
        // `Sun, 06 Nov 1994 08:49:37 GMT` as `Sunday, 06-Nov-94 08:49:37 GMT`.
        let days = [
            "Sunday",
            "Monday",
            "Tuesday",
            "Wednesday",
            "Thursday",
            "Friday",
            "Saturday",
        ];
        let day = days
            .iter()
            .find(|day| day.starts_with(&text[..3]))
            .expect("a weekday");
        format!(
            "{day}, {}-{}-{} {}",
            &text[5..7],
            &text[8..11],
            &text[14..16],
            &text[17..]
        )
    }
}

/// Milliseconds of the Unix epoch.
pub(super) fn millis(at: Timestamp) -> i64 {
    let since = at.since(Timestamp::from_secs(0));
    i64::try_from(Duration::as_millis(&since)).expect("a time in our age")
}

/// The lines of a field as one value; none if it is absent.
pub(super) fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()))
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// The number that a value begins with.
pub(super) fn leading_number(value: &str) -> Option<i64> {
    let digits = value.trim_start();
    let end = digits
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

//! Quantities as they are written: durations, sizes, rates and shares.

use std::time::Duration;

use super::scalar::{Refusal, Scalar};

/// The longest duration that is accepted, ten years, so that adding one to a time cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

const TIME_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

/// Events per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frequency(pub f64);

/// A share, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

/// A size in bytes, or a share of the memory that the process may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// Bytes.
    Bytes(u64),
    /// A share, above 0 up to 1.
    Share(f64),
}

/// A quantity other than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positive<T>(pub T);

/// Quantities that can be zero.
pub trait Zero {
    /// Whether this is zero.
    fn is_zero(&self) -> bool;
}

impl Zero for Duration {
    fn is_zero(&self) -> bool {
        self.is_zero()
    }
}

impl Zero for Size {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl<T: Scalar + Zero> Scalar for Positive<T> {
    const NAME: &'static str = T::NAME;
    const EXAMPLE: &'static str = T::EXAMPLE;
    const TYPES: &'static [&'static str] = T::TYPES;
    const NUMBERS: bool = T::NUMBERS;

    fn parse(text: &str) -> Result<Self, Refusal> {
        let value = T::parse(text)?;
        if value.is_zero() {
            return Err(Refusal::new(format!("the {} must be more than zero", T::NAME)));
        }
        Ok(Self(value))
    }
}

impl Scalar for Duration {
    const NAME: &'static str = "duration";
    const EXAMPLE: &'static str = "1h30m";
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = || {
            let refusal = Refusal::new(format!("`{text}` is not a duration"));
            match text.parse::<f64>() {
                Ok(_) => refusal.hint(format!("say the unit: `{text}s`, `{text}ms`, `{text}m`")),
                Err(_) => refusal.hint("whole numbers with d, h, m, s or ms: `30s`, `500ms`, `1h30m`"),
            }
        };
        let mut nanoseconds = 0_u64;
        let mut rest = text;
        let mut smaller_than = u64::MAX;
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest).ok_or_else(invalid)?;
            let unit = unit_of(unit, &TIME_UNITS).ok_or_else(invalid)?;
            if unit >= smaller_than {
                return Err(invalid());
            }
            smaller_than = unit;
            nanoseconds = number
                .checked_mul(unit)
                .and_then(|part| part.checked_add(nanoseconds))
                .ok_or_else(too_long)?;
            rest = after;
        }
        let duration = Duration::from_nanos(nanoseconds);
        match smaller_than {
            u64::MAX => Err(invalid()),
            _ if duration > MAX_DURATION => Err(too_long()),
            _ => Ok(duration),
        }
    }
}

fn too_long() -> Refusal {
    Refusal::new("the duration is longer than ten years")
}

impl Scalar for Size {
    const NAME: &'static str = "size";
    const EXAMPLE: &'static str = "64MiB";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = || {
            let refusal = Refusal::new(format!("`{text}` is not a size"));
            match number_and_unit(text) {
                Some((number, unit, "")) if !unit.is_empty() => match size_unit_meant(unit) {
                    Some(meant) => refusal.hint(format!("did you mean `{number}{meant}`?")),
                    None => refusal.hint("units are B, KiB, MiB, GiB, TiB, KB, MB, GB, TB"),
                },
                _ => refusal.hint("whole bytes, or a whole number with a unit: `64MiB`, `10MB`"),
            }
        };
        let (number, unit, rest) = number_and_unit(text).ok_or_else(invalid)?;
        let unit = match unit {
            "" => Some(1),
            unit => unit_of(unit, &SIZE_UNITS),
        };
        match (unit, rest) {
            (Some(unit), "") => number
                .checked_mul(unit)
                .filter(|bytes| *bytes <= 1 << 50)
                .map(Self)
                .ok_or_else(|| Refusal::new("the size is more than 1024 TiB")),
            _ => Err(invalid()),
        }
    }
}

/// `64Mi`, `64M`, `64mb`: habits from elsewhere.
fn size_unit_meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "t" | "ti" | "tib" => Some("TiB"),
        "g" | "gi" | "gib" => Some("GiB"),
        "m" | "mi" | "mib" => Some("MiB"),
        "k" | "ki" | "kib" => Some("KiB"),
        "tb" => Some("TB"),
        "gb" => Some("GB"),
        "mb" => Some("MB"),
        "kb" => Some("KB"),
        "b" | "byte" | "bytes" => Some("B"),
        _ => None,
    }
}

impl Scalar for Rate {
    const NAME: &'static str = "rate";
    const EXAMPLE: &'static str = "500B/s";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        Size::parse(text.strip_suffix("/s").unwrap_or(text))
            .map(|size| Self(size.0))
            .map_err(|_| {
                Refusal::new(format!("`{text}` is not a rate")).hint("bytes per second: `500B/s`, `1KiB/s`")
            })
    }
}

impl Scalar for Frequency {
    const NAME: &'static str = "frequency";
    const EXAMPLE: &'static str = "20/s";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let seconds = |unit| match unit {
            "s" => Some(1.0),
            "m" => Some(60.0),
            "h" => Some(3600.0),
            _ => None,
        };
        text.split_once('/')
            .and_then(|(number, unit)| Some(number.parse::<u32>().ok().map(f64::from)? / seconds(unit)?))
            .map(Self)
            .ok_or_else(|| Refusal::new(format!("`{text}` is not a frequency")).hint("like `20/s`, `100/m`"))
    }
}

impl Scalar for Share {
    const NAME: &'static str = "share";
    const EXAMPLE: &'static str = "20%";
    const TYPES: &'static [&'static str] = &["string", "number"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        let value = match text.strip_suffix('%') {
            Some(percent) => decimal(percent).map(|percent| percent / 100.0),
            None => decimal(text),
        };
        match value {
            Some(value) if (0.0..=1.0).contains(&value) => Ok(Self(value)),
            Some(_) => Err(Refusal::new(format!("`{text}` is more than the whole"))
                .hint("a share is `0%` to `100%`, or a fraction from 0 to 1")),
            None => Err(Refusal::new(format!("`{text}` is not a share")).hint("like `20%` or `0.2`")),
        }
    }
}

impl Scalar for Capacity {
    const NAME: &'static str = "size or share";
    const EXAMPLE: &'static str = "256MiB";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        if !text.ends_with('%') {
            return Size::parse(text).map(|size| Self::Bytes(size.0));
        }
        let share = Share::parse(text)?.0;
        if share <= 0.0 {
            return Err(Refusal::new("the share must be more than zero"));
        }
        Ok(Self::Share(share))
    }
}

/// Writes a duration as [`Duration::parse`] reads it.
pub(super) fn format_duration(duration: Duration) -> String {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    // One unit where one does: `90s`, not `1m30s`.
    let unit = TIME_UNITS
        .iter()
        .find(|(_, unit)| nanoseconds.is_multiple_of(*unit));
    let (name, unit) = unit.copied().unwrap_or(("ns", 1));
    format!("{}{name}", nanoseconds / unit)
}

/// Writes a size as [`Size::parse`] reads it.
pub(super) fn format_size(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(*unit);
    let (name, unit) = SIZE_UNITS.iter().find(whole).copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

/// Splits `30s...` into 30, `s` and the rest.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, rest))
}

fn unit_of(name: &str, units: &[(&str, u64)]) -> Option<u64> {
    units
        .iter()
        .find(|(unit, _)| *unit == name)
        .map(|(_, factor)| *factor)
}

/// A plain decimal number: no sign, exponent, infinity or NaN.
fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("5m", 300_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(
                Duration::parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "30",
            "1.5s",
            "-1s",
            "1m1h",
            "1s1s",
            "30 s",
            "1y",
            "99999999999999d",
        ] {
            Duration::parse(text).unwrap_err();
        }
        let hint = Duration::parse("300").unwrap_err().hint.unwrap();
        assert!(hint.starts_with("say the unit: `300s`"), "{hint}");
        assert_eq!(Duration::parse("4000d").unwrap_err(), too_long());
    }

    #[test]
    fn sizes_and_rates() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1KiB", 1024),
            ("10MB", 10_000_000),
            ("17", 17),
            ("5B", 5),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1MiB2", "9999999TiB"] {
            Size::parse(text).unwrap_err();
        }
        assert_eq!(
            Size::parse("64Mi").unwrap_err().hint.unwrap(),
            "did you mean `64MiB`?"
        );
        assert_eq!(Rate::parse("500B/s"), Ok(Rate(500)));
        assert_eq!(Rate::parse("1KiB/s"), Ok(Rate(1024)));
        Rate::parse("5/m").unwrap_err();
        assert_eq!(Frequency::parse("120/m"), Ok(Frequency(2.0)));
    }

    #[test]
    fn shares() {
        assert_eq!(Share::parse("20%"), Ok(Share(0.2)));
        assert_eq!(Share::parse("0.5"), Ok(Share(0.5)));
        assert_eq!(Share::parse("1"), Ok(Share(1.0)));
        for text in ["101%", "2", "-1", "inf", "NaN", "1e-1", "%", ""] {
            Share::parse(text).unwrap_err();
        }
        assert_eq!(Capacity::parse("25%"), Ok(Capacity::Share(0.25)));
        assert_eq!(Capacity::parse("1KiB"), Ok(Capacity::Bytes(1024)));
        Capacity::parse("0%").unwrap_err();
        Positive::<Size>::parse("0").unwrap_err();
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for milliseconds in [0, 1, 999, 1000, 90_000, 3_600_000, 86_400_000, 86_400_001] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(Duration::parse(&format_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1000, 1024, 1025, 10_000_000, 64 << 20, 3 << 40] {
            assert_eq!(Size::parse(&format_size(bytes)), Ok(Size(bytes)));
        }
        assert_eq!(format_duration(Duration::from_secs(75)), "75s");
        assert_eq!(format_size(2 << 20), "2MiB");
    }
}

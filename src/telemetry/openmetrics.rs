//! Reads the OpenMetrics text that this process writes, for an exporter that needs values instead of text.
//!
//! It reads what prometheus-client writes and nothing more: the series of a family come one after the other, and all
//! samples of one histogram stand together.

/// One metric and its series.
#[derive(Debug, PartialEq)]
pub(super) struct Family<'a> {
    /// Its name, without the suffixes of its samples.
    pub(super) name: &'a str,
    /// What it says.
    pub(super) help: &'a str,
    /// Whether it only rises.
    pub(super) is_counter: bool,
    /// Its series.
    pub(super) series: Vec<Series>,
}

/// Names and values, in the order in which they were written.
type Labels = Vec<(String, String)>;

/// One series.
#[derive(Debug, PartialEq)]
pub(super) struct Series {
    /// What tells it from the others.
    pub(super) labels: Labels,
    /// Its value.
    pub(super) value: Value,
}

/// The value of a series.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram(Buckets),
}

/// A histogram.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Buckets {
    /// Upper bounds; the last bucket has none.
    pub(super) bounds: Vec<f64>,
    /// Observations in each bucket, one more than there are bounds.
    pub(super) counts: Vec<u64>,
    /// All observations added up.
    pub(super) sum: f64,
    /// How many.
    pub(super) count: u64,
}

/// The families of a text. Lines that cannot be read are passed over: what they tell is missing, never wrong.
pub(super) fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut kind = "";
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            if let Some(family) = families.last_mut() {
                take_sample(family, kind, line);
            }
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(what), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let rest = words.next().unwrap_or_default();
        if families.last().is_none_or(|family| family.name != name) {
            families.push(Family {
                name,
                help: "",
                is_counter: false,
                series: Vec::new(),
            });
        }
        let Some(family) = families.last_mut() else {
            continue;
        };
        match what {
            "HELP" => family.help = rest,
            "TYPE" => {
                kind = rest;
                family.is_counter = rest == "counter";
            }
            _ => {}
        }
    }
    families
}

fn take_sample(family: &mut Family<'_>, kind: &str, line: &str) {
    let Some((suffix, mut labels, number)) = sample(family.name, line) else {
        return;
    };
    if kind != "histogram" {
        let value = Value::Number(number);
        family.series.push(Series { labels, value });
        return;
    }
    let bound = labels.iter().position(|(name, _)| name == "le");
    let bound: Option<f64> = bound.and_then(|at| labels.remove(at).1.parse().ok());
    if family.series.last().is_none_or(|last| last.labels != labels) {
        let value = Value::Histogram(Buckets::default());
        family.series.push(Series { labels, value });
    }
    let Some(Series {
        value: Value::Histogram(buckets),
        ..
    }) = family.series.last_mut()
    else {
        return;
    };
    match (suffix, bound) {
        ("_sum", None) => buckets.sum = number,
        ("_count", None) => buckets.count = whole(number),
        ("_bucket", Some(bound)) => {
            // They are written as sums of themselves and all before.
            let before: u64 = buckets.counts.iter().sum();
            buckets.counts.push(whole(number).saturating_sub(before));
            if f64::is_finite(bound) {
                buckets.bounds.push(bound);
            }
        }
        _ => {}
    }
}

/// What follows the family's name, the labels, and the value of a line.
fn sample<'a>(family: &str, line: &'a str) -> Option<(&'a str, Labels, f64)> {
    let after = line.strip_prefix(family)?;
    let suffix_end = after.find(['{', ' '])?;
    let (suffix, rest) = after.split_at(suffix_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest)?,
        None => (Vec::new(), rest),
    };
    // An exemplar may follow.
    let number = rest.split_whitespace().next()?.parse().ok()?;
    Some((suffix, labels, number))
}

/// The labels up to the closing brace, and what is behind it.
fn read_labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut octets = after.char_indices();
        let end = loop {
            match octets.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => match octets.next()? {
                    (_, 'n') => value.push('\n'),
                    (_, other) => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = after.get(end..)?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// A count as a whole number; the text has it as a float where it was one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole and not negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn counters_gauges_and_histograms_are_read() {
        let text = "# HELP hits Hits \\ of all.\n# TYPE hits counter\n\
                    hits_total{route=\"a,b\\\"}\\\\\\n\",level=\"\"} 7\nhits_total 3\n\
                    # HELP size_bytes Size.\n# TYPE size_bytes gauge\nsize_bytes 1.5\n\
                    # HELP took Time.\n# TYPE took histogram\n\
                    took_sum{route=\"x\"} 2.5\ntook_count{route=\"x\"} 6\ntook_bucket{route=\"x\",le=\"0.1\"} 1\n\
                    took_bucket{le=\"1.0\",route=\"x\"} 4 # {trace_id=\"0a\"} 0.4\ntook_bucket{route=\"x\",le=\"+Inf\"} 6\n\
                    took_sum{route=\"y\"} 0\ntook_count{route=\"y\"} 0\ntook_bucket{route=\"y\",le=\"+Inf\"} 0\n# EOF\n";
        let found = families(text);
        let number = |pairs: &[(&str, &str)], value| Series {
            labels: labels(pairs),
            value: Value::Number(value),
        };
        assert_eq!(found[0].name, "hits");
        assert!(found[0].is_counter && !found[1].is_counter);
        assert_eq!(
            found[0].series,
            [
                number(&[("route", "a,b\"}\\\n"), ("level", "")], 7.0),
                number(&[], 3.0)
            ]
        );
        assert_eq!((found[1].name, found[1].help), ("size_bytes", "Size."));
        assert_eq!(found[1].series, [number(&[], 1.5)]);
        let [x, y] = &found[2].series[..] else {
            panic!("two histograms: {found:?}")
        };
        assert_eq!(x.labels, labels(&[("route", "x")]));
        let expected = Buckets {
            bounds: vec![0.1, 1.0],
            counts: vec![1, 3, 2],
            sum: 2.5,
            count: 6,
        };
        assert_eq!(x.value, Value::Histogram(expected));
        assert_eq!(y.labels, labels(&[("route", "y")]));
        assert_eq!(found.len(), 3, "the end mark is no family: {found:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "(# (HELP|TYPE|UNIT) a [a-z]{0,9}\n|a(_bucket|_total)?(\\{|\\}|[a-z]=|\"|\\\\|,| |[0-9])*\n)*") {
            families(&text);
        }
    }
}

//! A day of traffic with the hours of a day, noise, and five anomalies.

use std::collections::BTreeMap;

use super::*;
use crate::insight::alert::book::Book;
use crate::insight::alert::engine::Engine;
use crate::insight::alert::machine::Phase;

const DAY: usize = 86_400;

/// Rules, and the metric each watches.
const WATCHED: [(&str, Metric, &str); 4] = [
    ("traffic", Metric::Rate, "anomaly(rate) > 5"),
    (
        "latency",
        Metric::Latency(crate::config::expression::Quantile(950)),
        "anomaly(latency_p95) > 5",
    ),
    ("errors", Metric::ErrorRatio, "anomaly(error_ratio) > 5"),
    ("hits", Metric::HitRatio, "anomaly(hit_ratio) > 5"),
];

/// Rule, first second of the day, length, and the factor on the metric.
const INJECTED: [(&str, usize, usize, f64); 5] = [
    ("traffic", 9_003, 600, 0.3),
    ("latency", 23_457, 900, 3.0),
    ("errors", 41_111, 300, 20.0),
    ("hits", 60_606, 1200, 0.5),
    ("traffic", 75_319, 420, 2.5),
];

/// Sums of each metric over the seconds from the first, so that the mean of any window is one subtraction.
struct Days {
    sums: BTreeMap<Metric, Vec<f64>>,
}

impl Days {
    /// So many days, the last one with anomalies.
    fn new(days: usize, seed: u64) -> Self {
        let mut random = seed;
        // SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators").
        let mut uniform = move || {
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        // The sum of four uniform numbers is near enough to a normal one; its deviation is 1.
        let mut normal = move || (uniform() + uniform() + uniform() + uniform() - 2.0) * 3.0_f64.sqrt();
        let mut sums: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for second in 0..days * DAY {
            let hour = (second % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
            let (wave, half) = (hour.sin(), (2.0 * hour).cos());
            for (name, metric, _) in WATCHED {
                let usual = match metric {
                    Metric::Rate => 100.0 + 60.0 * wave + 10.0 * half + 10.0 * normal(),
                    Metric::ErrorRatio => (0.01 + 0.004 * normal()).max(0.0),
                    Metric::HitRatio => 0.75 + 0.1 * wave + 0.05 * normal(),
                    _ => 0.2 + 0.05 * wave + 0.03 * normal(),
                };
                let today = second.checked_sub((days - 1) * DAY);
                let factor = INJECTED
                    .iter()
                    .find(|(rule, begin, length, _)| {
                        *rule == name
                            && today.is_some_and(|second| (*begin..begin + length).contains(&second))
                    })
                    .map_or(1.0, |(.., factor)| *factor);
                let sums = sums.entry(metric).or_insert_with(|| vec![0.0]);
                let before = sums[sums.len() - 1];
                sums.push(usual.mul_add(factor, before));
            }
        }
        Self { sums }
    }
}

impl Source for Days {
    fn value(&self, metric: Metric, _scope: &Scope, from: Timestamp, to: Timestamp) -> Option<f64> {
        let index = |time: Timestamp| usize::try_from(time.as_secs().checked_sub(BEGIN)?).ok();
        let sums = self.sums.get(&metric)?;
        let (from, to) = (index(from)?, index(to)?);
        Some((sums.get(to)? - sums.get(from)?) / (to - from) as f64)
    }
}

/// Finds all five within two minutes, and raises at most one false alarm.
fn check(days: usize, seed: u64) {
    let source = Days::new(days, seed);
    let rules = WATCHED.map(|(name, _, expr)| AlertRule {
        keep_firing_for: Duration::from_secs(120),
        ..rule(name, expr)
    });
    let config = Arc::new(config(rules.to_vec()));
    let first = ((days - 1) * DAY) as u64;
    let mut engine = Engine::new(config, Book::default(), at(first));
    for second in (first..=first + DAY as u64).step_by(10) {
        engine.tick(at(second), &source);
    }
    let mut found: BTreeMap<usize, u64> = BTreeMap::new();
    let mut false_alarms = Vec::new();
    for change in engine
        .book()
        .history
        .iter()
        .filter(|change| change.state == Phase::Firing)
    {
        let second = change.at - BEGIN - first;
        let injected = INJECTED.iter().position(|(rule, begin, length, _)| {
            *rule == change.rule && (*begin as u64..(begin + length + 120) as u64).contains(&second)
        });
        match injected {
            Some(index) => {
                found.entry(index).or_insert(second - INJECTED[index].1 as u64);
            }
            None => false_alarms.push((change.rule.clone(), second)),
        }
    }
    println!("{days} days, seed {seed}: found after {found:?} s; false alarms: {false_alarms:?}");
    assert_eq!(found.len(), INJECTED.len(), "{found:?}");
    assert!(found.values().all(|seconds| *seconds <= 120), "{found:?}");
    assert!(false_alarms.len() <= 1, "{false_alarms:?}");
}

#[test]
fn anomalies_of_the_first_day_are_found_within_two_minutes() {
    check(1, 42);
}

#[test]
fn anomalies_of_the_eighth_day_are_found_within_two_minutes() {
    check(8, 43);
}

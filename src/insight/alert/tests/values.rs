//! What expressions say.

use super::*;
use crate::config::Objective;
use crate::insight::alert::evaluate::{Evaluation, Judgement, Unhealthy};

fn judged(
    expr: &str,
    function: impl Fn(Metric, i64) -> Option<f64> + Send + Sync,
) -> Result<Judgement, Unhealthy> {
    let objective = Objective {
        name: "chat".into(),
        route: None,
        availability: Some(0.99),
        latency: Vec::new(),
    };
    let source = Script(function);
    let evaluation = Evaluation {
        source: &source,
        objectives: &[objective],
        now: at(0),
    };
    evaluation.judge(&Expression::parse(expr).unwrap().condition)
}

fn value(expr: &str, function: impl Fn(Metric, i64) -> Option<f64> + Send + Sync) -> f64 {
    judged(expr, function).unwrap().value
}

fn near(value: f64, expected: f64) {
    assert!(
        (value - expected).abs() < 1e-6 * expected.abs().max(1.0),
        "{value}, not {expected}"
    );
}

#[test]
fn windows_offsets_and_arithmetic() {
    let seconds = |_, second: i64| Some(second as f64);
    near(value("rate(1m) > 0", seconds), -30.5);
    near(value("rate(1m) offset 1m > 0", seconds), -90.5);
    near(value("2 * rate(1m) - -(1 + 3) / 2 > 0", seconds), -59.0);
    assert!(judged("rate(1m) > rate(1m) offset 1h", seconds).unwrap().holds);
}

#[test]
fn what_is_unknown_matters_only_where_the_rest_does_not_decide() {
    let only_rate = |metric, _| (metric == Metric::Rate).then_some(1.0);
    for (expr, expected) in [
        ("errors > 0", Err(Unhealthy::NoData)),
        ("errors > 0 or rate > 0", Ok(true)),
        ("errors > 0 and rate > 2", Ok(false)),
        ("rate > 2 or errors > 0", Err(Unhealthy::NoData)),
        ("not errors > 0", Err(Unhealthy::NoData)),
        ("absent(errors) and not absent(rate)", Ok(true)),
        ("rate / (rate - rate) > 0", Err(Unhealthy::NotANumber)),
    ] {
        assert_eq!(
            judged(expr, only_rate).map(|judged| judged.holds),
            expected,
            "{expr}"
        );
    }
}

#[test]
fn a_budget_burns_when_both_windows_say_so() {
    let errors = |since: i64| move |_, second: i64| Some(if second >= since { 0.2 } else { 0.0 });
    near(value("burn_rate(chat) > 14.4", errors(-100_000)), 20.0);
    near(value("burn_rate(chat, 90%) > 14.4", errors(-100_000)), 2.0);
    // For five minutes only: the hour says that it does not matter yet.
    near(value("burn_rate(chat) > 14.4", errors(-300)), 20.0 / 12.0);
    // Over since ten minutes: the five minutes say that it does not go on.
    let over = |_, second: i64| Some(if second < -600 { 0.2 } else { 0.0 });
    near(value("burn_rate(chat) > 14.4", over), 0.0);
}

#[test]
fn a_forecast_follows_the_slope_and_no_outlier() {
    let grows = |_, second: i64| {
        Some(match second.rem_euclid(600) {
            0..60 => 1e12,
            _ => 1e6 + 10.0 * second as f64,
        })
    };
    // The script measures at the begin of each second, half a second before its middle.
    near(
        value("forecast(memory_bytes, 1h) > 0", grows),
        1e6 + 36_000.0 - 5.0,
    );
    assert_eq!(
        judged("forecast(rate, 1h) > 0", |_, second| (second > -60)
            .then_some(1.0)),
        Err(Unhealthy::NoData)
    );
}

#[test]
fn an_anomaly_is_what_three_windows_agree_on() {
    let noise = |second: i64| 10.0 + (second.wrapping_mul(7919).rem_euclid(101) as f64) / 50.0;
    let risen =
        |since: i64| move |_, second: i64| Some(noise(second) + if second >= since { 30.0 } else { 0.0 });
    assert!(value("anomaly(rate) > 3", risen(1)) < 3.0);
    assert!(value("anomaly(rate) > 3", risen(-90)) > 3.0);
    assert!(
        value("anomaly(rate) > 3", risen(-60)) < 3.0,
        "one of three windows does not agree"
    );
    let both_sides = |_, second: i64| {
        Some(
            noise(second)
                + if second >= -60 {
                    30.0
                } else if second >= -90 {
                    -30.0
                } else {
                    0.0
                },
        )
    };
    near(value("anomaly(rate) > 3", both_sides), 0.0);
    assert_eq!(
        judged("anomaly(rate) > 3", |_, second| (second > -600).then_some(1.0)),
        Err(Unhealthy::NoData)
    );
}

#[test]
fn an_anomaly_is_compared_with_the_same_time_of_other_days() {
    // Every day at this time there is a peak; an hour ago there was none.
    let peak = |_, second: i64| {
        let day = second.rem_euclid(86_400);
        let is_peak = !(1200..86_400 - 1200).contains(&day);
        Some(if is_peak { 100.0 } else { 10.0 } + (second.rem_euclid(13) as f64) / 13.0)
    };
    assert!(value("anomaly(rate) > 3", peak) < 3.0);
    let no_peak_today = move |metric, second: i64| match second {
        -1200.. => Some(10.0),
        _ => peak(metric, second),
    };
    assert!(value("anomaly(rate) > 3", no_peak_today) > 3.0);
}

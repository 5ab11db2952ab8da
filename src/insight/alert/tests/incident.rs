//! An incident by the second, and what disturbs it.

use super::*;
use crate::config::alerts::Form;
use crate::insight::alert::book::{Acknowledgement, Book, Silence};
use crate::insight::alert::engine::{Engine, Refused};
use crate::insight::alert::machine::Phase;

/// Errors from 300 s to 900 s, and slow answers from 240 s to 900 s.
fn incident(metric: Metric, second: i64) -> Option<f64> {
    Some(match metric {
        Metric::ErrorRatio if (300..900).contains(&second) => 0.5,
        Metric::Latency(_) if (240..900).contains(&second) => 2.0,
        Metric::Latency(_) => 0.1,
        _ => 0.0,
    })
}

fn rules() -> Vec<AlertRule> {
    let errors = AlertRule {
        severity: Severity::Critical,
        hold: Duration::from_secs(60),
        clear: clear("< 0.1"),
        keep_firing_for: Duration::from_secs(120),
        ..rule("errors", "error_ratio(1m) > 0.25")
    };
    let slow = AlertRule {
        hold: Duration::from_secs(30),
        ..rule("slow", "latency_p95(1m) > 1")
    };
    vec![errors, slow]
}

fn engine(rules: Vec<AlertRule>) -> Engine {
    let config = with_receiver(config(rules), Form::Alertmanager, "http://ops");
    Engine::new(config, Book::default(), at(0))
}

/// Evaluates every 10 s.
fn run(engine: &mut Engine, seconds: std::ops::RangeInclusive<u64>, source: &dyn Source) {
    for second in seconds.step_by(10) {
        engine.tick(at(second), source);
    }
}

/// Rule, state and seconds since the begin.
fn changes(engine: &Engine) -> Vec<(String, Phase, u64)> {
    let history = engine.book().history.iter();
    history
        .map(|change| (change.rule.clone(), change.state, change.at - BEGIN))
        .collect()
}

/// Rule and state of what waits for the receiver.
fn told(engine: &Engine) -> Vec<(String, Phase)> {
    let waiting = engine.book().waiting.get("ops").into_iter().flatten();
    waiting
        .map(|notice| (notice.rule.clone(), notice.state))
        .collect()
}

fn owned<const N: usize, T>(rows: [(&str, T); N]) -> Vec<(String, T)> {
    rows.into_iter()
        .map(|(rule, state)| (rule.to_owned(), state))
        .collect()
}

#[test]
fn an_alert_is_pending_fires_and_is_resolved_at_the_computed_times() {
    let mut engine = engine(rules());
    run(&mut engine, 0..=2000, &Script(incident));
    let expected = [
        // The mean of a minute is above 1 when more than 28.4 of its seconds are slow, above a quarter when more than 30
        // have errors.
        ("slow", Phase::Pending, 270),
        ("slow", Phase::Firing, 300),
        ("errors", Phase::Pending, 340),
        ("errors", Phase::Firing, 400),
        // No longer above 1 when 31.6 seconds are fast.
        ("slow", Phase::Resolved, 940),
        // Below a tenth when fewer than 12 seconds have errors: at 950 and from then on for two minutes.
        ("errors", Phase::Resolved, 1070),
        ("slow", Phase::Inactive, 1840),
        ("errors", Phase::Inactive, 1970),
    ];
    assert_eq!(
        changes(&engine),
        expected.map(|(rule, phase, at)| (rule.to_owned(), phase, at))
    );
    assert_eq!(
        told(&engine),
        owned([
            ("slow", Phase::Firing),
            ("errors", Phase::Firing),
            ("slow", Phase::Resolved),
            ("errors", Phase::Resolved)
        ])
    );
    let notices = &engine.book().waiting["ops"];
    assert_eq!(notices[1].id, notices[3].id);
    assert_eq!(notices[1].started_at, at(340).as_micros());
    assert_eq!(notices[3].ended_at, Some(at(1070).as_micros()));
}

#[test]
fn a_restart_at_any_moment_neither_loses_nor_repeats() {
    let mut steady = engine(rules());
    run(&mut steady, 0..=1200, &Script(incident));
    let mut restarted = engine(rules());
    for second in (0..=1200).step_by(10) {
        restarted.tick(at(second), &Script(incident));
        let written = serde_json::to_vec(restarted.book()).unwrap();
        let book = serde_json::from_slice(&written).unwrap();
        restarted = Engine::new(Arc::clone(restarted.config()), book, at(second));
    }
    assert_eq!(restarted.book(), steady.book());
    assert_eq!(told(&steady).len(), 4);
}

#[test]
fn flapping_is_told_once() {
    // Bad for a minute, good for a minute, for an hour.
    let flaps = |_, second: i64| Some(f64::from(u8::from(second < 3600 && second.rem_euclid(120) < 60)));
    let flapping = AlertRule {
        keep_firing_for: Duration::from_secs(120),
        ..rule("flaps", "error_ratio(10s) > 0.5")
    };
    let patient = AlertRule {
        hold: Duration::from_secs(90),
        ..rule("patient", "error_ratio(10s) > 0.5")
    };
    let mut engine = engine(vec![flapping, patient]);
    run(&mut engine, 0..=5000, &Script(flaps));
    assert_eq!(
        told(&engine),
        owned([("flaps", Phase::Firing), ("flaps", Phase::Resolved)])
    );
}

#[test]
fn a_jumping_clock_fires_nothing_and_resolves_nothing() {
    let holds = AlertRule {
        hold: Duration::from_secs(1800),
        ..rule("long", "rate > 0")
    };
    let fires = AlertRule {
        keep_firing_for: Duration::from_secs(1800),
        ..rule("fires", "errors > 0")
    };
    for jump in [3600_i64, -3600] {
        let mut engine = engine(vec![holds.clone(), fires.clone()]);
        let started = 10_000_u64;
        let source = Script(move |metric, second: i64| match metric {
            Metric::Errors => Some(f64::from(u8::from(second < 10_010))),
            _ => Some(1.0),
        });
        run(&mut engine, started..=started + 400, &source);
        let before = changes(&engine);
        let after = started.checked_add_signed(400 + jump).unwrap();
        // The windows right after a jump can hold anything.
        run(&mut engine, after..=after + 400, &source);
        assert_eq!(changes(&engine), before, "{jump}");
    }
    // The built-in rules, with measurements on both sides of the jump and none between.
    let mut engine = Engine::new(Arc::new(Alerts::default()), Book::default(), at(0));
    let calm = Script(|metric, second: i64| {
        let measured = !(20_000..23_600).contains(&second);
        let value = match metric {
            Metric::Rate | Metric::Requests => 50.0,
            Metric::Latency(_) => 0.1,
            Metric::HitRatio => 0.8,
            Metric::Healthy | Metric::LevelUp => 1.0,
            Metric::MemoryRatio => 0.5,
            _ => 0.0,
        };
        measured.then_some(value)
    });
    run(&mut engine, 19_000..=20_000, &calm);
    run(&mut engine, 23_600..=24_600, &calm);
    run(&mut engine, 19_000..=19_500, &calm);
    assert_eq!(changes(&engine), []);
}

#[test]
fn a_rule_without_data_is_unhealthy_and_not_resolved() {
    let mut engine = engine(vec![rule("errors", "error_ratio(10s) > 0.5")]);
    let gap =
        Script(|_, second: i64| (!(100..500).contains(&second)).then_some(f64::from(u8::from(second < 600))));
    run(&mut engine, 0..=490, &gap);
    let shown = engine.alerts(at(490)).next().unwrap();
    assert_eq!(shown.alert.standing.phase, Phase::Firing);
    assert!(shown.alert.standing.unhealthy.is_some());
    run(&mut engine, 500..=620, &gap);
    let shown = engine.alerts(at(620)).next().unwrap();
    assert_eq!(
        (shown.alert.standing.phase, shown.alert.standing.unhealthy),
        (Phase::Resolved, None)
    );
}

#[test]
fn of_the_same_thing_the_most_severe_is_told() {
    let severe = AlertRule {
        severity: Severity::Critical,
        ..rule("severe", "error_ratio(10s) > 0.5")
    };
    let mild = rule("mild", "error_ratio(10s) > 0.1");
    // All of a sudden severe, then mild until 400 s.
    let errors = Script(|_, second: i64| {
        Some(match second {
            100..200 => 0.8,
            200..400 => 0.3,
            _ => 0.0,
        })
    });
    let mut engine = engine(vec![severe, mild]);
    run(&mut engine, 0..=150, &errors);
    assert_eq!(told(&engine), owned([("severe", Phase::Firing)]));
    let mild = engine
        .alerts(at(150))
        .find(|shown| &*shown.rule.name == "mild")
        .unwrap();
    assert!(mild.inhibited);
    run(&mut engine, 160..=500, &errors);
    assert_eq!(
        told(&engine)[1..],
        owned([
            ("mild", Phase::Firing),
            ("severe", Phase::Resolved),
            ("mild", Phase::Resolved)
        ])
    );
}

#[test]
fn silences_and_acknowledgements_hold_back_what_fires_and_not_its_end() {
    let errors = Script(|_, second: i64| Some(f64::from(u8::from((100..900).contains(&second)))));
    let mut engine = engine(vec![rule("errors", "error_ratio(10s) > 0.5")]);
    let silence = |id: &str, starts: u64, ends: u64, rule: &str| Silence {
        id: id.to_owned(),
        labels: [("alertname".to_owned(), rule.to_owned())].into(),
        starts_at: BEGIN + starts,
        ends_at: BEGIN + ends,
        author: "me".to_owned(),
        comment: "maintenance".to_owned(),
    };
    assert_eq!(
        engine.silence_with(silence("x", 20, 10, "errors"), at(0)),
        Err(Refused::Ended)
    );
    engine
        .silence_with(silence("other", 0, 9000, "other"), at(0))
        .unwrap();
    engine
        .silence_with(silence("it", 0, 300, "errors"), at(0))
        .unwrap();
    run(&mut engine, 0..=290, &errors);
    assert_eq!(told(&engine), []);
    assert_eq!(engine.alerts(at(290)).next().unwrap().silence, Some("it"));
    run(&mut engine, 300..=1000, &errors);
    assert_eq!(
        told(&engine),
        owned([("errors", Phase::Firing), ("errors", Phase::Resolved)])
    );
    assert_eq!(engine.unsilence("it"), Ok(()));
    assert_eq!(engine.unsilence("it"), Err(Refused::Unknown));

    let mut engine = self::engine(vec![AlertRule {
        hold: Duration::from_secs(60),
        ..rule("errors", "error_ratio(10s) > 0.5")
    }]);
    run(&mut engine, 0..=120, &errors);
    let id = engine.alerts(at(120)).next().unwrap().id;
    let by = Acknowledgement {
        by: "me".to_owned(),
        at: BEGIN + 120,
        comment: String::new(),
    };
    assert_eq!(engine.acknowledge("nothing", by.clone()), Err(Refused::Unknown));
    engine.acknowledge(&id, by).unwrap();
    run(&mut engine, 130..=1000, &errors);
    assert_eq!(told(&engine), [], "taken over before it fired");
}

#[test]
fn what_fired_by_a_rule_that_is_gone_is_over() {
    let errors = Script(|_, _| Some(1.0));
    let mut engine = engine(vec![rule("errors", "error_ratio > 0.5")]);
    run(&mut engine, 0..=10, &errors);
    let changed = with_receiver(
        config(vec![rule("errors", "error_ratio > 0.6")]),
        Form::Alertmanager,
        "http://ops",
    );
    engine.reconfigure(changed, at(20));
    assert_eq!(
        told(&engine),
        owned([("errors", Phase::Firing), ("errors", Phase::Resolved)])
    );
}

#[test]
fn memory_is_bounded() {
    let flaps = Script(|_, second: i64| Some((second / 10 % 2) as f64));
    let mut engine = engine(vec![rule("flaps", "error_ratio(10s) > 0.5")]);
    run(&mut engine, 0..=20_000, &flaps);
    use crate::insight::alert::book::{MAX_HISTORY, MAX_WAITING};
    assert_eq!(engine.book().history.len(), MAX_HISTORY);
    assert_eq!(engine.book().waiting["ops"].len(), MAX_WAITING);
    assert!(engine.dropped() > 0);
    let counts = engine.counts();
    assert_eq!(counts.iter().map(|(.., number)| number).sum::<u64>(), 1);
}

//! Tests of the language.

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Condition {
    match Expression::parse(text) {
        Ok(expression) => expression.condition,
        Err(refusal) => panic!("{text}: {refusal}"),
    }
}

fn refusal(text: &str) -> String {
    match Expression::parse(text) {
        Ok(expression) => panic!("`{text}` is {expression}"),
        Err(refusal) => refusal.to_string().replace('\n', " | "),
    }
}

fn query(metric: Metric) -> Query {
    Query {
        metric,
        scope: Scope::Route("chat".to_owned()),
        window: None,
        offset: Duration::ZERO,
    }
}

#[test]
fn the_forms_of_the_reference_are_understood() {
    let compared = |left, right| Condition::Compared(left, Comparison::Above, Number::Constant(right));
    assert_eq!(
        parsed("error_ratio{route=chat} > 0.05"),
        compared(Number::Metric(query(Metric::ErrorRatio)), 0.05)
    );
    assert_eq!(
        parsed("anomaly(latency_p95{route=chat}) > 3"),
        compared(Number::Anomaly(query(Metric::Latency(Quantile(950)))), 3.0)
    );
    let memory = Query {
        scope: Scope::System,
        ..query(Metric::Memory)
    };
    assert_eq!(
        parsed("forecast(memory_bytes, 1h) > 900MiB"),
        compared(
            Number::Forecast {
                query: memory,
                ahead: Duration::from_secs(3600)
            },
            943_718_400.0
        )
    );
    assert_eq!(
        parsed("burn_rate(chat, 99.9%) > 14.4"),
        compared(
            Number::BurnRate {
                name: "chat".to_owned(),
                objective: Some(0.999),
                long: Duration::from_secs(3600),
                short: Duration::from_secs(300),
            },
            14.4
        )
    );
}

#[test]
fn one_thing_can_be_written_in_several_ways() {
    for (one, other) in [
        (
            "error_ratio(route=\"api\", window=5m) > 5%",
            "error_ratio{route=api}(5m)>0.05",
        ),
        ("latency(p99, 5m) > 800ms", "latency_p99(window = 5m) > 0.8"),
        ("latency(p99.9) > 1", "latency_p99.9 > 1"),
        (
            "rate() > 1 and rate > 2 or rate > 3",
            "((rate > 1) and (rate > 2)) or (rate > 3)",
        ),
        ("rate + rate * 2 > -1", "(rate + (rate * 2)) > -(1)"),
        ("not rate > 1", "not (rate > 1)"),
        ("memory > 1KiB", "memory_bytes > 1024"),
        (
            "absent(requests{route='a'}, 15m)",
            "absent(requests{route=a}(15m))",
        ),
        ("burn_rate(a, 1h) > 1", "burn_rate(a, 1h, 5m) > 1"),
    ] {
        assert_eq!(parsed(one), parsed(other), "{one} / {other}");
    }
    assert_ne!(parsed("rate offset 1d > 1"), parsed("rate > 1"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, expected) in [
        (
            "",
            "the expression ends where a metric or a number belongs, at character 1",
        ),
        (
            "rate",
            "a number alone neither holds nor fails, at character 5 | compare it: `error_ratio() > 0.05`",
        ),
        (
            "eror_ratio > 1",
            "`eror_ratio` is not a metric, at character 1 | did you mean `error_ratio`?",
        ),
        (
            "rate > ",
            "the expression ends where a metric or a number belongs, at character 8",
        ),
        (
            "rate > 1 1",
            "`1` stands where `and`, `or` or the end belongs, at character 10",
        ),
        (
            "latency > 1",
            "`latency` needs a quantile, at character 1 | `latency(p99)` or `latency_p99`",
        ),
        (
            "latency(p0) > 1",
            "`p0` is not a quantile, at character 9 | `p0.1` to `p99.9`",
        ),
        ("rate{zone=a} > 1", "`zone` is no argument here, at character 10"),
        ("cpu{route=a} > 1", "`cpu` is not kept by route, at character 1"),
        (
            "rate{route=a}(level=b) > 1",
            "a metric has one of `route`, `upstream` and `level`, at character 20",
        ),
        ("rate(5m, 1m) > 1", "the argument is given twice, at character 10"),
        (
            "rate(100d) > 1",
            "a time of 1s to 90d belongs here, at character 6",
        ),
        (
            "rate(5) > 1",
            "a duration belongs here, at character 6 | like `5m`",
        ),
        ("rate > 5x", "`5x` is not a number, at character 8"),
        ("(rate > 1) + 1 > 2", "a condition is no number to calculate with"),
        (
            "burn_rate(a, 100%) > 1",
            "an objective is between 0 and 100 %, at character 14",
        ),
        (
            "burn_rate(a, 5m, 1h) > 1",
            "the second window must be the shorter one",
        ),
        (
            "\u{e4}\u{e4} > 1",
            "`\u{e4}\u{e4}` stands where a metric or a number belongs, at character 1",
        ),
    ] {
        let told = refusal(text);
        assert!(told.starts_with(expected), "{text}: {told}");
    }
    let deep = format!("{}rate > 1{}", "(".repeat(40), ")".repeat(40));
    assert!(refusal(&deep).starts_with("more than 32 parts inside each other"));
    assert!(refusal(&"rate + ".repeat(40)).starts_with("more than 32 calculations"));
    assert!(refusal(&" ".repeat(2000)).starts_with("the expression has more than 1024 bytes"));
}

#[test]
fn rules_about_the_same_thing_have_the_same_subject() {
    let subject = |text: &str| Expression::parse(text).unwrap().subject();
    assert_eq!(
        subject("error_ratio{route=a} > 1%"),
        subject("error_ratio(1m, route=a) > 20%")
    );
    assert_ne!(
        subject("error_ratio{route=a} > 1%"),
        subject("error_ratio{route=b} > 1%")
    );
    assert_eq!(subject("burn_rate(a, 99%) > 1 and rate > 1"), "burn_rate(a) rate");
}

#[test]
fn the_end_is_a_comparison() {
    assert_eq!(Clear::parse("< 0.01"), Ok(Clear(Comparison::Below, 0.01)));
    assert_eq!(Clear::parse(">=-1"), Ok(Clear(Comparison::AtLeast, -1.0)));
    for text in ["", "0.01", "< rate", "< 1 2"] {
        Clear::parse(text).unwrap_err();
    }
}

fn names() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_.-]{0,8}"
}

fn queries() -> impl Strategy<Value = Query> {
    let metrics = prop_oneof![
        prop::sample::select(&metric::NAMES[..]).prop_map(|(_, metric)| metric),
        (1_u16..1000).prop_map(|thousandths| Metric::Latency(Quantile(thousandths))),
    ];
    let scopes = prop_oneof![
        Just(Scope::All),
        names().prop_map(Scope::Route),
        names().prop_map(Scope::Upstream),
        names().prop_map(Scope::Level),
    ];
    let times = || (1_u64..7_776_000).prop_map(Duration::from_secs);
    let offsets = prop_oneof![Just(Duration::ZERO), times()];
    (metrics, scopes, prop::option::of(times()), offsets).prop_map(|(metric, scope, window, offset)| Query {
        scope: match metric {
            _ if metric.is_of_system() => Scope::System,
            _ if metric.of(&scope) => scope,
            _ => Scope::All,
        },
        metric,
        window,
        offset,
    })
}

fn numbers() -> impl Strategy<Value = Number> {
    let leaf = prop_oneof![
        (0_u32..1_000_000).prop_map(|number| Number::Constant(f64::from(number) / 1000.0)),
        queries().prop_map(Number::Metric),
        queries().prop_map(Number::Anomaly),
        (queries(), 1_u64..7_776_000).prop_map(|(query, ahead)| Number::Forecast {
            query,
            ahead: Duration::from_secs(ahead),
        }),
        (names(), prop::option::of(1_u32..1000), 2_u64..1000).prop_map(|(name, objective, long)| {
            Number::BurnRate {
                name,
                objective: objective.map(|share| f64::from(share) / 1000.0),
                long: Duration::from_secs(long),
                short: Duration::from_secs(long / 2),
            }
        }),
    ];
    let operators = prop::sample::select(vec![
        Arithmetic::Plus,
        Arithmetic::Minus,
        Arithmetic::Times,
        Arithmetic::By,
    ]);
    leaf.prop_recursive(3, 8, 2, move |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Number::Negative(Box::new(inner))),
            (inner.clone(), operators.clone(), inner).prop_map(|(left, operator, right)| Number::Calculated(
                Box::new(left),
                operator,
                Box::new(right)
            )),
        ]
    })
}

fn conditions() -> impl Strategy<Value = Condition> {
    let comparisons = prop::sample::select(vec![
        Comparison::Above,
        Comparison::AtLeast,
        Comparison::Below,
        Comparison::AtMost,
        Comparison::Equal,
        Comparison::Unequal,
    ]);
    let leaf = prop_oneof![
        (numbers(), comparisons, numbers())
            .prop_map(|(left, comparison, right)| Condition::Compared(left, comparison, right)),
        queries().prop_map(Condition::Absent),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        let pair = || (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|inner| Condition::Not(Box::new(inner))),
            pair().prop_map(|(left, right)| Condition::And(Box::new(left), Box::new(right))),
            pair().prop_map(|(left, right)| Condition::Or(Box::new(left), Box::new(right))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(condition in conditions()) {
        let text = condition.to_string();
        prop_assume!(text.len() <= MAX_BYTES);
        match Expression::parse(&text) {
            Ok(expression) => prop_assert_eq!(expression.condition, condition),
            Err(refusal) => prop_assert!(false, "{}: {}", text, refusal),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _read = Expression::parse(&text);
        let _read = Clear::parse(&text);
    }

    #[test]
    fn no_order_of_tokens_makes_the_parser_panic(tokens in prop::collection::vec(prop::sample::select(vec![
        "rate", "latency", "p99", "(", ")", "{", "}", "route", "=", "a", "\"", ",", "5m", "1d", "0.5", "%", ">",
        "<=", "==", "and", "or", "not", "absent", "anomaly", "forecast", "burn_rate", "offset", "-", "*", "/", ".",
        "window", "\u{e4}", "latency_p99", "99.9%",
    ]), 0..24), space in prop::bool::ANY) {
        let _read = Expression::parse(&tokens.join(if space { " " } else { "" }));
    }
}

//! Metrics as they stand in expressions: with scope, quantile, window and offset.

use std::time::Duration;

use super::Query;
use super::metric::{Metric, NAMES, Quantile, Scope};
use super::reader::{Literal, Reader};
use crate::config::scalar::Refusal;
use crate::config::suggest;

/// What can be looked back on: as long as the history goes.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Reads a metric with its scope, window and offset.
pub(super) fn query(reader: &mut Reader<'_>) -> Result<Query, Refusal> {
    let place = reader.place();
    let Some(name) = reader.identifier() else {
        return Err(reader.expected("a metric or a number"));
    };
    let mut arguments = Arguments::default();
    // A quantile of tenths reads on behind the identifier: `latency_p99` `.9`.
    let tenth = name.starts_with("latency_p") && reader.symbol(".");
    let written = match tenth {
        true => format!("{name}.{}", reader.name()?),
        false => name.to_owned(),
    };
    if reader.symbol("{") && !reader.symbol("}") {
        let word = reader.identifier().unwrap_or_default();
        scope(reader, word, &mut arguments)?;
        reader.need("}")?;
    }
    if reader.symbol("(") && !reader.symbol(")") {
        self::arguments(reader, &mut arguments)?;
    }
    let offset = match reader.word("offset") {
        true => duration(reader)?,
        false => Duration::ZERO,
    };
    let metric = self::metric(reader, place, &written, arguments.quantile)?;
    if metric.is_of_system() && arguments.scope == Scope::All {
        arguments.scope = Scope::System;
    }
    if !metric.of(&arguments.scope) {
        return Err(reader.refuse_at(
            place,
            format!("`{metric}` is not kept by {}", kind(&arguments.scope)),
        ));
    }
    Ok(Query {
        metric,
        scope: arguments.scope,
        window: arguments.window,
        offset,
    })
}

fn arguments(reader: &mut Reader<'_>, arguments: &mut Arguments) -> Result<(), Refusal> {
    loop {
        let place = reader.place();
        let taken = if reader.is_number() {
            let window = duration(reader)?;
            arguments.window.replace(window).is_some()
        } else if reader.word("window") {
            reader.need("=")?;
            let window = duration(reader)?;
            arguments.window.replace(window).is_some()
        } else if reader.peek().is_some_and(is_quantile_like) {
            let written = reader.name()?;
            let quantile =
                Quantile::parse(&written).ok_or_else(|| not_a_quantile(reader, place, &written))?;
            arguments.quantile.replace(quantile).is_some()
        } else {
            let word = reader.identifier().unwrap_or_default();
            scope(reader, word, arguments)?;
            false
        };
        if taken {
            return Err(reader.refuse_at(place, "the argument is given twice"));
        }
        if reader.symbol(")") {
            return Ok(());
        }
        reader.need(",")?;
    }
}

fn not_a_quantile(reader: &Reader<'_>, place: usize, written: &str) -> Refusal {
    reader
        .refuse_at(place, format!("`{written}` is not a quantile"))
        .hint("`p0.1` to `p99.9`")
}

fn scope(reader: &mut Reader<'_>, word: &str, arguments: &mut Arguments) -> Result<(), Refusal> {
    let place = reader.place();
    let make = match word {
        "route" => Scope::Route,
        "upstream" => Scope::Upstream,
        "level" => Scope::Level,
        other => {
            let refusal = reader.refuse_at(place, format!("`{other}` is no argument here"));
            return Err(refusal.hint("`route=NAME`, `upstream=NAME`, `level=NAME`, or a window like `5m`"));
        }
    };
    reader.need("=")?;
    let scope = make(reader.name()?);
    if std::mem::replace(&mut arguments.scope, scope) != Scope::All {
        return Err(reader.refuse_at(place, "a metric has one of `route`, `upstream` and `level`"));
    }
    Ok(())
}

fn metric(
    reader: &Reader<'_>,
    place: usize,
    name: &str,
    quantile: Option<Quantile>,
) -> Result<Metric, Refusal> {
    let metric = match (name, name.strip_prefix("latency_"), quantile) {
        ("latency", _, Some(quantile)) => return Ok(Metric::Latency(quantile)),
        ("latency", _, None) => {
            let refusal = reader.refuse_at(place, "`latency` needs a quantile");
            return Err(refusal.hint("`latency(p99)` or `latency_p99`"));
        }
        (_, Some(written), _) => {
            let quantile = Quantile::parse(written);
            Metric::Latency(quantile.ok_or_else(|| not_a_quantile(reader, place, written))?)
        }
        ("memory", ..) => Metric::Memory,
        ("disk", ..) => Metric::Disk,
        _ => match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, metric)) => *metric,
            None => {
                let refusal = reader.refuse_at(place, format!("`{name}` is not a metric"));
                return Err(refusal.hint(metric_hint(name)));
            }
        },
    };
    match quantile {
        None => Ok(metric),
        Some(_) => Err(reader.refuse_at(place, format!("`{name}` has no quantile as argument"))),
    }
}

/// Reads a time of 1 s to 90 d.
pub(super) fn duration(reader: &mut Reader<'_>) -> Result<Duration, Refusal> {
    let place = reader.place();
    match reader.literal()? {
        Literal::Time(duration) => bounded(reader, place, duration),
        _ => Err(reader
            .refuse_at(place, "a duration belongs here")
            .hint("like `5m`")),
    }
}

/// Refuses what is no time of 1 s to 90 d.
pub(super) fn bounded(reader: &Reader<'_>, place: usize, duration: Duration) -> Result<Duration, Refusal> {
    if (Duration::from_secs(1)..=LONGEST).contains(&duration) {
        return Ok(duration);
    }
    Err(reader.refuse_at(place, "a time of 1s to 90d belongs here"))
}

#[derive(Default)]
struct Arguments {
    scope: Scope,
    window: Option<Duration>,
    quantile: Option<Quantile>,
}

fn is_quantile_like(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next() == Some('p') && letters.next().is_some_and(|c| c.is_ascii_digit())
}

fn kind(scope: &Scope) -> &'static str {
    match scope {
        Scope::All => "all traffic",
        Scope::Route(_) => "route",
        Scope::Upstream(_) => "upstream",
        Scope::Level(_) => "level",
        Scope::System => "system",
    }
}

fn metric_hint(name: &str) -> String {
    let names = NAMES.iter().map(|(name, _)| *name);
    let known = names.chain(["latency", "anomaly", "forecast", "burn_rate", "absent"]);
    suggest::hint(name, known).unwrap_or_default()
}

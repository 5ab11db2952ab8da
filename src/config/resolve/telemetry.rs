//! `telemetry`.

use std::time::Duration;

use super::Cx;
use crate::config::model::{AccessLog, History, Mask, Otlp, OtlpProtocol, Telemetry};
use crate::config::raw;
use crate::config::scalar::Text;
use crate::config::tree::At;
use crate::config::units::{Positive, format_duration};

/// How often a collector gets metrics.
const METRICS_INTERVAL: Duration = Duration::from_secs(60);

/// Resolves traces, access log and masking. None if something is missing.
pub(super) fn resolve(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Telemetry) -> Option<Telemetry> {
    let otlp = match raw.otlp {
        Some(raw) => Some(otlp(cx, &at.key("otlp"), raw)?),
        None => None,
    };
    let access_log = raw.access_log.unwrap_or_default();
    if access_log.format.is_some_and(|format| format.0.0 != "json") {
        cx.later(&at.key("access_log").key("format"));
    }
    let mask = raw.mask.unwrap_or_default();
    let headers = mask.headers.unwrap_or_default();
    let query = mask.query.map_or_else(
        || vec!["*".to_owned()],
        |globs| globs.iter().map(|glob| glob.0.glob().glob().to_owned()).collect(),
    );
    Some(Telemetry {
        otlp,
        access_log: AccessLog {
            enabled: access_log.enabled.unwrap_or(false),
            sample: access_log.sample.map_or(1.0, |share| share.0.0),
        },
        mask: Mask {
            headers: headers.into_iter().map(|name| name.0).collect(),
            query,
        },
        history: history(cx, &at.key("history"), raw.history.unwrap_or_default()),
    })
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Less is hardly more than the log of the file.
const MIN_SIZE: u64 = 16 << 20;
const MAX_SIZE: u64 = 16 << 30;

fn history(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::History) -> History {
    let mut bounded =
        |name: &str, value: Option<Duration>, default: Duration, [least, most]: [Duration; 2]| {
            let value = value.unwrap_or(default);
            if value < least || value > most {
                let (least, most) = (format_duration(least), format_duration(most));
                cx.problem(&at.key(name), format!("is between {least} and {most}"));
            }
            value
        };
    let given = |text: Option<Text<Positive<Duration>>>| text.map(|text| text.0.0);
    let default = History::default();
    let history = History {
        raw: bounded("raw", given(raw.raw), default.raw, [HOUR / 60, HOUR]),
        minute: bounded("minute", given(raw.minute), default.minute, [HOUR, 31 * DAY]),
        hour: bounded("hour", given(raw.hour), default.hour, [DAY, 400 * DAY]),
        max_size: raw.max_size.map_or(default.max_size, |size| size.0.0.0),
    };
    if history.minute > history.hour {
        cx.problem(&at.key("hour"), "is shorter than `minute`")
            .hint("hours are what is left of older minutes");
    }
    if !(MIN_SIZE..=MAX_SIZE).contains(&history.max_size) {
        cx.problem(&at.key("max_size"), "is between 16MiB and 16GiB");
    }
    history
}

fn otlp(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Otlp) -> Option<Otlp> {
    let endpoint = cx.required(at, "endpoint", raw.endpoint)?;
    let keep = raw.keep.unwrap_or_default();
    let metrics = raw.metrics.unwrap_or_default();
    let interval = metrics.interval.map_or(METRICS_INTERVAL, |interval| interval.0.0);
    Some(Otlp {
        endpoint: endpoint.0.to_string(),
        protocol: match raw.protocol {
            None | Some(raw::OtlpWord::Grpc) => OtlpProtocol::Grpc,
            Some(raw::OtlpWord::HttpProtobuf) => OtlpProtocol::HttpProtobuf,
        },
        sample: raw.sample.map_or(0.01, |share| share.0.0),
        keep_errors: keep.errors.unwrap_or(true),
        keep_slower_than: keep.slower_than.map(|duration| duration.0.0),
        metrics: metrics.enabled.unwrap_or(false).then_some(interval),
        genai: raw.genai.unwrap_or(false),
    })
}

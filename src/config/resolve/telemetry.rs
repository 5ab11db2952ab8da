//! `telemetry`.

use std::time::Duration;

use super::Cx;
use crate::config::model::{AccessLog, Mask, Otlp, OtlpProtocol, Telemetry};
use crate::config::raw;
use crate::config::tree::At;

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
    })
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

//! What a reader of the access log sees, across reloads.

use std::time::Duration;

use super::super::fixture::{self, Captured};
use super::super::metrics::BuildInfo;
use super::super::{Telemetry, record::RequestRecord};
use crate::clock::Clock;
use crate::config::model;

fn config(enabled: bool, sample: f64, query: &str) -> model::Telemetry {
    model::Telemetry {
        history: model::History::default(),
        otlp: None,
        access_log: model::AccessLog { enabled, sample },
        mask: model::Mask {
            headers: Vec::new(),
            query: vec![query.to_owned()],
        },
    }
}

fn records() -> impl Iterator<Item = RequestRecord> {
    // Span ids are random in life; here they are spread evenly.
    (0..=255).map(|n| {
        let mut record = fixture::record();
        record.trace.span_id = [n; 8];
        record
    })
}

#[tokio::test]
async fn a_reload_turns_the_log_on_and_off_and_changes_its_share_and_masking() {
    let telemetry = Telemetry::new(
        Clock::system(),
        BuildInfo {
            version: "1",
            commit: "a",
        },
    );
    let captured = Captured::default();
    let mut lines = Vec::new();
    for config in [
        config(false, 1.0, "*"),
        config(true, 1.0, "*"),
        config(true, 0.25, "other"),
        config(false, 1.0, "*"),
    ] {
        let output = captured.clone();
        telemetry.apply_logging_to(&config, || Box::new(output)).unwrap();
        records().for_each(|record| telemetry.record(None, &record));
        telemetry.shutdown(Duration::from_secs(30)).await;
        let text = captured.text();
        lines.push((text.lines().count(), text.contains("canary")));
    }
    assert_eq!(
        lines,
        [(0, false), (256, false), (256 + 64, true), (256 + 64, true)]
    );
    assert!(captured.text().contains(r#""route":"unmatched""#));
}

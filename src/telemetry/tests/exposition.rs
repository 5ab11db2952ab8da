//! What a scraper sees.

use std::sync::Arc;

use super::super::events::ReloadResult;
use super::super::exposition::Format;
use super::super::families::{self, Kind};
use super::super::metrics::BuildInfo;
use super::super::record::CacheResult;
use super::super::samples::{EndpointCount, LevelSample, PurgeLogSample, ReplicationSample};
use super::super::usage::{TokenRecord, TokenSource, Tokens};
use super::super::{Event, Telemetry, fixture};
use crate::clock::Clock;

fn telemetry() -> Arc<Telemetry> {
    let build = BuildInfo {
        version: "1.2.3",
        commit: "abc",
    };
    Telemetry::new(Clock::manual(fixture::STARTED), build)
}

fn text(telemetry: &Telemetry) -> String {
    telemetry.encode(Format::Text).unwrap()
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(
        text.lines().any(|found| found == line),
        "no line {line} in\n{text}"
    );
}

#[test]
fn one_record_feeds_every_series_of_its_request() {
    let telemetry = telemetry();
    let route = telemetry.route("chat");
    let mut record = fixture::record();
    record.level = Some(telemetry.level("l1"));
    record.attempts = vec![fixture::failed_attempt(), fixture::attempt()];
    telemetry.record(Some(&route), &record);
    let text = text(&telemetry);
    for line in [
        r#"outrigger_http_server_request_duration_seconds_count{route="chat",method="POST",status_class="2xx",cache="miss"} 1"#,
        r#"outrigger_http_server_request_duration_seconds_bucket{le="0.025",route="chat",method="POST",status_class="2xx",cache="miss"} 0"#,
        r#"outrigger_http_server_request_duration_seconds_bucket{le="0.05",route="chat",method="POST",status_class="2xx",cache="miss"} 1"#,
        r#"outrigger_http_server_request_duration_seconds_bucket{le="+Inf",route="chat",method="POST",status_class="2xx",cache="miss"} 1"#,
        r#"outrigger_time_to_first_byte_seconds_sum{route="chat"} 0.02"#,
        r#"outrigger_overhead_seconds_sum{route="chat"} 0.01"#,
        r#"outrigger_cache_requests_total{route="chat",level="l1",result="miss",reason="uri-miss"} 1"#,
        r#"outrigger_collapsed_requests_total{route="chat"} 0"#,
        r#"outrigger_http_client_request_duration_seconds_count{upstream="hub",endpoint="10.0.0.1:8000",status_class="2xx"} 1"#,
        r#"outrigger_http_client_request_duration_seconds_count{upstream="hub",endpoint="10.0.0.2:8000",status_class="none"} 1"#,
        r#"outrigger_retries_total{upstream="hub"} 1"#,
        "outrigger_http_server_active_requests 0.0",
    ] {
        assert_line(&text, line);
    }
    assert!(!text.contains("canary"));
}

#[test]
fn tokens_and_dollars_are_told_by_route_model_and_source() {
    let telemetry = telemetry();
    let route = telemetry.route("chat");
    let tokens = |model: &str, source, dollars| TokenRecord {
        provider: None,
        model: model.to_owned(),
        tokens: Tokens {
            input: 5,
            output: 7,
            cached_input: 0,
            cache_write: 0,
        },
        source,
        dollars,
    };
    let mut record = fixture::record();
    record.tokens = Some(Box::new(tokens("gpt-4o", TokenSource::Cache, 0.5)));
    telemetry.record(Some(&route), &record);
    telemetry.record_tokens(&route, &tokens("gpt-4o", TokenSource::Upstream, 0.25));
    telemetry.record_tokens(&route, &tokens("", TokenSource::Upstream, 0.0));
    let text = text(&telemetry);
    for line in [
        r#"outrigger_tokens_total{route="chat",model="gpt-4o",type="input",source="upstream"} 5"#,
        r#"outrigger_tokens_total{route="chat",model="gpt-4o",type="output",source="cache"} 7"#,
        r#"outrigger_tokens_total{route="chat",model="unknown",type="output",source="upstream"} 7"#,
        r#"outrigger_cost_dollars_total{route="chat",model="gpt-4o"} 0.25"#,
        r#"outrigger_cost_saved_dollars_total{route="chat",model="gpt-4o"} 0.5"#,
    ] {
        assert_line(&text, line);
    }
    assert!(
        !text.contains(r#"type="cached_input""#),
        "what is not there has no series"
    );
    let series = |models: usize| {
        for model in 0..models {
            telemetry.record_tokens(&route, &tokens(&format!("m{model}"), TokenSource::Upstream, 0.0));
        }
        self::text(&telemetry).lines().count()
    };
    assert_eq!(series(100), series(1000), "models are bounded");
}

#[test]
fn requests_without_route_or_level_are_counted_too() {
    let telemetry = telemetry();
    let mut record = fixture::record();
    record.cache = CacheResult::None;
    record.reason = "no-route";
    record.status = 404;
    telemetry.record(None, &record);
    record.cache = CacheResult::Collapsed;
    record.reason = "uri-miss";
    telemetry.record(None, &record);
    let text = text(&telemetry);
    assert_line(
        &text,
        r#"outrigger_cache_requests_total{route="unmatched",level="none",result="none",reason="no-route"} 1"#,
    );
    assert_line(
        &text,
        r#"outrigger_collapsed_requests_total{route="unmatched"} 1"#,
    );
    assert_line(&text, r#"outrigger_overhead_seconds_count{route="unmatched"} 1"#);
}

#[test]
fn counters_survive_a_reload_and_removed_routes_vanish() {
    let telemetry = telemetry();
    for name in ["chat", "models"] {
        telemetry.record(Some(&telemetry.route(name)), &fixture::record());
    }
    telemetry.retain_routes(&["chat"]);
    telemetry.retain_endpoints(|_, _| false);
    telemetry.record(Some(&telemetry.route("chat")), &fixture::record());
    let text = text(&telemetry);
    assert_line(
        &text,
        r#"outrigger_time_to_first_byte_seconds_count{route="chat"} 2"#,
    );
    assert!(!text.contains("models"));
    assert_line(&text, r#"outrigger_retries_total{upstream="hub"} 0"#);
}

#[test]
fn events_guards_and_owners_figures_show() {
    let telemetry = telemetry();
    telemetry.emit(Event::ConfigLoaded { hash: "aaaa" });
    telemetry.emit(Event::ConfigReloaded {
        result: ReloadResult::Applied,
        hash: "bbbb",
        generation: 2,
        detail: "",
    });
    telemetry.emit(Event::ConfigReloaded {
        result: ReloadResult::Refused,
        hash: "bbbb",
        generation: 2,
        detail: "",
    });
    telemetry.emit(Event::Purged {
        scope: "glob",
        matched: 3,
        position: Some(9),
    });
    telemetry.emit(Event::RequestRefused { reason: "bad-host" });
    telemetry.watch_level("l1", || LevelSample {
        entries: Some(5),
        bytes: Some(6),
        evictions: Some(7),
    });
    telemetry.watch_upstreams(|| {
        vec![EndpointCount {
            upstream: Arc::from("hub"),
            state: "healthy",
            endpoints: 2,
        }]
    });
    telemetry.watch_purge_log(|| PurgeLogSample {
        position: 9,
        replication: Some(ReplicationSample {
            up: true,
            lag: 0.5,
            unpublished: 2,
            replicas: 3,
            incarnations: 4,
        }),
    });
    let _connection = telemetry.listener("http").connection_opened();
    let _request = telemetry.request_started();
    let text = text(&telemetry);
    for line in [
        r#"outrigger_config_info{hash="bbbb"} 1.0"#,
        "outrigger_config_last_reload_successful 0.0",
        r#"outrigger_config_reloads_total{result="applied"} 1"#,
        r#"outrigger_config_reloads_total{result="refused"} 1"#,
        r#"outrigger_purge_total{scope="glob"} 1"#,
        r#"outrigger_requests_refused_total{reason="bad-host"} 1"#,
        r#"outrigger_cache_entries{level="l1"} 5.0"#,
        r#"outrigger_cache_bytes{level="l1"} 6.0"#,
        r#"outrigger_cache_evictions_total{level="l1"} 7"#,
        r#"outrigger_upstream_endpoints{upstream="hub",state="healthy"} 2.0"#,
        "outrigger_purge_log_position 9.0",
        "outrigger_purge_replication_up 1.0",
        "outrigger_purge_replication_lag_seconds 0.5",
        "outrigger_purge_replication_unpublished 2.0",
        "outrigger_purge_replication_replicas 3.0",
        "outrigger_purge_replication_incarnations_total 4",
        r#"outrigger_connections{listener="http"} 1.0"#,
        "outrigger_http_server_active_requests 1.0",
        r#"outrigger_build_info{version="1.2.3",commit="abc"} 1.0"#,
        "process_start_time_seconds 1700000000.0",
    ] {
        assert_line(&text, line);
    }
    assert!(
        text.contains("\nprocess_cpu_seconds_total ") && text.contains("\nprocess_resident_memory_bytes ")
    );
}

#[test]
fn every_family_is_described_in_both_formats() {
    let telemetry = telemetry();
    telemetry.record(Some(&telemetry.route("a\"b\\")), &fixture::record());
    let (text, openmetrics) = (text(&telemetry), telemetry.encode(Format::OpenMetrics).unwrap());
    assert!(openmetrics.ends_with("# EOF\n") && !text.contains("# EOF"));
    assert!(text.contains(r#"{route="a\"b\\"}"#), "label values are escaped");
    for family in families::ALL {
        let (kind, short) = match family.kind {
            Kind::Counter => ("counter", family.name.trim_end_matches("_total")),
            Kind::Gauge => ("gauge", family.name),
            Kind::Histogram => ("histogram", family.name),
        };
        assert_line(&text, &format!("# HELP {} {}", family.name, family.help));
        assert_line(&text, &format!("# TYPE {} {kind}", family.name));
        assert_line(&openmetrics, &format!("# TYPE {short} {kind}"));
        assert_line(&openmetrics, &format!("# HELP {short} {}", family.help));
    }
    let described = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(
        described,
        families::ALL.len(),
        "nothing is exposed beyond the list"
    );
}

#[test]
fn the_number_of_series_does_not_depend_on_traffic() {
    let telemetry = telemetry();
    let route = telemetry.route("chat");
    let series = |n: usize| {
        for i in 0..n {
            let mut record = fixture::record();
            record.method = http::Method::from_bytes(format!("M{i}").as_bytes()).unwrap();
            record.uri = format!("/{i}").parse().unwrap();
            record.status = 600 + u16::try_from(i).unwrap();
            telemetry.record(Some(&route), &record);
        }
        text(&telemetry).lines().count()
    };
    assert_eq!(series(1), series(200));
}

//! `alerts`.

use serde_json::{Map, Value, json};

use super::{duration, file, list, put, text, words};
use crate::config::alerts::{AlertRule, Alerts, Form, Objective, Receiver};

/// The section; none if it says nothing.
pub(super) fn alerts(alerts: &Alerts) -> Option<Value> {
    let shown = || {
        json!({
            "receivers": list(&alerts.receivers, |one| receiver(one)),
            "rules": list(&alerts.rules, rule),
            "slos": list(&alerts.objectives, objective),
            "builtin": alerts.builtin,
        })
    };
    (*alerts != Alerts::default()).then(shown)
}

fn receiver(receiver: &Receiver) -> Value {
    let mut place = json!({});
    match &receiver.url.file {
        Some(path) => put(&mut place, "url_file", Some(file(path))),
        None => put(
            &mut place,
            "url",
            Some(text(&receiver.url.url.reveal().to_string())),
        ),
    }
    let ca_file = receiver.tls.as_ref().and_then(|tls| tls.ca_file.as_deref());
    put(&mut place, "ca_file", ca_file.map(file));
    let kind = match &receiver.form {
        Form::Webhook(signing) => {
            let path = signing.as_ref().map(|signing| signing.file.as_path());
            put(&mut place, "secret_file", path.map(file));
            put(&mut place, "insecure", Some(json!(receiver.insecure)));
            "webhook"
        }
        Form::Alertmanager => "alertmanager",
        Form::Slack => {
            put(&mut place, "insecure", Some(json!(receiver.insecure)));
            "slack"
        }
    };
    json!({"name": text(&receiver.name), kind: place})
}

fn rule(rule: &AlertRule) -> Value {
    let mut shown = json!({
        "name": text(&rule.name),
        "severity": rule.severity.as_str(),
        "expr": text(rule.expr.written()),
        "for": duration(rule.hold),
        "keep_firing_for": duration(rule.keep_firing_for),
    });
    put(
        &mut shown,
        "clear",
        rule.clear.map(|clear| text(&clear.to_string())),
    );
    put(&mut shown, "receivers", rule.receivers.as_deref().map(words));
    put(&mut shown, "summary", rule.summary.as_deref().map(text));
    shown
}

fn objective(objective: &Objective) -> Value {
    let mut shown = json!({"name": text(&objective.name)});
    put(&mut shown, "route", objective.route.as_deref().map(text));
    put(
        &mut shown,
        "availability",
        objective.availability.map(|share| json!(share)),
    );
    let bounds: Map<String, Value> = objective
        .latency
        .iter()
        .map(|(quantile, bound)| (quantile.to_string(), duration(*bound)))
        .collect();
    put(
        &mut shown,
        "latency",
        (!bounds.is_empty()).then(|| Value::Object(bounds)),
    );
    shown
}

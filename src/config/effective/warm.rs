//! `cache.warm`.

use serde_json::{Value, json};

use super::{count, duration, headers, list, put, text, words};
use crate::config::warm::{Warm, WarmRequest, WarmSource};

/// One entry.
pub(super) fn warm(warm: &Warm) -> Value {
    let mut shown = json!({
        "name": text(&warm.name),
        "parallel": count(warm.pace.parallel),
        "busy": warm.pace.busy,
        "timeout": duration(warm.pace.timeout),
    });
    put(&mut shown, "at", warm.at_start.then(|| json!("start")));
    let schedule = warm.schedule.as_ref();
    put(
        &mut shown,
        "schedule",
        schedule.map(|schedule| text(schedule.written())),
    );
    let (key, source) = match &warm.source {
        WarmSource::Requests(requests) => ("requests", list(requests, request)),
        WarmSource::TopKeys(number) => ("top_keys", count(*number)),
        WarmSource::Predict(predict) => {
            let shown = json!({"routes": words(&predict.routes), "confidence": predict.confidence});
            ("predict", shown)
        }
    };
    put(&mut shown, key, Some(source));
    shown
}

fn request(request: &WarmRequest) -> Value {
    let mut shown = json!({
        "method": request.method.as_str(),
        "path": text(&request.target),
        "headers": headers(&request.headers),
    });
    put(&mut shown, "host", request.host.as_deref().map(text));
    put(&mut shown, "scheme", request.scheme.map(|scheme| json!(scheme)));
    let body = Some(request.body.as_str()).filter(|body| !body.is_empty());
    put(&mut shown, "body", body.map(text));
    shown
}

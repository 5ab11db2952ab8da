//! `cache.purge`.

use std::time::Duration;

use super::Cx;
use crate::config::model::{LowerLevel, Name, Replicas};
use crate::config::raw;
use crate::config::tree::At;

const DEFAULT_CAP: Duration = Duration::from_secs(30);

/// Contact is renewed about every quarter of the cap, and a round trip must fit between.
const MIN_CAP: Duration = Duration::from_secs(1);

/// Resolves how purges reach replicas: not at all without a Redis level. `lower` is none when the levels have problems of
/// their own.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: Option<raw::PurgeSettings>,
    lower: Option<&[LowerLevel]>,
) -> Option<Replicas> {
    let names: Vec<Name> = lower
        .unwrap_or_default()
        .iter()
        .filter_map(|level| match level {
            LowerLevel::Redis(level) => Some(Name::clone(&level.name)),
            LowerLevel::Disk(_) => None,
        })
        .collect();
    let wanted = raw.unwrap_or_default();
    let cap = wanted.l1_cap_when_unreachable.as_ref();
    let cap = cap.map_or(DEFAULT_CAP, |cap| cap.0.0);
    if cap < MIN_CAP {
        cx.problem(&at.key("l1_cap_when_unreachable"), "is at least 1s");
    }
    let via = match wanted.replicas_via {
        None => names.first().cloned(),
        Some(name) if lower.is_none() || names.contains(&name.0.0) => Some(name.0.0),
        Some(name) => {
            let hint = if names.is_empty() {
                "add a level `redis: {name: .., url: ..}` to `cache.levels`".to_owned()
            } else {
                format!("one of {}", list(&names))
            };
            let problem = format!("there is no Redis level named `{}`", name.0.0);
            cx.problem(&at.key("replicas_via"), problem).hint(hint);
            None
        }
    };
    via.map(|via| Replicas { via, cap })
}

fn list(names: &[Name]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

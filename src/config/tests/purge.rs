//! `cache.purge`.

use std::time::Duration;

use super::{config, refused, with_route};
use crate::config::Replicas;

const LEVELS: &str =
    "levels: [{memory: {}}, {redis: {url: 'redis://a', name: one}}, {redis: {url: 'redis://b', name: two}}]";

fn purge(content: &str) -> String {
    with_route(&format!("cache: {{{LEVELS}{content}}}"))
}

fn replicas(content: &str) -> Option<Replicas> {
    config(&purge(content)).replicas.clone()
}

#[test]
fn whoever_shares_a_level_shares_purges() {
    let default = Replicas {
        via: "one".into(),
        cap: Duration::from_secs(30),
    };
    assert_eq!(replicas(""), Some(default.clone()));
    assert_eq!(replicas(", purge: {}"), Some(default));
    let other = replicas(", purge: {replicas_via: two, l1_cap_when_unreachable: 5s}");
    assert_eq!(
        other,
        Some(Replicas {
            via: "two".into(),
            cap: Duration::from_secs(5),
        })
    );
    assert_eq!(config(&with_route("")).replicas, None);
}

#[test]
fn what_cannot_carry_purges_is_refused() {
    let at = 9 + LEVELS.len();
    refused(
        &purge(", purge: {replicas_via: three, l1_cap_when_unreachable: 10ms}"),
        &[
            &format!(
                "5:{} cache.purge.replicas_via: there is no Redis level named `three` | one of `one`, `two`",
                at + 24
            ),
            &format!(
                "5:{} cache.purge.l1_cap_when_unreachable: is at least 1s",
                at + 56
            ),
        ],
    );
    refused(
        &with_route("cache: {purge: {replicas_via: fleet}}"),
        &[
            "5:31 cache.purge.replicas_via: there is no Redis level named `fleet` | add a level `redis: {name: .., url: ..}` to `cache.levels`",
        ],
    );
    // The level that is meant may be the one that has a problem.
    refused(
        &with_route("cache: {levels: [{memory: {}}, {redis: {name: fleet}}], purge: {replicas_via: fleet}}"),
        &["5:33 cache.levels[1].redis.url: `url` is missing"],
    );
}

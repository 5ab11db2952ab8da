//! The configuration of the demo's sidecar: what one would write for such a hub by hand.

use std::net::SocketAddr;

/// YAML for a sidecar at `listen` (admin at `admin`) in front of the hub at `hub`.
pub fn config_yaml(hub: SocketAddr, listen: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"version: 1

listeners:
  - {{name: http, bind: "{listen}"}}

admin:
  bind: "{admin}"

upstreams:
  hub:
    endpoints:
      - {{address: "{hub}"}}
    protocol: http1
    balance: round_robin
    health:
      active: {{http: {{path: /healthz, status: [200-299]}}, interval: 5s, timeout: 1s}}

cache:
  levels:
    - memory: {{name: l1, capacity: 64MiB, policy: clock_pro, max_object: 1MiB}}
{ROUTES}"#
    )
}

/// One route per kind of answer; `clock` and `rest` show what is passed on uncached.
const ROUTES: &str = r#"
routes:
  # The origin's own headers decide; what has expired is served once more while it is validated.
  - name: catalog
    match: {path: /api/models-catalog}
    upstream: hub
    cache: {mode: "on", stale_while_revalidate: 5s}

  # Never the same twice.
  - name: clock
    match: {path: /api/time}
    upstream: hub
    cache: {mode: "off"}

  # The origin says nothing about freshness, the route does. Requests that arrive together become one.
  - name: slow
    match: {path: /api/slow}
    upstream: hub
    cache: {mode: "on", ttl: 5s, collapse: true}

  # An answer belongs to the user it was made for.
  - name: me
    match: {path: /api/me}
    upstream: hub
    cache: {mode: "on", vary: {principal: true}, share: principal}

  # When the origin fails, its last good answer is used.
  - name: flaky
    match: {path: /api/flaky}
    upstream: hub
    cache: {mode: "on", stale_if_error: 1m}

  # The body is the question: the same JSON in another order is the same question.
  - name: chat
    match: {path: /v1/chat/completions, methods: [POST]}
    upstream: hub
    usage: openai
    cache:
      mode: "on"
      methods: [POST]
      ttl: 5m
      vary:
        principal: true
        body: {json: {ignore: [/user, /metadata]}, max: 1MiB}
      share: principal

  # A text has the same embedding for everyone.
  - name: embeddings
    match: {path: /v1/embeddings, methods: [POST]}
    upstream: hub
    usage: openai
    cache:
      mode: "on"
      methods: [POST]
      ttl: 1h
      vary:
        body: {json: {ignore: [/user]}, max: 1MiB}
      share: all

  - name: models
    match: {path_prefix: /v1/models}
    upstream: hub
    usage: openai
    cache: {mode: "on", ttl: 1m, share: all}

  # Everything else, the WebSocket echo among it, passes.
  - name: rest
    match: {path_prefix: /}
    upstream: hub
    cache: {mode: "off"}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_in_their_places() {
        let yaml = config_yaml(
            SocketAddr::from(([127, 0, 0, 1], 3)),
            SocketAddr::from(([127, 0, 0, 1], 1)),
            SocketAddr::from(([127, 0, 0, 1], 2)),
        );
        let document: serde_json::Value = serde_yaml::from_str(&yaml).unwrap();
        assert_eq!(document["listeners"][0]["bind"], "127.0.0.1:1");
        assert_eq!(document["admin"]["bind"], "127.0.0.1:2");
        assert_eq!(
            document["upstreams"]["hub"]["endpoints"][0]["address"],
            "127.0.0.1:3"
        );
    }

    #[test]
    fn the_chat_route_keys_on_the_body_and_keeps_users_apart() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let document: serde_json::Value = serde_yaml::from_str(&config_yaml(any, any, any)).unwrap();
        let routes = document["routes"].as_array().unwrap();
        let chat = routes.iter().find(|route| route["name"] == "chat").unwrap();
        assert_eq!(chat["cache"]["methods"][0], "POST");
        assert_eq!(chat["cache"]["vary"]["principal"], true);
        assert_eq!(chat["cache"]["share"], "principal");
    }
}

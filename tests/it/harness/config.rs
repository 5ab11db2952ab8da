//! The YAML of a test: what every test needs, around what this one is about.

use std::net::SocketAddr;

/// A configuration with a listener `http`, an admin listener with three tokens, one upstream `hub` and a memory
/// level.
#[derive(Clone, Debug)]
pub(crate) struct ConfigText {
    endpoints: Vec<SocketAddr>,
    listener: String,
    upstream: String,
    memory: String,
    levels: String,
    cache: String,
    rest: String,
    routes: String,
}

impl ConfigText {
    /// Everything goes to `origin`, cached as the origin's headers say.
    pub(crate) fn new(origin: SocketAddr) -> Self {
        Self {
            endpoints: vec![origin],
            listener: String::new(),
            upstream: String::new(),
            memory: String::from("capacity: 64MiB"),
            levels: String::new(),
            cache: String::new(),
            rest: String::new(),
            routes: String::from(
                "- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: \"on\"}}",
            ),
        }
    }

    /// These routes instead: a YAML list, not indented.
    pub(crate) fn routes(mut self, routes: &str) -> Self {
        routes.trim().clone_into(&mut self.routes);
        self
    }

    /// One more endpoint of the upstream.
    pub(crate) fn endpoint(mut self, address: SocketAddr) -> Self {
        self.endpoints.push(address);
        self
    }

    /// More keys of the upstream, as in a flow mapping: `protocol: h2, balance: round_robin`.
    pub(crate) fn upstream(mut self, keys: &str) -> Self {
        self.upstream = format!(", {keys}");
        self
    }

    /// More keys of the listener, as in a flow mapping.
    pub(crate) fn listener(mut self, keys: &str) -> Self {
        self.listener = format!(", {keys}");
        self
    }

    /// Other keys of the memory level, as in a flow mapping.
    pub(crate) fn memory(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.memory);
        self
    }

    /// One more level below memory, as in a flow mapping: `disk: {path: /x}`.
    pub(crate) fn level(mut self, level: &str) -> Self {
        self.levels.push_str(&format!("    - {level}\n"));
        self
    }

    /// One more key of `cache`, on one line.
    pub(crate) fn cache(mut self, key: &str) -> Self {
        self.cache.push_str(&format!("  {key}\n"));
        self
    }

    /// More top-level YAML.
    pub(crate) fn with(mut self, yaml: &str) -> Self {
        self.rest.push_str(yaml.trim());
        self.rest.push('\n');
        self
    }

    /// The YAML; `@DIR@` stands for the directory of the file.
    pub(crate) fn text(&self) -> String {
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|address| format!("{{address: \"{address}\"}}"))
            .collect();
        let (endpoints, routes) = (endpoints.join(", "), self.routes.replace('\n', "\n  "));
        let Self {
            listener,
            upstream,
            memory,
            levels,
            cache,
            rest,
            ..
        } = self;
        format!(
            r#"version: 1
workers: 2
listeners:
  - {{name: http, bind: "127.0.0.1:0"{listener}}}
admin:
  bind: "127.0.0.1:0"
  state_dir: "@DIR@/state"
  tokens:
    - {{name: viewer, role: viewer, sha256_file: "@DIR@/viewer.sha256"}}
    - {{name: operator, role: operator, sha256_file: "@DIR@/operator.sha256"}}
    - {{name: admin, role: admin, sha256_file: "@DIR@/admin.sha256"}}
upstreams:
  hub: {{endpoints: [{endpoints}]{upstream}}}
cache:
  levels:
    - memory: {{name: l1, {memory}}}
{levels}{cache}{rest}routes:
  {routes}
"#
        )
    }
}

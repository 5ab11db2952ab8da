//! The stage: the whole data plane in this process, on a clock that only the test moves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger::cache::engine::Cache;
use outrigger::cache::purge::{self, Mode, PurgeLog, Selector};
use outrigger::clock::{Clock, Timestamp};
use outrigger::config::{self, Environment};
use outrigger::control::reload;
use outrigger::control::state::State;
use outrigger::proxy::fleet::{self, Fleet};
use outrigger::telemetry::Telemetry;
use outrigger::telemetry::metrics::BuildInfo;

use super::origin::{Contact, Origin, date};
use super::steps::{Action, Ask, ROUTES, Rules, Step, TARGETS};
use crate::harness::{Answer, Call, Connection, within};

/// 13 September 2020, 12:26:40 GMT.
pub(super) const EPOCH: u64 = 1_600_000_000;

const HOST: &str = "hub.test";

pub(super) struct Stage {
    clock: Clock,
    origin: Origin,
    state: Arc<State>,
    fleet: Fleet,
    client: Connection,
}

/// A step as it was played.
#[derive(Debug)]
pub(super) struct Played {
    /// When it began and ended, in seconds.
    pub(super) from: u64,
    pub(super) to: u64,
    /// None after a purge.
    pub(super) answer: Option<Answer>,
    /// What the origin was asked, in order.
    pub(super) contacts: Vec<Contact>,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let clock = Clock::manual(Timestamp::from_secs(EPOCH));
        let origin = Origin::start(clock.clone()).await;
        let text = configuration(&origin);
        let environment = Environment::system();
        let loaded = config::parse("model", &text, Path::new("."), &environment)
            .map_err(|problems| problems.to_string())
            .unwrap();
        let config = loaded.config;
        let telemetry = Telemetry::new(
            clock.clone(),
            BuildInfo {
                version: "model",
                commit: "model",
            },
        );
        let (purges, warning) = PurgeLog::open(None, clock.clone(), purge::Rules::alone(Duration::MAX));
        assert_eq!(warning, None);
        let cache = Cache::new(&config.cache, purges, clock.clone());
        let bound = fleet::bind(&config.listeners, 1).unwrap();
        let address = bound[0].address;
        let Ok(snapshot) = reload::build(config, None, &telemetry, &clock) else {
            panic!("the configuration can be built")
        };
        let state = Arc::new(State::new(snapshot, cache, telemetry, clock.clone()));
        let fleet = Fleet::start(bound, &state, 1).unwrap();
        let client = Connection::open(address).await.unwrap();
        Self {
            clock,
            origin,
            state,
            fleet,
            client,
        }
    }

    /// Plays one step, and waits until nothing is under way any more.
    pub(super) async fn play(&mut self, route: &'static Rules, step: &Step) -> Played {
        self.clock.advance(Duration::from_secs(step.after));
        let from = self.clock.now().as_secs();
        let answer = match &step.action {
            Action::Ask(ask, says) => {
                self.origin.says(route.name, says);
                let answer = within("an answer", self.client.fetch(call(route, ask))).await;
                Some(answer.unwrap())
            }
            Action::Purge { target, soft } => {
                let selector = match target {
                    Some(target) => Selector::Url(format!("http://{HOST}{}", path(route, *target))),
                    None => Selector::All,
                };
                let mode = if *soft { Mode::Soft } else { Mode::Hard };
                self.state.cache.purge(vec![selector], mode, false).unwrap();
                None
            }
        };
        within("every fill to end", async {
            while !self.state.cache.flights.is_empty() {
                tokio::time::sleep(Duration::from_micros(50)).await;
            }
        })
        .await;
        Played {
            from,
            to: self.clock.now().as_secs(),
            answer,
            contacts: self.origin.contacts(),
        }
    }

    pub(super) async fn end(self) {
        drop(self.client);
        self.fleet.drain(Duration::ZERO).await;
    }
}

fn path(route: &Rules, target: usize) -> String {
    format!("/{}/{}", route.name, TARGETS[target])
}

fn call(route: &Rules, ask: &Ask) -> Call {
    let mut call = Call::new(ask.method, &path(route, ask.target)).header("host", HOST);
    let control: Vec<String> = ask
        .control
        .iter()
        .map(|(name, seconds)| match seconds {
            Some(seconds) => format!("{name}={seconds}"),
            None => (*name).to_owned(),
        })
        .collect();
    let fields = [
        ("authorization", ask.authorization.map(str::to_owned)),
        ("cookie", ask.cookie.map(str::to_owned)),
        ("accept-language", ask.language.map(str::to_owned)),
        ("cache-control", (!control.is_empty()).then(|| control.join(", "))),
        ("pragma", ask.pragma.then(|| "no-cache".to_owned())),
        ("if-none-match", ask.none_match.map(str::to_owned)),
        ("if-modified-since", ask.since.map(|before| date(EPOCH - before))),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            call = call.header(name, &value);
        }
    }
    call
}

/// Nothing ends by itself while the clock leaps.
fn configuration(origin: &Origin) -> String {
    let routes: Vec<String> = ROUTES
        .iter()
        .map(|route| {
            format!(
                "  - {{name: {0}, match: {{path_prefix: /{0}/}}, upstream: hub, cache: {{mode: \"on\"{1}}}}}",
                route.name, route.yaml
            )
        })
        .collect();
    format!(
        r#"
listeners: [{{name: http, bind: "127.0.0.1:0", limits: {{header_timeout: 87600h, idle_timeout: 87600h}}}}]
admin: {{bind: "127.0.0.1:0"}}
upstreams: {{hub: {{endpoints: [{{address: "{}"}}], pool: {{idle_timeout: 87600h}}}}}}
cache: {{levels: [{{memory: {{name: l1, capacity: 8MiB}}}}]}}
routes:
{}
"#,
        origin.address,
        routes.join("\n")
    )
}

//! The public HTTP caching suite (github.com/http-tests/cache-tests), played through the real binary.
//!
//! The cases are data that the repository does not hold: `CACHE_TESTS` names the file, or it lies beside the project.
//! Without it there is nothing to play. A test counts as passed if it and, recursively, all that it depends on are.
//! `floor.txt` holds the score that was reached and may only rise.

mod cases;
mod client;
mod fields;
mod origin;
mod score;
mod verdict;

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt};

use self::origin::Scripted;
use self::score::{Floor, Score};
use self::verdict::Fault;
use crate::harness::{ConfigText, Sidecar};

/// Cases at once: they spend their time in pauses.
const PARALLEL: usize = 64;

/// As a shared cache that obeys both sides and, where neither says anything, guesses as the standard allows.
const ROUTE: &str = r#"
- {name: all, match: {path_prefix: /}, upstream: hub, cache: {mode: "on", share: all, client_control: honour,
   heuristic: {fraction: 10%, max: 24h}}}
"#;

#[tokio::test]
async fn the_public_suite_scores_no_less_than_the_floor() {
    let suites = match cases::load() {
        Ok(suites) => suites,
        Err(reason) => {
            eprintln!("skipped: the cases of the public suite are not here: {reason}");
            return;
        }
    };
    let origin = Scripted::start().await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.origin.address()).routes(ROUTE)).await;
    let (proxy, origin) = (sidecar.address(), &origin);
    let tests = suites.iter().flat_map(|suite| &suite.tests);
    let played = tests
        .filter(|test| !test.browser_only)
        .enumerate()
        .map(|(number, test)| async move {
            let token = format!("{number:08x}-cace-4e57-8000-0123456789ab");
            let result = client::play(proxy, origin, test, &token).await;
            (test.id.clone(), result)
        });
    let results: HashMap<String, Result<(), Fault>> =
        stream::iter(played).buffer_unordered(PARALLEL).collect().await;
    let score = Score::of(&suites, &results);
    eprint!("{score}");
    let floor = Floor::kept();
    assert!(
        floor.is_met_by(&score),
        "below the floor of {} required and {} optimal cases",
        floor.required,
        floor.optimal
    );
}

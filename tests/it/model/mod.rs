//! The cache against a slow model that is obviously right: random sequences of requests, origin answers, purges and
//! clock steps go through the whole data plane, and the model says after each what the RFCs allow and what they promise.
//!
//! A failing sequence is shrunk, printed, and kept in `tests/it/model/regressions.txt`, which is played first.

mod learn;
mod origin;
mod stage;
mod steps;
mod stored;
mod verdict;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use self::stage::Stage;
use self::steps::{ROUTES, Step, sequence};
use self::world::World;

/// Plays one sequence; the first step that is not as it should be ends it.
async fn play(route: usize, steps: &[Step]) -> Result<(), String> {
    let route = &ROUTES[route];
    let mut stage = Stage::start().await;
    let mut world = World::new(route);
    for (number, step) in steps.iter().enumerate() {
        let played = stage.play(route, step).await;
        world
            .judge(step, &played)
            .map_err(|problem| format!("step {number} on route {}: {problem}\n{played:#?}", route.name))?;
    }
    stage.end().await;
    Ok(())
}

#[test]
fn whatever_happens_the_cache_does_what_it_may_and_what_it_must() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/model/regressions.txt");
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&(0..ROUTES.len(), sequence()), |(route, steps)| {
        runtime.block_on(play(route, &steps)).map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

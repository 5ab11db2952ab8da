//! Waiting with a bound.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// The longest any wait of a test takes: generous, because a loaded machine must not fail a test.
const LIMIT: Duration = Duration::from_secs(60);

/// Time between two looks at something that cannot announce its change.
const POLL: Duration = Duration::from_millis(5);

/// Waits for `future`; fails the test, naming `what`, when it does not end in time.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {LIMIT:?} in vain for {what}"),
    }
}

/// Asks `probe` until it answers `Some`; fails the test, naming `what`, when it does not in time.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

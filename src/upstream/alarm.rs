//! A timer that is set often and rings seldom.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A reusable timer. A connection keeps one for all its exchanges: moving the deadline back costs nothing, because
/// the timer is left where it is and looks again when it fires, so the timer wheel is touched about once per
/// deadline length instead of once per request and frame.
#[derive(Debug)]
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// A timer whose first deadline is about `due`.
    pub(super) fn new(due: Instant) -> Self {
        Self(Box::pin(tokio::time::sleep_until(due)))
    }

    /// Ready once `due` has passed; otherwise the task is woken then at the latest.
    pub(super) fn poll_due(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.0.is_elapsed() || self.0.deadline() > due {
                self.0.as_mut().reset(due);
            }
            match self.0.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if Instant::now() >= due => return Poll::Ready(()),
                Poll::Ready(()) => {}
            }
        }
    }
}

/// `start` plus `by`, but no later than an `Instant` can tell.
pub(super) fn later(start: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);
    start + by.min(FAR)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_deadline_asked_for_last() {
        let start = Instant::now();
        let mut alarm = Alarm::new(start + Duration::from_secs(30));
        let later = start + Duration::from_secs(60);
        poll_fn(|cx| alarm.poll_due(later, cx)).await;
        assert!(Instant::now() >= later);
        let sooner = later + Duration::from_secs(1);
        poll_fn(|cx| alarm.poll_due(sooner, cx)).await;
        assert_eq!((Instant::now() - start).as_secs(), 61);
    }
}

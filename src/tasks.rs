//! The only place that spawns tasks: each has a name, can be cancelled, and is waited for on shutdown.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks that end together.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group of its own that is also cancelled when this one is.
    pub fn child(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            cancel: self.cancel.child_token(),
        }
    }

    /// Runs `future` on the current runtime until it ends or the group is cancelled.
    ///
    /// Must be called inside a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let task = self.tracker.track_future(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => tracing::trace!(task = name, "cancelled"),
                () = future => {}
            }
        });
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        tokio::spawn(task)
    }

    /// Runs `future` to its end even when the group is cancelled; it watches the [`Tasks::token`] itself, or ends with
    /// what it works for.
    ///
    /// Must be called inside a tokio runtime.
    pub fn spawn_to_end<F>(&self, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.tracker.track_future(future);
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        tokio::spawn(task)
    }

    /// Runs `work`, which blocks, on a thread of its own until it returns; it is waited for as tasks are.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn spawn_thread<F>(&self, name: &'static str, work: F) -> io::Result<()>
    where
        F: FnOnce() + Send + 'static,
    {
        let running = self.tracker.token();
        let thread = std::thread::Builder::new().name(name.to_owned());
        // Detached: the token tells when it has ended.
        let _handle = thread.spawn(move || {
            work();
            drop(running);
        })?;
        Ok(())
    }

    /// The token that is cancelled with the group.
    pub fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Tasks that have not ended yet.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task is running.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Asks every task to end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until all tasks have ended, at most `limit`. Returns whether they have.
    pub async fn drained(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_are_waited_for() {
        let tasks = Tasks::new();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        tasks
            .spawn_thread("waiter", move || assert!(ended.recv().is_err()))
            .unwrap();
        assert!(!tasks.drained(Duration::ZERO).await);
        drop(end);
        assert!(tasks.drained(Duration::from_secs(30)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_tasks_are_waited_for() {
        let tasks = Tasks::new();
        tasks.spawn("sleeper", tokio::time::sleep(Duration::from_secs(3600)));
        assert!(!tasks.drained(Duration::from_secs(1)).await);
        tasks.cancel();
        assert!(tasks.drained(Duration::from_secs(1)).await);
    }
}

//! Holding an answer back until the test says so.

use tokio::sync::watch;

/// Closed at first; whoever waits passes once it has been opened. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub(crate) fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everyone pass, now and later.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open. Has no bound of its own: the waiting side is the scripted one.
    pub(crate) async fn passed(&self) {
        let mut state = self.0.subscribe();
        // The sender lives in `self`, so the wait can only end by an open gate.
        state
            .wait_for(|open| *open)
            .await
            .expect("the gate outlives its waiters");
    }
}

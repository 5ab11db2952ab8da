//! Where alerts are kept while the process runs: evaluates, saves, delivers. Runs on the control runtime.
//!
//! Invariant: a notice is delivered only after the book that holds it is saved, and leaves the book when the receiver has
//! confirmed it. So a restart loses none, and repeats at most one that was confirmed in the very moment of a crash; its
//! `id` and `state` tell.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::book::{Book, Notice};
use super::engine::Engine;
use super::evaluate::Evaluation;
use super::machine::{INTERVAL, Phase};
use super::pace::Pace;
use super::source::Source;
use super::{payload, store};
use crate::client_tls;
use crate::clock::{Clock, Timestamp};
use crate::config::alerts::{Form, Receiver};
use crate::config::{Alerts, Name};
use crate::http_call::{CallError, Caller};
use crate::tasks::Tasks;

/// How often an Alertmanager is reminded of what fires.
const REMIND: Duration = Duration::from_secs(60);
/// How long a notice is worth delivering.
const WORTH: Duration = Duration::from_secs(24 * 60 * 60);

/// The alerts of this process.
#[derive(Debug)]
pub struct Desk {
    engine: Mutex<Engine>,
    clock: Clock,
    directory: Option<PathBuf>,
    /// One save after the other, so that an older state never replaces a newer one.
    saving: tokio::sync::Mutex<()>,
    /// Notices with smaller numbers are saved, or there is nowhere to save them.
    saved: watch::Sender<u64>,
    deliveries: Mutex<Tasks>,
}

/// Why a notice was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// No connection, no verified peer, or no answer in time.
    #[error("{0}")]
    Call(CallError),
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(#[from] client_tls::ClientTlsError),
    /// The receiver refused it.
    #[error("the receiver answered with status {0}")]
    Status(u16),
    /// The URL cannot be asked.
    #[error("the URL of the receiver cannot be used")]
    Url,
}

impl NotTold {
    /// Whether another attempt can help.
    fn is_lasting(&self) -> bool {
        matches!(self, Self::Status(status) if (400..500).contains(status) && ![408, 425, 429].contains(status))
    }
}

impl Desk {
    /// Goes on with what `directory` remembers.
    ///
    /// # Errors
    /// When what is remembered cannot be read.
    pub fn open(config: Arc<Alerts>, directory: Option<PathBuf>, clock: Clock) -> io::Result<Arc<Self>> {
        let book = match &directory {
            Some(directory) => store::load(directory)?,
            None => Book::default(),
        };
        let saved = book.next;
        Ok(Arc::new(Self {
            engine: Mutex::new(Engine::new(config, book, clock.now())),
            clock,
            directory,
            saving: tokio::sync::Mutex::new(()),
            saved: watch::Sender::new(saved),
            deliveries: Mutex::new(Tasks::new()),
        }))
    }

    /// Evaluates every 10 s and delivers, until `tasks` is cancelled.
    pub fn start(self: &Arc<Self>, source: Arc<dyn Source>, tasks: &Tasks) {
        self.restart_deliveries(tasks);
        let desk = Arc::clone(self);
        tasks.spawn("alerts", async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // What the rules of this process ended of what the one before it had left.
            desk.save().await;
            loop {
                ticks.tick().await;
                desk.tick(&*source).await;
            }
        });
    }

    /// Takes over another configuration.
    pub async fn reconfigure(self: &Arc<Self>, config: Arc<Alerts>, tasks: &Tasks) {
        let now = self.clock.now();
        let others = self.with(|engine| engine.config().receivers != config.receivers);
        self.with(|engine| engine.reconfigure(config, now));
        self.save().await;
        if others {
            self.restart_deliveries(tasks);
        }
    }

    fn restart_deliveries(self: &Arc<Self>, tasks: &Tasks) {
        let deliveries = tasks.child();
        for receiver in self.with(|engine| engine.config().receivers.clone()) {
            deliveries.spawn("alert receiver", Arc::clone(self).deliver(receiver));
        }
        std::mem::replace(&mut *self.deliveries.lock(), deliveries).cancel();
    }

    /// Evaluates once, and saves what changed.
    pub async fn tick(&self, source: &dyn Source) {
        let now = self.clock.now();
        if self.with(|engine| engine.tick(now, source)) {
            self.save().await;
        }
    }

    /// Looks at the alerts, or changes what need not survive a crash.
    pub fn with<T>(&self, look: impl FnOnce(&mut Engine) -> T) -> T {
        look(&mut self.engine.lock())
    }

    /// Changes the alerts, and returns when that is saved.
    pub async fn change<T>(&self, change: impl FnOnce(&mut Engine) -> T) -> T {
        let result = self.with(change);
        self.save().await;
        result
    }

    async fn save(&self) {
        let _one = self.saving.lock().await;
        let (book, next) = self.with(|engine| {
            let book = self.directory.as_ref().map(|_| serde_json::to_vec(engine.book()));
            (book, engine.book().next)
        });
        if let (Some(directory), Some(book)) = (self.directory.clone(), book) {
            let written = tokio::task::spawn_blocking(move || store::save(&directory, &book?)).await;
            let result = written.unwrap_or_else(|error| Err(io::Error::other(error)));
            if let Err(error) = result {
                // Telling twice after a restart is better than not telling.
                tracing::error!(%error, "cannot save the state of alerts");
            }
        }
        self.saved.send_replace(next);
    }

    /// Delivers what waits for one receiver, one after the other, for as long as it is polled.
    async fn deliver(self: Arc<Self>, receiver: Arc<Receiver>) {
        let mut saved = self.saved.subscribe();
        let mut remind = tokio::time::interval(REMIND);
        remind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Pace::default();
        loop {
            let below = *saved.borrow_and_update();
            let next = self.with(|engine| engine.next_for(&receiver.name, below).cloned());
            let Some(notice) = next else {
                tokio::select! {
                    // The desk, and so the sender, lives as long as this.
                    _changed = saved.changed() => {}
                    _at = remind.tick(), if receiver.form == Form::Alertmanager => self.remind(&receiver).await,
                }
                continue;
            };
            match self.tell(&receiver, std::slice::from_ref(&notice)).await {
                Ok(()) => {}
                Err(error) if self.is_given_up(&notice, &error) => {
                    tracing::error!(receiver = %receiver.name, rule = %notice.rule, %error, "an alert was not delivered");
                }
                Err(error) => {
                    let pause = pace.next();
                    tracing::warn!(receiver = %receiver.name, rule = %notice.rule, %error, ?pause, "an alert waits");
                    tokio::time::sleep(pause).await;
                    continue;
                }
            }
            pace = Pace::default();
            self.change(|engine| engine.done(&receiver.name, notice.number))
                .await;
        }
    }

    fn is_given_up(&self, notice: &Notice, error: &NotTold) -> bool {
        let since = notice.ended_at.unwrap_or(notice.started_at);
        error.is_lasting() || self.clock.now().since(Timestamp::from_micros(since)) > WORTH
    }

    async fn remind(&self, receiver: &Receiver) {
        let firing = self.with(|engine| engine.firing_for(&receiver.name));
        if firing.is_empty() {
            return;
        }
        if let Err(error) = self.tell(receiver, &firing).await {
            tracing::warn!(receiver = %receiver.name, %error, "cannot remind the receiver of what fires");
        }
    }

    async fn tell(&self, receiver: &Receiver, notices: &[Notice]) -> Result<(), NotTold> {
        let tls = receiver.tls.as_ref().map(client_tls::load).transpose()?;
        let request = payload::request(receiver, notices, self.clock.now()).ok_or(NotTold::Url)?;
        let answer = Caller::new(tls).call(request).await.map_err(NotTold::Call)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(NotTold::Status(status.as_u16())),
        }
    }

    /// Tells the receivers of a rule of a made-up alert, once, and gives what each answered. None if there is no such rule.
    pub async fn test(&self, rule: &str) -> Option<Vec<(Name, Result<(), NotTold>)>> {
        let now = self.clock.now();
        let (notice, receivers) = self.with(|engine| {
            let shown = engine.alerts(now).find(|shown| *shown.rule.name == *rule)?;
            let mut labels = shown.rule.labels();
            labels.insert("test".to_owned(), "true".to_owned());
            let notice = Notice {
                number: 0,
                id: super::book::id(&format!("test {rule}"), now.as_micros()),
                rule: rule.to_owned(),
                severity: shown.rule.severity,
                state: Phase::Firing,
                started_at: now.as_micros(),
                ended_at: None,
                value: shown.alert.standing.value,
                labels,
                summary: format!("a test: {}", shown.rule.summary),
            };
            let wanted = shown.rule.receivers.clone();
            let mut receivers = engine.config().receivers.clone();
            receivers.retain(|receiver| wanted.as_ref().is_none_or(|names| names.contains(&receiver.name)));
            Some((notice, receivers))
        })?;
        let mut answers = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let answer = self.tell(&receiver, std::slice::from_ref(&notice)).await;
            answers.push((Arc::clone(&receiver.name), answer));
        }
        Some(answers)
    }

    /// What an expression says now, for trying it out.
    pub fn evaluate(
        &self,
        source: &dyn Source,
        expr: &crate::config::expression::Expression,
    ) -> Result<super::evaluate::Judgement, super::evaluate::Unhealthy> {
        let config = self.with(|engine| Arc::clone(engine.config()));
        let evaluation = Evaluation {
            source,
            objectives: &config.objectives,
            now: self.clock.now(),
        };
        evaluation.judge(&expr.condition)
    }
}

//! The connections of one worker to one endpoint: idle HTTP/1.1 connections, last used first, and one shared
//! HTTP/2 connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::client::conn::http2;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect::{Connector, Failure, Offer, Spoken, Transport};
use super::endpoint::{Endpoint, IdleCount, OpenPermit, Waiting};
use super::error::ErrorKind;
use super::http1::Http1Connection;
use super::http2::start_http2;
use super::request::SentBody;
use crate::clock::{CoarseClock, Timestamp};
use crate::config::PoolLimits;
use crate::tasks::Tasks;

/// How often workers look for connections to close.
pub(super) const PRUNE_EVERY: Duration = Duration::from_millis(500);

/// The connections of one worker to one endpoint.
pub(super) struct Slot {
    endpoint: Arc<Endpoint>,
    limits: PoolLimits,
    tasks: Tasks,
    clock: CoarseClock,
    idle: Mutex<VecDeque<Idle>>,
    shared: Mutex<Option<Shared>>,
    /// Held while an HTTP/2 connection is opened, so that a burst opens one.
    opening: tokio::sync::Mutex<()>,
    /// Rung when an idle connection comes back while requests wait here.
    returned: Notify,
    waiting: AtomicUsize,
    /// Whether the endpoint chose HTTP/1.1 when it had the choice.
    chose_http1: AtomicBool,
}

struct Idle {
    connection: Box<Http1Connection>,
    since: Timestamp,
    _count: IdleCount,
}

struct Shared {
    sender: http2::SendRequest<SentBody>,
    users: Arc<()>,
    last_used: Timestamp,
}

/// A connection for one exchange.
pub(super) enum Checkout {
    /// For this exchange alone.
    Http1(Box<Http1Connection>),
    /// Shared with other exchanges.
    Http2(Http2Lease),
}

/// A place on a shared HTTP/2 connection.
pub(super) struct Http2Lease {
    /// Where the request goes in.
    pub(super) sender: http2::SendRequest<SentBody>,
    /// Whether the connection has carried an exchange before.
    pub(super) reused: bool,
    /// Keeps the connection from being seen as unused.
    pub(super) user: Arc<()>,
}

/// How an exchange may get its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// What is offered on a new connection.
    pub(super) offer: Offer,
    /// When the connection must be there.
    pub(super) deadline: Instant,
    /// Whether a new connection is better than an idle one: the last idle one was dead.
    pub(super) prefer_new: bool,
}

impl Slot {
    pub(super) fn new(endpoint: Arc<Endpoint>, limits: PoolLimits, tasks: Tasks, clock: CoarseClock) -> Self {
        Self {
            endpoint,
            limits,
            tasks,
            clock,
            idle: Mutex::default(),
            shared: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            returned: Notify::new(),
            waiting: AtomicUsize::new(0),
            chose_http1: AtomicBool::new(false),
        }
    }

    /// The endpoint the connections lead to.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Where what drives connections runs.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// An idle connection of one's own, where the terms allow it: the way of nearly all exchanges.
    pub(super) fn at_hand(&self, terms: Terms) -> Option<Box<Http1Connection>> {
        let http1 = match terms.offer {
            Offer::Http1 => true,
            Offer::Http2 => false,
            Offer::Either => self.chose_http1.load(Ordering::Relaxed),
        };
        if http1 { self.pop_idle() } else { None }
    }

    /// A connection: an open one if there is one, otherwise a new one before the deadline of `terms`.
    pub(super) async fn checkout(&self, connector: &Connector, terms: Terms) -> Result<Checkout, Failure> {
        let offer = match terms.offer {
            Offer::Either if self.chose_http1.load(Ordering::Relaxed) => Offer::Http1,
            offer => offer,
        };
        if offer == Offer::Http1 {
            return self.exclusive(connector, terms).await.map(Checkout::Http1);
        }
        if let Some(lease) = self.lease() {
            return Ok(Checkout::Http2(lease));
        }
        self.open_shared(connector, terms, offer).await
    }

    /// An HTTP/1.1 connection of one's own.
    async fn exclusive(&self, connector: &Connector, terms: Terms) -> Result<Box<Http1Connection>, Failure> {
        let permit = if terms.prefer_new {
            self.endpoint.try_open()
        } else {
            None
        };
        let permit = match permit {
            Some(permit) => permit,
            None => match self.pop_idle() {
                Some(connection) => return Ok(connection),
                None => match self.wait_for_connection(terms.deadline).await? {
                    Found::Permit(permit) => permit,
                    Found::Idle(connection) => return Ok(connection),
                },
            },
        };
        within(terms.deadline, async {
            let (transport, _) = connector
                .connect(&self.endpoint, Offer::Http1, Some(permit))
                .await?;
            Ok(Box::new(Http1Connection::new(transport)))
        })
        .await
    }

    /// Waits until a connection may be opened or one comes back.
    async fn wait_for_connection(&self, deadline: Instant) -> Result<Found, Failure> {
        if let Some(permit) = self.endpoint.try_open() {
            return Ok(Found::Permit(permit));
        }
        let _waiting = Waiting::new(&self.endpoint, &self.waiting);
        let found = async {
            loop {
                tokio::select! {
                    permit = self.endpoint.open() => return permit.map(Found::Permit),
                    () = self.returned.notified() => {
                        if let Some(connection) = self.pop_idle() {
                            return Some(Found::Idle(connection));
                        }
                    }
                }
            }
        };
        match tokio::time::timeout_at(deadline, found).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(_) => Err(ErrorKind::PoolExhausted.into()),
        }
    }

    /// Opens the shared HTTP/2 connection, or an HTTP/1.1 connection if that is what the endpoint chooses.
    async fn open_shared(
        &self,
        connector: &Connector,
        terms: Terms,
        offer: Offer,
    ) -> Result<Checkout, Failure> {
        let opening = tokio::time::timeout_at(terms.deadline, self.opening.lock())
            .await
            .map_err(|_| Failure::from(ErrorKind::ConnectTimeout))?;
        if let Some(lease) = self.lease() {
            return Ok(Checkout::Http2(lease));
        }
        if offer == Offer::Either && self.chose_http1.load(Ordering::Relaxed) {
            drop(opening);
            return self.exclusive(connector, terms).await.map(Checkout::Http1);
        }
        let permit = match self.wait_for_connection(terms.deadline).await? {
            Found::Permit(permit) => permit,
            Found::Idle(connection) => return Ok(Checkout::Http1(connection)),
        };
        within(terms.deadline, async {
            match connector.connect(&self.endpoint, offer, Some(permit)).await? {
                (transport, Spoken::Http2) => self.share(transport).await.map(Checkout::Http2),
                (transport, Spoken::Http1) => {
                    self.chose_http1.store(true, Ordering::Relaxed);
                    Ok(Checkout::Http1(Box::new(Http1Connection::new(transport))))
                }
            }
        })
        .await
    }

    /// Makes `transport` the shared connection.
    async fn share(&self, transport: Transport) -> Result<Http2Lease, Failure> {
        let sender = start_http2(transport, &self.tasks).await?;
        let user = Arc::new(());
        *self.shared.lock() = Some(Shared {
            sender: sender.clone(),
            users: Arc::clone(&user),
            last_used: self.clock.now(),
        });
        Ok(Http2Lease {
            sender,
            reused: false,
            user,
        })
    }

    /// A place on the shared connection, if there is one that takes new streams (no GOAWAY, not closed).
    fn lease(&self) -> Option<Http2Lease> {
        let mut slot = self.shared.lock();
        match slot.as_mut() {
            Some(shared) if !shared.sender.is_closed() => {
                shared.last_used = self.clock.now();
                Some(Http2Lease {
                    sender: shared.sender.clone(),
                    reused: true,
                    user: Arc::clone(&shared.users),
                })
            }
            _ => {
                *slot = None;
                None
            }
        }
    }

    /// The idle connection used last that is not closed. [`Slot::prune`] takes the old ones away.
    fn pop_idle(&self) -> Option<Box<Http1Connection>> {
        let mut idle = self.idle.lock();
        while let Some(mut entry) = idle.pop_back() {
            if entry.connection.is_alive() {
                return Some(entry.connection);
            }
        }
        None
    }

    /// Takes a connection back after a complete exchange. It is closed instead when it cannot take another request
    /// now (closing, or the request body was not read to its end), when the limits say so, or when another worker
    /// waits for leave to open one.
    pub(super) fn give_back(&self, mut connection: Box<Http1Connection>) {
        if !connection.is_reusable() || self.endpoint.retired() {
            return;
        }
        let waited_for_here = self.waiting.load(Ordering::Relaxed) > 0;
        if !waited_for_here && self.endpoint.waiting() > 0 {
            return;
        }
        let max_idle = if waited_for_here {
            usize::MAX
        } else {
            self.limits.max_idle
        };
        let Some(count) = IdleCount::take(&self.endpoint, max_idle) else {
            return;
        };
        connection.rest();
        self.idle.lock().push_back(Idle {
            connection,
            since: self.clock.now(),
            _count: count,
        });
        if waited_for_here {
            self.returned.notify_one();
        }
    }

    /// Closes what is closed already, unused for too long, or waited for by another worker. Returns whether the
    /// slot still holds or awaits a connection.
    pub(super) fn prune(&self) -> bool {
        let now = self.clock.now();
        let oldest = now.minus(self.limits.idle_timeout);
        let retired = self.endpoint.retired();
        let mut idle = self.idle.lock();
        idle.retain_mut(|entry| !retired && entry.since >= oldest && entry.connection.is_alive());
        if self.waiting.load(Ordering::Relaxed) == 0 {
            for _ in 0..self.endpoint.waiting() {
                idle.pop_front();
            }
        }
        let mut shared = self.shared.lock();
        if let Some(http2) = shared.as_mut() {
            if Arc::strong_count(&http2.users) > 1 {
                http2.last_used = now;
            }
            if http2.sender.is_closed() || retired || http2.last_used < oldest {
                *shared = None;
            }
        }
        !idle.is_empty() || shared.is_some() || self.waiting.load(Ordering::Relaxed) > 0
    }
}

enum Found {
    Permit(OpenPermit),
    Idle(Box<Http1Connection>),
}

/// Runs `future` up to the connect deadline.
async fn within<T>(
    deadline: Instant,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(deadline, future).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ErrorKind::ConnectTimeout.into()),
    }
}

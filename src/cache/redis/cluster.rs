//! A cluster: the node that serves a key, learnt from the nodes and corrected by their redirects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Cmd, FromRedisValue, Value};
use tokio::sync::{Notify, watch};

use super::backoff::Backoff;
use super::connection::How;
use super::dial::{Dialed, Dialer};
use super::failure::{Then, level_error};
use super::node::{CONNECT_LIMIT, Node, Target};
use super::slots::Slots;
use crate::cache::level::LevelError;
use crate::config::RedisServer;
use crate::tasks::Tasks;

/// Redirects that one command follows.
const MAX_REDIRECTS: usize = 3;
/// Nodes that are connected to at once.
const MAX_NODES: usize = 1024;
/// Time for one node to tell the slots: connecting to it, and its answer.
const LEARN_LIMIT: Duration = Duration::from_millis(500);
/// Time after which the slots are learnt again without a reason.
const RELEARN: Duration = Duration::from_secs(30);

/// A cluster as one runtime sees it.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Arc<Nodes>,
    slots: watch::Receiver<Known>,
    /// The slots are no longer those.
    changed: Arc<Notify>,
}

/// What is known of the slots.
#[derive(Clone, Debug)]
enum Known {
    /// They are being asked for, for the first time.
    Asking,
    /// They are these, as far as is known.
    Slots(Arc<Slots>),
    /// No node has told them yet.
    Nothing(LevelError),
}

/// The nodes in use.
struct Nodes {
    dialer: Arc<Dialer>,
    tasks: Tasks,
    open: RwLock<HashMap<RedisServer, Arc<Node>>>,
}

impl Cluster {
    /// Begins to learn the slots from `seeds`. Must be called inside the runtime that will use the cluster.
    pub(super) fn start(seeds: &[RedisServer], dialer: &Arc<Dialer>, tasks: &Tasks) -> Self {
        let (sender, slots) = watch::channel(Known::Asking);
        let changed = Arc::new(Notify::new());
        let nodes = Arc::new(Nodes {
            dialer: Arc::clone(dialer),
            tasks: tasks.clone(),
            open: RwLock::new(HashMap::new()),
        });
        let learner = Learner {
            seeds: seeds.to_vec(),
            nodes: Arc::clone(&nodes),
            known: sender,
            changed: Arc::clone(&changed),
        };
        tasks.spawn("redis slots", learner.keep());
        Self {
            nodes,
            slots,
            changed,
        }
    }

    /// Sends `command` to the node that serves `key`, and follows where that sends us. The deadline is the caller's.
    pub(super) async fn send<T: FromRedisValue>(&self, key: &[u8], command: &Cmd) -> Result<T, LevelError> {
        let mut server = self.server(key).await?;
        let mut how = How::Plain;
        for _ in 0..=MAX_REDIRECTS {
            let connection = match self.nodes.get(&server)?.connection().await {
                Ok(connection) => connection,
                Err(error) => {
                    // Another node may have taken over its slots.
                    self.changed.notify_one();
                    return Err(error);
                }
            };
            let failure = match connection.send(command, how).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match failure.then {
                Then::Moved(to) => {
                    self.changed.notify_one();
                    server = to.from(&server);
                    how = How::Plain;
                }
                Then::Ask(to) => {
                    server = to.from(&server);
                    how = How::Asking;
                }
                Then::Renew | Then::Nothing => {
                    if matches!(failure.error, LevelError::Unreachable(_)) || failure.then == Then::Renew {
                        self.changed.notify_one();
                    }
                    return Err(failure.error);
                }
            }
        }
        Err(LevelError::Refused(
            "the cluster redirects in a circle".to_owned(),
        ))
    }

    /// A connection to the node that serves `key`, for the caller alone.
    pub(super) async fn dial(&self, key: &[u8]) -> Result<Dialed, LevelError> {
        let server = self.server(key).await?;
        let dialed = self.nodes.dialer.dial(&server, CONNECT_LIMIT).await;
        if dialed.is_err() {
            self.changed.notify_one();
        }
        dialed
    }

    /// The caller of [`Cluster::dial`] was told that another node serves its key.
    pub(super) fn has_changed(&self) {
        self.changed.notify_one();
    }

    /// Whether nobody learns any more, because the runtime is gone or the process ends.
    pub(super) fn has_ended(&self) -> bool {
        self.slots.has_changed().is_err()
    }

    async fn server(&self, key: &[u8]) -> Result<RedisServer, LevelError> {
        let slots = self.slots().await?;
        match slots.primary(key) {
            Some(server) => Ok(server.clone()),
            None => {
                self.changed.notify_one();
                Err(LevelError::Refused(
                    "no node serves the slot of the key".to_owned(),
                ))
            }
        }
    }

    async fn slots(&self) -> Result<Arc<Slots>, LevelError> {
        match &*self.slots.borrow() {
            Known::Slots(slots) => return Ok(Arc::clone(slots)),
            Known::Nothing(error) => return Err(error.clone()),
            Known::Asking => {}
        }
        let mut known = self.slots.clone();
        match known
            .wait_for(|known| !matches!(known, Known::Asking))
            .await
            .as_deref()
        {
            Ok(Known::Slots(slots)) => Ok(Arc::clone(slots)),
            Ok(Known::Nothing(error)) => Err(error.clone()),
            Ok(Known::Asking) | Err(_) => Err(LevelError::Unreachable("the client has ended".to_owned())),
        }
    }
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.open.read().keys()).finish()
    }
}

impl Nodes {
    /// The node of `server`, begun if it is new.
    fn get(&self, server: &RedisServer) -> Result<Arc<Node>, LevelError> {
        if let Some(node) = self.open.read().get(server) {
            return Ok(Arc::clone(node));
        }
        let mut open = self.open.write();
        if open.len() >= MAX_NODES {
            return Err(LevelError::Refused("the cluster has too many nodes".to_owned()));
        }
        let node = open.entry(server.clone()).or_insert_with(|| {
            let target = Target::Server(server.clone());
            Arc::new(Node::start(target, &self.dialer, &self.tasks))
        });
        Ok(Arc::clone(node))
    }

    fn is_up(&self, server: &RedisServer) -> bool {
        self.open.read().get(server).is_some_and(|node| node.is_up())
    }

    /// Closes the connections to nodes that are not among `slots`.
    fn retain(&self, slots: &Slots) {
        self.open
            .write()
            .retain(|server, _| slots.nodes().any(|node| node == server));
    }
}

/// Learns the slots of a cluster.
struct Learner {
    seeds: Vec<RedisServer>,
    nodes: Arc<Nodes>,
    known: watch::Sender<Known>,
    changed: Arc<Notify>,
}

impl Learner {
    async fn keep(self) {
        let unused = self.known.clone();
        tokio::select! {
            () = unused.closed() => {}
            () = self.learn() => {}
        }
    }

    /// Learns the slots again and again: soon when there is a reason, and now and then without.
    async fn learn(&self) {
        let mut backoff = Backoff::new();
        loop {
            match self.ask_all().await {
                Ok(slots) => {
                    let slots = Arc::new(slots);
                    self.nodes.retain(&slots);
                    let is_new = !matches!(&*self.known.borrow(), Known::Slots(known) if *known == slots);
                    self.known.send_replace(Known::Slots(slots));
                    if is_new {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the slots of the Redis cluster are not known");
                    let knows_nothing = !matches!(&*self.known.borrow(), Known::Slots(_));
                    if knows_nothing {
                        self.known.send_replace(Known::Nothing(error));
                        self.changed.notify_one();
                    }
                }
            }
            // Many redirects are one reason, and a node that stays away is none to ask all the time.
            tokio::time::sleep(backoff.next()).await;
            if tokio::time::timeout(RELEARN, self.changed.notified())
                .await
                .is_err()
            {
                backoff.reset();
            }
        }
    }

    /// Asks one node after the other: first those that are connected, then the others that are known, then the seeds.
    async fn ask_all(&self) -> Result<Slots, LevelError> {
        let mut servers: Vec<RedisServer> = match &*self.known.borrow() {
            Known::Slots(slots) => slots.nodes().cloned().collect(),
            Known::Asking | Known::Nothing(_) => Vec::new(),
        };
        servers.sort_by_key(|server| !self.nodes.is_up(server));
        for seed in &self.seeds {
            if !servers.contains(seed) {
                servers.push(seed.clone());
            }
        }
        let mut last = LevelError::Unreachable("no node is configured".to_owned());
        for server in &servers {
            let answer = tokio::time::timeout(LEARN_LIMIT, self.ask(server)).await;
            match answer.unwrap_or(Err(LevelError::Timeout)) {
                Ok(slots) => return Ok(slots),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(&self, server: &RedisServer) -> Result<Slots, LevelError> {
        let dialed = self.nodes.dialer.dial(server, LEARN_LIMIT).await?;
        let mut redis = dialed.redis;
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let answer = async {
            question
                .query_async::<Value>(&mut redis)
                .await
                .map_err(|error| level_error(&error))
        };
        let answer = tokio::select! {
            answer = answer => answer?,
            () = dialed.driver => return Err(LevelError::Unreachable("the node closed the connection".to_owned())),
        };
        Slots::parse(&answer, server)
            .ok_or_else(|| LevelError::Refused("the node knows no slots of the cluster".to_owned()))
    }
}

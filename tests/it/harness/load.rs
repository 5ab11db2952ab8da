//! Keep-alive clients that ask without a pause until they are told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use outrigger::tasks::Tasks;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::call::Call;
use super::connection::Connection;
use super::wait::within;

/// What a client does when the server says `Connection: close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnClose {
    /// Connects again.
    Reconnect,
    /// Leaves, as a client does whose load balancer has seen the server become unready.
    Leave,
}

/// What the clients have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadReport {
    /// Complete answers with status 200.
    pub(crate) answered: usize,
    /// Everything else, in words.
    pub(crate) failures: Vec<String>,
}

/// Clients at work.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    report: Arc<watch::Sender<LoadReport>>,
    clients: Vec<JoinHandle<()>>,
    tasks: Tasks,
}

impl Load {
    /// Starts `clients` connections, each asking for the targets in turn, beginning at places that are far apart: together
    /// they ask for all of them soon, and seldom for the same one at the same time.
    pub(crate) fn start(address: SocketAddr, clients: usize, targets: &[&str], on_close: OnClose) -> Self {
        let stop = watch::Sender::new(false);
        let report = Arc::new(watch::Sender::new(LoadReport::default()));
        let tasks = Tasks::new();
        let targets: Arc<[String]> = targets.iter().map(|target| (*target).to_owned()).collect();
        let start = |index: usize| {
            let offset = index * targets.len() / clients;
            let client = Client {
                address,
                targets: Arc::clone(&targets),
                on_close,
                stopped: stop.subscribe(),
                report: Arc::clone(&report),
            };
            tasks.spawn("load client", client.run(offset))
        };
        let clients = (0..clients).map(start).collect();
        Self {
            stop,
            report,
            clients,
            tasks,
        }
    }

    /// Waits until `count` more requests have been answered.
    pub(crate) async fn more(&self, count: usize) {
        let goal = self.report.borrow().answered + count;
        let mut report = self.report.subscribe();
        let enough = report.wait_for(|report| report.answered >= goal || !report.failures.is_empty());
        drop(
            within("answers under load", enough)
                .await
                .expect("the report is kept"),
        );
    }

    /// Lets every client finish what it does and tells what they have seen.
    pub(crate) async fn stop(mut self) -> LoadReport {
        self.stop.send_replace(true);
        self.join().await
    }

    /// Waits until every client has left by itself ([`OnClose::Leave`]).
    pub(crate) async fn left(mut self) -> LoadReport {
        self.join().await
    }

    async fn join(&mut self) -> LoadReport {
        for client in self.clients.drain(..) {
            within("a load client to end", client)
                .await
                .expect("no panic in a load client");
        }
        self.report.borrow().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

struct Client {
    address: SocketAddr,
    targets: Arc<[String]>,
    on_close: OnClose,
    stopped: watch::Receiver<bool>,
    report: Arc<watch::Sender<LoadReport>>,
}

impl Client {
    async fn run(self, offset: usize) {
        let mut connection = None;
        for target in self.targets.iter().cycle().skip(offset) {
            if *self.stopped.borrow() {
                return;
            }
            match self.ask(&mut connection, target).await {
                Ok(true) => connection = None,
                Ok(false) => {}
                Err(error) => {
                    self.report
                        .send_modify(|report| report.failures.push(format!("{target}: {error}")));
                    return;
                }
            }
            if connection.is_none() && self.on_close == OnClose::Leave {
                return;
            }
        }
    }

    /// One request; whether the server closes the connection after it.
    async fn ask(&self, connection: &mut Option<Connection>, target: &str) -> Result<bool, String> {
        if connection.is_none() {
            *connection = Some(Connection::open(self.address).await?);
        }
        let open = connection.as_mut().ok_or("no connection")?;
        let answer = within("an answer under load", open.fetch(Call::get(target))).await?;
        if answer.status != 200 {
            return Err(format!(
                "status {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            ));
        }
        self.report.send_modify(|report| report.answered += 1);
        Ok(answer.header("connection").eq_ignore_ascii_case("close"))
    }
}

//! `outrigger demo`: a sample AI hub inside the process, the sidecar in front of it, and light traffic through both.
//!
//! The module does not know the application: whoever runs the demo hands in a function that starts a sidecar from
//! YAML, so what the demo shows is what a configuration file gives everyone.

mod config;
mod endpoint;
mod hub;
mod openai;
mod plan;
mod stats;
mod traffic;
mod view;

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::tasks::Tasks;

pub use config::config_yaml;
pub use endpoint::Endpoint;
pub use hub::{Hub, router, serve};
pub use stats::{DemoStats, EndpointStats, Quantiles};

use stats::Recorder;
use view::{Addresses, Screen};

/// Time between two pictures on a terminal.
const TERMINAL_REFRESH: Duration = Duration::from_millis(500);
/// Time between two lines where there is no terminal.
const PLAIN_REFRESH: Duration = Duration::from_secs(2);
/// Time the last requests have to end.
const DRAIN: Duration = Duration::from_secs(3);

/// What the caller chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the sidecar listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its admin listener listens; port 0 takes a free one.
    pub admin: SocketAddr,
    /// How long the demo runs; without it, until Ctrl-C or SIGTERM.
    pub duration: Option<Duration>,
    /// Whether the output is a terminal that can be redrawn in place.
    pub terminal: bool,
}

/// Why a demo failed.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The hub's listener or the terminal failed.
    #[error("demo: {0}")]
    Io(#[from] io::Error),
    /// The sidecar did not start.
    #[error("demo: the sidecar did not start: {0}")]
    Sidecar(Box<dyn std::error::Error + Send + Sync>),
    /// Traffic was sent and nothing came back.
    #[error("demo: none of {sent} requests was answered")]
    NothingAnswered {
        /// Requests sent.
        sent: u64,
    },
}

/// Runs the demo to its end and returns the figures it ended with.
///
/// `start_sidecar` gets the YAML of a configuration, and returns the addresses of the data and the admin listener
/// once the sidecar is ready. The sidecar outlives this call; stopping it is the caller's part.
///
/// # Errors
/// When the hub cannot listen, the sidecar does not start, the output cannot be written, or no request was answered.
pub async fn run<S, F, E>(
    options: Options,
    clock: Clock,
    out: Box<dyn Write + Send>,
    start_sidecar: S,
) -> Result<DemoStats, DemoError>
where
    S: FnOnce(String) -> F,
    F: Future<Output = Result<(SocketAddr, SocketAddr), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tasks = Tasks::new();
    let _ends_with_us = tasks.token().clone().drop_guard();
    let hub = Hub::new(clock.clone());
    let hub_address = start_hub(&hub, &tasks).await?;

    let yaml = config_yaml(hub_address, options.listen, options.admin);
    let (listen, admin) = start_sidecar(yaml)
        .await
        .map_err(|error| DemoError::Sidecar(error.into()))?;

    let recorder = Arc::new(Recorder::new(clock));
    let clients = tasks.child();
    traffic::start(listen, &recorder, &clients);

    let addresses = Addresses {
        sidecar: listen,
        hub: hub_address,
        admin,
    };
    let mut screen = Screen::new(out, options.terminal, addresses);
    screen.welcome()?;
    tokio::select! {
        result = watch(&mut screen, &recorder, &hub) => result?,
        () = end(options.duration) => {}
    }

    traffic::stop(&clients, DRAIN).await;
    let stats = recorder.stats(&hub);
    screen.summary(&stats)?;
    if stats.requests() > 0 && stats.answered() == 0 {
        return Err(DemoError::NothingAnswered {
            sent: stats.requests(),
        });
    }
    Ok(stats)
}

async fn start_hub(hub: &Arc<Hub>, tasks: &Tasks) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let hub = Arc::clone(hub);
    tasks.spawn("demo-hub", async move {
        if let Err(error) = serve(listener, hub).await {
            tracing::error!(%error, "the sample hub stopped");
        }
    });
    Ok(address)
}

/// Shows the figures again and again; ends only when the output fails.
async fn watch(screen: &mut Screen, recorder: &Recorder, hub: &Hub) -> io::Result<()> {
    let every = if screen.is_terminal() {
        TERMINAL_REFRESH
    } else {
        PLAIN_REFRESH
    };
    let mut refresh = tokio::time::interval(every);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.tick().await;
    loop {
        refresh.tick().await;
        screen.refresh(&recorder.stats(hub))?;
    }
}

/// Waits for the end of the demo: its time is over, or somebody asks for it.
async fn end(duration: Option<Duration>) {
    let time_is_over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time_is_over => {}
        () = interrupted() => {}
    }
}

/// Waits for Ctrl-C or SIGTERM; for ever where signals cannot be had.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::Ipv4Addr;

    use super::*;

    fn options() -> Options {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Options {
            listen: any,
            admin: any,
            duration: Some(Duration::ZERO),
            terminal: false,
        }
    }

    fn hub_in(yaml: &str) -> SocketAddr {
        let document: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
        let address = &document["upstreams"]["hub"]["endpoints"][0]["address"];
        address.as_str().unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn the_sidecar_is_given_a_hub_that_listens() {
        let stats = run(options(), Clock::system(), Box::new(io::sink()), async |yaml| {
            let hub = hub_in(&yaml);
            tokio::net::TcpStream::connect(hub).await?;
            Ok::<_, io::Error>((hub, hub))
        });
        assert_eq!(stats.await.unwrap().sum(|endpoint| endpoint.failed), 0);
    }

    #[tokio::test]
    async fn a_sidecar_that_does_not_start_ends_the_demo() {
        let refused = run(options(), Clock::system(), Box::new(io::sink()), async |_| {
            Err::<(SocketAddr, SocketAddr), _>("port in use")
        });
        let error = refused.await.unwrap_err().to_string();
        assert_eq!(error, "demo: the sidecar did not start: port in use");
    }

    #[tokio::test]
    async fn an_output_that_fails_ends_the_demo() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let result = run(options(), Clock::system(), Box::new(Broken), async |yaml| {
            Ok::<_, Infallible>((hub_in(&yaml), hub_in(&yaml)))
        });
        assert!(matches!(result.await, Err(DemoError::Io(_))));
    }
}

//! The upstream side: which endpoint gets a request, the connection it travels on, and the body that comes back.
//!
//! A [`Cluster`] is one upstream of the configuration, shared by all workers: it finds the addresses of the
//! endpoints, checks them, and selects one. A [`WorkerPool`] belongs to one data-plane worker and keeps the
//! connections of that worker, so that nothing is woken across cores while a request passes.
//!
//! Invariant: a response body that ends without an error is complete. Everything else (reset, truncation,
//! deadline, cancelled driver) is an error of [`UpstreamBody`].

mod alarm;
mod balance;
mod body;
mod check;
mod cluster;
mod connect;
mod endpoint;
mod error;
mod health;
mod http1;
mod http2;
mod pool;
mod request;
mod resolve;
mod send;
mod slot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;

pub use body::UpstreamBody;
pub use cluster::{Cluster, EndpointStatus};
pub use endpoint::Endpoint;
pub use error::{BodyError, ClusterError, ErrorKind, SendError};
pub use http1::{OnInterim, Upgraded};
pub use pool::WorkerPool;
pub use request::{BoxError, ExchangeKind, RequestBody};
pub use send::Manner;

//! Warm-up: fetching what will be asked for before it is asked for.
//!
//! This folder holds what needs no I/O beyond one small file: what to fetch (a [`Wanted`]), which requests are
//! popular ([`space_saving`]), which follows which ([`successors`]), and what becomes of a run ([`tally`]). `control`
//! says when something runs, and the proxy runs it as it runs a client's request, behind [`Warmer`].

pub mod file;
pub mod learner;
pub mod space_saving;
pub mod successors;
pub mod tally;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};

/// A request to warm the cache with.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Method.
    pub method: Method,
    /// `http` or `https`, as clients come.
    pub scheme: &'static str,
    /// Host and port as clients ask for them.
    pub authority: HeaderValue,
    /// Path and query.
    pub target: Uri,
    /// Header fields, without `Host`.
    pub headers: HeaderMap,
    /// Body; empty without one.
    pub body: Bytes,
}

/// What became of one request of a warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was fetched or validated, and stored.
    Fetched,
    /// It was there already, in memory or in a level below, or somebody else was fetching it.
    Fresh,
    /// Nothing was stored, for this reason; a name of `verdict` where it has one.
    Skipped(&'static str),
    /// It could not be fetched, for this reason.
    Failed(&'static str),
}

impl Outcome {
    /// The stable name, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Fresh => "fresh",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "failed",
        }
    }
}

/// Whoever takes a request through the same steps as a client's.
///
/// It neither queues nor retries: how many run at once and what happens after a failure is up to the caller. Dropping
/// the future gives the request up.
#[async_trait]
pub trait Warmer: Send + Sync {
    /// Sees to it that what `wanted` asks for is stored and stays fresh for `needed` at least.
    async fn warm(&self, wanted: &Wanted, needed: Duration) -> Outcome;
}

//! What is fetched before it is asked for, resolved.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::model::Name;
use super::values::ScheduleText;

/// Something that is fetched before it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Warm {
    /// Name in jobs and logs.
    pub name: Name,
    /// Where the requests come from.
    pub source: WarmSource,
    /// Whether it runs when the process starts.
    pub at_start: bool,
    /// When it runs again.
    pub schedule: Option<ScheduleText>,
    /// How it runs.
    pub pace: Pace,
}

/// Where the requests of a warm-up come from.
#[derive(Clone, Debug, PartialEq)]
pub enum WarmSource {
    /// A list.
    Requests(Vec<WarmRequest>),
    /// So many of those that were asked for most.
    TopKeys(usize),
    /// What is learned of the order of requests.
    Predict(Predict),
}

/// A request of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmRequest {
    /// Method.
    pub method: Method,
    /// Host and port; none: of the route, else of the listener.
    pub host: Option<String>,
    /// `http` or `https`; none: as the first listener has it.
    pub scheme: Option<&'static str>,
    /// Path and query.
    pub target: String,
    /// Header fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; empty without one.
    pub body: String,
}

/// Prediction of the next request.
#[derive(Clone, Debug, PartialEq)]
pub struct Predict {
    /// The routes whose requests are looked at.
    pub routes: Vec<Name>,
    /// Share of the uses of a request after which the next one has to have followed, above 0 to 1.
    pub confidence: f64,
}

/// How much of the upstream a warm-up takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Requests at once, 1 to 64.
    pub parallel: usize,
    /// Share of the upstream's connections that clients may take before it pauses, 0 to 1.
    pub busy: f64,
    /// Time for one run.
    pub timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            parallel: 2,
            busy: 0.5,
            timeout: Duration::from_secs(600),
        }
    }
}

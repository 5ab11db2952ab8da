//! What can be measured, and of what.

use std::fmt;

/// A quantile, in thousandths: 990 for `p99`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantile(pub u16);

impl Quantile {
    /// As a share: 0.99 for `p99`.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// `p99`, `p99.9`; nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, tenth) = match text.strip_prefix('p')?.split_once('.') {
            Some((whole, tenth)) => (whole, tenth),
            None => (text.get(1..)?, "0"),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !(1..=2).contains(&whole.len()) || tenth.len() != 1 || !digits(whole) || !digits(tenth) {
            return None;
        }
        let thousandths = whole.parse::<u16>().ok()? * 10 + tenth.parse::<u16>().ok()?;
        (thousandths > 0).then_some(Self(thousandths))
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "p{whole}"),
            (whole, tenth) => write!(f, "p{whole}.{tenth}"),
        }
    }
}

/// What can be measured. Over a window, a counter is how much was added, a level is its mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Requests.
    Requests,
    /// Requests per second.
    Rate,
    /// Requests that failed by our or the upstream's fault (5xx, or no answer).
    Errors,
    /// Failed requests as a share of all.
    ErrorRatio,
    /// A quantile of the time of a request, in seconds.
    Latency(Quantile),
    /// Answers from the cache as a share of all look-ups.
    HitRatio,
    /// Bytes of request bodies.
    BytesIn,
    /// Bytes of response bodies.
    BytesOut,
    /// Tokens, those from the cache included.
    Tokens,
    /// Dollars spent on tokens.
    Cost,
    /// Dollars that the cache has saved.
    Saved,
    /// Different principals.
    Principals,
    /// CPU in use, in cores.
    Cpu,
    /// Resident memory, in bytes.
    Memory,
    /// Resident memory as a share of what the process may use.
    MemoryRatio,
    /// Disk in use, in bytes.
    Disk,
    /// Endpoints that may be chosen, as a share of all.
    Healthy,
    /// Level below memory: 1 when up, 0 when down.
    LevelUp,
    /// Answers to too-fast clients (429) and shed requests.
    Shed,
    /// Requests refused because they were malformed.
    Malformed,
    /// Malformed requests as a share of all.
    MalformedRatio,
    /// Admin calls with a token that is not known.
    BadTokens,
    /// Purges.
    Purges,
    /// Entries that came back from a level damaged or for another key.
    IntegrityFailures,
    /// Cache keys that were filled for the first time.
    NewKeys,
    /// Reloads that were refused.
    FailedReloads,
}

/// Names of the metrics, in the order of the documentation.
pub(super) const NAMES: [(&str, Metric); 25] = [
    ("requests", Metric::Requests),
    ("rate", Metric::Rate),
    ("errors", Metric::Errors),
    ("error_ratio", Metric::ErrorRatio),
    ("hit_ratio", Metric::HitRatio),
    ("bytes_in", Metric::BytesIn),
    ("bytes_out", Metric::BytesOut),
    ("tokens", Metric::Tokens),
    ("cost", Metric::Cost),
    ("saved", Metric::Saved),
    ("principals", Metric::Principals),
    ("cpu", Metric::Cpu),
    ("memory_bytes", Metric::Memory),
    ("memory_ratio", Metric::MemoryRatio),
    ("disk_bytes", Metric::Disk),
    ("healthy_ratio", Metric::Healthy),
    ("level_up", Metric::LevelUp),
    ("shed", Metric::Shed),
    ("malformed", Metric::Malformed),
    ("malformed_ratio", Metric::MalformedRatio),
    ("bad_tokens", Metric::BadTokens),
    ("purges", Metric::Purges),
    ("integrity_failures", Metric::IntegrityFailures),
    ("new_keys", Metric::NewKeys),
    ("failed_reloads", Metric::FailedReloads),
];

impl Metric {
    /// The smallest difference that can matter, in the metric's unit: below it nothing is an anomaly, however steady
    /// the metric was.
    pub fn grain(self) -> f64 {
        match self {
            Self::ErrorRatio
            | Self::HitRatio
            | Self::MemoryRatio
            | Self::Healthy
            | Self::MalformedRatio
            | Self::Cpu => 0.01,
            Self::Latency(_) => 0.001,
            Self::Rate => 0.1,
            Self::Cost | Self::Saved => 0.01,
            Self::BytesIn | Self::BytesOut => 1024.0,
            Self::Memory | Self::Disk => 1_048_576.0,
            Self::LevelUp => 0.1,
            Self::Requests
            | Self::Errors
            | Self::Tokens
            | Self::Principals
            | Self::Shed
            | Self::Malformed
            | Self::BadTokens
            | Self::Purges
            | Self::IntegrityFailures
            | Self::NewKeys
            | Self::FailedReloads => 1.0,
        }
    }

    /// Whether its value grows with the window: an amount, not a rate, ratio, quantile or level.
    pub fn is_amount(self) -> bool {
        matches!(
            self,
            Self::Requests
                | Self::Errors
                | Self::BytesIn
                | Self::BytesOut
                | Self::Tokens
                | Self::Cost
                | Self::Saved
                | Self::Shed
                | Self::Malformed
                | Self::BadTokens
                | Self::Purges
                | Self::IntegrityFailures
                | Self::NewKeys
                | Self::FailedReloads
        )
    }

    /// Whether it is one of the process and not of traffic.
    pub(super) fn is_of_system(self) -> bool {
        matches!(
            self,
            Self::Cpu
                | Self::Memory
                | Self::MemoryRatio
                | Self::Disk
                | Self::Malformed
                | Self::MalformedRatio
                | Self::BadTokens
                | Self::Purges
                | Self::FailedReloads
        )
    }

    /// Whether it is kept for scopes of this kind.
    pub(super) fn of(self, scope: &Scope) -> bool {
        let of_system = self.is_of_system();
        match scope {
            Scope::All => !of_system,
            Scope::Route(_) => !of_system && !matches!(self, Self::Healthy | Self::LevelUp),
            Scope::Upstream(_) => matches!(
                self,
                Self::Requests
                    | Self::Rate
                    | Self::Errors
                    | Self::ErrorRatio
                    | Self::Latency(_)
                    | Self::Healthy
            ),
            Scope::Level(_) => matches!(
                self,
                Self::HitRatio | Self::Latency(_) | Self::LevelUp | Self::IntegrityFailures
            ),
            Scope::System => of_system,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(quantile) => write!(f, "latency_{quantile}"),
            metric => {
                let name = NAMES.iter().find(|(_, named)| named == metric);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}

/// Whose metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All traffic.
    #[default]
    All,
    /// A route.
    Route(String),
    /// An upstream.
    Upstream(String),
    /// A cache level.
    Level(String),
    /// The process and its container.
    System,
}

impl Scope {
    /// Label and value; none for what has no name.
    pub fn label(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::All | Self::System => None,
            Self::Route(name) => Some(("route", name)),
            Self::Upstream(name) => Some(("upstream", name)),
            Self::Level(name) => Some(("level", name)),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label() {
            Some((label, name)) => write!(f, "{{{label}=\"{name}\"}}"),
            None => Ok(()),
        }
    }
}

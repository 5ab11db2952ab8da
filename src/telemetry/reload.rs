//! How reloads are told.

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new configuration is in force.
    Applied,
    /// Nothing had changed.
    Unchanged,
    /// The new configuration has problems; the old one stays.
    Refused,
}

impl ReloadResult {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

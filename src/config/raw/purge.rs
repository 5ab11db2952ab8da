//! `cache.purge`: how purges reach replicas.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::Text;
use crate::config::units::Positive;
use crate::config::values::NameText;

/// How purges, and invalidations by unsafe requests, reach the other replicas. Only with a Redis level: what one replica
/// has stored there is not used by another one after it was purged.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeSettings {
    /// Name of the Redis level whose servers carry them. Absent: the first Redis level.
    #[schemars(extend("x-restart" = true))]
    pub replicas_via: Option<Text<NameText>>,
    /// Without contact to them for longer than this, an entry is used for at most this long after its fill, or after the
    /// contact was lost; then it is validated. At least 1s.
    #[schemars(extend("default" = "30s", "x-restart" = true))]
    pub l1_cap_when_unreachable: Option<Text<Positive<Duration>>>,
}

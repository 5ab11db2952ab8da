//! tokens: what an answer's tokens cost, or would have cost, by the configuration in force.

use crate::cache::usage::Usage;
use crate::config::Route;
use crate::control::state::Snapshot;
use crate::telemetry::usage::{TokenRecord, TokenSource};

/// The tokens of an answer with their price.
pub(super) fn priced(snapshot: &Snapshot, route: &Route, usage: &Usage, source: TokenSource) -> TokenRecord {
    let tokens = usage.tokens;
    let price = snapshot.config.prices.of(&usage.model);
    TokenRecord {
        provider: route.usage.provider(),
        model: usage.model.clone(),
        tokens,
        source,
        dollars: price.map_or(0.0, |price| {
            price.dollars(
                tokens.input,
                tokens.output,
                tokens.cached_input,
                tokens.cache_write,
            )
        }),
    }
}

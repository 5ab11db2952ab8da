//! lookup, below memory: what the levels there have for a request that memory could not answer.

use std::sync::Arc;

use super::answer::Answer;
use super::exchange::Exchange;
use super::fill::Fill;
use super::inbound::Inbound;
use super::refresh::refresh_behind;
use super::serve;
use crate::cache::engine::{self, Lookup};
use crate::cache::entry::Entry;
use crate::cache::flight::{Grounds, Leader};
use crate::cache::request::Keyed;
use crate::cache::verdict::MissReason;
use crate::config::RouteCache;
use crate::control::state::ActiveRoute;
use crate::telemetry::record::LevelId;

/// An entry that may answer.
pub(crate) struct Found {
    entry: Arc<Entry>,
    level: LevelId,
    /// Whether it is due for validation behind the client's back.
    due: bool,
}

/// Looks in every level below memory. What is found but cannot answer becomes the `stale` entry, to be validated.
pub(crate) async fn look(
    exchange: &mut Exchange,
    rules: &RouteCache,
    request: &Inbound,
    keyed: &Keyed,
    stale: &mut Option<Arc<Entry>>,
) -> Option<Found> {
    let state = Arc::clone(&exchange.worker.state);
    let below = state.cache.look_below(rules, &request.lookup(keyed)).await?;
    let (entry, due) = match below.lookup {
        Lookup::Fresh(entry) | Lookup::Part(entry) => (entry, false),
        Lookup::Refresh(entry) => (entry, true),
        Lookup::Miss { reason, stale: found } => {
            if reason != MissReason::Uri {
                exchange.missed(reason);
            }
            *stale = found.or(stale.take());
            return None;
        }
    };
    Some(Found {
        entry,
        level: below.level,
        due,
    })
}

impl Found {
    /// Gives it to everybody who has boarded meanwhile.
    pub(crate) fn publish(&self, leader: Leader) {
        leader.publish(Arc::clone(&self.entry), Grounds::Found(Some(self.level)));
    }

    /// Answers with it.
    pub(crate) fn answer(
        self,
        exchange: &mut Exchange,
        route: &Arc<ActiveRoute>,
        request: &mut Inbound,
        keyed: &Keyed,
    ) -> Answer {
        exchange.record.level = Some(self.level);
        if self.due {
            refresh_behind(exchange, route, request, keyed, &self.entry);
            serve::stale(exchange, request, &self.entry, "stale-while-revalidate")
        } else {
            serve::fresh(exchange, request, &self.entry)
        }
    }
}

/// Runs a fill that nobody waits for, unless a level has what another replica has fetched since.
pub(crate) async fn fill_unless_found(fill: Fill, leader: Leader) {
    let (worker, route) = (Arc::clone(&fill.worker), Arc::clone(&fill.route));
    if let Some(rules) = &route.config.cache {
        let request = engine::Request {
            key: &fill.keyed.key,
            method: &fill.method,
            headers: &fill.asked,
        };
        let below = worker.state.cache.look_below(rules, &request).await;
        if let Some(below) = below
            && let Lookup::Fresh(entry) = below.lookup
        {
            return leader.publish(entry, Grounds::Found(Some(below.level)));
        }
    }
    fill.run(leader, None).await;
}

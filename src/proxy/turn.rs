//! turn: a fill that waits until no other replica fetches the same, on routes with `collapse: fleet`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::below::{self, Found};
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::join::patience;
use crate::cache::engine::{Cache, Lookup};
use crate::cache::entry::Entry;
use crate::cache::key::Key;
use crate::cache::replication::{Lease, Turn};
use crate::cache::request::Keyed;
use crate::config::{Collapse, RouteCache};

/// Time between two looks for what another replica stores; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Longest time for what was fetched to reach the level where others look for it.
const WRITING: Duration = Duration::from_millis(250);

/// What came of waiting.
pub(super) enum Outcome {
    /// Another replica has stored it.
    Found(Found),
    /// It has to be fetched; with a lease others wait for that.
    Fetch(Option<Lease>),
}

/// Waits for this replica's turn to fetch, or for what another one fetches, at most as long as for another request's fill.
pub(super) async fn wait(
    exchange: &mut Exchange,
    rules: &RouteCache,
    request: &Inbound,
    keyed: &Keyed,
    stale: &mut Option<Arc<Entry>>,
) -> Outcome {
    let state = Arc::clone(&exchange.worker.state);
    if rules.collapse != Collapse::Fleet || !rules.write {
        return Outcome::Fetch(None);
    }
    let deadline = Instant::now() + patience(exchange.route.as_ref().map(|route| &*route.config));
    let (mut first, mut pause) = (None, FIRST_PAUSE);
    loop {
        let holder = match state.cache.ask_for_turn(rules, &keyed.key).await {
            None => return Outcome::Fetch(None),
            Some(Turn::Ours(lease)) if first.is_none() => return Outcome::Fetch(Some(lease)),
            Some(Turn::Ours(lease)) => {
                // It may have been stored just before the lease was given back.
                return match below::look(exchange, rules, request, keyed, stale).await {
                    Some(found) => {
                        exchange.worker.tasks.spawn_to_end(lease.give_back());
                        Outcome::Found(found)
                    }
                    None => Outcome::Fetch(Some(lease)),
                };
            }
            Some(Turn::Theirs(holder)) => holder,
        };
        // Whoever had the turn first has brought nothing: there may be nothing to wait for.
        if *first.get_or_insert(holder) != holder || Instant::now() >= deadline {
            return Outcome::Fetch(None);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let there = state.cache.peek_below(rules, &request.lookup(keyed)).await;
        if there.is_some_and(|below| matches!(below.lookup, Lookup::Fresh(_)))
            && let Some(found) = below::look(exchange, rules, request, keyed, stale).await
        {
            return Outcome::Found(found);
        }
    }
}

/// Does `work`, a fill of `key`, and gives the lease back when others can find what came of it.
pub(super) async fn during(lease: Lease, cache: &Cache, key: &Key, work: impl Future<Output = ()>) {
    lease
        .during(async {
            work.await;
            let deadline = Instant::now() + WRITING;
            while cache.is_being_written(key) && Instant::now() < deadline {
                sleep(FIRST_PAUSE).await;
            }
        })
        .await;
    lease.give_back().await;
}

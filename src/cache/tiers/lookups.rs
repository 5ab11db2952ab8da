//! Look-ups under way: requests for one key that look below memory at the same time look once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::super::digest::KeyDigest;
use super::super::digest_hash::DigestHash;

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;

type Shard<T> = Mutex<HashMap<KeyDigest, Arc<OnceCell<T>>, DigestHash>>;

/// The look-ups under way, by key.
#[derive(Debug)]
pub(super) struct LookUps<T>([Shard<T>; SHARDS]);

impl<T: Clone> LookUps<T> {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// What `look` finds, or what the one finds who is looking for `key` already. If he goes away, the next of those
    /// who wait looks himself.
    pub(super) async fn once(&self, key: &KeyDigest, look: impl Future<Output = T>) -> T {
        let shard = self.shard(key);
        let cell = Arc::clone(shard.lock().entry(*key).or_default());
        let seat = Seat { shard, key, cell };
        seat.cell.get_or_init(|| look).await.clone()
    }

    fn shard(&self, key: &KeyDigest) -> &Shard<T> {
        // The last byte: the first ones choose the bucket in the shard.
        let [.., last] = key.0;
        &self.0[usize::from(last) % SHARDS]
    }
}

/// A place among those who wait for a look-up. The first who leaves a finished one takes it out of the table, and so
/// does the last who leaves an unfinished one.
struct Seat<'s, T> {
    shard: &'s Shard<T>,
    key: &'s KeyDigest,
    cell: Arc<OnceCell<T>>,
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        let mut shard = self.shard.lock();
        let listed = shard
            .get(self.key)
            .is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // The table's own and this one; under the lock nobody can take another.
        if listed && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            shard.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use tokio::sync::Notify;

    use super::*;

    const KEY: KeyDigest = KeyDigest([1; 32]);

    fn listed(lookups: &LookUps<usize>) -> usize {
        lookups.0.iter().map(|shard| shard.lock().len()).sum()
    }

    #[tokio::test]
    async fn requests_at_the_same_time_look_once_and_later_ones_again() {
        let (lookups, looks, gate) = (LookUps::new(), AtomicUsize::new(0), Notify::new());
        let look = || {
            lookups.once(&KEY, async {
                gate.notified().await;
                looks.fetch_add(1, Ordering::Relaxed)
            })
        };
        let all = futures_util::future::join_all((0..100).map(|_| look()));
        let (found, ()) = tokio::join!(all, async { gate.notify_one() });
        assert_eq!(found, [0; 100]);
        gate.notify_one();
        assert_eq!(look().await, 1);
        assert_eq!(listed(&lookups), 0);
    }

    #[tokio::test]
    async fn when_the_one_who_looks_goes_away_the_next_one_looks() {
        let lookups = LookUps::new();
        let mut gone = Box::pin(lookups.once(&KEY, std::future::pending()));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut next = Box::pin(lookups.once(&KEY, async { 2 }));
        assert!(next.as_mut().now_or_never().is_none(), "it waits");
        drop(gone);
        assert_eq!(next.await, 2);
        assert_eq!(listed(&lookups), 0);
        assert!(
            Box::pin(lookups.once(&KEY, std::future::pending()))
                .now_or_never()
                .is_none()
        );
        assert_eq!(listed(&lookups), 0, "nobody is left behind");
    }
}

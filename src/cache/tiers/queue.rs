//! What waits to be written to a level: bounded, and of each key only the newest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::digest::KeyDigest;
use super::super::digest_hash::DigestHash;
use super::super::slot::Slot;

/// A change of what a level keeps under one key.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// These variants take the place of what is there.
    Put(Arc<Slot>),
    /// Nothing is left there.
    Remove,
}

impl Write {
    /// Bytes that it keeps in memory.
    fn weight(&self) -> u64 {
        match self {
            Self::Put(slot) => slot.weight(),
            Self::Remove => 0,
        }
    }
}

/// Writes that wait, and those that are under way.
///
/// Invariant: the writes of one key are done one after the other, in their order; of those that wait only the newest
/// is done at all.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    max_writes: usize,
    max_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Keys whose write may begin, the oldest first.
    order: VecDeque<KeyDigest>,
    waiting: HashMap<KeyDigest, Write, DigestHash>,
    under_way: HashMap<KeyDigest, Write, DigestHash>,
    /// Of those that wait.
    bytes: u64,
    closed: bool,
}

impl Queue {
    /// An empty queue for at most so many writes, which keep at most so many bytes; one write always fits.
    pub(super) fn new(max_writes: usize, max_bytes: u64) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            max_writes,
            max_bytes,
        }
    }

    /// Adds a write, in place of one of the same key that waits. Returns how many had to be given up for it, or whether
    /// it was given up itself: removals go before writes, which can be done again.
    pub(super) fn push(&self, key: KeyDigest, write: Write) -> usize {
        let mut state = self.state.lock();
        if state.closed {
            return 1;
        }
        let weight = write.weight();
        if let Some(old) = state.waiting.remove(&key) {
            state.bytes -= old.weight();
        } else if !state.under_way.contains_key(&key) {
            state.order.push_back(key);
        }
        let is_removal = matches!(write, Write::Remove);
        state.bytes += weight;
        state.waiting.insert(key, write);
        let mut dropped = 0;
        while state.waiting.len() > self.max_writes
            || (state.bytes > self.max_bytes && state.waiting.len() > 1)
        {
            let victim = if is_removal {
                state.oldest_put().unwrap_or(key)
            } else {
                key
            };
            state.forget(&victim);
            dropped += 1;
        }
        drop(state);
        self.changed.notify_one();
        dropped
    }

    /// What the level will hold under `key` when everything is done; none if nothing is to be done.
    pub(super) fn pending(&self, key: &KeyDigest) -> Option<Write> {
        let state = self.state.lock();
        let newest = state.waiting.get(key).or_else(|| state.under_way.get(key));
        newest.cloned()
    }

    /// The next write, once there is one; none when the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<Job<'_>> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if let Some(key) = state.order.pop_front() {
                    let Some(write) = state.waiting.remove(&key) else {
                        continue;
                    };
                    state.bytes -= write.weight();
                    state.under_way.insert(key, write.clone());
                    drop(state);
                    // Whoever else waits may have missed the call for this one.
                    self.changed.notify_one();
                    return Some(Job {
                        queue: self,
                        key,
                        write,
                    });
                }
                if state.closed {
                    drop(state);
                    self.changed.notify_waiters();
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Writes that wait or are under way.
    pub(super) fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.under_way.len()
    }

    /// Takes no more; what waits is still done.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// Gives up everything that waits; how much that was.
    pub(super) fn clear(&self) -> usize {
        let mut state = self.state.lock();
        let dropped = state.waiting.len();
        state.waiting.clear();
        state.order.clear();
        state.bytes = 0;
        dropped
    }
}

impl State {
    fn oldest_put(&self) -> Option<KeyDigest> {
        let is_put = |key: &&KeyDigest| matches!(self.waiting.get(*key), Some(Write::Put(_)));
        self.order.iter().find(is_put).copied()
    }

    fn forget(&mut self, key: &KeyDigest) {
        if let Some(write) = self.waiting.remove(key) {
            self.bytes -= write.weight();
        }
        self.order.retain(|waiting| waiting != key);
    }
}

/// A write that is under way until it is dropped.
#[derive(Debug)]
pub(super) struct Job<'q> {
    queue: &'q Queue,
    pub(super) key: KeyDigest,
    pub(super) write: Write,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.under_way.remove(&self.key);
        if state.waiting.contains_key(&self.key) {
            state.order.push_back(self.key);
            drop(state);
            self.queue.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::super::entry::sample;
    use super::*;

    fn key(n: u8) -> KeyDigest {
        KeyDigest([n; 32])
    }

    fn put(body: &[u8]) -> Write {
        let entry = sample::entry_with("a:GET h/", &[], 0, Default::default(), body);
        Write::Put(Arc::new(Slot::new(entry)))
    }

    fn body(write: &Write) -> String {
        match write {
            Write::Put(slot) => String::from_utf8(slot.variants().next().unwrap().body().to_vec()).unwrap(),
            Write::Remove => "-".into(),
        }
    }

    fn take(queue: &Queue) -> Option<Job<'_>> {
        queue.next().now_or_never().flatten()
    }

    #[test]
    fn of_one_key_the_newest_write_is_done_once() {
        let queue = Queue::new(10, u64::MAX);
        assert_eq!(queue.push(key(1), put(b"old")), 0);
        assert_eq!(queue.push(key(2), put(b"other")), 0);
        assert_eq!(queue.push(key(1), put(b"new")), 0);
        assert_eq!(body(&queue.pending(&key(1)).unwrap()), "new");
        let first = take(&queue).unwrap();
        assert_eq!((first.key, body(&first.write)), (key(1), "new".into()));
        assert_eq!(body(&take(&queue).unwrap().write), "other");
        drop(first);
        assert!(take(&queue).is_none() && queue.len() == 0);
    }

    #[test]
    fn the_writes_of_one_key_do_not_overtake_each_other() {
        let queue = Queue::new(10, u64::MAX);
        queue.push(key(1), put(b"one"));
        let first = take(&queue).unwrap();
        queue.push(key(1), Write::Remove);
        assert!(take(&queue).is_none(), "the first is still under way");
        assert!(matches!(queue.pending(&key(1)), Some(Write::Remove)));
        assert_eq!(queue.len(), 2);
        drop(first);
        assert_eq!(body(&take(&queue).unwrap().write), "-");
    }

    #[test]
    fn what_is_under_way_can_be_read_until_it_is_done() {
        let queue = Queue::new(10, u64::MAX);
        queue.push(key(1), put(b"one"));
        let job = take(&queue).unwrap();
        assert_eq!(body(&queue.pending(&key(1)).unwrap()), "one");
        drop(job);
        assert!(queue.pending(&key(1)).is_none());
    }

    #[test]
    fn a_full_queue_gives_up_new_writes_but_makes_room_for_removals() {
        let queue = Queue::new(2, u64::MAX);
        queue.push(key(1), put(b"1"));
        queue.push(key(2), put(b"2"));
        assert_eq!(queue.push(key(3), put(b"3")), 1);
        assert!(queue.pending(&key(3)).is_none());
        assert_eq!(queue.push(key(4), Write::Remove), 1);
        assert!(queue.pending(&key(1)).is_none() && queue.pending(&key(4)).is_some());
        assert_eq!(queue.push(key(5), Write::Remove), 1);
        assert_eq!(queue.push(key(6), Write::Remove), 1, "only removals are left");
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn bytes_are_bounded_and_one_write_always_fits() {
        let large = vec![b'x'; 10_000];
        let queue = Queue::new(10, 15_000);
        assert_eq!(queue.push(key(1), put(&vec![b'x'; 20_000])), 0);
        assert_eq!(queue.push(key(2), put(b"small")), 1);
        assert_eq!(queue.push(key(1), put(&large)), 0);
        assert_eq!(queue.push(key(3), put(&large)), 1);
        drop(take(&queue));
        assert_eq!(
            queue.push(key(3), put(&large)),
            0,
            "what is done no longer counts"
        );
    }

    #[tokio::test]
    async fn a_closed_queue_is_emptied_and_takes_no_more() {
        let queue = Queue::new(10, u64::MAX);
        queue.push(key(1), put(b"1"));
        queue.close();
        assert_eq!(queue.push(key(2), put(b"2")), 1);
        assert!(queue.next().await.is_some());
        assert!(queue.next().await.is_none() && queue.next().await.is_none());
    }

    #[tokio::test]
    async fn everybody_who_waits_learns_of_the_end() {
        let queue = Queue::new(10, u64::MAX);
        let (first, second, ()) = tokio::join!(queue.next(), queue.next(), async { queue.close() });
        assert!(first.is_none() && second.is_none());
    }

    #[tokio::test]
    async fn each_write_reaches_one_of_those_who_wait() {
        let queue = Queue::new(10, u64::MAX);
        let (first, second, ()) = tokio::join!(queue.next(), queue.next(), async {
            queue.push(key(1), put(b"1"));
            queue.push(key(2), put(b"2"));
        });
        assert!(first.is_some() && second.is_some());
    }
}

//! replay: a stored event stream on its way out, at once or at the pace at which it came.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::FRAME;
use crate::cache::entry::Entry;
use crate::cache::stream::Marks;

/// A stored event stream that is being sent. Its length is not announced, for that of a live one is not either.
pub(crate) struct Replay {
    body: Bytes,
    /// What is still to come later; none when all of it may go out.
    marks: Option<Marks<Bytes>>,
    /// Bytes of `body` whose time has come.
    due: usize,
    /// The next bytes, and when their time comes.
    next: Option<(usize, Pin<Box<Sleep>>)>,
    /// The time of the latest mark.
    at: Instant,
}

impl Replay {
    /// The body of `entry`, at once.
    pub(crate) fn instant(entry: &Entry) -> Self {
        let body = entry.body();
        Self {
            due: body.len(),
            body,
            marks: None,
            next: None,
            at: Instant::now(),
        }
    }

    /// The body of `entry` at its recorded pace, beginning now. What was stored without a pace goes out at once.
    pub(crate) fn recorded(entry: &Entry) -> Self {
        Self {
            due: 0,
            marks: Some(Marks::new(entry.shared_pace())),
            ..Self::instant(entry)
        }
    }

    /// The next part of the body, none at its end.
    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.due == 0 && !self.body.is_empty() {
            if let Some((bytes, sleep)) = &mut self.next {
                ready!(sleep.as_mut().poll(context));
                self.due = (*bytes).min(self.body.len());
                self.next = None;
                continue;
            }
            match self.marks.as_mut().and_then(Iterator::next) {
                Some((bytes, after)) => {
                    self.at = self.at.checked_add(after).unwrap_or(self.at);
                    self.next = Some((bytes, Box::pin(sleep_until(self.at))));
                }
                // What stands behind the last event has no time of its own.
                None => self.due = self.body.len(),
            }
        }
        if self.body.is_empty() {
            return Poll::Ready(None);
        }
        let part = self.body.split_to(self.due.min(FRAME));
        self.due -= part.len();
        Poll::Ready(Some(part))
    }

    /// Whether all of it has gone out.
    pub(crate) fn is_over(&self) -> bool {
        self.body.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::cache::entry::{NewEntry, Notes};
    use crate::cache::life::Life;
    use crate::cache::purge::Moment;
    use crate::cache::stream::Recorder;
    use crate::clock::Timestamp;

    const BEGAN: Timestamp = Timestamp::from_secs(1);

    fn entry(body: &[u8], pace: &[u8]) -> Arc<Entry> {
        Entry::build(NewEntry {
            full_key: b"key",
            label: "chat:POST h/",
            route: "chat".into(),
            tenant: None,
            tags: &[],
            nominated: Default::default(),
            status: StatusCode::OK,
            headers: &HeaderMap::new(),
            notes: Notes { pace, usage: &[] },
            body: &[Bytes::copy_from_slice(body)],
            life: Life::fresh(BEGAN, Duration::from_secs(60)),
            moment: Moment::default(),
            fetch_time: Duration::ZERO,
            public: false,
            sensitive: false,
            stored_at: BEGAN,
        })
    }

    /// What comes, and after how many milliseconds.
    async fn parts(mut replay: Replay) -> Vec<(String, u128)> {
        let began = Instant::now();
        let mut parts = Vec::new();
        while let Some(part) = poll_fn(|context| replay.poll_part(context)).await {
            let text = String::from_utf8(part.to_vec()).unwrap();
            parts.push((text, began.elapsed().as_millis()));
        }
        assert!(replay.is_over());
        parts
    }

    fn recorded() -> Vec<u8> {
        let mut recorder = Recorder::new(BEGAN);
        recorder.chunk(5, Some(5), BEGAN.plus(Duration::from_millis(40)));
        recorder.chunk(8, Some(5), BEGAN.plus(Duration::from_millis(1540)));
        recorder.encode()
    }

    fn at(text: &str, millis: u128) -> (String, u128) {
        (text.to_owned(), millis)
    }

    #[tokio::test(start_paused = true)]
    async fn the_recorded_pace_is_kept() {
        let entry = entry(b"one..two..end", &recorded());
        let expected = [at("one..", 40), at("two..", 1540), at("end", 1540)];
        assert_eq!(parts(Replay::recorded(&entry)).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn at_once_nothing_waits() {
        let with_pace = entry(b"one..two..end", &recorded());
        assert_eq!(parts(Replay::instant(&with_pace)).await, [at("one..two..end", 0)]);
        let without = entry(b"one..two..end", &[]);
        assert_eq!(parts(Replay::recorded(&without)).await, [at("one..two..end", 0)]);
        assert_eq!(parts(Replay::recorded(&entry(b"", &[]))).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_stream_comes_in_frames() {
        let large = entry(&vec![b'x'; 2 * FRAME + 1], &[]);
        let lengths: Vec<usize> = parts(Replay::instant(&large))
            .await
            .iter()
            .map(|part| part.0.len())
            .collect();
        assert_eq!(lengths, [FRAME, FRAME, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn marks_beyond_the_body_are_of_no_harm() {
        let pace = [200, 1, 10, 5, 0xff];
        assert_eq!(
            parts(Replay::recorded(&entry(b"abc", &pace))).await,
            [at("abc", 10)]
        );
    }
}

//! The pace of a stream: which bytes came when, in a few bytes per event.

use std::time::Duration;

use crate::cache::number::{read_number, write_number};
use crate::clock::Timestamp;

/// Most marks of one stream. With more, each two become one: the pace gets coarser, its length stays.
const MAX_MARKS: usize = 2048;

/// Records the pace of one stream while it passes.
#[derive(Clone, Debug)]
pub struct Recorder {
    began: Timestamp,
    /// Bytes of the chunks before.
    passed: u64,
    /// Up to which byte, and at which millisecond; both only grow.
    marks: Vec<(u64, u64)>,
}

impl Recorder {
    /// For a stream whose head came at `began`.
    pub fn new(began: Timestamp) -> Self {
        Self {
            began,
            passed: 0,
            marks: Vec::new(),
        }
    }

    /// A chunk of `length` bytes came at `now`; the last event that ended in it ended after `ended` bytes of it.
    pub fn chunk(&mut self, length: usize, ended: Option<usize>, now: Timestamp) {
        if let Some(ended) = ended {
            self.mark(self.passed.saturating_add(ended as u64), now);
        }
        self.passed = self.passed.saturating_add(length as u64);
    }

    fn mark(&mut self, up_to: u64, now: Timestamp) {
        let at = u64::try_from(now.since(self.began).as_millis()).unwrap_or(u64::MAX);
        match self.marks.last_mut() {
            Some(last) if last.1 >= at => last.0 = up_to,
            _ => self.marks.push((up_to, at)),
        }
        if self.marks.len() > MAX_MARKS {
            // The later of two: no byte is replayed before its time.
            let mut odd = false;
            self.marks.retain(|_| {
                odd = !odd;
                !odd
            });
            // The newest stands behind the pairs.
            if self.marks.last().is_none_or(|last| last.0 < up_to) {
                self.marks.push((up_to, at));
            }
        }
    }

    /// The marks as pairs of variable-length numbers: bytes and milliseconds since the mark before.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.marks.len() * 4);
        let (mut up_to, mut at) = (0, 0);
        for mark in &self.marks {
            write_number(mark.0 - up_to, &mut bytes);
            write_number(mark.1 - at, &mut bytes);
            (up_to, at) = *mark;
        }
        bytes
    }
}

/// Reads what [`Recorder::encode`] wrote: so many bytes, so long after those before.
#[derive(Clone, Debug, Default)]
pub struct Marks<B>(B, usize);

impl<B: AsRef<[u8]>> Marks<B> {
    /// The marks in `bytes`.
    pub fn new(bytes: B) -> Self {
        Self(bytes, 0)
    }
}

impl<B: AsRef<[u8]>> Iterator for Marks<B> {
    type Item = (usize, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.0.as_ref().get(self.1..)?;
        let length = rest.len();
        let bytes = read_number(&mut rest)?;
        let after = read_number(&mut rest)?;
        self.1 += length - rest.len();
        Some((usize::try_from(bytes).ok()?, Duration::from_millis(after)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Timestamp = Timestamp::from_secs(5);

    fn after(millis: u64) -> Timestamp {
        BEGAN.plus(Duration::from_millis(millis))
    }

    fn marks(recorder: &Recorder) -> Vec<(usize, u64)> {
        Marks::new(recorder.encode())
            .map(|(bytes, after)| (bytes, u64::try_from(after.as_millis()).unwrap()))
            .collect()
    }

    #[test]
    fn bytes_belong_to_the_moment_at_which_their_event_ended() {
        let mut recorder = Recorder::new(BEGAN);
        recorder.chunk(10, Some(8), after(100));
        recorder.chunk(5, None, after(150));
        recorder.chunk(5, Some(5), after(300));
        recorder.chunk(7, Some(7), after(300));
        assert_eq!(marks(&recorder), [(8, 100), (19, 200)]);
        assert_eq!(recorder.encode(), [8, 100, 19, 0xc8, 1]);
    }

    #[test]
    fn a_long_stream_has_a_coarser_pace_and_the_same_length() {
        let mut recorder = Recorder::new(BEGAN);
        for event in 1..=20_000 {
            recorder.chunk(3, Some(3), after(10 * event));
        }
        let marks = marks(&recorder);
        assert!(
            marks.len() <= MAX_MARKS && marks.len() > MAX_MARKS / 4,
            "{}",
            marks.len()
        );
        assert_eq!(marks.iter().map(|mark| mark.0).sum::<usize>(), 60_000);
        assert_eq!(marks.iter().map(|mark| mark.1).sum::<u64>(), 200_000);
        let (mut up_to, mut at) = (0, 0);
        for (bytes, wait) in marks {
            (up_to, at) = (up_to + bytes, at + wait);
            assert!(at >= 10 * (up_to as u64 / 3), "no byte comes before its time");
        }
    }

    #[test]
    fn a_torn_mark_is_none() {
        assert_eq!(Marks::new([1_u8, 0x80]).next(), None);
    }
}

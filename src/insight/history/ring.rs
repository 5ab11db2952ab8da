//! The latest samples of all scopes, in memory: one frame for each time, bounded in age and in bytes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Resolution;
use super::encoding::{self, number, read};
use super::sample::Sample;
use super::scope::ScopeId;

/// Bytes of a frame beside its samples.
const FRAME: usize = 64;

/// What one time holds: samples by scope, as bytes.
pub(super) type Frame = Vec<(ScopeId, Vec<u8>)>;

/// Frames in the order of time.
#[derive(Debug)]
pub(super) struct Ring {
    resolution: Resolution,
    /// Seconds for which a frame is kept.
    keep: u64,
    most_bytes: usize,
    bytes: usize,
    frames: VecDeque<Packed>,
    /// Beginning of the newest time that had to make room; what is later is all there.
    dropped: Option<u64>,
}

#[derive(Debug)]
struct Packed {
    start: u64,
    /// For each scope its number, the length of its sample, and the sample.
    bytes: Box<[u8]>,
}

impl Ring {
    /// An empty ring.
    pub(super) fn new(resolution: Resolution, keep: Duration, most_bytes: usize) -> Self {
        Self {
            resolution,
            keep: keep.as_secs(),
            most_bytes,
            bytes: 0,
            frames: VecDeque::new(),
            dropped: None,
        }
    }

    /// Adds samples to the time that begins at `start`, which may be any: a clock may go back.
    pub(super) fn add(&mut self, start: u64, frame: &Frame) {
        let place = self.frames.partition_point(|known| known.start < start);
        let known = self.frames.get(place).filter(|known| known.start == start);
        let merged = match known {
            Some(known) => Packed::new(start, merge(known, frame).iter()),
            None => Packed::new(start, frame.iter()),
        };
        self.bytes += merged.size();
        match self.frames.get_mut(place).filter(|known| known.start == start) {
            Some(known) => self.bytes -= std::mem::replace(known, merged).size(),
            None => self.frames.insert(place, merged),
        }
        self.trim();
    }

    fn trim(&mut self) {
        let newest = self.frames.back().map_or(0, |frame| frame.start);
        let oldest = newest.saturating_sub(self.keep);
        while let Some(first) = self.frames.front()
            && (first.start < oldest || (self.bytes > self.most_bytes && first.start < newest))
        {
            self.bytes -= first.size();
            self.dropped = self.dropped.max(Some(first.start));
            self.frames.pop_front();
        }
    }

    /// The first time of which nothing had to make room.
    pub(super) fn complete_since(&self) -> u64 {
        self.dropped
            .map_or(0, |start| start.saturating_add(self.resolution.seconds()))
    }

    /// Whether something is known of the time from `from` to before `to`.
    pub(super) fn covers(&self, from: u64, to: u64) -> bool {
        self.range(from, to).next().is_some()
    }

    /// Tells the samples of a scope from `from` to before `to`, in order. Where the time is known and nothing happened
    /// there is none.
    pub(super) fn each(&self, scope: ScopeId, from: u64, to: u64, mut tell: impl FnMut(u64, &[u8])) {
        for frame in self.range(from, to) {
            if let Some(sample) = frame.find(scope) {
                tell(frame.start, sample);
            }
        }
    }

    /// Tells the samples of all scopes from `from` to before `to`.
    pub(super) fn each_sample(&self, from: u64, to: u64, mut tell: impl FnMut(ScopeId, &[u8])) {
        for frame in self.range(from, to) {
            frame.samples().for_each(|(scope, sample)| tell(scope, sample));
        }
    }

    fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Packed> {
        let first = self.frames.partition_point(|frame| frame.start < from);
        self.frames
            .range(first..)
            .take_while(move |frame| frame.start < to)
    }

    /// Bytes held.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Packed {
    fn new<'a>(start: u64, samples: impl Iterator<Item = &'a (ScopeId, Vec<u8>)>) -> Self {
        let mut bytes = Vec::new();
        for (scope, sample) in samples {
            number(&mut bytes, u64::from(*scope));
            number(&mut bytes, sample.len() as u64);
            bytes.extend_from_slice(sample);
        }
        Self {
            start,
            bytes: bytes.into(),
        }
    }

    fn size(&self) -> usize {
        self.bytes.len() + FRAME
    }

    fn samples(&self) -> impl Iterator<Item = (ScopeId, &[u8])> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            let scope = ScopeId::try_from(read(&mut rest)?).ok()?;
            let length = usize::try_from(read(&mut rest)?).ok()?;
            let (sample, after) = rest.split_at_checked(length)?;
            rest = after;
            Some((scope, sample))
        })
    }

    fn find(&self, scope: ScopeId) -> Option<&[u8]> {
        self.samples()
            .find(|(known, _)| *known == scope)
            .map(|(_, sample)| sample)
    }
}

fn merge(known: &Packed, frame: &Frame) -> Frame {
    let mut merged: BTreeMap<ScopeId, Vec<u8>> = known
        .samples()
        .map(|(scope, sample)| (scope, sample.to_vec()))
        .collect();
    for (scope, sample) in frame {
        merged
            .entry(*scope)
            .and_modify(|known| *known = sum(known, sample))
            .or_insert_with(|| sample.clone());
    }
    merged.into_iter().collect()
}

/// The sum of two samples as bytes; of what cannot be read there is none.
pub(super) fn sum(one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut sum = Sample::default();
    for bytes in [one, other] {
        let mut read = sum.clone();
        if encoding::merge(bytes, &mut read).is_some() {
            sum = read;
        }
    }
    encoding::encode(&sum, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(requests: u64) -> Frame {
        let sample = Sample {
            requests,
            ..Sample::default()
        };
        vec![(3, encoding::encode(&sample, true))]
    }

    fn requests(ring: &Ring, scope: ScopeId) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        ring.each(scope, 0, u64::MAX, |start, bytes| {
            let mut sample = Sample::default();
            encoding::merge(bytes, &mut sample).unwrap();
            found.push((start, sample.requests));
        });
        found
    }

    #[test]
    fn frames_stay_in_order_whatever_the_clock_does() {
        let mut ring = Ring::new(Resolution::Second, Duration::from_secs(900), 1 << 20);
        for (start, count) in [(100, 1), (101, 2), (50, 4), (101, 8)] {
            ring.add(start, &frame(count));
        }
        assert_eq!(requests(&ring, 3), [(50, 4), (100, 1), (101, 10)]);
        assert_eq!(requests(&ring, 4), []);
        assert!(ring.covers(51, 101) && !ring.covers(51, 100));
        // An hour forward: everything else is too old.
        ring.add(3_701, &frame(1));
        assert_eq!(requests(&ring, 3), [(3_701, 1)]);
        // And back: the frame is older than what is kept beside the newest.
        ring.add(102, &frame(1));
        assert_eq!(requests(&ring, 3), [(3_701, 1)]);
        assert_eq!(ring.complete_since(), 103);
    }

    #[test]
    fn bytes_are_bounded_and_the_oldest_make_room() {
        let mut ring = Ring::new(Resolution::Second, Duration::from_secs(900), 10 * (FRAME + 6));
        for start in 0..100 {
            ring.add(start, &frame(1_000));
        }
        assert!(ring.bytes() <= 10 * (FRAME + 6));
        let known = requests(&ring, 3);
        assert_eq!(known.last(), Some(&(99, 1_000)));
        assert_eq!(ring.complete_since(), known[0].0);
    }
}

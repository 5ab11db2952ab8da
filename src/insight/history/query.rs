//! What is asked of the history: sums and series over a window, from the finest samples that are still kept.
//!
//! A window is from `from` to before `to`. Its latest part is known by the second; further back it begins and ends at
//! whole minutes, and beyond their age at whole hours, both rounded down, so that windows side by side share nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::RwLockReadGuard;

use super::encoding;
use super::metric::Metric;
use super::sample::Sample;
use super::scope::{Scope, ScopeId};
use super::store::Reader;
use super::writer::told;
use super::{History, Memory, Resolution};
use crate::clock::Timestamp;

/// Most points of a series: a week by the minute, and some.
pub const POINTS: u64 = 12_000;

/// A part of a window that is read at one resolution, seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    resolution: Resolution,
    from: u64,
    to: u64,
}

/// What one question is answered from.
struct View<'a> {
    memory: RwLockReadGuard<'a, Memory>,
    reader: Option<Reader>,
    parts: Vec<Part>,
}

impl History {
    /// The sum of all that happened; none when the scope or the time is not known.
    pub fn total(&self, scope: &Scope, from: Timestamp, to: Timestamp) -> Option<Sample> {
        self.totals(std::slice::from_ref(scope), from, to).pop()?
    }

    /// [`History::total`] for each of many scopes, in their order.
    pub fn totals(&self, scopes: &[Scope], from: Timestamp, to: Timestamp) -> Vec<Option<Sample>> {
        let window = (from.as_secs(), to.as_secs());
        let numbers: Vec<Option<ScopeId>> = {
            let known = self.scopes.read();
            scopes.iter().map(|scope| known.find(scope)).collect()
        };
        let (open, current) = self.under_way(&numbers);
        let view = self.view(window, open, Resolution::Hour);
        let mut sums: Vec<Option<Sample>> = vec![None; scopes.len()];
        let wanted: BTreeMap<ScopeId, usize> = numbers
            .iter()
            .enumerate()
            .filter_map(|(at, number)| Some(((*number)?, at)))
            .collect();
        for part in &view.parts {
            let (in_file, in_memory) = view.split(*part);
            for (scope, sum) in scopes.iter().zip(&mut sums) {
                view.read_file(scope, in_file, |_, bytes| add(sum, bytes));
            }
            view.memory
                .ring(part.resolution)
                .each_sample(in_memory.from, in_memory.to, |number, bytes| {
                    if let Some(sum) = wanted.get(&number).and_then(|at| sums.get_mut(*at)) {
                        add(sum, bytes);
                    }
                });
        }
        view.add_principals(&wanted, &mut sums);
        let is_current = window.1 > open;
        let recorded = sums.iter().any(Option::is_none) && view.is_recorded();
        for ((sum, number), current) in sums.iter_mut().zip(&numbers).zip(current) {
            if let Some(current) = current.filter(|_| is_current) {
                sum.get_or_insert_default().principals.merge(&current);
            }
            // It was looked at, and nothing happened.
            if number.is_some() && recorded {
                sum.get_or_insert_default();
            }
        }
        sums
    }

    /// The beginning of the minute under way, and who asked in it.
    fn under_way(&self, numbers: &[Option<ScopeId>]) -> (u64, Vec<Option<super::Principals>>) {
        let recorder = self.recorder.lock();
        let now = self.clock.now().as_secs();
        let Some(minute) = recorder.minute() else {
            return (Resolution::Minute.floor(now), vec![None; numbers.len()]);
        };
        let asked = |number: &Option<ScopeId>| Some(minute.sample((*number)?)?.principals.clone());
        (minute.start, numbers.iter().map(asked).collect())
    }

    /// What `figure` makes of each step. The first one begins at or before `from`, at a multiple of the step since the
    /// epoch; none where nothing was recorded. A step is at least as wide as the samples that are kept of the window's
    /// beginning, and so wide that there are at most [`POINTS`].
    pub fn series<T: Clone>(
        &self,
        scope: &Scope,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
        figure: impl Fn(&Sample, Duration) -> T,
    ) -> Series<T> {
        let (from, to) = (from.as_secs(), to.as_secs());
        let least = step.as_secs().max(to.saturating_sub(from) / POINTS + 1).max(1);
        let from = from - from % least;
        let coarsest = match least % Resolution::Hour.seconds() {
            0 => Resolution::Hour,
            _ => Resolution::Minute,
        };
        let (open, _) = self.under_way(&[]);
        let number = self.scopes.read().find(scope);
        let view = self.view((from, to), open, coarsest);
        let widest = view
            .parts
            .iter()
            .map(|part| part.resolution.seconds())
            .max()
            .unwrap_or(1);
        // A multiple of the width, so that every sample lies in one step.
        let step = least.div_ceil(widest) * widest;
        let begin = from - from % step;
        let count = to.saturating_sub(begin).div_ceil(step);
        let mut sums = Steps {
            begin,
            step,
            points: vec![None; usize::try_from(count).unwrap_or(0)],
            current: None,
            figure: |sample: &Sample| figure(sample, Duration::from_secs(step)),
        };
        let all = self.scopes.read().find(&Scope::All);
        if number.is_some() {
            view.each(&Scope::All, all, |start, _| sums.mark(start));
        }
        view.each(scope, number, |start, bytes| sums.add(start, bytes));
        sums.end();
        Series {
            from: Timestamp::from_secs(begin),
            step: Duration::from_secs(step),
            points: sums.points,
        }
    }

    /// What a metric was in a window; none where it is not known, such as the latency of no request.
    pub fn value(&self, metric: Metric, scope: &Scope, from: Timestamp, to: Timestamp) -> Option<f64> {
        let total = self.total(scope, from, to)?;
        metric.of(&total, to.since(from))
    }

    /// What a metric was in each step of a window, see [`History::series`].
    pub fn points(
        &self,
        metric: Metric,
        scope: &Scope,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Vec<Option<f64>> {
        let series = self.series(scope, from, to, step, |sample, width| metric.of(sample, width));
        series.points.into_iter().map(Option::flatten).collect()
    }

    fn view(&self, window: (u64, u64), open: u64, coarsest: Resolution) -> View<'_> {
        let reader = self.writer.as_ref().and_then(|writer| writer.reader());
        let memory = self.memory.read();
        let now = self.clock.now().as_secs();
        let kept = |keep: Duration| now.saturating_sub(keep.as_secs());
        let seconds = memory
            .since
            .max(memory.seconds.complete_since())
            .max(kept(self.keep.raw));
        let minutes = match &reader {
            Some(reader) => trimmed(reader),
            None => memory.minutes.complete_since(),
        };
        let since = [seconds, minutes.max(kept(self.keep.minute)), memory.since];
        View {
            parts: parts(window, open, since, coarsest),
            memory,
            reader,
        }
    }
}

/// A series of figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<T> {
    /// Beginning of the first step.
    pub from: Timestamp,
    /// Width of a step.
    pub step: Duration,
    /// What the steps hold; none where nothing was recorded.
    pub points: Vec<Option<T>>,
}

/// Cuts a window into parts. `open` is the beginning of the minute under way; `since` says from when on seconds are
/// there, from when on minutes are, and when this process began.
fn parts((from, to): (u64, u64), open: u64, since: [u64; 3], coarsest: Resolution) -> Vec<Part> {
    let [seconds, minutes, process] = since;
    let mut parts = Vec::new();
    let mut push = |resolution, from, to| {
        if from < to {
            parts.push(Part { resolution, from, to });
        }
    };
    if from >= seconds {
        push(Resolution::Second, from, to);
        return parts;
    }
    let (minute, hour) = (Resolution::Minute, Resolution::Hour);
    let end = minute.floor(to).min(open);
    let mut begin = minute.floor(from);
    if begin < minutes {
        let until = hour.ceil(minutes).min(hour.floor(end));
        push(hour, hour.floor(begin), until);
        begin = begin.max(until);
    }
    let (first, last) = (hour.ceil(begin), hour.floor(end));
    if coarsest == hour && first < last {
        push(minute, begin, first);
        push(hour, first, last);
        begin = last;
    }
    push(minute, begin, end);
    if to > open {
        // This minute may have begun in an earlier process, whose part of it is in the file.
        if open < process {
            push(minute, open, open + minute.seconds());
        }
        push(Resolution::Second, open.max(from), to);
    }
    parts
}

/// Since when the file has minutes, if older ones made room.
fn trimmed(reader: &Reader) -> u64 {
    let first = |resolution| told(reader.first(&Scope::All, resolution)).flatten();
    match (first(Resolution::Minute), first(Resolution::Hour)) {
        (Some(minute), Some(hour)) if hour < Resolution::Hour.floor(minute) => minute,
        _ => 0,
    }
}

impl View<'_> {
    /// What of a part is in the file, and what in memory: there, only what began with this process is whole.
    fn split(&self, part: Part) -> (Part, Part) {
        let ring = self.memory.ring(part.resolution);
        let whole = match (&self.reader, part.resolution) {
            (Some(_), Resolution::Minute | Resolution::Hour) => {
                part.resolution.ceil(self.memory.since).max(ring.complete_since())
            }
            _ => 0,
        };
        let middle = whole.clamp(part.from, part.to);
        (Part { to: middle, ..part }, Part { from: middle, ..part })
    }

    fn read_file(&self, scope: &Scope, part: Part, tell: impl FnMut(u64, &[u8])) {
        if let Some(reader) = self.reader.as_ref().filter(|_| part.from < part.to) {
            told(reader.each(scope, part.resolution, (part.from, part.to), tell));
        }
    }

    /// Tells the samples of a scope in the order of time.
    fn each(&self, scope: &Scope, number: Option<ScopeId>, mut tell: impl FnMut(u64, &[u8])) {
        for part in &self.parts {
            let (in_file, in_memory) = self.split(*part);
            self.read_file(scope, in_file, &mut tell);
            if let Some(number) = number {
                self.memory
                    .ring(part.resolution)
                    .each(number, in_memory.from, in_memory.to, &mut tell);
            }
        }
    }

    /// Whether anything at all was recorded.
    fn is_recorded(&self) -> bool {
        self.parts.iter().any(|part| {
            let (in_file, in_memory) = self.split(*part);
            let mut found = self
                .memory
                .ring(part.resolution)
                .covers(in_memory.from, in_memory.to);
            self.read_file(&Scope::All, in_file, |_, _| found = true);
            found
        })
    }

    /// Seconds do not tell who asked: their minutes do, as far as they are over.
    fn add_principals(&self, wanted: &BTreeMap<ScopeId, usize>, sums: &mut [Option<Sample>]) {
        for part in self
            .parts
            .iter()
            .filter(|part| part.resolution == Resolution::Second)
        {
            let (from, to) = (Resolution::Minute.floor(part.from), part.to);
            self.memory.minutes.each_sample(from, to, |number, bytes| {
                let sum = wanted.get(&number).and_then(|at| sums.get_mut(*at)?.as_mut());
                let mut minute = Sample::default();
                if let Some(sum) = sum
                    && encoding::merge(bytes, &mut minute).is_some()
                {
                    sum.principals.merge(&minute.principals);
                }
            });
        }
    }
}

fn add(sum: &mut Option<Sample>, bytes: &[u8]) {
    // What cannot be read is missing: the file may have been damaged.
    let _read = encoding::merge(bytes, sum.get_or_insert_default());
}

/// Samples in the order of time, summed up by step.
struct Steps<T, F> {
    begin: u64,
    step: u64,
    points: Vec<Option<T>>,
    current: Option<(usize, Sample)>,
    figure: F,
}

impl<T, F: Fn(&Sample) -> T> Steps<T, F> {
    fn place(&self, start: u64) -> Option<usize> {
        usize::try_from(start.checked_sub(self.begin)? / self.step).ok()
    }

    /// Notes that something was recorded at this time.
    fn mark(&mut self, start: u64) {
        let place = self.place(start);
        if let Some(point) = place.and_then(|place| self.points.get_mut(place))
            && point.is_none()
        {
            *point = Some((self.figure)(&Sample::default()));
        }
    }

    fn add(&mut self, start: u64, bytes: &[u8]) {
        let Some(place) = self.place(start) else { return };
        if self
            .current
            .as_ref()
            .is_some_and(|(current, _)| *current != place)
        {
            self.end();
        }
        let (_, sum) = self.current.get_or_insert_with(|| (place, Sample::default()));
        let _read = encoding::merge(bytes, sum);
    }

    fn end(&mut self) {
        if let Some((place, sum)) = self.current.take()
            && let Some(point) = self.points.get_mut(place)
        {
            *point = Some((self.figure)(&sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Resolution::{Hour, Minute, Second};

    const H: u64 = 3600;

    fn cut(window: (u64, u64), since: [u64; 3], coarsest: Resolution) -> Vec<(Resolution, u64, u64)> {
        let open = 100 * H + 120;
        let parts = parts(window, open, since, coarsest).into_iter();
        parts.map(|part| (part.resolution, part.from, part.to)).collect()
    }

    #[test]
    fn a_window_is_cut_where_resolutions_end() {
        let now = 100 * H + 150;
        let since = [now - 900, 50 * H, 0];
        assert_eq!(cut((now - 300, now), since, Hour), [(Second, now - 300, now)]);
        assert_eq!(
            cut((now - 1_800, now), since, Minute),
            [
                (Minute, 99 * H + 1_920, 100 * H + 120),
                (Second, 100 * H + 120, now)
            ]
        );
        assert_eq!(
            cut((97 * H + 65, now), since, Hour),
            [
                (Minute, 97 * H + 60, 98 * H),
                (Hour, 98 * H, 100 * H),
                (Minute, 100 * H, 100 * H + 120),
                (Second, 100 * H + 120, now),
            ]
        );
        assert_eq!(
            cut((40 * H + 65, 52 * H + 59), since, Minute),
            [(Hour, 40 * H, 50 * H), (Minute, 50 * H, 52 * H)]
        );
        assert_eq!(cut((now, now - 5_000), since, Hour), []);
        assert_eq!(
            cut((10 * H, 10 * H + 30), since, Hour),
            [],
            "less than a minute, long ago"
        );
    }

    #[test]
    fn windows_side_by_side_share_nothing() {
        let since = [100 * H - 750, 50 * H, 0];
        for edge in [60 * H + 7, 60 * H, 98 * H + 59] {
            let end = |parts: Vec<(Resolution, u64, u64)>| parts.last().map(|part| part.2);
            let begin = |parts: Vec<(Resolution, u64, u64)>| parts.first().map(|part| part.1);
            assert_eq!(
                end(cut((55 * H, edge), since, Hour)),
                begin(cut((edge, 99 * H), since, Hour))
            );
        }
    }

    #[test]
    fn the_minute_of_a_restart_is_read_from_the_file_too() {
        let now = 100 * H + 150;
        assert_eq!(
            cut((99 * H, now), [now - 10, 0, now - 10], Hour),
            [
                (Hour, 99 * H, 100 * H),
                (Minute, 100 * H, 100 * H + 120),
                (Minute, 100 * H + 120, 100 * H + 180),
                (Second, 100 * H + 120, now),
            ]
        );
    }
}

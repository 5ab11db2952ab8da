//! From what was counted to samples: the second that ended, and the minute under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Resolution;
use super::encoding::encode;
use super::ring::Frame;
use super::sample::Sample;
use super::scope::{Scope, ScopeId, Scopes};
use crate::telemetry::Telemetry;
use crate::telemetry::system::SystemSample;
use crate::telemetry::tally::{Subject, Taken};

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    second: BTreeMap<ScopeId, Sample>,
    minute: Option<Minute>,
    system: Sample,
}

/// Samples of one minute.
#[derive(Debug)]
pub(super) struct Minute {
    /// Its beginning, seconds since the epoch.
    pub(super) start: u64,
    samples: BTreeMap<ScopeId, Sample>,
}

impl Minute {
    /// Its samples as bytes.
    pub(super) fn encoded(&self) -> Frame {
        encoded(&self.samples, true)
    }

    /// The sample of a scope; none if nothing happened.
    pub(super) fn sample(&self, scope: ScopeId) -> Option<&Sample> {
        self.samples.get(&scope)
    }
}

fn encoded(samples: &BTreeMap<ScopeId, Sample>, with_principals: bool) -> Frame {
    let bytes = |(scope, sample): (&ScopeId, &Sample)| (*scope, encode(sample, with_principals));
    samples.iter().map(bytes).collect()
}

impl Recorder {
    /// Notes what the system uses.
    pub(super) fn system(&mut self, sample: &SystemSample) {
        self.system.read(sample);
    }

    /// Takes what was counted, as the sample of `second`. Gives the minute that this has ended.
    pub(super) fn take(&mut self, telemetry: &Telemetry, second: u64, scopes: &mut Scopes) -> Option<Minute> {
        let start = Resolution::Minute.floor(second);
        let ended = self.minute.take_if(|minute| minute.start != start);
        self.second.clear();
        let mut all = Sample::default();
        let mut upstreams: BTreeMap<Arc<str>, Sample> = BTreeMap::new();
        telemetry.take_tallies(|subject, taken| {
            match (&subject, &taken) {
                (Subject::Route(_), Some(taken)) => all.count(taken),
                (Subject::Endpoint(upstream, _), taken) => {
                    let sum = upstreams.entry(Arc::clone(upstream)).or_default();
                    taken.iter().for_each(|taken| sum.count(taken));
                }
                _ => {}
            }
            self.note(scopes, &Scope::from(subject), taken.as_ref().map(of));
        });
        for (upstream, sum) in upstreams {
            let sum = (sum.requests > 0).then_some(sum);
            self.note(scopes, &Scope::Upstream(upstream), sum);
        }
        // These two are there in every second, and so tell that it was recorded.
        let system = std::mem::take(&mut self.system);
        self.note(scopes, &Scope::System, Some(system));
        self.note(scopes, &Scope::All, Some(all));
        let minute = self.minute.get_or_insert_with(|| Minute {
            start,
            samples: BTreeMap::new(),
        });
        for (scope, sample) in &self.second {
            minute.samples.entry(*scope).or_default().merge(sample);
        }
        ended
    }

    /// A scope without a sample is known from now on all the same.
    fn note(&mut self, scopes: &mut Scopes, scope: &Scope, sample: Option<Sample>) {
        if let (Some(number), Some(sample)) = (scopes.number(scope), sample) {
            self.second.insert(number, sample);
        }
    }

    /// The second that was taken last, as bytes. Principals are counted by the minute only.
    pub(super) fn encoded(&self) -> Frame {
        encoded(&self.second, false)
    }

    /// The minute under way.
    pub(super) fn minute(&self) -> Option<&Minute> {
        self.minute.as_ref()
    }

    /// Ends the minute under way as far as it has come.
    pub(super) fn end_minute(&mut self) -> Option<Minute> {
        self.minute.take()
    }
}

fn of(taken: &Taken) -> Sample {
    let mut sample = Sample::default();
    sample.count(taken);
    sample
}

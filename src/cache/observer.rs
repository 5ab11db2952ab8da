//! Looks at the body of a response while it passes: whether an event stream is whole, and at which pace it came.

use http::HeaderMap;

use super::stream::{self, Ending, Payload, Recorder, Scanner};
use super::verdict::RefuseReason;
use crate::clock::Timestamp;
use crate::config::{Replay, Route};

/// Looks at one body.
#[derive(Debug)]
pub struct Observer {
    scanner: Scanner,
    ending: Ending,
    recorder: Option<Recorder>,
}

/// What a body showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Why it must not be stored; none if nothing speaks against it.
    pub refused: Option<RefuseReason>,
    /// Its pace, encoded; empty if it was not recorded.
    pub pace: Vec<u8>,
}

impl Observer {
    /// For a response of `route` that is on its way into the cache; its head came at `now`. None for the ordinary
    /// response, at which nobody needs to look.
    pub fn of_fill(route: &Route, headers: &HeaderMap, now: Timestamp) -> Option<Box<Self>> {
        stream::is_event_stream(headers).then(|| {
            let recorded = route.stream.replay == Replay::Recorded;
            Box::new(Self {
                scanner: Scanner::default(),
                ending: Ending::new(route.stream.terminal.clone()),
                recorder: recorded.then(|| Recorder::new(now)),
            })
        })
    }

    /// The next part of the body, which came at `now`.
    pub fn push(&mut self, chunk: &[u8], now: Timestamp) {
        let mut ended = None;
        let ending = &mut self.ending;
        self.scanner.push(chunk, |event, at| {
            ending.see(&event, &Payload::of(event.data));
            ended = Some(at);
        });
        if let Some(recorder) = &mut self.recorder {
            recorder.chunk(chunk.len(), ended, now);
        }
    }

    /// The body has ended; `complete` unless it broke off.
    pub fn finish(self, complete: bool) -> Observed {
        let broken = (!complete).then_some(RefuseReason::Incomplete);
        Observed {
            refused: broken.or(self.ending.refused()),
            pace: self
                .recorder
                .map(|recorder| recorder.encode())
                .unwrap_or_default(),
        }
    }
}

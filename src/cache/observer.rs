//! Looks at the body of a response while it passes: whether an event stream is whole, at which pace it came, and what an
//! answer says about its tokens.

use http::{HeaderMap, StatusCode, header};

use super::stream::{self, Ending, Payload, Recorder, Scanner};
use super::usage::{Reader, Usage};
use super::verdict::RefuseReason;
use crate::clock::Timestamp;
use crate::config::{Replay, Route};

/// Most bytes of a JSON answer that are read for its tokens; a larger one is not counted.
pub const MAX_ANSWER: usize = 4 << 20;

/// Looks at one body.
#[derive(Debug)]
pub struct Observer {
    form: Form,
    /// Where tokens are counted.
    reader: Option<Reader>,
}

/// What the body consists of.
#[derive(Debug)]
enum Form {
    Events {
        scanner: Scanner,
        /// Where the stream is on its way into the cache.
        ending: Option<Ending>,
        recorder: Option<Recorder>,
    },
    /// One JSON document, as far as it has come; none when it proved too large.
    Document(Option<Vec<u8>>),
}

/// What a body showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Why it must not be stored; none if nothing speaks against it.
    pub refused: Option<RefuseReason>,
    /// Its pace, encoded; empty if it was not recorded.
    pub pace: Vec<u8>,
    /// What it says about its tokens.
    pub usage: Option<Usage>,
}

impl Observer {
    /// For a response of `route` that is on its way into the cache; its head came at `now`. None for the ordinary
    /// response, at which nobody needs to look.
    pub fn of_fill(
        route: &Route,
        status: StatusCode,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Box<Self>> {
        if !stream::is_event_stream(headers) {
            return Self::of_pass(route, status, headers);
        }
        let recorded = route.stream.replay == Replay::Recorded;
        Some(Box::new(Self {
            form: Form::Events {
                scanner: Scanner::default(),
                ending: Some(Ending::new(route.stream.terminal.clone())),
                recorder: recorded.then(|| Recorder::new(now)),
            },
            reader: Reader::new(&route.usage).filter(|_| status.is_success()),
        }))
    }

    /// For a response of `route` that only passes. None where no tokens are counted, and for what cannot be read.
    pub fn of_pass(route: &Route, status: StatusCode, headers: &HeaderMap) -> Option<Box<Self>> {
        let reader = Reader::new(&route.usage)?;
        if !status.is_success() || stream::is_coded(headers) {
            return None;
        }
        let form = if stream::is_event_stream(headers) {
            Form::Events {
                scanner: Scanner::default(),
                ending: None,
                recorder: None,
            }
        } else if is_json(headers) {
            Form::Document(Some(Vec::new()))
        } else {
            return None;
        };
        Some(Box::new(Self {
            form,
            reader: Some(reader),
        }))
    }

    /// The next part of the body, which came at `now`.
    pub fn push(&mut self, chunk: &[u8], now: Timestamp) {
        match &mut self.form {
            Form::Events {
                scanner,
                ending,
                recorder,
            } => {
                let reader = &mut self.reader;
                let mut ended = None;
                scanner.push(chunk, |event, at| {
                    ended = Some(at);
                    if let Some(ending) = ending {
                        ending.see(&event, &Payload::of(event.data));
                    }
                    if let Some(reader) = reader.as_mut().filter(|_| event.whole) {
                        reader.read(event.data);
                    }
                });
                if let Some(recorder) = recorder {
                    recorder.chunk(chunk.len(), ended, now);
                }
            }
            Form::Document(kept) => {
                let fits = |kept: &Vec<u8>| kept.len().saturating_add(chunk.len()) <= MAX_ANSWER;
                match kept.take_if(|kept| !fits(kept)) {
                    Some(_too_large) => {}
                    None => kept.iter_mut().for_each(|kept| kept.extend_from_slice(chunk)),
                }
            }
        }
    }

    /// The body has ended; `complete` unless it broke off.
    pub fn finish(self, complete: bool) -> Observed {
        let mut reader = self.reader;
        let broken = (!complete).then_some(RefuseReason::Incomplete);
        let (refused, pace) = match self.form {
            Form::Events { ending, recorder, .. } => (
                broken.or(ending.and_then(|ending| ending.refused())),
                recorder.map(|recorder| recorder.encode()).unwrap_or_default(),
            ),
            Form::Document(kept) => {
                if let (Some(reader), Some(document)) = (&mut reader, kept.filter(|_| complete)) {
                    reader.read(&document);
                }
                (None, Vec::new())
            }
        };
        Observed {
            refused,
            pace,
            usage: reader.and_then(Reader::usage),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let essence = value
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || essence.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture;
    use crate::config;

    const OK: StatusCode = StatusCode::OK;
    const NOW: Timestamp = Timestamp::from_secs(1);
    const ANSWER: &[u8] = br#"{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

    fn route(usage: config::Usage) -> Route {
        let mut route = fixture::route(fixture::rules());
        route.usage = usage;
        route
    }

    fn json() -> HeaderMap {
        fixture::headers(&[("content-type", "Application/JSON; charset=utf-8")])
    }

    fn events() -> HeaderMap {
        fixture::headers(&[("content-type", "text/event-stream")])
    }

    #[test]
    fn nobody_looks_at_what_counts_for_nothing() {
        let (off, openai) = (route(config::Usage::Off), route(config::Usage::Openai));
        assert!(Observer::of_fill(&off, OK, &json(), NOW).is_none());
        assert!(Observer::of_pass(&off, OK, &events()).is_none());
        assert!(Observer::of_pass(&openai, StatusCode::BAD_REQUEST, &json()).is_none());
        let text = fixture::headers(&[("content-type", "text/plain")]);
        let coded = fixture::headers(&[("content-type", "application/json"), ("content-encoding", "br")]);
        for headers in [text, coded, HeaderMap::new()] {
            assert!(
                Observer::of_fill(&openai, OK, &headers, NOW).is_none(),
                "{headers:?}"
            );
        }
        assert!(Observer::of_fill(&off, OK, &events(), NOW).is_some());
    }

    #[test]
    fn an_answer_is_read_whatever_its_parts_and_only_when_it_is_whole() {
        for (complete, expected) in [(true, Some(4)), (false, None)] {
            let mut observer = Observer::of_pass(&route(config::Usage::Openai), OK, &json()).unwrap();
            ANSWER.chunks(7).for_each(|chunk| observer.push(chunk, NOW));
            let usage = observer.finish(complete).usage;
            assert_eq!(usage.map(|usage| usage.tokens.output), expected);
        }
    }

    #[test]
    fn an_answer_that_is_too_large_is_not_read_and_not_kept() {
        let mut observer = Observer::of_pass(&route(config::Usage::Openai), OK, &json()).unwrap();
        observer.push(ANSWER, NOW);
        for _ in 0..=MAX_ANSWER / (64 * 1024) {
            observer.push(&[b' '; 64 * 1024], NOW);
        }
        assert!(matches!(observer.form, Form::Document(None)));
        assert_eq!(observer.finish(true), Observed::default());
    }

    #[test]
    fn a_stream_tells_its_end_its_pace_and_its_tokens() {
        let mut route = route(config::Usage::Openai);
        route.stream.replay = Replay::Recorded;
        let mut observer = Observer::of_fill(&route, OK, &events(), NOW).unwrap();
        let data = [b"data: ", ANSWER, b"\n\n"].concat();
        observer.push(&data, NOW.plus(std::time::Duration::from_millis(5)));
        observer.push(b"data: [DONE]\n\n", NOW.plus(std::time::Duration::from_millis(9)));
        let observed = observer.finish(true);
        assert_eq!(observed.refused, None);
        assert_eq!(observed.pace, [u8::try_from(data.len()).unwrap(), 5, 14, 4]);
        assert_eq!(observed.usage.unwrap().tokens.input, 3);
        let broken = Observer::of_fill(&route, OK, &events(), NOW)
            .unwrap()
            .finish(false);
        assert_eq!(broken.refused, Some(RefuseReason::Incomplete));
    }
}

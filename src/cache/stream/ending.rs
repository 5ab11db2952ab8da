//! Whether an event stream is whole.

use super::payload::{Kind, Payload};
use super::scanner::Event;
use crate::cache::verdict::RefuseReason;
use crate::config::Terminal;

/// Watches the events of one stream.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The route's own terminal event, in place of the known ones.
    terminal: Option<Terminal>,
    ended: bool,
    refused: Option<RefuseReason>,
}

impl Ending {
    /// For a stream of a route with this terminal event of its own, if any.
    pub fn new(terminal: Option<Terminal>) -> Self {
        Self {
            terminal,
            ended: false,
            refused: None,
        }
    }

    /// Takes note of an event and of what its data says. Of several reasons the first counts.
    pub fn see(&mut self, event: &Event<'_>, payload: &Payload) {
        let kinds = [Kind::of(event.name), payload.kind];
        let is = |kind| kinds.contains(&kind);
        let refused = if !event.whole {
            // An error could stand in the part that is not known.
            Some(RefuseReason::TooLarge)
        } else if payload.error || is(Kind::Error) || is(Kind::Failed) {
            Some(RefuseReason::StreamError)
        } else if is(Kind::Incomplete) {
            Some(RefuseReason::Incomplete)
        } else {
            None
        };
        self.refused = self.refused.or(refused);
        self.ended |= match &self.terminal {
            Some(Terminal::Data(data)) => event.data.trim_ascii() == data.as_bytes(),
            Some(Terminal::Event(name)) => event.name == name.as_bytes(),
            None => event.data.trim_ascii() == b"[DONE]" || is(Kind::MessageStop) || is(Kind::Completed),
        };
    }

    /// Why the stream must not be stored, now that its body has ended; none if it is whole.
    pub fn refused(&self) -> Option<RefuseReason> {
        self.refused
            .or((!self.ended).then_some(RefuseReason::NoTerminalEvent))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_EVENT, Scanner};
    use super::*;

    fn refused(terminal: Option<Terminal>, text: &str) -> Option<&'static str> {
        let mut ending = Ending::new(terminal);
        Scanner::default().push(text.as_bytes(), |event, _| {
            ending.see(&event, &Payload::of(event.data));
        });
        ending.refused().map(RefuseReason::as_str)
    }

    #[test]
    fn a_terminal_event_of_a_known_api_makes_a_stream_whole() {
        for whole in [
            "data: {\"choices\":[]}\n\ndata: [DONE]\n\n",
            "data:[DONE] \n\n: bye\n\n",
            "event: message_start\ndata: {}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            "data: {\"type\":\"message_stop\"}\n\n",
            "event: response.completed\ndata: {\"response\":{\"error\":null}}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{}}\n\n",
        ] {
            assert_eq!(refused(None, whole), None, "{whole:?}");
        }
    }

    #[test]
    fn a_stream_without_its_end_is_not_whole() {
        for cut in [
            "",
            "data: {}\n\n",
            "data: {}\n\ndata: [DONE]",
            "data: {}\n\ndata: [DONE]\n",
            "event: done\ndata: x\n\n",
            "data: \"[DONE]\"\n\n",
        ] {
            assert_eq!(refused(None, cut), Some("no-terminal-event"), "{cut:?}");
        }
    }

    #[test]
    fn an_error_in_the_stream_counts_whatever_comes_after_or_before() {
        let done = "data: [DONE]\n\n";
        for (text, reason) in [
            (
                "data: {\"error\":{\"message\":\"overloaded\"}}\n\n",
                "stream-error",
            ),
            ("event: error\ndata: anything\n\n", "stream-error"),
            ("data: {\"type\":\"error\",\"code\":\"x\"}\n\n", "stream-error"),
            ("event: response.failed\ndata: {}\n\n", "stream-error"),
            ("data: {\"type\":\"response.incomplete\"}\n\n", "incomplete"),
        ] {
            assert_eq!(refused(None, &format!("{text}{done}")), Some(reason), "{text}");
            assert_eq!(refused(None, &format!("{done}{text}")), Some(reason), "{text}");
            let own = Some(Terminal::Data("[DONE]".to_owned()));
            assert_eq!(refused(own, &format!("{text}{done}")), Some(reason), "{text}");
        }
        let large = format!(
            "data: {{\"a\":\"{}\",\"error\":1}}\n\n{done}",
            "x".repeat(MAX_EVENT)
        );
        assert_eq!(refused(None, &large), Some("too-large"));
    }

    #[test]
    fn a_terminal_event_of_the_route_takes_the_place_of_the_known_ones() {
        let data = || Some(Terminal::Data("END".to_owned()));
        let event = || Some(Terminal::Event("done".to_owned()));
        assert_eq!(refused(data(), "data: END\n\n"), None);
        assert_eq!(refused(event(), "event: done\ndata:\n\n"), None);
        for other in ["data: [DONE]\n\n", "data: ENDED\n\n", "event: END\ndata: x\n\n"] {
            assert_eq!(refused(data(), other), Some("no-terminal-event"), "{other}");
            assert_eq!(refused(event(), other), Some("no-terminal-event"), "{other}");
        }
    }
}

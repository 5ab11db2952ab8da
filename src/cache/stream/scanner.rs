//! Events out of a stream of bytes (WHATWG HTML, section 9.2.6), in chunks of any size and with bounded memory.

use std::mem;

/// Most bytes of one event that are looked at, and of one line.
pub const MAX_EVENT: usize = 1 << 20;

/// Most bytes of the name of an event.
const MAX_NAME: usize = 256;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of its last `event` line; empty without one.
    pub name: &'a [u8],
    /// Its `data` lines, joined by line feeds.
    pub data: &'a [u8],
    /// All of it is here. An event larger than [`MAX_EVENT`] is only known by its beginning.
    pub whole: bool,
}

/// Finds the events of one stream.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The line that goes on in the next chunk.
    line: Vec<u8>,
    /// The last line ended with CR: an LF right behind it belongs to it.
    after_cr: bool,
    /// A line has ended; only before that may there be a byte order mark.
    begun: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    /// There was a `data` line, perhaps an empty one.
    has_data: bool,
    /// Something did not fit.
    truncated: bool,
}

impl Scanner {
    /// Reads on. `found` gets every event that ends in `chunk`, and how many bytes of the chunk lead up to its end.
    ///
    /// What the stream breaks off in the middle of is no event: the empty line behind it is missing.
    pub fn push(&mut self, chunk: &[u8], mut found: impl FnMut(Event<'_>, usize)) {
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            if mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                at += 1;
                continue;
            }
            let Some(length) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.keep(rest);
                return;
            };
            let (line, end) = rest.split_at(length);
            self.after_cr = end.first() == Some(&b'\r');
            at += length + 1;
            if self.line.is_empty() {
                self.take(line, at, &mut found);
            } else {
                self.keep(line);
                let mut line = mem::take(&mut self.line);
                self.take(&line, at, &mut found);
                line.clear();
                self.line = line;
            }
        }
    }

    /// Keeps the part of a line that a chunk ends in.
    fn keep(&mut self, part: &[u8]) {
        let room = MAX_EVENT.saturating_sub(self.line.len());
        self.truncated |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// Takes a whole line, without its end.
    fn take(&mut self, line: &[u8], at: usize, found: &mut impl FnMut(Event<'_>, usize)) {
        let line = if mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        if line.is_empty() {
            return self.dispatch(at, found);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                let room = MAX_EVENT.saturating_sub(self.data.len());
                self.truncated |= value.len() > room;
                self.data.extend_from_slice(&value[..value.len().min(room)]);
            }
            b"event" => {
                self.truncated |= value.len() > MAX_NAME;
                self.name.clear();
                self.name.extend_from_slice(&value[..value.len().min(MAX_NAME)]);
            }
            // Comments have an empty name; `id` and `retry` are for the client.
            _ => {}
        }
    }

    /// The empty line has come. Without data there is no event, unless what was there did not fit.
    fn dispatch(&mut self, at: usize, found: &mut impl FnMut(Event<'_>, usize)) {
        let truncated = mem::take(&mut self.truncated);
        if mem::take(&mut self.has_data) || truncated {
            let event = Event {
                name: &self.name,
                data: &self.data,
                whole: !truncated,
            };
            found(event, at);
        }
        self.name.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Found = Vec<(String, String, bool)>;

    fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Found {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        for chunk in chunks {
            scanner.push(chunk, |event, at| {
                assert!(at <= chunk.len());
                found.push((
                    String::from_utf8_lossy(event.name).into_owned(),
                    String::from_utf8_lossy(event.data).into_owned(),
                    event.whole,
                ));
            });
        }
        found
    }

    fn event(name: &str, data: &str) -> (String, String, bool) {
        (name.to_owned(), data.to_owned(), true)
    }

    #[test]
    fn lines_end_with_lf_cr_or_both() {
        let expected = [event("a", "1\n2"), event("", "3")];
        for end in ["\n", "\r", "\r\n"] {
            let text = "event: a|data: 1|data:2|||data:3||".replace('|', end);
            assert_eq!(events([text.as_bytes()]), expected, "{end:?}");
        }
    }

    #[test]
    fn comments_other_fields_and_a_byte_order_mark_are_no_content() {
        let text = b"\xef\xbb\xbfdata:  x\n: comment\nid: 7\nretry: 1\ndatab: y\n\n:\n\nevent: e\n\n";
        assert_eq!(events([&text[..]]), [event("", " x")]);
        // A mark later on is a field name of its own.
        assert_eq!(events([&b"\n\xef\xbb\xbfdata: x\n\n"[..]]), []);
    }

    #[test]
    fn an_event_needs_its_empty_line() {
        assert_eq!(events([&b"data: [DONE]\n"[..]]), []);
        assert_eq!(events([&b"data: [DONE]\n"[..], b"\n"]), [event("", "[DONE]")]);
        assert_eq!(events([&b"data\n\n"[..]]), [event("", "")]);
    }

    #[test]
    fn the_end_of_an_event_is_told_as_a_place_in_the_chunk() {
        let mut ends = Vec::new();
        let mut scanner = Scanner::default();
        scanner.push(b"data: 1\n", |_, at| ends.push(at));
        scanner.push(b"\ndata: 2\n\ndata", |_, at| ends.push(at));
        assert_eq!(ends, [1, 10]);
    }

    #[test]
    fn what_is_too_large_is_told_and_takes_no_more_memory() {
        let mut scanner = Scanner::default();
        let mut seen = Vec::new();
        let piece = vec![b'x'; 64 * 1024];
        scanner.push(b"data: ", |_, _| {});
        for _ in 0..100 {
            scanner.push(&piece, |_, _| {});
        }
        assert!(scanner.line.capacity() <= 2 * MAX_EVENT);
        scanner.push(b"\n\ndata: y\n\n", |event, _| {
            seen.push((event.data.len(), event.whole));
        });
        assert_eq!(seen, [(MAX_EVENT - "data: ".len(), false), (1, true)]);
        let mut many = Scanner::default();
        for _ in 0..40 {
            many.push(&[b"data: ", &piece[..], b"\n"].concat(), |_, _| {});
        }
        assert!(many.data.len() <= MAX_EVENT + 64);
        many.push(b"\n", |event, _| assert!(!event.whole));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(
            text in "(data: ?[a:]{0,3}|event: [ab]{0,2}|:c|id|\u{feff}|){0,8}((\n|\r|\r\n){1,2}(data: ?[a:]{0,3}|event:b|:c|)){0,12}",
            size in 1_usize..5,
        ) {
            let whole = events([text.as_bytes()]);
            prop_assert_eq!(events(text.as_bytes().chunks(size)), whole);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            events([&bytes[..]]);
        }
    }
}

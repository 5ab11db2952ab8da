//! Event streams (`text/event-stream`): taken apart as they pass, judged whether they are whole, and their pace kept.
//!
//! ```text
//! chunks -> scanner -> events -> payload -> ending (whole, cut short, or an error in it)
//!                  \-> pace (which bytes came when)
//! ```
//!
//! Invariant: a stream is stored only if its terminal event arrived and no event told of an error. That its body ended
//! cleanly is not enough: an origin that gives up closes the body just as cleanly.

mod ending;
mod pace;
mod payload;
mod scanner;

use http::{HeaderMap, header};

pub use self::ending::Ending;
pub use self::pace::{Marks, Recorder};
pub use self::payload::{Kind, Payload};
pub use self::scanner::{Event, MAX_EVENT, Scanner};

/// Whether a response is an event stream, by its media type.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| has_essence(value.as_bytes()))
}

/// Whether a content type is that of an event stream, whatever its parameters.
pub fn has_essence(content_type: &[u8]) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    let content_type = content_type.trim_ascii_start();
    content_type
        .get(..EVENT_STREAM.len())
        .is_some_and(|essence| essence.eq_ignore_ascii_case(EVENT_STREAM))
}

/// Whether the content is in a coding, so that nobody on the way can read it.
pub fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

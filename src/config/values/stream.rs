//! The parts of event streams as they are written.

use crate::config::model::Terminal;
use crate::config::scalar::{Refusal, Scalar};

/// Bytes of what follows the colon.
const MAX_VALUE: usize = 128;

impl Scalar for Terminal {
    const NAME: &'static str = "line of an event";
    const EXAMPLE: &'static str = "data: [DONE]";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let refused = || {
            Refusal::new(format!("`{}` is not a line of an event", text.escape_debug()))
                .hint("`data: TEXT` or `event: NAME`, in quotes; up to 128 bytes behind the colon")
        };
        let (field, value) = text.split_once(':').ok_or_else(refused)?;
        let value = value.trim();
        if value.is_empty() || value.len() > MAX_VALUE || value.contains(['\n', '\r']) {
            return Err(refused());
        }
        match field {
            "data" => Ok(Self::Data(value.to_owned())),
            "event" => Ok(Self::Event(value.to_owned())),
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_a_line_of_an_event() {
        assert_eq!(Terminal::parse("data: END"), Ok(Terminal::Data("END".to_owned())));
        assert_eq!(
            Terminal::parse("event:a b"),
            Ok(Terminal::Event("a b".to_owned()))
        );
        for wrong in ["END", "data:", "data: ", "id: 7", "Data: x", "data: a\nb"] {
            assert!(Terminal::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Terminal::parse(&format!("data: {}", "x".repeat(129))).is_err());
    }
}

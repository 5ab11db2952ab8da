//! The text of an expression, read piece by piece.

use crate::config::scalar::{Refusal, Scalar};
use crate::config::units::Size;
use std::time::Duration;

/// A number as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Literal {
    /// Without a unit, or a percent.
    Plain(f64),
    /// A duration.
    Time(Duration),
    /// A size, in bytes.
    Bytes(f64),
}

impl Literal {
    /// Seconds, bytes, or the number itself.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::Plain(number) | Self::Bytes(number) => number,
            Self::Time(duration) => duration.as_secs_f64(),
        }
    }
}

/// Where reading is.
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// A refusal at the place where reading is.
    pub(super) fn refuse(&mut self, message: impl AsRef<str>) -> Refusal {
        self.space();
        self.refuse_at(self.at, message)
    }

    /// A refusal at a place where reading was.
    pub(super) fn refuse_at(&self, at: usize, message: impl AsRef<str>) -> Refusal {
        let column = self.text.get(..at).map_or(0, |before| before.chars().count()) + 1;
        Refusal::new(format!("{}, at character {column}", message.as_ref()))
    }

    /// The refusal of what stands here, where something else belongs.
    pub(super) fn expected(&mut self, what: &str) -> Refusal {
        self.space();
        let rest = &self.text[self.at..];
        let word = rest.split(char::is_whitespace).next().unwrap_or_default();
        let word: String = word.chars().take(20).collect();
        match word.as_str() {
            "" => self.refuse(format!("the expression ends where {what} belongs")),
            word => self.refuse(format!("`{}` stands where {what} belongs", word.escape_debug())),
        }
    }

    /// The place of what comes next.
    pub(super) fn place(&mut self) -> usize {
        self.space();
        self.at
    }

    pub(super) fn is_done(&mut self) -> bool {
        self.space();
        self.at == self.text.len()
    }

    /// Goes past `symbol`, if it is next.
    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// Goes past `symbol`, which must be next.
    pub(super) fn need(&mut self, symbol: &str) -> Result<(), Refusal> {
        match self.symbol(symbol) {
            true => Ok(()),
            false => Err(self.expected(&format!("`{symbol}`"))),
        }
    }

    /// Whether what comes next begins like a number.
    pub(super) fn is_number(&mut self) -> bool {
        self.space();
        let byte = self.text.as_bytes().get(self.at);
        byte.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
    }

    /// Goes past `word`, if it is next and ends there.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// The identifier that comes next; reading stays before it.
    pub(super) fn peek(&mut self) -> Option<&'t str> {
        self.space();
        self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            .filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// The identifier that comes next.
    pub(super) fn identifier(&mut self) -> Option<&'t str> {
        let word = self.peek()?;
        self.at += word.len();
        Some(word)
    }

    /// A name as the configuration has them, in quotes or not.
    pub(super) fn name(&mut self) -> Result<String, Refusal> {
        let place = self.place();
        let quote = ["\"", "'"].into_iter().find(|quote| self.symbol(quote));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let Some(name) = self.run(allowed) else {
            return Err(self.expected("a name"));
        };
        self.at += name.len();
        if let Some(quote) = quote {
            self.need(quote)?;
        }
        if name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(self
                .refuse_at(place, format!("`{name}` is not a name"))
                .hint("up to 64 letters, digits, `_`, `-` and `.`, a letter or digit first"));
        }
        Ok(name.to_owned())
    }

    /// A number, with its unit.
    pub(super) fn literal(&mut self) -> Result<Literal, Refusal> {
        let place = self.place();
        let Some(text) = self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'.') else {
            return Err(self.expected("a number"));
        };
        self.at += text.len();
        let refusal = || {
            self.refuse_at(place, format!("`{text}` is not a number"))
                .hint("like `0.05`, `5%`, `800ms`, `64MiB`; the zero before the point is written")
        };
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if plain && text.starts_with(|c: char| c.is_ascii_digit()) && digits <= 30 && !text.ends_with('.') {
            let percent = self.text[self.at..].starts_with('%');
            let end = self.at + usize::from(percent);
            // As an exponent, so that `99.9%` is `0.999` and not the number beside it.
            let written = if percent {
                format!("{text}e-2")
            } else {
                text.to_owned()
            };
            let number = written.parse().map_err(|_| refusal())?;
            self.at = end;
            return Ok(Literal::Plain(number));
        }
        if let Ok(duration) = Duration::parse(text) {
            return Ok(Literal::Time(duration));
        }
        match Size::parse(text) {
            Ok(size) => Ok(Literal::Bytes(size.0 as f64)),
            Err(_) => Err(refusal()),
        }
    }

    fn space(&mut self) {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
    }

    /// The bytes from here that are `allowed`, which are ASCII; none if there are none.
    fn run(&self, allowed: impl Fn(u8) -> bool) -> Option<&'t str> {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| !allowed(byte)).unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    }
}

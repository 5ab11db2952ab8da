//! Names, tags and globs.

use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use crate::config::scalar::{Refusal, Scalar};

/// Bytes of a glob as it is written.
const MAX_GLOB: usize = 256;

/// A name: what metric labels and purge patterns can hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameText(pub Arc<str>);

/// Any text but the empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain(pub String);

/// A tag: visible ASCII without the separators of tag headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagText(pub Arc<str>);

impl Scalar for NameText {
    const NAME: &'static str = "name";
    const EXAMPLE: &'static str = "hub";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let valid = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
            && text.len() <= 64;
        if valid {
            return Ok(Self(text.into()));
        }
        Err(Refusal::new(format!("`{text}` is not a name"))
            .hint("up to 64 letters, digits, `_`, `-` and `.`, a letter or digit first"))
    }
}

impl Scalar for Plain {
    const NAME: &'static str = "text";
    const EXAMPLE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "" => Err(Refusal::new("the text is empty")),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl Scalar for GlobMatcher {
    const NAME: &'static str = "glob";
    const EXAMPLE: &'static str = "utm_*";

    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > MAX_GLOB {
            return Err(Refusal::new(format!("a glob has 1 to {MAX_GLOB} bytes")));
        }
        let glob = GlobBuilder::new(text).build();
        glob.map(|glob| glob.compile_matcher())
            .map_err(|error| Refusal::new(format!("the glob `{text}` is not valid: {}", error.kind())))
    }
}

impl Scalar for TagText {
    const NAME: &'static str = "tag";
    const EXAMPLE: &'static str = "chat";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let valid =
            !text.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic() && c != ',');
        match valid {
            true => Ok(Self(text.into())),
            false => Err(Refusal::new(format!("`{}` is not a tag", text.escape_debug()))
                .hint("up to 256 visible ASCII characters, no space or comma")),
        }
    }
}

//! Paths: of requests, of files, into JSON.

use std::path::PathBuf;

use regex::{Regex, RegexBuilder};

use crate::config::model::{PathPattern, Segment};
use crate::config::scalar::{Refusal, Scalar};

/// Bytes of a compiled regular expression.
const MAX_REGEX: usize = 1 << 20;

/// A path that begins with `/`, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathText(pub String);

/// A path that begins with `/`, perhaps with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetText(pub String);

/// A path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateText(pub Vec<Segment>);

/// A regular expression over a whole text; `whole_pattern` gives back what was written.
#[derive(Clone, Debug)]
pub struct RegexText(pub Regex);

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(pub String);

impl PathPattern {
    /// Whether a raw path (without query) is one of those that are meant.
    pub fn fits(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text.as_str()),
            Self::Template(segments) => fits_template(segments, path),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

/// The segments are those after the leading `/`; the path is taken as it is, so `%2F` does not end a segment.
fn fits_template(segments: &[Segment], path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let mut given = path.split('/');
    segments.iter().all(|segment| match (segment, given.next()) {
        (Segment::Literal(text), Some(given)) => text == given,
        (Segment::Parameter, Some(given)) => !given.is_empty(),
        (_, None) => false,
    }) && given.next().is_none()
}

impl Scalar for PathBuf {
    const NAME: &'static str = "file path";
    const EXAMPLE: &'static str = "/run/secrets/name";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "" => Err(Refusal::new("the file path is empty")),
            text => Ok(Self::from(text)),
        }
    }
}

impl Scalar for PathText {
    const NAME: &'static str = "path";
    const EXAMPLE: &'static str = "/v1/models";

    fn parse(text: &str) -> Result<Self, Refusal> {
        check_path(text)?;
        if text.contains('?') {
            return Err(Refusal::new(format!("the path `{text}` has a query"))
                .hint("routes look at the path only; `cache.vary.query` says which parameters count"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Scalar for TargetText {
    const NAME: &'static str = "path and query";
    const EXAMPLE: &'static str = "/healthz";

    fn parse(text: &str) -> Result<Self, Refusal> {
        check_path(text)?;
        Ok(Self(text.to_owned()))
    }
}

fn check_path(text: &str) -> Result<(), Refusal> {
    if !text.starts_with('/') {
        return Err(Refusal::new(format!("the path `{text}` does not begin with `/`"))
            .hint(format!("did you mean `/{text}`?")));
    }
    if text
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || c == '#')
    {
        return Err(Refusal::new(format!(
            "the path `{}` has a character that no request target has",
            text.escape_debug()
        ))
        .hint("write it percent-encoded"));
    }
    Ok(())
}

impl Scalar for TemplateText {
    const NAME: &'static str = "path template";
    const EXAMPLE: &'static str = "/v1/models/{id}";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let path = PathText::parse(text)?.0;
        let segment = |segment: &str| -> Result<Segment, Refusal> {
            let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else {
                return match segment.contains(['{', '}', '*']) {
                    false => Ok(Segment::Literal(segment.to_owned())),
                    true => Err(
                        Refusal::new(format!("`{segment}` is not a segment of a path template"))
                            .hint("a parameter is a whole segment: `/v1/models/{id}`"),
                    ),
                };
            };
            let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            match valid {
                true => Ok(Segment::Parameter),
                false => Err(Refusal::new(format!("`{{{name}}}` does not name a parameter"))
                    .hint("letters, digits and `_`: `{id}`")),
            }
        };
        let segments: Result<Vec<Segment>, Refusal> = path.split('/').skip(1).map(segment).collect();
        let segments = segments?;
        if !segments.contains(&Segment::Parameter) {
            return Err(Refusal::new(format!("the template `{text}` has no parameter")).hint("use `path`"));
        }
        Ok(Self(segments))
    }
}

impl Scalar for RegexText {
    const NAME: &'static str = "regular expression";
    const EXAMPLE: &'static str = "/v[0-9]+/models";

    fn parse(text: &str) -> Result<Self, Refusal> {
        // Compiled alone first: a stray parenthesis must not escape the group that anchors the whole.
        let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_REGEX).build();
        let compiled = compile(text).and_then(|_| compile(&format!("{WHOLE_BEGIN}{text}{WHOLE_END}")));
        compiled.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                Refusal::new("the regular expression is too large").hint("use smaller repetitions")
            }
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ").to_owned();
                Refusal::new(format!("the regular expression does not compile: {reason}"))
            }
        })
    }
}

const WHOLE_BEGIN: &str = "^(?:";
const WHOLE_END: &str = ")$";

/// The pattern of a [`RegexText`] as it was written.
pub(in crate::config) fn whole_pattern(regex: &Regex) -> &str {
    let text = regex.as_str();
    let text = text.strip_prefix(WHOLE_BEGIN).unwrap_or(text);
    text.strip_suffix(WHOLE_END).unwrap_or(text)
}

impl Scalar for Pointer {
    const NAME: &'static str = "JSON pointer";
    const EXAMPLE: &'static str = "/metadata";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        if text.starts_with('/') && escapes {
            return Ok(Self(text.to_owned()));
        }
        let refusal = Refusal::new(format!("`{text}` is not a JSON pointer"));
        Err(match escapes {
            true => refusal.hint(format!("did you mean `/{}`?", text.replace('.', "/"))),
            false => refusal.hint("`~` is written `~0` (RFC 6901)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::tests::hint;

    #[test]
    fn paths() {
        let template = TemplateText::parse("/v1/{id}/x").unwrap();
        let literal = |text: &str| Segment::Literal(text.to_owned());
        assert_eq!(template.0, [literal("v1"), Segment::Parameter, literal("x")]);
        assert_eq!(hint::<PathText>("api"), "did you mean `/api`?");
        for text in ["/a?b", "/a b", "/a#b", "/a\n"] {
            PathText::parse(text).unwrap_err();
        }
        for text in ["/v1/m{id}", "/v1/{}", "/v1/{a b}", "/v1/*", "/v1"] {
            TemplateText::parse(text).unwrap_err();
        }
        let regex = RegexText::parse("/a|/b").unwrap().0;
        assert!(regex.is_match("/a") && !regex.is_match("/ab") && !regex.is_match("x/b"));
        assert_eq!(whole_pattern(&regex), "/a|/b");
        for text in ["(", ")(", "a{1000}{1000}{1000}"] {
            RegexText::parse(text).unwrap_err();
        }
        assert_eq!(hint::<Pointer>("user.id"), "did you mean `/user/id`?");
        Pointer::parse("/a~b").unwrap_err();
    }
}

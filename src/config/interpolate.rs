//! `${VAR}` and `${VAR:-default}` in scalar values; `$$` is a dollar sign.
//!
//! It happens in the tree, after parsing, so a variable's value can never become YAML structure.

use super::tree::{Node, NodeId, Value, Written};

/// A scalar that could not be completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) id: NodeId,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Bytes of one scalar after the environment was put in.
const MAX_SCALAR: usize = 64 * 1024;

/// Replaces the variables in every text of the tree.
pub(super) fn interpolate(
    node: &mut Node,
    lookup: &dyn Fn(&str) -> Option<String>,
    failures: &mut Vec<Failure>,
) {
    match &mut node.value {
        Value::Text(value) => {
            if !value.text.contains('$') {
                return;
            }
            match expand(&value.text, lookup) {
                Ok(Expanded { text, values }) => {
                    let written = std::mem::replace(&mut value.text, text);
                    value.written = (!values.is_empty()).then_some(Written {
                        text: written,
                        values,
                    });
                }
                Err((message, hint)) => failures.push(Failure {
                    id: node.id,
                    message,
                    hint,
                }),
            }
        }
        Value::List(nodes) => {
            for node in nodes {
                interpolate(node, lookup, failures);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                interpolate(&mut entry.node, lookup, failures);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
    }
}

/// Writes `text` so that [`interpolate`] gives it back unchanged.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        escaped.push(character);
        if character == '$' && matches!(rest.peek(), Some('$' | '{')) {
            escaped.push('$');
        }
    }
    escaped
}

struct Expanded {
    text: String,
    /// The values of the variables in it.
    values: Vec<String>,
}

type Refusal = (String, Option<String>);

fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Refusal> {
    let mut done = String::new();
    let mut values = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((reference, after)) = after.split_once('}') else {
                let hint = "write `$${` for a literal `${`".to_owned();
                return Err(("`${` without `}`".to_owned(), Some(hint)));
            };
            let value = value_of(reference, lookup)?;
            done.push_str(&value);
            values.push(value);
            rest = after;
        } else {
            done.push('$');
            rest = after;
        }
        if done.len() > MAX_SCALAR {
            return Err((
                format!("longer than {} KiB with its variables", MAX_SCALAR / 1024),
                None,
            ));
        }
    }
    done.push_str(rest);
    Ok(Expanded { text: done, values })
}

fn value_of(reference: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Refusal> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        let hint = "write `${NAME}` or `${NAME:-default}`, or `$${` for a literal `${`".to_owned();
        return Err((format!("`${{{reference}}}` does not name a variable"), Some(hint)));
    }
    // As in the shell, `:-` also stands in for an empty value.
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let hint = format!("set it, or give a default: `${{{name}:-...}}`");
            Err((
                format!("the environment variable `{name}` is not set"),
                Some(hint),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("hub".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, &environment)
            .map(|expanded| expanded.text)
            .map_err(|(message, _)| message)
    }

    #[test]
    fn variables_defaults_and_dollars() {
        for (written, read) in [
            ("${HOST}", "hub"),
            ("http://${HOST}:80/${HOST}", "http://hub:80/hub"),
            ("${NONE:-127.0.0.1:8000}", "127.0.0.1:8000"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("${HOST:-x}", "hub"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("^/a$", "^/a$"),
            ("$5 and $x", "$5 and $x"),
            ("${NESTED}", "${HOST}"),
        ] {
            assert_eq!(expanded(written).as_deref(), Ok(read), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_completed_is_said() {
        assert_eq!(
            expanded("${NONE}").unwrap_err(),
            "the environment variable `NONE` is not set"
        );
        assert_eq!(expanded("a${b").unwrap_err(), "`${` without `}`");
        assert_eq!(
            expanded("${a b}").unwrap_err(),
            "`${a b}` does not name a variable"
        );
        assert_eq!(expanded("${}").unwrap_err(), "`${}` does not name a variable");
    }

    #[test]
    fn escaping_is_undone_by_reading() {
        for text in ["$", "$$", "${HOST}", "$${", "a$b$$c", "^/a$"] {
            assert_eq!(expanded(&escape(text)).as_deref(), Ok(text));
        }
    }
}

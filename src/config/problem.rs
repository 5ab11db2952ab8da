//! What is wrong with a configuration, in a form that shows where.

use std::fmt;

use serde::Serialize;

use super::source::Position;

/// Everything that is wrong with a configuration, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, or whatever the text came from.
    pub file: String,
    /// Where in the configuration: `routes[0].cache.ttl`; empty for the whole.
    pub path: String,
    /// Line, counted from 1; 0 when the problem is not in the text.
    pub line: usize,
    /// Column in characters, counted from 1; 0 when the problem is not in the text.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The line, the ones before and after it, and a caret under the column; empty when not in the text.
    pub excerpt: String,
}

impl Problem {
    /// A problem at a position of `text`.
    pub(super) fn at(file: &str, text: &str, position: Position, path: String, message: String) -> Self {
        Self {
            file: file.to_owned(),
            path,
            line: position.line,
            column: position.column,
            message,
            hint: None,
            excerpt: excerpt(text, position),
        }
    }

    /// A problem with the file as a whole.
    pub(super) fn of_file(file: &str, message: String) -> Self {
        Self {
            file: file.to_owned(),
            path: String::new(),
            line: 0,
            column: 0,
            message,
            hint: None,
            excerpt: String::new(),
        }
    }

    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", printable(&self.message))?;
        write!(f, " --> {}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " ({})", printable(&self.path))?;
        }
        writeln!(f)?;
        f.write_str(&self.excerpt)?;
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem"),
            number => write!(f, "{number} problems"),
        }
    }
}

impl std::error::Error for Problems {}

/// Characters of a line that are shown.
const WIDTH: usize = 120;

/// The line at `position` between its neighbours, with a caret.
fn excerpt(text: &str, position: Position) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let first = position.line.saturating_sub(1).max(1);
    let last = (position.line + 1).min(lines.len());
    let gutter = last.to_string().len();
    // Of a long line, the part around the column is shown.
    let skip = (position.column - position.column.min(1)).saturating_sub(WIDTH * 3 / 4);
    let mut excerpt = String::new();
    for number in first..=last {
        let Some(line) = lines.get(number - 1) else {
            continue;
        };
        let shown: String = printable(&mask(line)).chars().skip(skip).take(WIDTH).collect();
        excerpt.push_str(format!("{number:>gutter$} | {shown}").trim_end());
        excerpt.push('\n');
        if number == position.line {
            let before = position.column.saturating_sub(1).saturating_sub(skip);
            excerpt.push_str(&format!("{:>gutter$} | {:before$}^\n", "", ""));
        }
    }
    excerpt
}

/// Hides what may be a secret: the value of a key that ends like one, and credentials in a URL. Secrets belong
/// into `*_file`s; this is for those that are in the YAML by mistake.
fn mask(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    // Several keys can stand in one line: `{name: x, password: y}`.
    while let Some(colon) = rest.find(':') {
        let (key, value) = rest.split_at(colon + 1);
        masked.push_str(key);
        rest = value;
        let key = key
            .trim_end_matches(':')
            .trim_end_matches(['"', '\'', ' '])
            .to_ascii_lowercase();
        if SECRET_KEYS.iter().any(|secret| key.ends_with(secret)) && !value.trim().is_empty() {
            // All of the rest of the line: where the value ends cannot be known here.
            masked.push_str(" [hidden]");
            rest = "";
        } else if let Some((user, after)) = value.strip_prefix("//").and_then(|url| url.split_once('@'))
            && !user.contains([' ', '/', ',', '"'])
        {
            masked.push_str("//[hidden]@");
            rest = after;
        }
    }
    masked.push_str(rest);
    masked
}

const SECRET_KEYS: [&str; 7] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "api-key",
    "authorization",
];

/// Control characters, and those that reverse the direction of writing, could deceive whoever reads a terminal.
fn printable(text: &str) -> String {
    let deceives = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if deceives(c) { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_three_lines_and_a_caret() {
        let text = "a: 1\nroutes:\n  - upsteam: hub\n    name: x\nb: 2\n";
        let position = Position { line: 3, column: 5 };
        let problem = Problem::at(
            "c.yaml",
            text,
            position,
            "routes[0].upsteam".into(),
            "unknown key".into(),
        )
        .hint(Some("did you mean `upstream`?".into()));
        assert_eq!(
            Problems(vec![problem]).to_string(),
            "error: unknown key\n --> c.yaml:3:5 (routes[0].upsteam)\n\
             2 | routes:\n3 |   - upsteam: hub\n  |     ^\n4 |     name: x\nhint: did you mean `upstream`?\n\n1 problem"
        );
    }

    #[test]
    fn the_ends_of_the_text_and_long_lines_are_safe() {
        assert_eq!(excerpt("a", Position { line: 1, column: 1 }), "1 | a\n  | ^\n");
        assert_eq!(excerpt("", Position { line: 1, column: 1 }), "");
        assert_eq!(excerpt("a\n", Position { line: 3, column: 9 }), "");
        let long = format!("{}x", " ".repeat(5000));
        let shown = excerpt(
            &long,
            Position {
                line: 1,
                column: 5001,
            },
        );
        assert!(shown.contains('x') && shown.len() < 400, "{shown}");
    }

    #[test]
    fn secrets_and_control_characters_are_hidden() {
        assert_eq!(
            mask("  {name: a, password: hunter2}"),
            "  {name: a, password: [hidden]"
        );
        assert_eq!(mask("\"client_secret\": hunter2"), "\"client_secret\": [hidden]");
        assert_eq!(
            mask("url: redis://me:hunter2@host:1/0"),
            "url: redis://[hidden]@host:1/0"
        );
        assert_eq!(mask("sha256_file: /run/secrets/x"), "sha256_file: /run/secrets/x");
        assert_eq!(mask("tokens:"), "tokens:");
        assert_eq!(printable("a\u{1b}[2J\u{202e}"), "a\u{fffd}[2J\u{fffd}");
    }
}

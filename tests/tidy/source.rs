//! Rust sources as the rules see them: comments and the insides of strings blanked, test code told apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One Rust file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
    /// The text without comments, string contents and test code; lines stay where they are.
    pub(crate) code: String,
    /// String literals outside test code: line and content as written.
    pub(crate) strings: Vec<(usize, String)>,
    /// Lines outside test code.
    pub(crate) lines: usize,
}

impl Source {
    /// A file with this path and text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let Lexed { mut code, strings } = lex(text);
        let tests = test_items(&code);
        let mut outside: BTreeSet<usize> = (0..text.lines().count()).collect();
        for (start, end) in &tests {
            for line in line_of(&code, *start)..=line_of(&code, end - 1) {
                outside.remove(&line);
            }
            blank(&mut code, *start, *end);
        }
        let in_test = |at: usize| tests.iter().any(|(start, end)| (*start..*end).contains(&at));
        let strings = strings.into_iter().filter(|(at, _)| !in_test(*at));
        let strings = strings
            .map(|(at, content)| (line_of(&code, at), content))
            .collect();
        let code = String::from_utf8(code).unwrap();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            strings,
            lines: outside.len(),
        }
    }

    /// The lines of the code in which `needle` occurs, counted from 1.
    pub(crate) fn lines_with<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code
            .lines()
            .zip(1..)
            .filter(move |(line, _)| line.contains(needle))
            .map(|(_, number)| number)
    }

    /// The folder or file directly below `src/`: `cache`, `clock`; none outside `src/` and for the crate's root.
    pub(crate) fn part(&self) -> Option<&str> {
        let part = self.path.strip_prefix("src/")?.split('/').next()?;
        Some(part.strip_suffix(".rs").unwrap_or(part)).filter(|part| *part != "lib")
    }
}

/// Every text file of the repository below `root`, with its path from there; build output is left out.
pub(crate) fn files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            // In a linked work tree `.git` is a file.
            if [".git", "target", "__pycache__"]
                .iter()
                .any(|left_out| path.ends_with(left_out))
            {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

/// The Rust sources among `files` that are no test code: files that a parent declares under `#[cfg(test)]` are.
pub(crate) fn product_sources(files: &[(String, String)]) -> Vec<Source> {
    let rust = || {
        files
            .iter()
            .filter(|(path, _)| path.starts_with("src/") && path.ends_with(".rs"))
    };
    let tests: Vec<String> = rust()
        .flat_map(|(path, text)| test_children(path, text))
        .collect();
    let is_test = |path: &str| {
        tests
            .iter()
            .any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
    };
    rust()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| Source::new(path, text))
        .collect()
}

/// The modules that a file declares under `#[cfg(test)]`, as paths without their ending.
fn test_children(path: &str, text: &str) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or_default();
    let of_module = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    };
    let code = lex(text).code;
    let declared = test_items(&code).into_iter().filter_map(|(start, end)| {
        let item = std::str::from_utf8(&code[start..end]).unwrap().trim_end();
        let (_, name) = item.strip_suffix(';')?.rsplit_once("mod ")?;
        // With `#[path = ".."]`, beside the file; else where the compiler looks.
        let named = text[start..end]
            .split_once("#[path = \"")
            .and_then(|(_, rest)| rest.split_once(".rs\""));
        Some(named.map_or_else(
            || format!("{of_module}/{name}"),
            |(file, _)| format!("{folder}/{file}"),
        ))
    });
    declared.collect()
}

struct Lexed {
    code: Vec<u8>,
    strings: Vec<(usize, String)>,
}

/// Blanks comments and the insides of literals; collects the strings with their places.
fn lex(text: &str) -> Lexed {
    let mut code = text.as_bytes().to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let rest = &text.as_bytes()[at..];
        let end = if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            blank(&mut code, at, end);
            end
        } else if rest.starts_with(b"/*") {
            let end = at + block_comment(rest);
            blank(&mut code, at, end);
            end
        } else if let Some((open, close, length)) = literal(text.as_bytes(), at) {
            if rest[open - 1] != b'\'' {
                strings.push((at, text[at + open..at + length - close].to_owned()));
            }
            blank(&mut code, at + open, at + length - close);
            at + length
        } else {
            at + 1
        };
        at = end;
    }
    Lexed { code, strings }
}

/// Bytes of the (nested) block comment at the start.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// A string, raw string or character at `at`: bytes of its opening, of its closing, and in all.
fn literal(text: &[u8], at: usize) -> Option<(usize, usize, usize)> {
    let rest = &text[at..];
    match rest[0] {
        b'"' => Some((1, 1, 1 + escaped(&rest[1..], b'"'))),
        b'r' if at == 0 || !is_word(text[at - 1]) || matches!(text[at - 1], b'b' | b'c') => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            let open = 1 + hashes + 1;
            if rest.get(open - 1) != Some(&b'"') {
                return None;
            }
            let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let inside = rest[open..]
                .windows(close.len())
                .position(|window| window == close)?;
            Some((open, close.len(), open + inside + close.len()))
        }
        b'\'' if rest.get(1) == Some(&b'\\') => Some((1, 1, 1 + escaped(&rest[1..], b'\''))),
        b'\'' => {
            // A character literal closes after one character; a lifetime does not.
            let character = std::str::from_utf8(&rest[1..rest.len().min(5)])
                .ok()
                .and_then(|text| text.chars().next());
            let length = character.or_else(|| lossy_first(&rest[1..]))?.len_utf8();
            (rest.get(1 + length) == Some(&b'\'')).then_some((1, 1, length + 2))
        }
        _ => None,
    }
}

/// The first character of bytes that may be cut off inside a later one.
fn lossy_first(bytes: &[u8]) -> Option<char> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(4)])
        .chars()
        .next()
}

/// Bytes up to and including the closing `quote`, after escapes.
fn escaped(rest: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The places of items under `#[cfg(test)]`, attributes included.
fn test_items(code: &[u8]) -> Vec<(usize, usize)> {
    let mut items: Vec<(usize, usize)> = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..]
        .windows(12)
        .position(|window| window == b"#[cfg(test)]")
    {
        let start = from + found;
        from = item_end(code, start);
        items.push((start, from));
    }
    items
}

/// The end of the item that begins at `start` with its attributes: a semicolon, or the brace that closes its body.
fn item_end(code: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at < code.len() {
        match code[at] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return at + 1,
            b'{' if depth == 0 => return at + braces(&code[at..]),
            _ => {}
        }
        at += 1;
    }
    at
}

/// Bytes from the opening brace at the start to the one that closes it.
fn braces(code: &[u8]) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

fn blank(code: &mut [u8], start: usize, end: usize) {
    for byte in &mut code[start..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// The line of a place, counted from 0.
fn line_of(code: &[u8], at: usize) -> usize {
    code[..at].iter().filter(|byte| **byte == b'\n').count()
}

/// Whether a byte is part of a name.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = "fn a() { b(\"c // d\", 'e', '\\'', r#\"f\"g\"#); } // h\n/* i /* j */ k */ l::<'m>();\n\
                #[cfg(test)]\n#[derive(N)]\nmod tests {\n  fn o() { \"}\" }\n}\nfn p() {}\n";
    let source = Source::new("src/x.rs", text);
    for gone in ["c", "d", "e", "f", "h", "i", "j", "k", "N", "o()", "tests"] {
        assert!(
            !source.code.replace("fn", "").contains(gone),
            "{gone}: {}",
            source.code
        );
    }
    assert!(
        source.code.contains("l::<'m>();") && source.code.contains("fn p() {}"),
        "{}",
        source.code
    );
    assert_eq!(source.strings, [(0, "c // d".to_owned()), (0, "f\"g".to_owned())]);
    assert_eq!(source.lines, 3);
}

#[test]
fn modules_for_tests_alone_are_no_product() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("src/a/mod.rs", "mod b;\n#[cfg(test)]\npub(crate) mod c;\n"),
        file(
            "src/a/b.rs",
            "#[cfg(test)]\nmod d;\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n",
        ),
        file("src/a/b_tests.rs", ""),
        file("src/a/b/d.rs", ""),
        file("src/a/c.rs", ""),
        file("src/a/c/e.rs", ""),
        file("tests/f.rs", ""),
    ];
    let paths: Vec<_> = product_sources(&files)
        .into_iter()
        .map(|source| source.path)
        .collect();
    assert_eq!(paths, ["src/a/mod.rs", "src/a/b.rs"]);
}

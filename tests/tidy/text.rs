//! Rules over one file: its head, its size, and what may not stand in it.

use super::source::Source;

/// Most lines of a file, test code not counted.
const MOST_LINES: usize = 400;

/// What may not stand in product code, the one file where it may, and why.
const ONLY_IN: [(&str, &str, &str); 8] = [
    (
        "tokio::spawn",
        "src/tasks.rs",
        "tasks are named, cancellable and drained: use `Tasks`",
    ),
    (
        "task::spawn(",
        "src/tasks.rs",
        "tasks are named, cancellable and drained: use `Tasks`",
    ),
    (
        "task::spawn_local",
        "src/tasks.rs",
        "tasks are named, cancellable and drained: use `Tasks`",
    ),
    ("SystemTime::now", "src/clock.rs", "time is injected: use `Clock`"),
    (
        "std::time::Instant::now",
        "src/clock.rs",
        "time is injected: use `Clock`",
    ),
    ("Timestamp::now", "src/clock.rs", "time is injected: use `Clock`"),
    ("Zoned::now", "src/clock.rs", "time is injected: use `Clock`"),
    (".unwrap()", "", "an error is handled or returned"),
];

/// What stands for work that is not done. In two pieces each, so that the rule does not find itself.
const UNFINISHED: [(&str, &str); 6] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X:"),
    ("HA", "CK"),
    ("todo", "!("),
    ("unimplemented", "!("),
];

/// A file begins with what it is for.
pub(crate) fn head(path: &str, text: &str) -> Vec<String> {
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let is_head = first.starts_with("//!") || first.starts_with("#![doc = include_str!");
    if is_head {
        Vec::new()
    } else {
        vec![format!("{path}: begin with a `//!` head")]
    }
}

/// How the head of a longer file begins to give its reason.
const REASON: &str = "//! Longer than most files: ";

/// A file stays short enough to be read at once, or says in its head why not.
pub(crate) fn size(source: &Source) -> Vec<String> {
    if source.lines <= MOST_LINES || source.text.lines().any(|line| line.starts_with(REASON)) {
        return Vec::new();
    }
    vec![format!(
        "{}: {} lines without tests, {MOST_LINES} at most",
        source.path, source.lines
    )]
}

/// Lints are met or expected with a reason, never allowed.
pub(crate) fn allow(path: &str, code: &str) -> Vec<String> {
    let found = code
        .lines()
        .zip(1..)
        .filter(|(line, _)| line.contains("#[allow(") || line.contains("#![allow("));
    found
        .map(|(_, line)| format!("{path}:{line}: `#[expect(.., reason = ..)]` instead of `allow`"))
        .collect()
}

/// What belongs in one place, or in none, is nowhere else.
pub(crate) fn only_in(source: &Source) -> Vec<String> {
    let elsewhere = ONLY_IN.iter().filter(|(_, place, _)| source.path != *place);
    let found = elsewhere.flat_map(|(what, _, why)| {
        let told = move |line| format!("{}:{line}: `{what}`: {why}", source.path);
        source.lines_with(what).map(told)
    });
    found.collect()
}

/// Nothing is left for later.
pub(crate) fn unfinished(path: &str, text: &str) -> Vec<String> {
    let marks: Vec<String> = UNFINISHED
        .iter()
        .map(|(start, end)| format!("{start}{end}"))
        .collect();
    let marked = text
        .lines()
        .zip(1..)
        .filter(|(line, _)| marks.iter().any(|mark| line.contains(mark)));
    marked
        .map(|(line, number)| format!("{path}:{number}: unfinished: {}", line.trim()))
        .collect()
}

/// What is true of one machine alone: where packages come from there, and where its files lie.
pub(crate) fn local(path: &str, text: &str, root: &str) -> Vec<String> {
    let above = root
        .rsplit_once('/')
        .map(|(above, _)| format!("{above}/"))
        .filter(|above| above.len() > 1);
    let words = [
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("index-", "url"),
        ("find-", "links"),
        ("pythonhosted", ".org"),
    ];
    let words = words.map(|(start, end)| format!("{start}{end}"));
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "/._-{}$*)".contains(letter))
    };
    let is_local = |line: &str| {
        words.iter().any(|word| line.contains(word.as_str()))
            || above
                .iter()
                .any(|path| line.match_indices(path.as_str()).any(|(at, _)| begins(line, at)))
    };
    let found = text.lines().zip(1..).filter(|(line, _)| is_local(line));
    found
        .map(|(line, number)| format!("{path}:{number}: true of one machine alone: {}", line.trim()))
        .collect()
}

/// A crate that one file stands for is named there alone (decision D12).
pub(crate) fn named_once(sources: &[Source], name: &str) -> Vec<String> {
    let naming: Vec<_> = sources
        .iter()
        .filter(|source| source.code.contains(name))
        .map(|source| &*source.path)
        .collect();
    if naming.len() <= 1 {
        Vec::new()
    } else {
        vec![format!(
            "`{name}` is named in more than one file: {}",
            naming.join(", ")
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_head_is_found() {
        assert_eq!(head("a.rs", "use b;\n//! Late.\n").len(), 1);
        assert!(head("a.rs", "\n//! On time.\nuse b;\n").is_empty());
        assert!(head("lib.rs", "#![doc = include_str!(\"a.md\")]\n").is_empty());
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(500));
        let of = |lines: usize| Source::new("src/a.rs", &format!("{}{tests}", "use b;\n".repeat(lines)));
        assert!(size(&of(400)).is_empty());
        assert_eq!(size(&of(401)).len(), 1);
        let reasoned = format!("{REASON}one table.\n{}", of(500).text);
        assert!(size(&Source::new("src/a.rs", &reasoned)).is_empty());
    }

    #[test]
    fn an_allowed_lint_is_found() {
        assert_eq!(
            allow(
                "a.rs",
                "#[allow(dead_code)]\nfn a() {}\n#![allow(missing_docs)]\n"
            )
            .len(),
            2
        );
        assert!(allow("a.rs", "#[expect(dead_code, reason = \"\")]").is_empty());
    }

    #[test]
    fn what_is_out_of_place_is_found() {
        for (what, place, _) in ONLY_IN {
            let text = format!("fn f() {{ {what}; }}\n");
            assert!(
                !only_in(&Source::new("src/cache/a.rs", &text)).is_empty(),
                "{what}"
            );
            assert!(
                only_in(&Source::new(place, &text)).is_empty() || place.is_empty(),
                "{what}"
            );
            let in_a_test = format!("// {what}\n#[cfg(test)]\nmod tests {{ {text} }}\n");
            assert!(
                only_in(&Source::new("src/cache/a.rs", &in_a_test)).is_empty(),
                "{what}"
            );
        }
    }

    #[test]
    fn unfinished_work_is_found() {
        for (start, end) in UNFINISHED {
            assert_eq!(unfinished("a.rs", &format!("// {start}{end} later\n")).len(), 1);
        }
        assert!(unfinished("a.rs", "// done\n").is_empty());
    }

    #[test]
    fn what_is_local_is_found() {
        for line in [
            "/srv/x/file",
            concat!("/ho", "me/me/file"),
            concat!("pip --index-", "url=https://mirror"),
        ] {
            assert_eq!(local("a.md", line, "/srv/x/outrigger").len(), 1, "{line}");
        }
        assert!(local("a.md", "/var/lib/outrigger", "/srv/x/outrigger").is_empty());
        assert!(local("a.md", "${x}/srv/x/file and ../srv/x/file", "/srv/x/outrigger").is_empty());
        assert!(local("a.md", "/livez", "/outrigger").is_empty());
    }

    #[test]
    fn a_second_name_is_found() {
        let source = |path: &str, text: &str| Source::new(path, text);
        let one = [
            source("a.rs", "use serde_yaml::Value;"),
            source("b.rs", "// serde_yaml\n"),
        ];
        assert!(named_once(&one, "serde_yaml").is_empty());
        let two = [
            source("a.rs", "use serde_yaml::Value;"),
            source("b.rs", "serde_yaml::from_str(x)"),
        ];
        assert_eq!(named_once(&two, "serde_yaml").len(), 1);
    }
}

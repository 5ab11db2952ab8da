//! Which part of `src/` may use which: the table of `src/architecture.md`, read and enforced.

use std::collections::BTreeMap;

use super::source::{Source, is_word};

/// For each part, what it may use besides itself; `all` for everything.
pub(crate) type Table = BTreeMap<String, Vec<String>>;

/// Where the table stands.
const HEADING: &str = "Folders and who may use whom";

/// What everybody may use but they themselves.
const BASE: [&str; 2] = ["clock", "tasks"];

/// The table under the heading `HEADING`: the names in backticks of its first and last column.
pub(crate) fn table(architecture: &str) -> Table {
    let section = architecture
        .split("\n# ")
        .find(|section| section.starts_with(HEADING))
        .unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut table = Table::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (first, last) = (cells[0], cells[cells.len() - 1]);
        for part in names(first) {
            let may = if last == "all" {
                vec![last.to_owned()]
            } else {
                names(last).map(bare).collect()
            };
            table.insert(bare(part), may);
        }
    }
    table
}

/// A part without the ending that says whether it is a folder or a file.
fn bare(part: &str) -> String {
    part.trim_end_matches('/').trim_end_matches(".rs").to_owned()
}

fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The uses in `source` that the table does not allow.
pub(crate) fn check(table: &Table, source: &Source) -> Vec<String> {
    let Some(part) = source.part() else {
        return Vec::new();
    };
    let Some(may) = table.get(part) else {
        return vec![format!(
            "{}: src/architecture.md does not name the part `{part}`",
            source.path
        )];
    };
    let base = if BASE.contains(&part) {
        [].as_slice()
    } else {
        &BASE
    };
    let allowed = |used: &str| {
        let covers = |name: &String| used == name || used.starts_with(&format!("{name}::"));
        used == part
            || used.starts_with(&format!("{part}::"))
            || base.iter().any(|name| covers(&(*name).to_owned()))
            || may.iter().any(|name| name == "all" || covers(name))
    };
    // What is no part is an item of the crate's root, such as a macro.
    let is_part = |used: &str| table.contains_key(used.split("::").next().unwrap_or(used));
    let uses = used(source)
        .into_iter()
        .filter(|used| is_part(used) && !allowed(used));
    uses.map(|used| format!("{}: `{part}` may not use `{used}`", source.path))
        .collect()
}

/// The first two segments of every path from the crate's root, groups unfolded, each once.
fn used(source: &Source) -> Vec<String> {
    let code = source.code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("crate::") {
        if at == 0 || !is_word(code[at - 1]) {
            tree(&source.code[at + "crate::".len()..], "", &mut found);
        }
    }
    let depth = depth(&source.path);
    for (at, _) in source.code.match_indices("super::") {
        let is_start = at < 2 || (!is_word(code[at - 1]) && &code[at - 2..at] != b"::");
        let rest = &source.code[at..];
        let supers = rest.split("::").take_while(|segment| *segment == "super").count();
        if is_start && supers >= depth {
            tree(&rest[supers * "super::".len()..], "", &mut found);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// How many `super` lead from a file's module to the crate's root.
fn depth(path: &str) -> usize {
    let module = path
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    module.split('/').count()
}

/// Adds the paths of a use tree (`a::b`, `{a::b, c::{d, e}}`), cut to two segments, each behind `prefix`.
/// Returns the rest of the text behind the tree.
fn tree<'t>(text: &'t str, prefix: &str, found: &mut Vec<String>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = tree(rest, prefix, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) if !more.trim_start().starts_with('}') => rest = more,
                more => {
                    return more
                        .unwrap_or(rest)
                        .trim_start()
                        .strip_prefix('}')
                        .unwrap_or(rest);
                }
            }
        }
    }
    let end = text
        .bytes()
        .position(|byte| !is_word(byte) && byte != b'*')
        .unwrap_or(text.len());
    let (segment, rest) = text.split_at(end);
    let path = if prefix.is_empty() {
        segment.to_owned()
    } else {
        format!("{prefix}::{segment}")
    };
    match rest.strip_prefix("::") {
        // A turbofish ends the path.
        Some(more) if !more.starts_with('<') => tree(more, &path, found),
        _ => {
            found.push(path.split("::").take(2).collect::<Vec<_>>().join("::"));
            let rest = rest.trim_start();
            let renamed = rest.strip_prefix("as ").map(str::trim_start);
            renamed.map_or(rest, |new| {
                new.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_')
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        table(
            "x\n\n# Folders and who may use whom\n| part | what | may use |\n|---|---|---|\n| `app.rs`, `cli/` | x | all |\n\
             | `clock.rs` | x | nothing |\n| `cache/` | x | `config` |\n| `config/` | x | nothing |\n\
             | `proxy/` | x | `cache`, `control::state` |\n| `control/` | x | `cache` |\n\n# Next\n| `x/` | | all |\n",
        )
    }

    fn violations(path: &str, text: &str) -> Vec<String> {
        check(&sample(), &Source::new(path, text))
    }

    #[test]
    fn the_table_is_read() {
        let table = sample();
        assert_eq!(table.len(), 7);
        assert_eq!(table["cache"], ["config"]);
        assert_eq!(table["cli"], ["all"]);
        assert!(table["clock"].is_empty());
    }

    #[test]
    fn a_forbidden_edge_is_found_however_it_is_written() {
        let ways = [
            "use crate::proxy;",
            "use crate::proxy::listener::Listener;",
            "use crate::{config, proxy::x};",
            "use crate::{\n    config::{a, b::{c, d}},\n    clock::{self, Clock},\n    proxy,\n};",
            "use crate::{config::model::{A, B}, clock as time, proxy};",
            "pub use crate::proxy::*;",
            "fn f() { crate::proxy::f(); }",
            "type A = Vec<crate::proxy::B>;",
            "use super::super::proxy::x;",
            "fn f() -> super::super::proxy::A {}",
        ];
        for way in ways {
            let found = violations("src/cache/key.rs", way);
            assert_eq!(found.len(), 1, "{way}: {found:?}");
            assert!(
                found[0].contains("`cache` may not use `proxy"),
                "{way}: {found:?}"
            );
        }
        assert_eq!(violations("src/cache/mod.rs", "use super::proxy;").len(), 1);
        assert_eq!(violations("src/clock.rs", "use super::config;").len(), 1);
    }

    #[test]
    fn what_is_allowed_passes() {
        let ways = [
            "use crate::config::model::Name;",
            "use crate::cache::entry::Entry;",
            "use super::entry::Entry; use super::super::config;",
            "use crate::{cache::{a, b}, clock::Clock};",
            "// use crate::proxy;\nconst A: &str = \"crate::proxy\";",
            "#[cfg(test)]\nmod tests { use crate::proxy; }",
            "pub(in crate::cache) fn f() {}",
            "use mycrate::proxy;",
        ];
        for way in ways {
            assert_eq!(violations("src/cache/key.rs", way), Vec::<String>::new(), "{way}");
        }
        assert_eq!(
            violations("src/app.rs", "use crate::{proxy, cache};"),
            Vec::<String>::new()
        );
        assert_eq!(violations("src/lib.rs", "pub mod proxy;"), Vec::<String>::new());
    }

    #[test]
    fn part_of_a_part_can_be_allowed_alone() {
        assert!(violations("src/proxy/a.rs", "use crate::control::state::Snapshot;").is_empty());
        assert!(violations("src/proxy/a.rs", "use crate::control::{state, state::A};").is_empty());
        assert_eq!(
            violations("src/proxy/a.rs", "use crate::control::reload::A;").len(),
            1
        );
        assert_eq!(violations("src/proxy/a.rs", "use crate::control;").len(), 1);
    }

    #[test]
    fn a_part_that_nobody_knows_is_found() {
        assert_eq!(violations("src/other/a.rs", "").len(), 1);
    }
}

//! The packages this one is built from: each is needed, and each may be used under its licence.
//!
//! Which licences are accepted and which packages are not is read from `.deny.toml`, so that `cargo deny` and this
//! test cannot disagree.

use regex::Regex;
use serde_json::Value;

use super::source::{Source, is_word};

/// Packages of a section of `Cargo.toml` (`dependencies`, `dev-dependencies`) that no source names.
pub(crate) fn unused(manifest: &str, section: &str, sources: &[Source]) -> Vec<String> {
    let named = |ident: &str| sources.iter().any(|source| names(&source.code, ident));
    let keys = keys(manifest, section);
    let unused = keys.into_iter().filter(|key| !named(&key.replace('-', "_")));
    unused
        .map(|key| format!("Cargo.toml: [{section}] {key} is not used"))
        .collect()
}

/// The keys of a section of TOML.
fn keys(manifest: &str, section: &str) -> Vec<String> {
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != format!("[{section}]"))
        .skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned()))
        .filter(|key| !key.starts_with('#'))
        .collect()
}

/// Whether code has `ident` as a whole word.
fn names(code: &str, ident: &str) -> bool {
    let bytes = code.as_bytes();
    code.match_indices(ident).any(|(at, _)| {
        let before = at.checked_sub(1).is_some_and(|before| is_word(bytes[before]));
        let behind = bytes.get(at + ident.len()).is_some_and(|behind| is_word(*behind));
        !before && !behind
    })
}

/// Packages of `cargo metadata` whose licence is not accepted, or that are refused by name.
pub(crate) fn refused(metadata: &Value, deny: &str) -> Vec<String> {
    let (accepted, refused) = (list(deny, "allow"), list(deny, "deny"));
    let packages = metadata["packages"]
        .as_array()
        .expect("cargo metadata lists packages");
    let judge = |package: &Value| {
        let (name, licence) = (
            package["name"].as_str()?,
            package["license"].as_str().unwrap_or_default(),
        );
        if refused.iter().any(|refused| refused == name) {
            return Some(format!("the package `{name}` is refused by .deny.toml"));
        }
        let fine = Expression::new(licence).met_with(&accepted);
        (!fine).then(|| format!("the licence of `{name}`, `{licence}`, is not accepted by .deny.toml"))
    };
    packages.iter().filter_map(judge).collect()
}

/// The strings of a list of TOML; of tables, their `crate` or `name`.
fn list(toml: &str, key: &str) -> Vec<String> {
    let start = Regex::new(&format!(r"(?m)^{key}\s*=\s*\[")).unwrap();
    let Some(start) = start.find(toml) else {
        return Vec::new();
    };
    let lines = toml[start.end()..].split("\n]").next().unwrap_or_default();
    let lines = lines.lines().map(|line| line.split(" #").next().unwrap_or(line));
    let first = |line: &str| Some(line.split('"').nth(1)?.to_owned());
    lines
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(first)
        .collect()
}

/// A licence expression (SPDX): `AND` binds tighter than `OR`; `A/B` is an old way to write `A OR B`.
struct Expression {
    words: Vec<String>,
    at: usize,
}

impl Expression {
    fn new(text: &str) -> Self {
        let spaced = text
            .replace('/', " OR ")
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace(" WITH ", "_WITH_");
        Self {
            words: spaced
                .split_whitespace()
                .map(|word| word.replace("_WITH_", " WITH "))
                .collect(),
            at: 0,
        }
    }

    /// Whether one may meet it with the accepted licences. An empty or malformed expression is not met.
    fn met_with(mut self, accepted: &[String]) -> bool {
        let met = self.any(accepted);
        met && self.at == self.words.len()
    }

    fn any(&mut self, accepted: &[String]) -> bool {
        let mut met = self.all(accepted);
        while self.take("OR") {
            met |= self.all(accepted);
        }
        met
    }

    fn all(&mut self, accepted: &[String]) -> bool {
        let mut met = self.one(accepted);
        while self.take("AND") {
            met &= self.one(accepted);
        }
        met
    }

    fn one(&mut self, accepted: &[String]) -> bool {
        if self.take("(") {
            let met = self.any(accepted);
            return self.take(")") && met;
        }
        let word = self.words.get(self.at);
        self.at += 1;
        word.is_some_and(|word| accepted.contains(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.at).is_some_and(|next| next == word);
        self.at += usize::from(is_next);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dependency_that_nobody_names_is_found() {
        let manifest = "[dependencies]\nfirst-crate = \"1\"\n# a comment = 1\nsecond = { version = \"2\" }\n\n[dev-dependencies]\nthird = \"3\"\n";
        let source = |text: &str| [Source::new("src/a.rs", text)];
        assert!(
            unused(
                manifest,
                "dependencies",
                &source("use first_crate::A; second::b();")
            )
            .is_empty()
        );
        assert_eq!(
            unused(
                manifest,
                "dependencies",
                &source("use first_crate::A; // second::b();")
            )
            .len(),
            1
        );
        assert_eq!(
            unused(
                manifest,
                "dependencies",
                &source("use first_crate::A; seconds::b();")
            )
            .len(),
            1
        );
        assert_eq!(
            unused(manifest, "dev-dependencies", &source("first_crate second")).len(),
            1
        );
    }

    #[test]
    fn licences_are_judged_by_their_meaning() {
        let accepted = [
            "MIT".to_owned(),
            "Apache-2.0".to_owned(),
            "Apache-2.0 WITH LLVM-exception".to_owned(),
        ];
        for (text, met) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT/GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT OR Apache-2.0 AND GPL-3.0-only", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
            ("(GPL-3.0-only OR Apache-2.0) AND MIT", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0-only WITH Classpath-exception-2.0", false),
            ("", false),
            ("(MIT", false),
            ("MIT MIT", false),
        ] {
            assert_eq!(Expression::new(text).met_with(&accepted), met, "{text}");
        }
    }

    #[test]
    fn packages_that_are_not_wanted_are_found() {
        let deny = "[licenses]\nallow = [\n    \"MIT\",\n    # \"GPL-3.0-only\",\n]\n[bans]\ndeny = [\n    { crate = \"openssl-sys\", reason = \"x\" },\n]\n";
        let metadata = json!({"packages": [
            {"name": "good", "license": "MIT"},
            {"name": "copyleft", "license": "GPL-3.0-only"},
            {"name": "openssl-sys", "license": "MIT"},
            {"name": "none", "license": null},
        ]});
        let found = refused(&metadata, deny);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("copyleft") && found[1].contains("openssl-sys") && found[2].contains("none")
        );
    }
}

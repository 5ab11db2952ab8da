//! What users see is written down, and what is written down is there: metric names and admin calls.

use std::collections::BTreeSet;

use regex::Regex;

use super::source::Source;

/// Metrics of the sources and of the documents, each of which must be in the other.
pub(crate) fn metrics(sources: &[Source], documents: &[(String, String)]) -> Vec<String> {
    let name = Regex::new(r"\boutrigger_[a-z0-9_]*[a-z0-9]\b").unwrap();
    let named = |text: &str| -> Vec<String> {
        name.find_iter(text)
            .map(|name| series_to_family(name.as_str()))
            .collect()
    };
    let strings = sources
        .iter()
        .filter(|source| source.part() == Some("telemetry"))
        .flat_map(|source| &source.strings);
    let exposed: BTreeSet<String> = strings.flat_map(|(_, content)| named(content)).collect();
    let documented: BTreeSet<String> = documents.iter().flat_map(|(_, text)| named(text)).collect();
    let undocumented = exposed
        .difference(&documented)
        .map(|name| format!("the metric `{name}` is not documented"));
    // A document may also name several at once by what they begin with.
    let begins_one = |name: &str| exposed.iter().any(|known| known.starts_with(&format!("{name}_")));
    let unknown = documented
        .difference(&exposed)
        .filter(|name| !begins_one(name))
        .map(|name| format!("the documented metric `{name}` does not exist"));
    undocumented.chain(unknown).collect()
}

/// The family of a series of a histogram: documents show queries over `_bucket`, `_sum` and `_count`.
fn series_to_family(name: &str) -> String {
    let suffix = ["_bucket", "_sum", "_count"]
        .into_iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    suffix.unwrap_or(name).to_owned()
}

/// Calls that the admin API registers and no document names.
pub(crate) fn routes(sources: &[Source], documents: &[(String, String)]) -> Vec<String> {
    let registered = Regex::new(r#"(?:\bpath\s*=\s*|\.route\(\s*)"(/[^"]*)""#).unwrap();
    let admin = sources.iter().filter(|source| source.part() == Some("admin"));
    let mut missing = Vec::new();
    for source in admin {
        // A path in a test of the file is no registration, so the string must also lie in the code.
        let in_code = |path: &str| source.strings.iter().any(|(_, content)| content == path);
        for found in registered
            .captures_iter(&source.text)
            .map(|found| found[1].to_owned())
        {
            let documented = documents.iter().any(|(_, text)| names(text, &found));
            if in_code(&found) && !documented {
                missing.push(format!(
                    "{}: the admin call `{found}` is not documented",
                    source.path
                ));
            }
        }
    }
    missing
}

/// Whether a text names exactly this path, not only a longer one.
fn names(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let next = text[at + path.len()..].chars().next();
        let before = text[..at].chars().next_back();
        let longer = |letter: char| letter.is_alphanumeric() || "/_-{".contains(letter);
        !next.is_some_and(longer)
            && !before.is_some_and(|letter| letter.is_alphanumeric() || "/}".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<(String, String)> {
        vec![("README.md".to_owned(), text.to_owned())]
    }

    #[test]
    fn metrics_must_be_written_down_and_exist() {
        let sources = [
            Source::new(
                "src/telemetry/a.rs",
                "const A: &str = \"outrigger_a_total\"; const B: &str = \"outrigger_b_seconds\";",
            ),
            Source::new("src/cli/a.rs", "const C: &str = \"outrigger_c\";"),
        ];
        assert!(
            metrics(
                &sources,
                &documents("`outrigger_a_total{x}`, outrigger_b_seconds_bucket, grep outrigger_b")
            )
            .is_empty()
        );
        let found = metrics(&sources, &documents("outrigger_a_total outrigger_d"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("outrigger_b_seconds") && found[1].contains("outrigger_d"),
            "{found:?}"
        );
    }

    #[test]
    fn calls_must_be_written_down() {
        let text = "#[utoipa::path(get, path = \"/config\", tag = \"x\")]\nfn a() { r.route(\"/drain\", post(b)) }\n\
                    #[cfg(test)]\nmod tests { fn c() { r.route(\"/x\", d) } }\n";
        let sources = [
            Source::new("src/admin/a.rs", text),
            Source::new("src/demo/a.rs", "r.route(\"/hub\", x)"),
        ];
        assert!(routes(&sources, &documents("GET /config, POST /drain")).is_empty());
        let found = routes(&sources, &documents("GET /config/validate, POST /drain"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("/config"), "{found:?}");
    }
}

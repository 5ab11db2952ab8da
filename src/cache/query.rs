//! The part of a query that makes two requests different.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::config::QueryRule;

/// The forms in which keys may have `query` under any of `rules`: as it is, and as each rule leaves it.
pub fn forms<'r>(query: Option<&str>, rules: impl Iterator<Item = &'r QueryRule>) -> Vec<Option<String>> {
    let mut forms = vec![query.map(str::to_owned)];
    let Some(query) = query else { return forms };
    for rule in rules.filter(|rule| !rule.verbatim) {
        let mut counted = Vec::new();
        let form = write_normalised(rule, query, &mut counted)
            .then(|| String::from_utf8_lossy(&counted).into_owned());
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// `host/path?query`, as labels have it.
pub fn join(authority: &str, path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{authority}{path}?{query}"),
        None => format!("{authority}{path}"),
    }
}

/// Appends the parameters that count to `out`, joined by `&` and spelled as they came; false when none counts.
///
/// Rules look at decoded names, as the origin will. Parameters of one name keep their order when sorted.
pub(super) fn write_normalised(rule: &QueryRule, query: &str, out: &mut Vec<u8>) -> bool {
    if rule.verbatim {
        out.extend_from_slice(query.as_bytes());
        return true;
    }
    let mut counted: Vec<(&str, &str)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| (name_of(parameter), parameter))
        .filter(|(name, _)| counts(rule, name))
        .collect();
    if rule.sort {
        counted.sort_by_key(|(name, _)| *name);
    }
    for (at, (_, parameter)) in counted.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(parameter.as_bytes());
    }
    !counted.is_empty()
}

pub(super) fn name_of(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

fn counts(rule: &QueryRule, name: &str) -> bool {
    let name = decoded(name);
    let name = name.as_ref();
    rule.include.iter().any(|glob| glob.is_match(name))
        && !rule.exclude.iter().any(|glob| glob.is_match(name))
}

/// A parameter name without percent-encoding and `+`; what is not UTF-8 afterwards is replaced.
pub(super) fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains(['%', '+']) {
        return Cow::Borrowed(name);
    }
    let spaced = name.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use globset::{Glob, GlobMatcher};

    use super::*;

    fn rule(include: &[&str], exclude: &[&str], sort: bool) -> QueryRule {
        let globs = |texts: &[&str]| -> Vec<GlobMatcher> {
            texts
                .iter()
                .map(|text| Glob::new(text).unwrap().compile_matcher())
                .collect()
        };
        QueryRule {
            include: globs(include),
            exclude: globs(exclude),
            sort,
            verbatim: false,
        }
    }

    fn normalised(rule: &QueryRule, query: &str) -> Option<String> {
        let mut out = Vec::new();
        write_normalised(rule, query, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn parameters_that_count() {
        let table = [
            (rule(&["*"], &[], true), "b=2&a=1", Some("a=1&b=2")),
            (rule(&["*"], &[], true), "b=2&a=2&b=1", Some("a=2&b=2&b=1")),
            (rule(&["*"], &[], false), "b=2&&a=1&", Some("b=2&a=1")),
            (rule(&["*"], &["utm_*"], true), "utm_source=x&a=1", Some("a=1")),
            (rule(&["*"], &["utm_*"], true), "utm_source=x", None),
            (rule(&["*"], &["utm_*"], true), "%75tm_source=x&a=1", Some("a=1")),
            (
                rule(&["user_id"], &[], true),
                "x=1&user%5Fid=2&user_id=3",
                Some("user%5Fid=2&user_id=3"),
            ),
            (
                rule(&["a b"], &[], true),
                "a+b=1&a%20b=2&ab=3",
                Some("a%20b=2&a+b=1"),
            ),
            (
                rule(&["*"], &[], true),
                "flag&=x&%ff=1&%zz",
                Some("=x&%ff=1&%zz&flag"),
            ),
            (rule(&[], &[], true), "a=1", None),
            (rule(&["*"], &[], true), "", None),
        ];
        for (rule, query, expected) in table {
            assert_eq!(normalised(&rule, query).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn verbatim_takes_the_query_as_it_is() {
        let verbatim = QueryRule {
            verbatim: true,
            ..rule(&[], &[], false)
        };
        assert_eq!(normalised(&verbatim, "b=2&&a=1").as_deref(), Some("b=2&&a=1"));
        assert_eq!(normalised(&verbatim, "").as_deref(), Some(""));
    }
}

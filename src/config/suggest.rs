//! "Did you mean": the nearest of several known words.

/// The word that was probably meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = normalised(word);
    let bound = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, &normalised(known)), known))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// A hint for a word that is not among the known ones; none if nothing is known.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(meant) = closest(word, known.clone()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    let list = list(known);
    (!list.is_empty()).then(|| format!("one of {list}"))
}

/// "`a`, `b`, `c`"
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// Words of other products' habits (`firstByte`, `first-byte`) are near as well. Bounded, as the distance takes
/// quadratic time.
fn normalised(word: &str) -> String {
    word.chars()
        .take(64)
        .filter(|c| *c != '_' && *c != '-')
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_listed() {
        let known = ["upstream", "timeouts", "cache"];
        assert_eq!(closest("upsteam", known), Some("upstream"));
        assert_eq!(closest("time-out", known), Some("timeouts"));
        assert_eq!(closest("Cache", known), Some("cache"));
        assert_eq!(closest("retries", known), None);
        assert_eq!(
            hint("retries", known).unwrap(),
            "one of `upstream`, `timeouts`, `cache`"
        );
        assert_eq!(hint("x", []), None);
    }
}

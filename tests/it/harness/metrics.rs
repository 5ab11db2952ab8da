//! Reading samples out of a scrape.

/// The sum of the samples of `name` whose labels include all of `labels`; none if there is no such sample.
pub(super) fn sum(scrape: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| sample(line, name, labels));
    samples.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
}

/// The value of one line, if it is a sample of `name` with all of `labels`.
fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (given, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let has = |(label, value): &(&str, &str)| {
        given
            .split("\",")
            .any(|pair| pair.trim_end_matches('"') == format!("{label}=\"{value}"))
    };
    if !labels.iter().all(has) {
        return None;
    }
    value.split(' ').next()?.parse().ok()
}

#[test]
fn samples_are_added_up_by_label() {
    let scrape = "# TYPE a counter\na_total{r=\"x\",s=\"y\"} 2\na_total{r=\"x\",s=\"z\"} 3\na_total{r=\"w\"} 4 17\nb 1\n";
    assert_eq!(sum(scrape, "a_total", &[("r", "x")]), Some(5.0));
    assert_eq!(sum(scrape, "a_total", &[]), Some(9.0));
    assert_eq!(sum(scrape, "b", &[]), Some(1.0));
    assert_eq!(sum(scrape, "a", &[]), None);
}

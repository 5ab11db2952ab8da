//! Which cases count as passed, the table, and the floor.

use std::collections::HashMap;
use std::fmt;

use super::cases::{Kind, Suite, Test};
use super::verdict::Fault;

/// The result of a run.
#[derive(Debug, Default)]
pub(super) struct Score {
    suites: Vec<(String, Counts)>,
    /// Required and optimal cases that are not passed, and why.
    missing: Vec<(String, Kind, String)>,
    /// Informative cases whose answer is no, and why.
    no: Vec<(String, String)>,
    total: Counts,
}

/// Passed and all, by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    required: (usize, usize),
    optimal: (usize, usize),
    check: (usize, usize),
}

impl Counts {
    fn count(&mut self, kind: Kind, passed: bool) {
        let (good, all) = match kind {
            Kind::Required => &mut self.required,
            Kind::Optimal => &mut self.optimal,
            Kind::Check => &mut self.check,
        };
        *good += usize::from(passed);
        *all += 1;
    }
}

type Results = HashMap<String, Result<(), Fault>>;

impl Score {
    /// Counts what was played.
    pub(super) fn of(suites: &[Suite], results: &Results) -> Self {
        let tests: HashMap<&str, &Test> = suites
            .iter()
            .flat_map(|suite| &suite.tests)
            .map(|test| (test.id.as_str(), test))
            .collect();
        let mut score = Self::default();
        for suite in suites {
            let mut counts = Counts::default();
            for test in suite.tests.iter().filter(|test| !test.browser_only) {
                let fault = fault(&test.id, &tests, results);
                counts.count(test.kind, fault.is_none());
                score.total.count(test.kind, fault.is_none());
                match (fault, test.kind) {
                    (None, _) => {}
                    (Some(reason), Kind::Check) => score.no.push((test.id.clone(), reason)),
                    (Some(reason), kind) => score.missing.push((test.id.clone(), kind, reason)),
                }
            }
            score.suites.push((suite.id.clone(), counts));
        }
        score
    }
}

/// Why a test does not count as passed; none if it does.
fn fault(id: &str, tests: &HashMap<&str, &Test>, results: &Results) -> Option<String> {
    let test = tests.get(id)?;
    let own = match results.get(id) {
        None => Some("not played".to_owned()),
        Some(Ok(())) => None,
        Some(Err(Fault::Setup(reason))) => Some(format!("setup: {reason}")),
        Some(Err(Fault::Failed(reason))) => Some(reason.clone()),
    };
    let depends = || {
        let lost = test
            .depends_on
            .iter()
            .find(|on| fault(on, tests, results).is_some());
        lost.map(|on| format!("depends on {on}"))
    };
    own.or_else(depends)
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |(good, all): (usize, usize)| format!("{good}/{all}");
        writeln!(
            f,
            "{:<20} {:>9} {:>9} {:>9}",
            "suite", "required", "optimal", "check"
        )?;
        for (suite, counts) in &self.suites {
            let columns = [counts.required, counts.optimal, counts.check].map(of);
            writeln!(
                f,
                "{suite:<20} {:>9} {:>9} {:>9}",
                columns[0], columns[1], columns[2]
            )?;
        }
        for (id, kind, reason) in &self.missing {
            writeln!(f, "{kind:?} {id}: {reason}")?;
        }
        for (id, reason) in &self.no {
            writeln!(f, "Check {id}: {reason}")?;
        }
        let (required, optimal) = (of(self.total.required), of(self.total.optimal));
        writeln!(f, "SCORE required {required} optimal {optimal}")
    }
}

/// The least that must be passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    pub(super) required: usize,
    pub(super) optimal: usize,
}

impl Floor {
    /// The floor that the repository keeps.
    pub(super) fn kept() -> Self {
        let of = |name: &str| {
            let lines = include_str!("floor.txt").lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            values.next().expect("a line for each kind")
        };
        Self {
            required: of("required "),
            optimal: of("optimal "),
        }
    }

    /// Whether the score is no lower.
    pub(super) fn is_met_by(self, score: &Score) -> bool {
        score.total.required.0 >= self.required && score.total.optimal.0 >= self.optimal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(tests: &str) -> Vec<Suite> {
        serde_json::from_str(&format!(r#"[{{"id": "s", "tests": {tests}}}]"#)).unwrap()
    }

    #[test]
    fn what_a_passed_test_depends_on_must_be_passed_all_the_way() {
        let suites = suite(
            r#"[{"id": "a", "name": "", "kind": "check", "requests": []},
                {"id": "b", "name": "", "kind": "optimal", "depends_on": ["a"], "requests": []},
                {"id": "c", "name": "", "depends_on": ["b"], "requests": []},
                {"id": "d", "name": "", "requests": []},
                {"id": "e", "name": "", "browser_only": true, "requests": []}]"#,
        );
        let mut results: Results = ["a", "b", "c", "d"].map(|id| (id.to_owned(), Ok(()))).into();
        let score = |results: &Results| {
            let text = Score::of(&suites, results).to_string();
            text.lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(score(&results), "SCORE required 2/2 optimal 1/1");
        results.insert("a".to_owned(), Err(Fault::Setup("503".to_owned())));
        assert_eq!(score(&results), "SCORE required 1/2 optimal 0/1");
        let floor = Floor {
            required: 2,
            optimal: 0,
        };
        assert!(!floor.is_met_by(&Score::of(&suites, &results)));
    }
}

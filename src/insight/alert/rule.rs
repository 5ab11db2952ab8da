//! Rules in force: those of the file, of the objectives, and the built-in ones.

use std::collections::BTreeMap;
use std::time::Duration;

use super::builtin;
use super::machine::Policy;
use crate::config::expression::{Expression, Number, Scope};
use crate::config::scalar::Scalar;
use crate::config::{AlertRule, Alerts, Name, Objective, Severity};

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration.
    File,
    /// An objective of the configuration.
    Objective,
    /// The product.
    Builtin,
}

/// A rule in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Name.
    pub name: Name,
    /// How bad it is.
    pub severity: Severity,
    /// When it holds.
    pub expr: Expression,
    /// What it is about: of the firing rules with equal subjects the most severe is told.
    pub subject: String,
    /// When it fires and when it is over.
    pub policy: Policy,
    /// Who is told; none: everybody.
    pub receivers: Option<Vec<Name>>,
    /// What to tell people.
    pub summary: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Rule {
    /// `alertname`, `severity`, and the names in the expression's scopes.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        self.expr.condition.queries(&mut |query| {
            if let Some((label, name)) = query.scope.label() {
                labels.insert(label.to_owned(), name.to_owned());
            }
        });
        self.expr.condition.numbers(&mut |number| {
            if let Number::BurnRate { name, .. } = number {
                labels.insert("slo".to_owned(), name.clone());
            }
        });
        labels.insert("alertname".to_owned(), self.name.to_string());
        labels.insert("severity".to_owned(), self.severity.to_string());
        labels
    }

    fn new(rule: AlertRule, origin: Origin) -> Self {
        let summary = rule.summary.unwrap_or_else(|| rule.expr.written().to_owned());
        Self {
            subject: rule.expr.subject(),
            policy: Policy {
                hold: rule.hold,
                clear: rule.clear,
                keep_firing_for: rule.keep_firing_for,
            },
            name: rule.name,
            severity: rule.severity,
            expr: rule.expr,
            receivers: rule.receivers,
            summary,
            origin,
        }
    }
}

/// All rules that `config` puts in force, each name once: the file's before the objectives' before the built-in ones.
pub fn rules(config: &Alerts) -> Vec<Rule> {
    let mut rules: BTreeMap<Name, Rule> = BTreeMap::new();
    let of_file = config.rules.iter().cloned().map(|rule| (rule, Origin::File));
    let promised = config
        .objectives
        .iter()
        .flat_map(promises)
        .map(|rule| (rule, Origin::Objective));
    let builtin = config
        .builtin
        .then(builtin::rules)
        .into_iter()
        .flatten()
        .map(|rule| (rule, Origin::Builtin));
    for (rule, origin) in of_file.chain(promised).chain(builtin) {
        rules
            .entry(rule.name.clone())
            .or_insert_with(|| Rule::new(rule, origin));
    }
    rules.into_values().collect()
}

/// The rules of an objective: 2 % of a month's budget used up in an hour, 5 % in six hours ("The Site Reliability
/// Workbook", chapter 5, table 5-6), and quantiles above their bound for 5 minutes.
fn promises(objective: &Objective) -> Vec<AlertRule> {
    let name = &objective.name;
    let mut promises = Vec::new();
    if objective.availability.is_some() {
        promises.push((
            format!("{name}-burns-fast"),
            Severity::Critical,
            format!("burn_rate(\"{name}\", 1h, 5m) > 14.4"),
            2 * MINUTE,
        ));
        promises.push((
            format!("{name}-burns"),
            Severity::Warning,
            format!("burn_rate(\"{name}\", 6h, 30m) > 6"),
            15 * MINUTE,
        ));
    }
    let scope = objective
        .route
        .as_ref()
        .map_or(Scope::All, |route| Scope::Route(route.to_string()));
    for (quantile, bound) in &objective.latency {
        promises.push((
            format!("{name}-latency-{quantile}"),
            Severity::Warning,
            format!("latency_{quantile}{scope} > {}", bound.as_secs_f64()),
            5 * MINUTE,
        ));
    }
    promises
        .into_iter()
        .filter_map(|(name, severity, expr, hold)| {
            Some(AlertRule {
                name: name.into(),
                severity,
                // Written by this function, so it reads; a test holds it.
                expr: Expression::parse(&expr).ok()?,
                hold,
                clear: None,
                keep_firing_for: 5 * MINUTE,
                receivers: None,
                summary: Some(format!("{} is not kept", objective.name)),
            })
        })
        .collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expression::Quantile;

    #[test]
    fn objectives_have_rules_and_the_files_rules_come_first() {
        let objective = Objective {
            name: "chat".into(),
            route: Some("r-1".into()),
            availability: Some(0.999),
            latency: vec![(Quantile(950), Duration::from_millis(800))],
        };
        let own = AlertRule {
            name: "HighErrorRatio".into(),
            ..promises(&objective)[0].clone()
        };
        let mut config = Alerts {
            rules: vec![own],
            objectives: vec![objective],
            ..Alerts::default()
        };
        let names = |config: &Alerts, origin: Origin| -> Vec<String> {
            let rules = rules(config);
            let of = rules.iter().filter(|rule| rule.origin == origin);
            of.map(|rule| rule.name.to_string()).collect()
        };
        assert_eq!(names(&config, Origin::File), ["HighErrorRatio"]);
        assert_eq!(
            names(&config, Origin::Objective),
            ["chat-burns", "chat-burns-fast", "chat-latency-p95"]
        );
        let builtin = names(&config, Origin::Builtin);
        assert_eq!(builtin.len(), builtin::rules().len() - 1);
        config.builtin = false;
        assert_eq!(names(&config, Origin::Builtin), [""; 0]);
        let all = rules(&config);
        let latency = all.iter().find(|rule| &*rule.name == "chat-latency-p95").unwrap();
        assert_eq!(latency.labels()["route"], "r-1");
        assert_eq!(latency.labels()["severity"], "WARNING");
    }
}

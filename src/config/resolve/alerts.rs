//! `alerts`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;

use super::Cx;
use crate::config::alerts::{AlertRule, Alerts, Form, Objective, Receiver, ReceiverUrl, Signing};
use crate::config::expression::{Condition, Expression, Number, Quantile, Scope};
use crate::config::model::{ClientTls, Name};
use crate::config::raw;
use crate::config::scalar::{Map, Scalar, Text};
use crate::config::secret::Secret;
use crate::config::suggest;
use crate::config::tree::At;
use crate::config::units::Positive;
use crate::config::values::UrlText;

const MAX_RECEIVERS: usize = 16;
const MAX_RULES: usize = 256;
const MAX_OBJECTIVES: usize = 64;
const DEFAULT_KEEP: Duration = Duration::from_secs(60);

/// Names that expressions may use.
pub(super) struct Known<'c> {
    pub(super) routes: BTreeSet<&'c str>,
    pub(super) upstreams: BTreeSet<&'c str>,
    pub(super) levels: BTreeSet<&'c str>,
}

/// Resolves rules, objectives and receivers; those with problems are left out.
pub(super) fn resolve(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Alerts, known: &Known<'_>) -> Alerts {
    let receivers = raw.receivers.unwrap_or_default();
    let list = at.key("receivers");
    let names = receivers.iter().map(|raw| raw.name.as_ref());
    named(cx, &list, names, MAX_RECEIVERS);
    let told: BTreeSet<Name> = receivers
        .iter()
        .filter_map(|raw| raw.name.as_ref().map(|name| Arc::clone(&name.0.0)))
        .collect();
    let receivers = receivers
        .into_iter()
        .enumerate()
        .filter_map(|(index, raw)| receiver(cx, &list.index(index), raw).map(Arc::new))
        .collect();

    let objectives = raw.slos.unwrap_or_default();
    let list = at.key("slos");
    let names = objectives.iter().map(|raw| raw.name.as_ref());
    named(cx, &list, names, MAX_OBJECTIVES);
    let objectives: Vec<Objective> = objectives
        .into_iter()
        .enumerate()
        .filter_map(|(index, raw)| objective(cx, &list.index(index), raw, known))
        .collect();

    let rules = raw.rules.unwrap_or_default();
    let list = at.key("rules");
    let names = rules.iter().map(|raw| raw.name.as_ref());
    named(cx, &list, names, MAX_RULES);
    let rules = rules
        .into_iter()
        .enumerate()
        .filter_map(|(index, raw)| rule(cx, &list.index(index), raw, known, &objectives, &told))
        .collect();
    Alerts {
        receivers,
        rules,
        objectives,
        builtin: raw.builtin.unwrap_or(true),
    }
}

/// Checks that names are unique and few enough.
fn named<'n>(
    cx: &mut Cx<'_>,
    list: &At<'_>,
    names: impl ExactSizeIterator<Item = Option<&'n Text<crate::config::values::NameText>>>,
    most: usize,
) {
    if names.len() > most {
        cx.problem(list, format!("more than {most} entries"));
    }
    cx.unique(list, "name", names.map(|name| name.map(|name| &*name.0.0)));
}

fn receiver(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Receiver) -> Option<Receiver> {
    let name = cx.required(at, "name", raw.name);
    let given = [
        ("webhook", raw.webhook.is_some()),
        ("alertmanager", raw.alertmanager.is_some()),
        ("slack", raw.slack.is_some()),
    ];
    let mut kinds = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key);
    let Some(kind) = kinds.next() else {
        if !given.iter().any(|(key, _)| cx.is_faulty(at, key)) {
            cx.problem(at, "one of `webhook`, `alertmanager` and `slack` is missing");
        }
        return None;
    };
    for other in kinds {
        cx.problem(
            &at.key(other),
            format!("`{kind}` and `{other}` exclude each other"),
        )
        .hint("make two receivers of it");
    }
    let at = at.key(kind);
    let webhook = raw.webhook.unwrap_or_default();
    let (form, place) = match (raw.alertmanager, raw.slack) {
        _ if kind == "webhook" => {
            let signing = webhook.secret_file.map(|file| signing(cx, &at, &file.0));
            let signing = match signing {
                Some(signing) => Some(signing?),
                None => None,
            };
            let place = Place(webhook.url, webhook.url_file, webhook.ca_file, webhook.insecure);
            (Form::Webhook(signing), place)
        }
        (Some(raw), _) => {
            // Alertmanager without TLS is how most clusters run it, within their own network.
            (
                Form::Alertmanager,
                Place(raw.url, raw.url_file, raw.ca_file, Some(true)),
            )
        }
        (None, raw) => {
            let raw = raw.unwrap_or_default();
            (
                Form::Slack,
                Place(raw.url, raw.url_file, raw.ca_file, raw.insecure),
            )
        }
    };
    let (url, tls, insecure) = self::place(cx, &at, place)?;
    Some(Receiver {
        name: name?.0,
        form,
        url,
        tls,
        insecure,
    })
}

/// `url`, `url_file`, `ca_file` and `insecure`.
struct Place(
    Option<Text<UrlText>>,
    Option<Text<PathBuf>>,
    Option<Text<PathBuf>>,
    Option<bool>,
);

fn place(cx: &mut Cx<'_>, at: &At<'_>, raw: Place) -> Option<(ReceiverUrl, Option<ClientTls>, bool)> {
    let Place(url, file, ca_file, insecure) = raw;
    let ca_file = ca_file.map(|file| cx.readable(&at.key("ca_file"), &file.0));
    let (key, url, file) = match (url, file) {
        (Some(url), None) => ("url", url.0, None),
        (None, Some(file)) => {
            let at = at.key("url_file");
            let text = cx.read(&at, &file.0)?;
            match UrlText::parse(String::from_utf8_lossy(&text).trim()) {
                Ok(url) => ("url_file", url, Some(cx.absolute(&file.0))),
                Err(refusal) => {
                    cx.problem(&at, format!("the file holds {}", refusal.message));
                    return None;
                }
            }
        }
        (Some(_), Some(_)) => {
            cx.problem(&at.key("url_file"), "`url` and `url_file` exclude each other");
            return None;
        }
        (None, None) => {
            if !cx.is_faulty(at, "url") && !cx.is_faulty(at, "url_file") {
                cx.problem(at, "one of `url` and `url_file` is missing");
            }
            return None;
        }
    };
    let insecure = insecure.unwrap_or(false);
    let is_tls = url.0.scheme() == Some(&Scheme::HTTPS);
    if !is_tls && !insecure {
        cx.problem(
            &at.key(key),
            "everybody on the way can read and change what goes over `http://`",
        )
        .hint("`https://`, or `insecure: true` if the way is trusted");
    }
    if !is_tls && ca_file.is_some() {
        cx.problem(&at.key("ca_file"), "`ca_file` has no effect on `http://`");
    }
    let tls = is_tls.then_some(ClientTls {
        sni: None,
        ca_file,
        identity: None,
    });
    let url = ReceiverUrl {
        url: Secret::new(url.0),
        file,
    };
    Some((url, tls, insecure))
}

fn signing(cx: &mut Cx<'_>, at: &At<'_>, file: &std::path::Path) -> Option<Signing> {
    let at = at.key("secret_file");
    let content = cx.read(&at, file)?;
    let key = content.trim_ascii();
    if key.len() < 16 {
        cx.problem(&at, "the key has fewer than 16 bytes")
            .hint("`openssl rand -hex 32` makes one");
        return None;
    }
    Some(Signing {
        key: Secret::new(key.to_vec()),
        file: cx.absolute(file),
    })
}

fn objective(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Objective, known: &Known<'_>) -> Option<Objective> {
    let name = cx.required(at, "name", raw.name);
    let route = raw.route.map(|route| route.0.0);
    if let Some(route) = &route {
        unknown(cx, &at.key("route"), "route", route, &known.routes);
    }
    if raw.availability.is_none() && raw.latency.is_none() {
        let keys = ["availability", "latency"];
        if !keys.iter().any(|key| cx.is_faulty(at, key)) {
            cx.problem(at, "one of `availability` and `latency` is missing");
        }
        return None;
    }
    let availability = raw.availability.map(|share| share.0.0);
    if availability.is_some_and(|share| share <= 0.0 || share >= 1.0) {
        cx.problem(&at.key("availability"), "nobody can promise all or nothing")
            .hint("like `99.9%`");
    }
    let latency = latency(cx, &at.key("latency"), raw.latency.unwrap_or_default());
    Some(Objective {
        name: name?.0,
        route,
        availability,
        latency,
    })
}

fn latency(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: Map<String, Text<Positive<Duration>>>,
) -> Vec<(Quantile, Duration)> {
    let mut bounds = Vec::new();
    for (name, bound) in raw.0 {
        match Quantile::parse(&name) {
            Some(quantile) => bounds.push((quantile, bound.0.0)),
            None => cx
                .problem(&at.key(&name), format!("`{name}` is not a quantile"))
                .hint("`p0.1` to `p99.9`"),
        }
    }
    bounds
}

fn rule(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: raw::AlertRule,
    known: &Known<'_>,
    objectives: &[Objective],
    told: &BTreeSet<Name>,
) -> Option<AlertRule> {
    let name = cx.required(at, "name", raw.name);
    let expr = cx.required(at, "expr", raw.expr);
    if let Some(expr) = &expr {
        for (problem, hint) in unknown_names(expr, known, objectives) {
            let finding = cx.problem(&at.key("expr"), problem);
            if let Some(hint) = hint {
                finding.hint(hint);
            }
        }
        if raw.clear.is_some() && !matches!(expr.condition, Condition::Compared(..)) {
            cx.problem(&at.key("clear"), "`clear` needs an `expr` that is one comparison")
                .hint("make a rule of each comparison, or leave `clear` out");
        }
    }
    let receivers = raw.receivers.map(|names| {
        let list = at.key("receivers");
        let known: BTreeSet<&str> = told.iter().map(AsRef::as_ref).collect();
        for (index, name) in names.iter().enumerate() {
            unknown(cx, &list.index(index), "receiver", &name.0.0, &known);
        }
        names.into_iter().map(|name| name.0.0).collect()
    });
    Some(AlertRule {
        name: name?.0,
        severity: raw.severity.unwrap_or_default(),
        expr: expr?,
        hold: super::duration_or_zero(raw.r#for),
        clear: raw.clear.map(|clear| clear.0),
        keep_firing_for: raw.keep_firing_for.map_or(DEFAULT_KEEP, |duration| duration.0),
        receivers,
        summary: raw.summary.map(|summary| summary.0.0),
    })
}

fn unknown(cx: &mut Cx<'_>, at: &At<'_>, kind: &str, name: &str, known: &BTreeSet<&str>) {
    if known.contains(name) {
        return;
    }
    let finding = cx.problem(at, format!("there is no {kind} `{name}`"));
    if let Some(hint) = suggest::hint(name, known.iter().copied()) {
        finding.hint(hint);
    }
}

/// What an expression names and the configuration does not have, with hints.
pub(in crate::config) fn unknown_names(
    expr: &Expression,
    known: &Known<'_>,
    objectives: &[Objective],
) -> Vec<(String, Option<String>)> {
    let mut problems = Vec::new();
    let mut check = |kind: &str, name: &str, known: &BTreeSet<&str>| {
        if !known.contains(name) {
            let hint = suggest::hint(name, known.iter().copied());
            problems.push((format!("there is no {kind} `{name}`"), hint));
        }
    };
    expr.condition.queries(&mut |query| match &query.scope {
        Scope::Route(name) => check("route", name, &known.routes),
        Scope::Upstream(name) => check("upstream", name, &known.upstreams),
        Scope::Level(name) => check("level", name, &known.levels),
        Scope::All | Scope::System => {}
    });
    let of_objectives: BTreeSet<&str> = objectives
        .iter()
        .map(|objective| &*objective.name)
        .chain(known.routes.iter().copied())
        .collect();
    let mut without = Vec::new();
    expr.condition.numbers(&mut |number| {
        if let Number::BurnRate { name, objective, .. } = number {
            check("objective or route", name, &of_objectives);
            let promised = objectives
                .iter()
                .any(|objective| *objective.name == **name && objective.availability.is_some());
            if objective.is_none() && !promised {
                without.push((
                    format!("`burn_rate({name})` needs an objective"),
                    Some(format!("`burn_rate({name}, 99.9%)`, or `availability` in `slos`")),
                ));
            }
        }
    });
    problems.extend(without);
    problems
}

//! Tokens and what they cost, by route and model.
//!
//! Invariant: names of models come from answers, so they are cut, cleaned and counted: at most [`MODELS`] of them have
//! series of their own.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;

use super::families::{self, Family};

/// Models with series of their own; later ones share the name [`OTHER`].
pub const MODELS: usize = 64;

/// The label of models beyond [`MODELS`].
pub const OTHER: &str = "other";

/// The label of answers that name no model.
pub const UNKNOWN: &str = "unknown";

/// Most bytes of the name of a model.
const MAX_NAME: usize = 64;

/// Tokens of one answer. The kinds do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, as far as the provider neither had it cached nor wrote it to its cache.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
    /// Of the prompt, as far as the provider had cached it.
    pub cached_input: u64,
    /// Of the prompt, as far as the provider charges for writing them to its cache.
    pub cache_write: u64,
}

impl Tokens {
    /// Values of the label `type`.
    const TYPES: [&'static str; 4] = ["input", "output", "cached_input", "cache_write"];

    fn by_type(self) -> [u64; 4] {
        [self.input, self.output, self.cached_input, self.cache_write]
    }
}

/// Where an answer came from, as the label `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// An upstream made it: it was spent.
    Upstream,
    /// The cache, or another request's fetch, answered: it was saved.
    Cache,
}

impl TokenSource {
    const ALL: [Self; 2] = [Self::Upstream, Self::Cache];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Cache => "cache",
        }
    }
}

/// The tokens of one answer that was given.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRecord {
    /// Whose API gave the answer, by its name in the GenAI semantic conventions; none if that is not known.
    pub provider: Option<&'static str>,
    /// The model as the answer names it; empty if it does not.
    pub model: String,
    /// How many.
    pub tokens: Tokens,
    /// Who gave the answer.
    pub source: TokenSource,
    /// What they cost, or would have cost; 0 without a price.
    pub dollars: f64,
}

/// The names of models that have been seen, each with a number for ever.
#[derive(Debug, Default)]
pub(super) struct ModelNames(RwLock<Vec<String>>);

impl ModelNames {
    /// The number of a model; [`MODELS`] for those that share a name.
    pub(super) fn number(&self, model: &str) -> usize {
        let name = label(model);
        if let Some(known) = self.0.read().iter().position(|known| *known == name) {
            return known;
        }
        let mut names = self.0.write();
        // Another thread may have added it in between.
        let known = names.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            if names.len() < MODELS {
                names.push(name);
                names.len() - 1
            } else {
                MODELS
            }
        })
    }

    /// The labels by number.
    pub(super) fn labels(&self) -> Vec<String> {
        let mut labels = self.0.read().clone();
        labels.resize(MODELS, String::new());
        labels.push(OTHER.to_owned());
        labels
    }
}

/// The name of a model as a label.
fn label(model: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/@+".contains(letter);
    let name: String = model
        .chars()
        .take(MAX_NAME)
        .map(|letter| if plain(letter) { letter } else { '_' })
        .collect();
    if name.is_empty() { UNKNOWN.to_owned() } else { name }
}

/// The counters of one route, by the number of the model; made when the first answer is counted.
#[derive(Debug, Default)]
pub(super) struct RouteTokens(OnceLock<Box<[ModelTokens]>>);

/// The counters of one model.
#[derive(Debug, Default)]
struct ModelTokens {
    /// By source, then by type.
    tokens: [[AtomicU64; 4]; 2],
    /// By source: spent and saved.
    dollars: [Dollars; 2],
}

impl RouteTokens {
    /// Counts one answer of the model with this number.
    pub(super) fn count(&self, model: usize, record: &TokenRecord) {
        let models = self
            .0
            .get_or_init(|| (0..=MODELS).map(|_| ModelTokens::default()).collect());
        let Some(counters) = models.get(model) else { return };
        let source = record.source as usize;
        for (counter, count) in counters.tokens[source].iter().zip(record.tokens.by_type()) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        counters.dollars[source].add(record.dollars);
    }

    fn models<'a>(&'a self, labels: &'a [String]) -> impl Iterator<Item = (&'a str, &'a ModelTokens)> {
        let counters = self.0.get().map(|models| &**models).unwrap_or_default();
        labels.iter().map(String::as_str).zip(counters)
    }
}

/// Writes the families of tokens and dollars for routes by name.
pub(super) fn encode<'r>(
    names: &ModelNames,
    routes: &(impl Iterator<Item = (&'r str, &'r RouteTokens)> + Clone),
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let labels = names.labels();
    let mut samples = families::TOKENS.describe(encoder)?;
    for (route, counters) in routes.clone() {
        for (model, counters) in counters.models(&labels) {
            encode_tokens(route, model, counters, &mut samples)?;
        }
    }
    let dollars = |family: &'static Family, source: TokenSource, encoder: &mut DescriptorEncoder<'_>| {
        let mut samples = family.describe(encoder)?;
        for (route, counters) in routes.clone() {
            for (model, counters) in counters.models(&labels) {
                let value = counters.dollars[source as usize].get();
                if value > 0.0 {
                    let labels = [("route", route), ("model", model)];
                    ConstCounter::new(value).encode(samples.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    };
    dollars(&families::COST, TokenSource::Upstream, encoder)?;
    dollars(&families::COST_SAVED, TokenSource::Cache, encoder)
}

fn encode_tokens(
    route: &str,
    model: &str,
    counters: &ModelTokens,
    samples: &mut MetricEncoder<'_>,
) -> fmt::Result {
    for (source, counters) in TokenSource::ALL.iter().zip(&counters.tokens) {
        for (kind, counter) in Tokens::TYPES.iter().zip(counters) {
            let count = counter.load(Ordering::Relaxed);
            if count > 0 {
                let labels = [
                    ("route", route),
                    ("model", model),
                    ("type", *kind),
                    ("source", source.as_str()),
                ];
                families::counter(samples, labels, count)?;
            }
        }
    }
    Ok(())
}

/// A sum of dollars.
#[derive(Debug, Default)]
pub(super) struct Dollars(AtomicU64);

impl Dollars {
    pub(super) fn add(&self, dollars: f64) {
        if dollars > 0.0 {
            let add = |bits| Some((f64::from_bits(bits) + dollars).to_bits());
            // Never refuses.
            let _before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// The sum, which begins anew.
    pub(super) fn take(&self) -> f64 {
        f64::from_bits(self.0.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_cleaned() {
        assert_eq!(label("gpt-4o-mini"), "gpt-4o-mini");
        assert_eq!(label("org/model:v1.5@x+y_z"), "org/model:v1.5@x+y_z");
        assert_eq!(label("a b\"\n\u{e9}"), "a_b___");
        assert_eq!(label(&"x".repeat(200)).len(), MAX_NAME);
        assert_eq!(label(""), UNKNOWN);
    }

    #[test]
    fn the_number_of_models_is_bounded() {
        let names = ModelNames::default();
        for number in 0..MODELS {
            assert_eq!(names.number(&format!("m{number}")), number);
        }
        assert_eq!(names.number("late"), MODELS);
        assert_eq!(names.number("m3"), 3);
        let labels = names.labels();
        assert_eq!((labels.len(), labels[MODELS].as_str()), (MODELS + 1, OTHER));
    }

    #[test]
    fn dollars_add_up() {
        let dollars = Dollars::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| dollars.add(0.25)));
            }
        });
        dollars.add(f64::NAN);
        assert!((dollars.get() - 1000.0).abs() < 1e-9);
    }
}

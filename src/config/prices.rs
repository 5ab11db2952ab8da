//! What tokens cost.

use std::collections::BTreeMap;

/// Dollars per million tokens of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of the prompt.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
    /// Of the part of the prompt that the provider had cached.
    pub cached_input: f64,
    /// Of the part of the prompt that the provider writes to its cache.
    pub cache_write: f64,
}

impl Price {
    /// What so many tokens cost, in dollars.
    pub fn dollars(&self, input: u64, output: u64, cached_input: u64, cache_write: u64) -> f64 {
        let parts = [
            (input, self.input),
            (output, self.output),
            (cached_input, self.cached_input),
            (cache_write, self.cache_write),
        ];
        parts
            .iter()
            .map(|(tokens, price)| *tokens as f64 * price)
            .sum::<f64>()
            / 1e6
    }
}

/// Prices by model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices(pub BTreeMap<String, Price>);

impl Prices {
    /// The price of a model: under its name, or under its name without the date of its version, for answers name
    /// `gpt-4o-2024-08-06` where `gpt-4o` was asked for.
    pub fn of(&self, model: &str) -> Option<&Price> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(model).or_else(|| self.0.get(without_date(model)?))
    }
}

/// `model` without the date at its end, written `-2024-08-06`, `-20240806` or `-0806`; none if it has no such end.
fn without_date(model: &str) -> Option<&str> {
    const SHAPES: [&str; 3] = ["-0000-00-00", "-00000000", "-0000"];
    let has = |shape: &&&str| {
        let end = model
            .len()
            .checked_sub(shape.len())
            .and_then(|at| model.get(at..));
        end.is_some_and(|end| {
            let alike = |(letter, form): (u8, u8)| match form {
                b'-' => letter == b'-',
                _ => letter.is_ascii_digit(),
            };
            end.bytes().zip(shape.bytes()).all(alike)
        })
    };
    let shape = SHAPES.iter().find(has)?;
    model.get(..model.len() - shape.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_with_and_without_its_date() {
        let price = |input| Price {
            input,
            output: 0.0,
            cached_input: 0.0,
            cache_write: 0.0,
        };
        let names = ["gpt-4o", "gpt-4o-mini", "claude-3-5-sonnet", "gpt-4o-2024-05-13"];
        let prices = Prices(
            names
                .iter()
                .map(|name| (*name).to_owned())
                .zip((1..).map(|n| price(f64::from(n))))
                .collect(),
        );
        let of = |model: &str| prices.of(model).map(|price| price.input);
        assert_eq!(of("gpt-4o"), Some(1.0));
        assert_eq!(of("gpt-4o-2024-08-06"), Some(1.0));
        assert_eq!(of("gpt-4o-2024-05-13"), Some(4.0));
        assert_eq!(of("gpt-4o-mini-2024-07-18"), Some(2.0));
        assert_eq!(of("claude-3-5-sonnet-20241022"), Some(3.0));
        assert_eq!(without_date("gpt-4-0613"), Some("gpt-4"));
        for other in ["gpt-4o-audio", "gpt-4o-12", "gpt", "", "2024-08-06", "claude-3"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn tokens_cost_their_price_by_the_million() {
        let price = Price {
            input: 2.5,
            output: 10.0,
            cached_input: 1.25,
            cache_write: 3.0,
        };
        assert!((price.dollars(1_000_000, 500_000, 2_000_000, 1_000_000) - 13.0).abs() < 1e-9);
    }
}

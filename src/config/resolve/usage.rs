//! `usage`, of the file and of a route.

use super::Cx;
use crate::config::model::{Usage, UsagePointers};
use crate::config::prices::{Price, Prices};
use crate::config::raw;
use crate::config::scalar::Text;
use crate::config::tree::At;
use crate::config::values::Pointer;

/// Bytes of the name of a model.
const MAX_MODEL: usize = 128;

/// Most that a million tokens may cost, dollars: more is a mistake.
const MAX_PRICE: f64 = 1e6;

/// Resolves the prices.
pub(super) fn prices(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::UsagePrices) -> Prices {
    let list_at = at.key("prices");
    let raw = raw.prices.unwrap_or_default().0;
    let mut prices = Prices::default();
    for (model, raw) in raw {
        let price_at = list_at.key(&model);
        if model.is_empty() || model.len() > MAX_MODEL {
            cx.problem(
                &price_at,
                format!("the name of a model has 1 to {MAX_MODEL} bytes"),
            );
        }
        let input = cx
            .required_word(&price_at, "input", raw.input)
            .unwrap_or_default();
        let price = Price {
            input,
            output: raw.output.unwrap_or_default(),
            cached_input: raw.cached_input.unwrap_or(input),
            cache_write: raw.cache_write.unwrap_or(input),
        };
        let fields = [
            ("input", price.input),
            ("output", price.output),
            ("cached_input", price.cached_input),
            ("cache_write", price.cache_write),
        ];
        let given = |key| match key {
            "cached_input" => raw.cached_input.is_some(),
            "cache_write" => raw.cache_write.is_some(),
            _ => true,
        };
        for (key, value) in fields.into_iter().filter(|(key, _)| given(*key)) {
            if !(0.0..=MAX_PRICE).contains(&value) {
                cx.problem(&price_at.key(key), format!("`{value}` is not a price"))
                    .hint("dollars per million tokens, from 0 to 1000000");
            }
        }
        prices.0.insert(model, price);
    }
    prices
}

/// Resolves how a route's tokens are counted.
pub(super) fn route(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<raw::Usage>) -> Usage {
    match raw {
        None | Some(raw::Usage::Off) => Usage::Off,
        Some(raw::Usage::Openai) => Usage::Openai,
        Some(raw::Usage::Anthropic) => Usage::Anthropic,
        Some(raw::Usage::Json(raw)) => {
            let json_at = at.key("json");
            if raw.input.is_none()
                && raw.output.is_none()
                && !["input", "output"].iter().any(|key| cx.is_faulty(&json_at, key))
            {
                cx.problem(&json_at, "it is not said where the counts are")
                    .hint("`{input: /usage/input, output: /usage/output}`");
            }
            let pointer = |text: Option<Text<Pointer>>| text.map(|pointer| pointer.0.0);
            Usage::Json(UsagePointers {
                input: pointer(raw.input),
                output: pointer(raw.output),
                cached_input: pointer(raw.cached_input),
                model: pointer(raw.model).unwrap_or_else(|| "/model".to_owned()),
            })
        }
    }
}

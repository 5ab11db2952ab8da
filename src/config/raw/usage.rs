//! `usage`, of the file and of a route.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::{Map, Text};
use crate::config::values::Pointer;

/// What tokens cost.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsagePrices {
    /// Dollars per million tokens, by model. A model whose name has a date at its end (`gpt-4o-2024-08-06`) is also
    /// found without it. Absent: no dollars are counted.
    pub prices: Option<Map<String, Price>>,
}

/// Dollars per million tokens.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of the prompt.
    #[schemars(extend("x-required" = true))]
    pub input: Option<f64>,
    /// Of the answer.
    #[schemars(extend("default" = 0))]
    pub output: Option<f64>,
    /// Of the part of the prompt that the provider had cached; absent: as `input`.
    pub cached_input: Option<f64>,
    /// Of the part of the prompt that the provider charges for writing to its cache; absent: as `input`. Anthropic takes
    /// 1.25 times `input` for what it keeps for five minutes, and twice for an hour.
    pub cache_write: Option<f64>,
}

/// The API whose conventions a route follows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Usage {
    /// None; tokens are not counted.
    Off,
    /// OpenAI's; errors made here take its shape, too.
    Openai,
    /// Anthropic's.
    Anthropic,
    /// Another; it is said where an answer has its counts.
    Json(UsagePointers),
}

/// JSON pointers into an answer, or into the events of a stream, of which the last that has a count decides. `input` or
/// `output` must be given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsagePointers {
    /// To the tokens of the prompt, the cached part included.
    pub input: Option<Text<Pointer>>,
    /// To the tokens of the answer.
    pub output: Option<Text<Pointer>>,
    /// To the tokens of the prompt that the provider had cached.
    pub cached_input: Option<Text<Pointer>>,
    /// To the name of the model.
    #[schemars(extend("default" = "/model"))]
    pub model: Option<Text<Pointer>>,
}

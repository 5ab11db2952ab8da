//! The documents of the known APIs.

use serde::Deserialize;

use crate::telemetry::usage::Tokens;

/// What one document says.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) model: Option<String>,
    pub(super) counts: Counts,
}

/// Counts as documents have them; those of a later document take the place of earlier ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    /// Read from the provider's cache.
    pub(super) cached: Option<u64>,
    /// Written to the provider's cache.
    pub(super) written: Option<u64>,
}

impl Counts {
    pub(super) fn update(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cached = later.cached.or(self.cached);
        self.written = later.written.or(self.written);
    }

    /// The tokens, where `input` includes what was cached.
    pub(super) fn within_each_other(self) -> Option<Tokens> {
        self.is_something().then(|| {
            let input = self.input.unwrap_or_default();
            let cached_input = self.cached.unwrap_or_default().min(input);
            Tokens {
                input: input - cached_input,
                output: self.output.unwrap_or_default(),
                cached_input,
                cache_write: 0,
            }
        })
    }

    /// The tokens, where what was cached and what was written to the cache stand beside `input`.
    pub(super) fn beside_each_other(self) -> Option<Tokens> {
        self.is_something().then(|| Tokens {
            input: self.input.unwrap_or_default(),
            output: self.output.unwrap_or_default(),
            cached_input: self.cached.unwrap_or_default(),
            cache_write: self.written.unwrap_or_default(),
        })
    }

    fn is_something(self) -> bool {
        self.input.is_some() || self.output.is_some()
    }
}

/// The top of an answer or of an event's data.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Top {
    model: Option<String>,
    usage: Option<UsageObject>,
    /// Anthropic's `message_start`.
    message: Option<Inner>,
    /// The events of OpenAI's responses API.
    response: Option<Inner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Inner {
    model: Option<String>,
    usage: Option<UsageObject>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UsageObject {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
}

impl Document {
    /// Reads a document; only one that has a usage is taken apart.
    pub(super) fn read(json: &[u8]) -> Self {
        const USAGE: &[u8] = b"\"usage\"";
        if !json.windows(USAGE.len()).any(|window| window == USAGE) {
            return Self::default();
        }
        let Ok(top) = serde_json::from_slice::<Top>(json) else {
            return Self::default();
        };
        let mut document = Self {
            model: top.model,
            counts: top.usage.unwrap_or_default().counts(),
        };
        for inner in [top.message, top.response].into_iter().flatten() {
            document.model = inner.model.or(document.model);
            document.counts.update(inner.usage.unwrap_or_default().counts());
        }
        document
    }
}

impl UsageObject {
    fn counts(self) -> Counts {
        let details = self
            .prompt_tokens_details
            .or(self.input_tokens_details)
            .unwrap_or_default();
        Counts {
            input: self.prompt_tokens.or(self.input_tokens),
            output: self.completion_tokens.or(self.output_tokens),
            cached: self.cache_read_input_tokens.or(details.cached_tokens),
            written: self.cache_creation_input_tokens,
        }
    }
}

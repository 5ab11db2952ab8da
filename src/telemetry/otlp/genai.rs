//! What spans tell about an answer of a model, by the GenAI semantic conventions of OpenTelemetry: which model, and how
//! many tokens. Never a prompt, never an answer.

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::SpanData;

use crate::telemetry::mask::shortened;
use crate::telemetry::record::RequestRecord;
use crate::telemetry::usage::{TokenRecord, TokenSource};

/// What a request asks a model for, by how its path ends.
const OPERATIONS: [(&str, &str); 5] = [
    ("/chat/completions", "chat"),
    ("/responses", "chat"),
    ("/messages", "chat"),
    ("/completions", "text_completion"),
    ("/embeddings", "embeddings"),
];

/// Adds to the spans of a request what its answer's tokens were.
///
/// Tokens that were paid for stand in the CLIENT span of the try that brought the answer, so that whoever adds them up
/// over all spans adds up what was spent. An answer from the cache has cost none: its SERVER span names the model, and
/// what was spared under a name of our own.
pub(in crate::telemetry) fn describe(spans: &mut [SpanData], record: &RequestRecord) {
    let Some(tokens) = record.tokens.as_ref().or(record.filled.as_ref()) else {
        return;
    };
    let operation = OPERATIONS
        .iter()
        .find(|(end, _)| record.uri.path().ends_with(end));
    let mut about = Vec::with_capacity(8);
    about.extend(operation.map(|(_, name)| KeyValue::new("gen_ai.operation.name", *name)));
    about.extend(
        tokens
            .provider
            .map(|name| KeyValue::new("gen_ai.provider.name", name)),
    );
    if !tokens.model.is_empty() {
        let model = shortened(&tokens.model).to_owned();
        about.push(KeyValue::new("gen_ai.response.model", model));
    }
    let (span, names) = match tokens.source {
        TokenSource::Upstream => (spans.last_mut(), SPENT),
        TokenSource::Cache => (spans.first_mut(), SPARED),
    };
    about.extend(counts(tokens, names));
    if let Some(span) = span {
        span.attributes.extend(about);
    }
}

/// Input, output, and what of the input the provider had cached or wrote to its cache.
const SPENT: [&str; 4] = [
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
];
const SPARED: [&str; 4] = [
    "outrigger.saved.input_tokens",
    "outrigger.saved.output_tokens",
    "outrigger.saved.cache_read.input_tokens",
    "outrigger.saved.cache_creation.input_tokens",
];

fn counts(tokens: &TokenRecord, names: [&'static str; 4]) -> impl Iterator<Item = KeyValue> {
    let of = &tokens.tokens;
    // The conventions count the parts of the input as input too.
    let input = of
        .input
        .saturating_add(of.cached_input)
        .saturating_add(of.cache_write);
    let parts = [of.cached_input, of.cache_write].map(|part| (part > 0).then_some(part));
    let values = [Some(input), Some(of.output), parts[0], parts[1]];
    names
        .into_iter()
        .zip(values)
        .filter_map(|(name, value)| Some(KeyValue::new(name, i64::try_from(value?).unwrap_or(i64::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Mask;
    use crate::telemetry::fixture;
    use crate::telemetry::mask::Masking;
    use crate::telemetry::spans::of_request;
    use crate::telemetry::usage::Tokens;

    fn answer(source: TokenSource) -> Option<Box<TokenRecord>> {
        Some(Box::new(TokenRecord {
            provider: Some("openai"),
            model: "gpt-4o".to_owned(),
            tokens: Tokens {
                input: 10,
                output: 7,
                cached_input: 5,
                cache_write: 0,
            },
            source,
            dollars: 0.5,
        }))
    }

    /// The attributes of the SERVER span and of the last CLIENT span that `describe` adds.
    fn added(record: &RequestRecord) -> [Vec<String>; 2] {
        let masking = Masking::new(&Mask {
            headers: Vec::new(),
            query: Vec::new(),
        });
        let bare = of_request(Some("chat"), record, &masking);
        let mut spans = bare.clone();
        describe(&mut spans, record);
        let at = |at: usize| {
            let more = &spans[at].attributes[bare[at].attributes.len()..];
            more.iter()
                .map(|one| format!("{}={}", one.key, one.value))
                .collect()
        };
        [at(0), at(spans.len() - 1)]
    }

    #[test]
    fn spent_tokens_stand_in_the_client_span() {
        let mut record = fixture::record();
        record.uri = "/v1/chat/completions?key=canary".parse().unwrap();
        record.attempts = vec![fixture::failed_attempt(), fixture::attempt()];
        let expected = [
            "gen_ai.operation.name=chat",
            "gen_ai.provider.name=openai",
            "gen_ai.response.model=gpt-4o",
            "gen_ai.usage.input_tokens=15",
            "gen_ai.usage.output_tokens=7",
            "gen_ai.usage.cache_read.input_tokens=5",
        ];
        record.filled = answer(TokenSource::Upstream);
        assert_eq!(added(&record), [Vec::new(), expected.map(str::to_owned).to_vec()]);
        record.tokens = record.filled.take();
        assert_eq!(added(&record)[1], expected);
    }

    #[test]
    fn spared_tokens_are_not_told_as_spent() {
        let mut record = fixture::record();
        record.uri = "/elsewhere".parse().unwrap();
        record.attempts.clear();
        record.tokens = answer(TokenSource::Cache);
        let [server, _] = added(&record);
        assert_eq!(
            server,
            [
                "gen_ai.provider.name=openai",
                "gen_ai.response.model=gpt-4o",
                "outrigger.saved.input_tokens=15",
                "outrigger.saved.output_tokens=7",
                "outrigger.saved.cache_read.input_tokens=5",
            ]
        );
    }
}

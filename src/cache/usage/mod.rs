//! What an answer says about the tokens it took.
//!
//! An answer of one JSON document says it once, a stream in its events, of which the last that has a count decides.

mod document;
mod pointer;

use self::document::{Counts, Document};
use super::number::{read_number, write_number};
use crate::config::Usage as Api;
use crate::telemetry::usage::Tokens;

/// Most bytes of the name of a model that are kept.
const MAX_MODEL: usize = 128;

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model as it names it; empty if it does not.
    pub model: String,
    /// How many tokens.
    pub tokens: Tokens,
}

impl Usage {
    /// As bytes, to be kept with an entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.model.len() + 16);
        let tokens = self.tokens;
        for count in [
            tokens.input,
            tokens.output,
            tokens.cached_input,
            tokens.cache_write,
        ] {
            write_number(count, &mut bytes);
        }
        bytes.extend_from_slice(self.model.as_bytes());
        bytes
    }

    /// What [`Usage::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let tokens = Tokens {
            input: read_number(&mut bytes)?,
            output: read_number(&mut bytes)?,
            cached_input: read_number(&mut bytes)?,
            cache_write: read_number(&mut bytes)?,
        };
        Some(Self {
            model: String::from_utf8(bytes.to_vec()).ok()?,
            tokens,
        })
    }
}

/// Collects what the documents of one answer say.
#[derive(Clone, Debug)]
pub struct Reader {
    api: Api,
    model: String,
    counts: Counts,
}

impl Reader {
    /// For an answer in this API; none if tokens are not counted.
    pub fn new(api: &Api) -> Option<Self> {
        (*api != Api::Off).then(|| Self {
            api: api.clone(),
            model: String::new(),
            counts: Counts::default(),
        })
    }

    /// Reads a document: the whole answer, or the data of an event. What cannot be read says nothing.
    pub fn read(&mut self, json: &[u8]) {
        let document = match &self.api {
            Api::Json(pointers) => pointer::read(pointers, json),
            Api::Openai | Api::Anthropic => Document::read(json),
            Api::Off => return,
        };
        if let Some(model) = document.model {
            self.model = cut(model);
        }
        self.counts.update(document.counts);
    }

    /// What the documents said; none if nothing.
    pub fn usage(self) -> Option<Usage> {
        let tokens = match self.api {
            Api::Anthropic => self.counts.beside_each_other(),
            _ => self.counts.within_each_other(),
        };
        Some(Usage {
            model: self.model,
            tokens: tokens?,
        })
    }
}

fn cut(mut name: String) -> String {
    let end = (0..=MAX_MODEL.min(name.len()))
        .rev()
        .find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or_default());
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UsagePointers;

    fn tokens(input: u64, output: u64, cached_input: u64) -> Tokens {
        Tokens {
            input,
            output,
            cached_input,
            cache_write: 0,
        }
    }

    fn read(api: &Api, documents: &[&str]) -> Option<(String, Tokens)> {
        let mut reader = Reader::new(api).unwrap();
        documents
            .iter()
            .for_each(|document| reader.read(document.as_bytes()));
        reader.usage().map(|usage| (usage.model, usage.tokens))
    }

    #[track_caller]
    fn says(api: &Api, documents: &[&str], model: &str, expected: Tokens) {
        assert_eq!(read(api, documents), Some((model.to_owned(), expected)));
    }

    #[test]
    fn openai_answers() {
        let chat = r#"{"id":"x","model":"gpt-4o","choices":[{"usage":1}],"usage":{"prompt_tokens":100,
            "completion_tokens":7,"total_tokens":107,"prompt_tokens_details":{"cached_tokens":64,"audio_tokens":0}}}"#;
        says(&Api::Openai, &[chat], "gpt-4o", tokens(36, 7, 64));
        let responses = r#"{"object":"response","model":"o3","usage":{"input_tokens":10,"output_tokens":5,
            "input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}}}"#;
        says(&Api::Openai, &[responses], "o3", tokens(6, 5, 4));
        let embeddings = r#"{"data":[],"model":"e","usage":{"prompt_tokens":3,"total_tokens":3,"prompt_tokens_details":null}}"#;
        says(&Api::Openai, &[embeddings], "e", tokens(3, 0, 0));
        says(
            &Api::Openai,
            &[r#"{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":9}}}"#],
            "",
            tokens(0, 0, 3),
        );
    }

    #[test]
    fn openai_streams() {
        let chunk = r#"{"model":"gpt-4o","choices":[{"delta":{"content":"\"usage\""}}],"usage":null}"#;
        let last = r#"{"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
        says(
            &Api::Openai,
            &[chunk, chunk, last, "[DONE]"],
            "gpt-4o",
            tokens(9, 2, 0),
        );
        let done = r#"{"type":"response.completed","response":{"model":"o3","usage":{"input_tokens":1,"output_tokens":2}}}"#;
        says(
            &Api::Openai,
            &[
                r#"{"type":"response.created","response":{"model":"o3","usage":null}}"#,
                done,
            ],
            "o3",
            tokens(1, 2, 0),
        );
        assert_eq!(read(&Api::Openai, &[chunk, "[DONE]"]), None);
    }

    #[test]
    fn anthropic_answers_and_streams() {
        let answer = r#"{"type":"message","model":"claude","usage":{"input_tokens":10,"output_tokens":5,
            "cache_creation_input_tokens":20,"cache_read_input_tokens":300}}"#;
        let expected = Tokens {
            cache_write: 20,
            ..tokens(10, 5, 300)
        };
        says(&Api::Anthropic, &[answer], "claude", expected);
        let start = r#"{"type":"message_start","message":{"model":"claude","usage":{"input_tokens":25,"output_tokens":1,
            "cache_read_input_tokens":4}}}"#;
        let delta =
            |n: u64| format!(r#"{{"type":"message_delta","delta":{{}},"usage":{{"output_tokens":{n}}}}}"#);
        says(
            &Api::Anthropic,
            &[start, &delta(7), &delta(15)],
            "claude",
            tokens(25, 15, 4),
        );
    }

    #[test]
    fn pointers() {
        let api = Api::Json(UsagePointers {
            input: Some("/meta/0/in".to_owned()),
            output: Some("/meta/0/a~1b".to_owned()),
            cached_input: Some("/cached".to_owned()),
            model: "/m".to_owned(),
        });
        says(
            &api,
            &[r#"{"m":"x","meta":[{"in":7,"a/b":2.0}],"cached":3}"#],
            "x",
            tokens(4, 2, 3),
        );
        says(
            &api,
            &[r#"{"m":{"a":1},"meta":[{"in":7}]}"#, r#"{"meta":[{"a/b":1}]}"#],
            "",
            tokens(7, 1, 0),
        );
        assert_eq!(read(&api, &[r#"{"meta":[{"in":-7,"a/b":"2"}]}"#, "x", ""]), None);
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        for text in [
            "",
            "x",
            "[]",
            "{\"usage\":7}",
            r#"{"usage":{"prompt_tokens":"9"}}"#,
            r#"{"usage":{}}"#,
        ] {
            assert_eq!(read(&Api::Openai, &[text]), None, "{text}");
        }
    }

    #[test]
    fn usage_reads_back() {
        let usage = Usage {
            model: "gpt-4o".to_owned(),
            tokens: Tokens {
                cache_write: 7,
                ..tokens(1, 300, u64::MAX)
            },
        };
        assert_eq!(Usage::decode(&usage.encode()), Some(usage));
        assert_eq!(Usage::decode(&[]), None);
        assert_eq!(cut("\u{e9}".repeat(100)).len(), MAX_MODEL);
    }
}

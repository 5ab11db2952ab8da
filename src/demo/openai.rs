//! The part of the sample hub that speaks OpenAI's API: chat completions, embeddings, models.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::hub::{Hub, MODELS};

/// Time the model thinks about one token.
const TOKEN_TIME: Duration = Duration::from_millis(20);
/// Time one batch of embeddings takes.
const EMBEDDING_TIME: Duration = Duration::from_millis(60);
/// Components of an embedding.
const EMBEDDING_LENGTH: usize = 16;

/// What the hub reads of a chat request.
#[derive(Deserialize)]
pub(super) struct ChatRequest {
    model: String,
    messages: Vec<ChatMessage>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct ChatMessage {
    #[serde(default)]
    content: Value,
}

#[derive(Clone, Copy, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// What the hub reads of an embeddings request.
#[derive(Deserialize)]
pub(super) struct EmbeddingsRequest {
    model: String,
    input: Input,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// A finished thought of the sample model.
struct Completion {
    id: String,
    created: u64,
    model: String,
    words: Vec<String>,
    prompt_tokens: usize,
    include_usage: bool,
}

/// `POST /v1/chat/completions`, in one piece or as an event stream.
pub(super) async fn chat(
    State(hub): State<Arc<Hub>>,
    request: Result<Json<ChatRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => {
            hub.count(Endpoint::Chat);
            return refused(&rejection);
        }
    };
    if request.stream {
        let call = hub.count(Endpoint::ChatStream);
        return Sse::new(Completion::new(&hub, request, call).into_events()).into_response();
    }
    let call = hub.count(Endpoint::Chat);
    let completion = Completion::new(&hub, request, call);
    let tokens = u32::try_from(completion.words.len()).unwrap_or(u32::MAX);
    tokio::time::sleep(TOKEN_TIME * tokens).await;
    Json(completion.into_answer()).into_response()
}

/// `POST /v1/embeddings`: numbers that depend on nothing but the text.
pub(super) async fn embeddings(
    State(hub): State<Arc<Hub>>,
    request: Result<Json<EmbeddingsRequest>, JsonRejection>,
) -> Response {
    hub.count(Endpoint::Embeddings);
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return refused(&rejection),
    };
    let texts = match request.input {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
    };
    tokio::time::sleep(EMBEDDING_TIME).await;
    let tokens: usize = texts.iter().map(|text| count_tokens(text)).sum();
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": embed(text)}))
        .collect();
    Json(json!({
        "object": "list",
        "data": data,
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
    .into_response()
}

/// `GET /v1/models`.
pub(super) async fn models(State(hub): State<Arc<Hub>>) -> Response {
    hub.count(Endpoint::Models);
    let data: Vec<Value> = MODELS.into_iter().map(describe).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Response {
    hub.count(Endpoint::Models);
    if MODELS.contains(&id.as_str()) {
        return Json(describe(&id)).into_response();
    }
    error(StatusCode::NOT_FOUND, &format!("The model '{id}' does not exist"))
}

impl Completion {
    fn new(hub: &Hub, request: ChatRequest, call: u64) -> Self {
        let prompt_tokens = request
            .messages
            .iter()
            .map(|message| count_tokens(&message.text()))
            .sum();
        let question = request.messages.last().map(ChatMessage::text).unwrap_or_default();
        let words = format!("You asked: {question} That is a good question.")
            .split_inclusive(' ')
            .map(str::to_owned)
            .collect();
        Self {
            id: format!("chatcmpl-{call:012}"),
            created: hub.now_seconds(),
            model: request.model,
            words,
            prompt_tokens,
            include_usage: request
                .stream_options
                .is_some_and(|options| options.include_usage),
        }
    }

    fn usage(&self) -> Value {
        let completion_tokens = self.words.len();
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        })
    }

    fn into_answer(self) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": self.words.concat(), "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": self.usage(),
        })
    }

    /// The chunks of the answer, one word at a time; the usage last if it was asked for; then `[DONE]`.
    fn into_events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        async_stream::stream! {
            yield Ok(self.chunk(json!({"role": "assistant", "content": ""}), Value::Null));
            for word in &self.words {
                tokio::time::sleep(TOKEN_TIME).await;
                yield Ok(self.chunk(json!({"content": word}), Value::Null));
            }
            yield Ok(self.chunk(json!({}), json!("stop")));
            if self.include_usage {
                yield Ok(self.event(json!([]), self.usage()));
            }
            yield Ok(Event::default().data("[DONE]"));
        }
    }

    fn chunk(&self, delta: Value, finish_reason: Value) -> Event {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
        self.event(choices, Value::Null)
    }

    /// With `include_usage` every chunk has a `usage` member, null in all but the last.
    fn event(&self, choices: Value, usage: Value) -> Event {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let (true, Some(members)) = (self.include_usage, chunk.as_object_mut()) {
            members.insert("usage".to_owned(), usage);
        }
        Event::default().data(chunk.to_string())
    }
}

impl ChatMessage {
    /// The text of a message, whether it is one string or a list of parts.
    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                let texts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| part.get("text")?.as_str())
                    .collect();
                texts.join(" ")
            }
            _ => String::new(),
        }
    }
}

/// A word counts as a token here.
fn count_tokens(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Components between -1 and 1, from the digest of the text.
fn embed(text: &str) -> Vec<f64> {
    blake3::hash(text.as_bytes())
        .as_bytes()
        .iter()
        .take(EMBEDDING_LENGTH)
        .map(|byte| f64::from(*byte) / 127.5 - 1.0)
        .collect()
}

fn describe(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "demo"})
}

fn refused(rejection: &JsonRejection) -> Response {
    error(rejection.status(), &rejection.body_text())
}

/// An error in OpenAI's shape.
fn error(status: StatusCode, message: &str) -> Response {
    let body =
        json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::{BodyExt, Limited};
    use tower::ServiceExt;

    use crate::clock::{Clock, Timestamp};

    use super::super::hub::router;
    use super::*;

    async fn post(path: &str, body: Value) -> (StatusCode, String) {
        let hub = Hub::new(Clock::manual(Timestamp::from_secs(1_700_000_000)));
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let (head, body) = router(hub).oneshot(request).await.unwrap().into_parts();
        #[expect(clippy::disallowed_methods, reason = "bounded")]
        let body = Limited::new(body, 1 << 20).collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn question(stream: bool, include_usage: bool) -> Value {
        json!({
            "model": "demo-small",
            "messages": [{"role": "user", "content": "Why is the sky blue?"}],
            "stream": stream,
            "stream_options": {"include_usage": include_usage},
        })
    }

    /// The data of every event, `[DONE]` included.
    fn events(stream: &str) -> Vec<&str> {
        stream
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_completion_has_the_members_that_clients_read() {
        let (status, body) = post("/v1/chat/completions", question(false, false)).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["object"]),
            (StatusCode::OK, &json!("chat.completion"))
        );
        assert_eq!(
            body["choices"][0]["message"]["content"],
            "You asked: Why is the sky blue? That is a good question."
        );
        assert_eq!(
            body["usage"],
            json!({"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_says_the_same_and_ends_with_usage_and_done() {
        let (_, body) = post("/v1/chat/completions", question(true, true)).await;
        let mut events = events(&body);
        assert_eq!(events.pop(), Some("[DONE]"));
        let chunks: Vec<Value> = events
            .iter()
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        let text: String = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "You asked: Why is the sky blue? That is a good question.");
        let (last, others) = chunks.split_last().unwrap();
        assert_eq!(
            (&last["choices"], &last["usage"]["total_tokens"]),
            (&json!([]), &json!(17))
        );
        assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
        assert_eq!(others.last().unwrap()["choices"][0]["finish_reason"], "stop");
    }

    #[tokio::test(start_paused = true)]
    async fn usage_is_not_streamed_unless_asked_for() {
        let (_, body) = post("/v1/chat/completions", question(true, false)).await;
        assert!(!body.contains("usage"), "{body}");
        assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_text_has_the_same_embedding() {
        let input = json!({"model": "demo-embed", "input": ["sky", "sea", "sky"]});
        let (_, body) = post("/v1/embeddings", input).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let data = body["data"].as_array().unwrap();
        assert_eq!(data[0]["embedding"], data[2]["embedding"]);
        assert_ne!(data[0]["embedding"], data[1]["embedding"]);
        assert_eq!(data[0]["embedding"].as_array().unwrap().len(), EMBEDDING_LENGTH);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_request_is_refused_in_openais_shape() {
        let (status, body) = post("/v1/chat/completions", json!({"messages": 1})).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(status.is_client_error());
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
}

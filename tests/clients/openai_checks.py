"""What the `openai` SDK sees, plain and streaming."""

import time

import httpx
import openai

from checks import CacheStatus, Checks, expect, expect_equal, unique

# Longest wait for one exchange, in seconds.
PATIENCE = 30
MODEL = "sample-small"


def run(checks: Checks, base_url: str, direct: bool) -> None:
    client = connect(base_url)
    for check in PLAIN_CHECKS:
        checks.run(check, client)
    if not direct:
        for check in CACHE_CHECKS:
            checks.run(check, client)


def run_stream(checks: Checks, base_url: str) -> None:
    client = connect(base_url)
    with httpx.Client(base_url=base_url, timeout=PATIENCE) as control:
        for check in STREAM_CHECKS:
            checks.run(check, client, control)


def run_replay(checks: Checks, base_url: str) -> None:
    client = connect(base_url)
    for check in REPLAY_CHECKS:
        checks.run(check, client)


def connect(base_url: str, key: str = "sk-tests") -> openai.OpenAI:
    """A client without retries, so that a failure is seen."""
    return openai.OpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def a_completion_arrives_in_one_piece(client: openai.OpenAI) -> None:
    text = unique("what is")
    completion = client.chat.completions.create(model=MODEL, messages=question(text))
    expect_equal(completion.choices[0].message.content, f"You asked: {text}", "content")
    expect_equal(completion.choices[0].finish_reason, "stop", "finish reason")
    usage = completion.usage
    expect(usage is not None, "the completion has no usage")
    expect_equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total tokens")


def embeddings_arrive_in_both_encodings(client: openai.OpenAI) -> None:
    texts = [unique("text"), unique("text")]
    encoded = client.embeddings.create(model="sample-embed", input=texts)
    floats = client.embeddings.create(model="sample-embed", input=texts, encoding_format="float")
    for left, right in zip(encoded.data, floats.data, strict=True):
        expect_equal(len(left.embedding), 16, "length of an embedding")
        same = all(abs(one - other) < 1e-6 for one, other in zip(left.embedding, right.embedding, strict=True))
        expect(same, "the same text has two embeddings")
    expect(encoded.data[0].embedding != encoded.data[1].embedding, "two texts have the same embedding")


def models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    expect(MODEL in names, f"{MODEL} is not among {names}")
    expect_equal(client.models.retrieve(MODEL).id, MODEL, "the model")


def errors_are_raised_as_the_sdk_knows_them(client: openai.OpenAI) -> None:
    try:
        client.models.retrieve("no-such-model")
    except openai.NotFoundError as error:
        expect_equal(error.type, "invalid_request_error", "type of the error")
    else:
        expect(False, "a model that does not exist was found")
    try:
        client.chat.completions.create(model=MODEL, messages="not a list")
    except openai.BadRequestError:
        pass
    else:
        expect(False, "a malformed request was answered")


PLAIN_CHECKS = [
    a_completion_arrives_in_one_piece,
    embeddings_arrive_in_both_encodings,
    models_are_listed_and_found,
    errors_are_raised_as_the_sdk_knows_them,
]


def the_same_question_again_is_a_hit(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": question(unique("what is"))}
    first = client.chat.completions.with_raw_response.create(**asked)
    CacheStatus.of(first.headers).expect_stored_uri_miss("first time")
    second = client.chat.completions.with_raw_response.create(**asked)
    CacheStatus.of(second.headers).expect_hit("second time")
    expect_equal(second.parse().id, first.parse().id, "id of the completion")


def the_same_text_again_is_a_hit(client: openai.OpenAI) -> None:
    asked = {"model": "sample-embed", "input": unique("text")}
    first = client.embeddings.with_raw_response.create(**asked)
    CacheStatus.of(first.headers).expect_stored_uri_miss("first time")
    second = client.embeddings.with_raw_response.create(**asked)
    CacheStatus.of(second.headers).expect_hit("second time")
    expect_equal(second.parse().data[0].embedding, first.parse().data[0].embedding, "embedding")


CACHE_CHECKS = [
    the_same_question_again_is_a_hit,
    the_same_text_again_is_a_hit,
]


def a_stream_says_the_same_as_a_completion(client: openai.OpenAI, _: httpx.Client) -> None:
    text = unique("what is")
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=question(text), stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    expect_equal(said.strip(), f"You asked: {text}", "content")
    expect_equal(chunks[-2].choices[0].finish_reason, "stop", "finish reason")
    expect(chunks[-1].usage is not None and not chunks[-1].choices, f"usage in the last chunk: {chunks[-1]}")


def the_first_chunk_arrives_before_the_last_is_made(client: openai.OpenAI, control: httpx.Client) -> None:
    """The origin makes nothing after the first word until we say, through another request, that we hold it."""
    gate = unique("gate")
    stream = client.chat.completions.create(
        model=MODEL, messages=question(unique("one two three")), stream=True, metadata={"gate": gate}
    )
    chunks = []
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content and not chunks:
            chunks.append(chunk)
            arrived = time.monotonic_ns()
            expect_equal(control.post(f"/api/gates/{gate}").status_code, 200, "opening the gate")
        elif chunks:
            chunks.append(chunk)
    expect(len(chunks) > 2, f"only {len(chunks)} chunks arrived")
    last_made = chunks[-1].model_extra["made_ns"]
    expect(arrived < last_made, f"the first chunk arrived {(arrived - last_made) / 1e6:.1f} ms after the last was made")
    expect_equal(control.get(f"/api/gates/{gate}/outcome").json(), {"outcome": "done"}, "at the origin")


def leaving_a_stream_cancels_it_at_the_origin(client: openai.OpenAI, control: httpx.Client) -> None:
    gate = unique("gate")
    stream = client.chat.completions.create(
        model=MODEL, messages=question(unique("one two three")), stream=True, metadata={"gate": gate}
    )
    next(iter(stream))
    stream.close()
    expect_equal(control.get(f"/api/gates/{gate}/outcome").json(), {"outcome": "cancelled"}, "at the origin")


def a_replayed_stream_cannot_be_told_from_a_live_one(client: openai.OpenAI) -> None:
    asked = {
        "model": MODEL,
        "messages": question(unique("what is")),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    live, replayed = (Streamed(client, asked) for _ in range(2))
    CacheStatus.of(live.headers).expect_stored_uri_miss("first time")
    CacheStatus.of(replayed.headers).expect_hit("second time")
    expect(len(live.chunks) > 4, f"only {len(live.chunks)} chunks")
    # Whole chunks, with the time at which the origin made each of them.
    expect_equal(replayed.chunks, live.chunks, "chunks")
    expect(live.chunks[-1].usage is not None, "the last chunk has no usage")
    for name in ("content-type", "content-length", "transfer-encoding"):
        expect_equal(replayed.headers.get(name), live.headers.get(name), name)


class Streamed:
    """One streaming call, read to its end."""

    def __init__(self, client: openai.OpenAI, asked: dict) -> None:
        response = client.chat.completions.with_raw_response.create(**asked)
        self.headers = response.headers
        self.chunks = list(response.parse())


STREAM_CHECKS = [
    a_stream_says_the_same_as_a_completion,
    the_first_chunk_arrives_before_the_last_is_made,
    leaving_a_stream_cancels_it_at_the_origin,
]

REPLAY_CHECKS = [
    a_replayed_stream_cannot_be_told_from_a_live_one,
]

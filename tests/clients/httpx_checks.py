"""What `httpx` sees: plain HTTP, and what the cache makes of it."""

import asyncio
import hashlib

import httpx

from checks import CacheStatus, Checks, expect, expect_equal, unique

# Longest wait for one exchange, in seconds.
PATIENCE = 30
# Requests for one cold key at the same time.
CROWD = 200


def run(checks: Checks, base_url: str, admin: str | None, token: str | None, direct: bool) -> None:
    with httpx.Client(base_url=base_url, timeout=PATIENCE) as client:
        for check in TRANSPORT_CHECKS:
            checks.run(check, client)
        if direct:
            return
        for check in CACHE_CHECKS:
            checks.run(check, client)
        with httpx.Client(base_url=admin, timeout=PATIENCE) as admin_client:
            for check in CLEAR_CHECKS:
                checks.run(check, client, admin_client, token)
    checks.run(http2_by_prior_knowledge_gets_the_same_answer, base_url)
    checks.run(a_crowd_for_one_cold_key_asks_the_origin_once, base_url)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


# What holds with and without a sidecar.


def an_answer_arrives_whole_with_its_headers(client: httpx.Client) -> None:
    name = unique("item")
    response = client.get(f"/api/items/{name}")
    expect_equal(response.status_code, 200, "status")
    expect_equal(response.json()["name"], name, "name in the body")
    expect_equal(response.headers["etag"], f'"{name}-0"', "ETag")
    expect_equal(response.headers["content-type"], "application/json", "Content-Type")
    expect_equal(response.http_version, "HTTP/1.1", "version")


def errors_of_the_application_pass(client: httpx.Client) -> None:
    expect_equal(client.get("/api/nowhere").status_code, 404, "status of an unknown path")
    response = client.get("/api/me")
    expect_equal(response.status_code, 401, "status without credentials")
    expect_equal(response.headers["www-authenticate"], "Bearer", "WWW-Authenticate")
    expect_equal(client.delete("/api/time").status_code, 405, "status of a method that is not allowed")


def a_large_answer_arrives_unchanged(client: httpx.Client) -> None:
    digest, length = hashlib.sha256(), 0
    with client.stream("GET", "/api/large", params={"pieces": 256}) as response:
        for piece in response.iter_bytes():
            digest.update(piece)
            length += len(piece)
    expect_equal(length, 16 * 1024 * 1024, "bytes")
    expect_equal(digest.hexdigest(), response.headers["x-sha256"], "digest")


def a_large_body_is_uploaded_unchanged(client: httpx.Client) -> None:
    body = hashlib.sha256(b"seed").digest() * (8 * 1024 * 1024 // 32)
    answer = client.post("/api/upload", content=body).json()
    expect_equal(answer, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}, "with Content-Length")
    pieces = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    answer = client.post("/api/upload", content=pieces).json()
    expect_equal(answer, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}, "chunked")


def a_form_with_a_file_is_uploaded(client: httpx.Client) -> None:
    content = b"\x00\xff\r\n--" * 40_000
    answer = client.post("/api/files", files={"file": ("notes.bin", content)}).json()
    expected = {"name": "notes.bin", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    expect_equal(answer, expected, "the file")


def the_first_chunk_arrives_before_the_last_is_made(client: httpx.Client) -> None:
    gate = unique("gate")
    with client.stream("GET", "/api/stream", params={"gate": gate}) as response:
        lines = response.iter_lines()
        expect_equal(next(lines), "first", "first chunk")
        expect_equal(client.post(f"/api/gates/{gate}").status_code, 200, "opening the gate")
        expect_equal(list(lines), ["last"], "the other chunks")


def leaving_a_stream_cancels_it_at_the_origin(client: httpx.Client) -> None:
    gate = unique("gate")
    with client.stream("GET", "/api/stream", params={"gate": gate}) as response:
        expect_equal(next(response.iter_lines()), "first", "first chunk")
    expect_equal(client.get(f"/api/gates/{gate}/outcome").json(), {"outcome": "cancelled"}, "at the origin")


def a_connection_serves_many_exchanges(client: httpx.Client) -> None:
    ports = set()
    for _ in range(20):
        response = client.get("/healthz")
        expect_equal(response.status_code, 200, "status")
        ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
    expect_equal(len(ports), 1, "connections for 20 exchanges")


TRANSPORT_CHECKS = [
    an_answer_arrives_whole_with_its_headers,
    errors_of_the_application_pass,
    a_large_answer_arrives_unchanged,
    a_large_body_is_uploaded_unchanged,
    a_form_with_a_file_is_uploaded,
    the_first_chunk_arrives_before_the_last_is_made,
    leaving_a_stream_cancels_it_at_the_origin,
    a_connection_serves_many_exchanges,
]


# What the cache adds.


def the_first_get_is_stored_and_the_second_is_a_hit(client: httpx.Client) -> None:
    path = f"/api/items/{unique('item')}"
    first = client.get(path)
    CacheStatus.of(first.headers).expect_stored_uri_miss("first GET")
    second = client.get(path)
    CacheStatus.of(second.headers).expect_hit("second GET")
    expect(second.headers.get("age", "").isdigit(), f"Age of a hit: {second.headers.get('age')!r}")
    expect_equal(second.content, first.content, "body of the hit")
    expect_equal(second.headers["etag"], first.headers["etag"], "ETag of the hit")
    expect_equal(origin_calls(client, f"GET {path}"), 1, "calls at the origin")


def what_has_no_freshness_is_not_stored(client: httpx.Client) -> None:
    for what in ("first", "second"):
        response = client.get("/api/time")
        status = CacheStatus.of(response.headers)
        status.expect_miss(what)
        expect("stored" not in status.parameters, f"{what}: expected not to be stored, got {status.text!r}")


def two_users_never_see_each_others_answers(client: httpx.Client) -> None:
    users = [unique("ada"), unique("grace")]
    for turn in ("first", "second"):
        for user in users:
            response = client.get("/api/me", headers=bearer(user))
            expect_equal(response.json(), {"user": user}, f"{turn} answer")
            if turn == "second":
                CacheStatus.of(response.headers).expect_hit("a user's own answer again")
    expect_equal(client.get("/api/me").status_code, 401, "status without credentials")


def an_answer_for_one_user_is_not_given_to_another(client: httpx.Client) -> None:
    path = f"/api/items/{unique('item')}"
    client.get(path, headers=bearer("ada"))
    CacheStatus.of(client.get(path, headers=bearer("grace")).headers).expect_miss("another user")
    CacheStatus.of(client.get(path).headers).expect_miss("nobody")
    CacheStatus.of(client.get(path, headers=bearer("ada")).headers).expect_hit("the same user")


def a_question_in_other_words_order_is_the_same_question(client: httpx.Client) -> None:
    question = unique("what is")
    ordered = f'{{"model":"sample-small","messages":[{{"role":"user","content":"{question}"}}],"n":1}}'
    reordered = f'{{ "n": 1.0, "messages": [ {{"content": "{question}", "role": "user"}} ], "model": "sample-small" }}'
    other = ordered.replace(question, question + "?")
    headers = {"Content-Type": "application/json"}
    first = client.post("/v1/chat/completions", content=ordered, headers=headers)
    CacheStatus.of(first.headers).expect_stored_uri_miss("first POST")
    second = client.post("/v1/chat/completions", content=reordered, headers=headers)
    CacheStatus.of(second.headers).expect_hit("POST with reordered keys")
    expect_equal(second.json(), first.json(), "answer")
    third = client.post("/v1/chat/completions", content=other, headers=headers)
    CacheStatus.of(third.headers).expect_miss("POST with another question")


def a_conditional_get_is_answered_with_304(client: httpx.Client) -> None:
    path = f"/api/items/{unique('item')}"
    etag = client.get(path).headers["etag"]
    response = client.get(path, headers={"If-None-Match": etag})
    expect_equal(response.status_code, 304, "status")
    expect_equal((response.content, response.headers["etag"]), (b"", etag), "body and ETag")
    CacheStatus.of(response.headers).expect_hit("304")
    expect_equal(client.get(path, headers={"If-None-Match": '"other"'}).status_code, 200, "status for another tag")
    expect_equal(origin_calls(client, f"GET {path}"), 1, "calls at the origin")


def a_range_is_cut_from_the_whole(client: httpx.Client) -> None:
    path = f"/api/items/{unique('item')}"
    whole = client.get(path).content
    for asked, first, last in (("10-19", 10, 19), ("-5", len(whole) - 5, len(whole) - 1)):
        response = client.get(path, headers={"Range": f"bytes={asked}"})
        expect_equal(response.status_code, 206, f"status for {asked}")
        expect_equal(response.content, whole[first : last + 1], f"body for {asked}")
        expect_equal(response.headers["content-range"], f"bytes {first}-{last}/{len(whole)}", f"Content-Range for {asked}")
    expect_equal(origin_calls(client, f"GET {path}"), 1, "calls at the origin")


def a_head_is_answered_from_the_get(client: httpx.Client) -> None:
    path = f"/api/items/{unique('item')}"
    whole = client.get(path)
    head = client.head(path)
    CacheStatus.of(head.headers).expect_hit("HEAD")
    expect_equal(head.content, b"", "body")
    expect_equal(head.headers["content-length"], str(len(whole.content)), "Content-Length")
    expect_equal(origin_calls(client, f"HEAD {path}"), 0, "HEAD calls at the origin")


def a_change_makes_the_old_answer_unusable(client: httpx.Client) -> None:
    path = f"/api/items/{unique('item')}"
    expect_equal(client.get(path).json()["version"], 0, "version before")
    expect_equal(client.put(path).json()["version"], 1, "version at the origin")
    expect_equal(client.get(path).json()["version"], 1, "version after")


CACHE_CHECKS = [
    the_first_get_is_stored_and_the_second_is_a_hit,
    what_has_no_freshness_is_not_stored,
    two_users_never_see_each_others_answers,
    an_answer_for_one_user_is_not_given_to_another,
    a_question_in_other_words_order_is_the_same_question,
    a_conditional_get_is_answered_with_304,
    a_range_is_cut_from_the_whole,
    a_head_is_answered_from_the_get,
    a_change_makes_the_old_answer_unusable,
]


def origin_calls(client: httpx.Client, target: str) -> int:
    """How often the application itself was asked for `METHOD /path?query`."""
    return client.get("/api/calls").json().get(target, 0)


# Clearing by pattern.


def clear(admin: httpx.Client, pattern: str, token: str | None) -> httpx.Response:
    headers = bearer(token) if token else {}
    return admin.post("/api/v1/performance/api/cache/clear", params={"pattern": pattern}, headers=headers)


def clearing_needs_a_token(client: httpx.Client, admin: httpx.Client, _: str) -> None:
    path = f"/api/items/{unique('item')}"
    client.get(path)
    for token in (None, "wrong"):
        expect_equal(clear(admin, "api_*", token).status_code, 401, f"status with token {token!r}")
    CacheStatus.of(client.get(path).headers).expect_hit("after a refused clear")


def clearing_a_pattern_empties_what_matches_and_nothing_else(
    client: httpx.Client, admin: httpx.Client, token: str
) -> None:
    item = f"/api/items/{unique('item')}"
    for path in (item, "/v1/models"):
        client.get(path)
        CacheStatus.of(client.get(path).headers).expect_hit(f"{path} before")
    response = clear(admin, "api_*", token)
    expect_equal(response.status_code, 200, f"status ({response.text})")
    expect(response.json()["matched"] >= 1, f"matched entries: {response.text}")
    CacheStatus.of(client.get("/v1/models").headers).expect_hit("/v1/models after")
    CacheStatus.of(client.get(item).headers).expect_miss(f"{item} after")
    CacheStatus.of(client.get(item).headers).expect_hit(f"{item} filled again")


def clearing_one_path_leaves_its_neighbour(client: httpx.Client, admin: httpx.Client, token: str) -> None:
    gone, kept = (f"/api/items/{unique('item')}" for _ in range(2))
    for path in (gone, kept):
        client.get(path)
    response = clear(admin, f"api_*GET *{gone}*", token)
    expect_equal(response.status_code, 200, f"status ({response.text})")
    CacheStatus.of(client.get(kept).headers).expect_hit("the neighbour")
    CacheStatus.of(client.get(gone).headers).expect_miss("the cleared path")


CLEAR_CHECKS = [
    clearing_needs_a_token,
    clearing_a_pattern_empties_what_matches_and_nothing_else,
    clearing_one_path_leaves_its_neighbour,
]


# With clients of their own.


def http2_by_prior_knowledge_gets_the_same_answer(base_url: str) -> None:
    path = f"/api/items/{unique('item')}"
    with httpx.Client(base_url=base_url, timeout=PATIENCE) as one:
        first = one.get(path)
    with httpx.Client(base_url=base_url, timeout=PATIENCE, http1=False, http2=True) as two:
        second = two.get(path)
    expect_equal(second.http_version, "HTTP/2", "version")
    CacheStatus.of(second.headers).expect_hit("over HTTP/2")
    expect_equal(second.content, first.content, "body")


def a_crowd_for_one_cold_key_asks_the_origin_once(base_url: str) -> None:
    target = f"/api/slow?run={unique('run')}"
    limits = httpx.Limits(max_connections=CROWD, max_keepalive_connections=0)

    async def crowd() -> tuple[list[httpx.Response], int]:
        async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE, limits=limits) as client:
            responses = await asyncio.gather(*(client.get(target) for _ in range(CROWD)))
            calls = (await client.get("/api/calls")).json()
            return responses, calls.get(f"GET {target}", 0)

    responses, calls = asyncio.run(crowd())
    expect_equal({response.status_code for response in responses}, {200}, "statuses")
    expect_equal(len({response.content for response in responses}), 1, "different bodies")
    expect_equal(calls, 1, f"calls at the origin for {CROWD} requests")

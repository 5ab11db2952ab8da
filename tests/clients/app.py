"""A real FastAPI application under uvicorn, as a platform team would put behind the sidecar.

    python app.py [--port PORT]

prints `ready PORT` on standard output once it accepts connections, and ends on SIGTERM.

Where a client must show that bytes arrive before later ones are made, the application does not wait for time to pass
but for the client: a stream with a *gate* makes its last piece only after the client has opened the gate, which it
does when it holds the first piece. A proxy that buffers the stream therefore fails, whatever the machine's speed.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import struct
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request, Response, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, StreamingResponse

import announce

# Longest wait for a client to open a gate, in seconds.
GATE_TIMEOUT = 20
# Time the slow endpoint takes, in seconds: long enough for many requests to arrive meanwhile.
SLOW_TIME = 0.5
# Bytes of one piece of a large answer.
PIECE = b"0123456789abcdef" * 4096

app = FastAPI(title="Sample AI hub")

calls: Counter[str] = Counter()
versions: Counter[str] = Counter()


class Gate:
    """One stream that waits for its client, and how it ended."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()
        self.outcome = "running"

    def end(self, outcome: str) -> None:
        self.outcome = outcome
        self.ended.set()


gates: defaultdict[str, Gate] = defaultdict(Gate)


@app.middleware("http")
async def count(request: Request, call_next):
    """Counts what really reached the application, and tells the client the number."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    calls[f"{request.method} {target}"] += 1
    call = calls[f"{request.method} {target}"]
    response = await call_next(request)
    response.headers["X-Origin-Call"] = str(call)
    return response


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/calls")
@app.get("/api/calls")
async def origin_calls(response: Response) -> dict[str, int]:
    """How often each target was asked, as `METHOD /path?query`."""
    response.headers["Cache-Control"] = "no-store"
    return dict(calls)


@app.get("/api/items/{name}")
@app.head("/api/items/{name}")
async def item(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """About 1 KiB, fresh for a minute, with a validator."""
    version = versions[name]
    headers = {"Cache-Control": "max-age=60", "ETag": f'"{name}-{version}"'}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return JSONResponse({"name": name, "version": version, "text": "All work and no play. " * 45}, headers=headers)


@app.put("/api/items/{name}")
async def change_item(name: str) -> dict[str, Any]:
    """Makes another version of an item."""
    versions[name] += 1
    return {"name": name, "version": versions[name]}


@app.get("/api/me")
async def me(authorization: Annotated[str | None, Header()] = None) -> Response:
    """The profile of the bearer."""
    if authorization is None or not authorization.startswith("Bearer "):
        raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "Bearer"})
    user = authorization.removeprefix("Bearer ")
    return JSONResponse({"user": user}, headers={"Cache-Control": "max-age=30", "Vary": "Authorization"})


@app.get("/api/time")
async def now() -> dict[str, float]:
    """Without any cache header."""
    return {"unix": time.time()}


@app.get("/api/slow")
async def slow(response: Response) -> dict[str, str]:
    await asyncio.sleep(SLOW_TIME)
    response.headers["Cache-Control"] = "max-age=60"
    return {"report": "worth the wait"}


@app.get("/api/large")
async def large(pieces: int = 64) -> StreamingResponse:
    """`pieces` times 64 KiB, chunked, not to be stored."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield PIECE

    headers = {"Cache-Control": "no-store", "X-SHA256": hashlib.sha256(PIECE * pieces).hexdigest()}
    return StreamingResponse(body(), media_type="application/octet-stream", headers=headers)


@app.post("/api/upload")
async def upload(request: Request) -> dict[str, Any]:
    """Reads a body of any length as it arrives."""
    digest, length = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        length += len(piece)
    return {"bytes": length, "sha256": digest.hexdigest()}


@app.post("/api/files")
async def files(file: UploadFile) -> dict[str, Any]:
    """A file from a form."""
    content = await file.read()
    return {"name": file.filename, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@app.get("/api/stream")
async def stream(gate: str) -> StreamingResponse:
    """Plain chunks; the last one is made after the gate was opened."""

    async def body() -> AsyncIterator[bytes]:
        yield b"first\n"
        await pass_gate(gate)
        yield b"last\n"
        gates[gate].end("done")

    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(watched(gate, body()), media_type="text/plain", headers=headers)


@app.post("/api/gates/{name}")
async def open_gate(name: str) -> dict[str, str]:
    """Lets the stream that waits at this gate go on."""
    gates[name].opened.set()
    return {"gate": name}


@app.get("/api/gates/{name}/outcome")
async def gate_outcome(name: str, response: Response) -> dict[str, str]:
    """Waits for the end of the stream of this gate: `done`, or `cancelled` when its reader left."""
    response.headers["Cache-Control"] = "no-store"
    await asyncio.wait_for(gates[name].ended.wait(), GATE_TIMEOUT)
    return {"outcome": gates[name].outcome}


async def pass_gate(name: str) -> None:
    await asyncio.wait_for(gates[name].opened.wait(), GATE_TIMEOUT)


async def watched(gate: str | None, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces; notes when the reader left before the end."""
    try:
        async for piece in pieces:
            yield piece
    except (asyncio.CancelledError, GeneratorExit):
        if gate is not None:
            gates[gate].end("cancelled")
        raise


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    body = await request.json()
    if not isinstance(body.get("messages"), list) or "model" not in body:
        return openai_error(400, "'model' and 'messages' are required")
    completion = Completion(body)
    if not body.get("stream"):
        return JSONResponse(completion.answer())
    gate = (body.get("metadata") or {}).get("gate")
    events = watched(gate, completion.events(gate))
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


class Completion:
    """The answer to one chat request, in OpenAI's format."""

    def __init__(self, body: dict[str, Any]) -> None:
        calls["chat"] += 1
        question = str(body["messages"][-1].get("content", ""))
        self.words = [f"{word} " for word in f"You asked: {question}".split()]
        self.include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self.head = {"id": f"chatcmpl-{calls['chat']:08}", "created": int(time.time()), "model": body["model"]}
        prompt_tokens = sum(len(str(message.get("content", "")).split()) for message in body["messages"])
        self.usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(self.words),
            "total_tokens": prompt_tokens + len(self.words),
        }

    def answer(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self.words).strip(), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": self.usage}

    async def events(self, gate: str | None) -> AsyncIterator[bytes]:
        """The answer word by word. With a gate, everything after the first word waits for the client."""
        yield self.chunk({"role": "assistant", "content": ""})
        for position, word in enumerate(self.words):
            yield self.chunk({"content": word})
            if gate is not None and position == 0:
                await pass_gate(gate)
        yield self.chunk({}, "stop")
        if self.include_usage:
            yield self.event([], self.usage)
        yield b"data: [DONE]\n\n"
        if gate is not None:
            gates[gate].end("done")

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        return self.event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}], None)

    def event(self, choices: list[Any], usage: dict[str, int] | None) -> bytes:
        """One event, with the time it was made: the monotonic clock is the same in all processes of a machine."""
        chunk = {**self.head, "object": "chat.completion.chunk", "choices": choices, "made_ns": time.monotonic_ns()}
        if self.include_usage:
            chunk["usage"] = usage
        return f"data: {json.dumps(chunk)}\n\n".encode()


@app.post("/v1/embeddings")
async def embeddings(request: Request) -> Response:
    body = await request.json()
    texts = body.get("input")
    if not isinstance(texts, (str, list)) or "model" not in body:
        return openai_error(400, "'model' and 'input' are required")
    texts = [texts] if isinstance(texts, str) else texts
    as_base64 = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": embed(str(text), as_base64)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": data, "model": body["model"], "usage": usage})


def embed(text: str, as_base64: bool) -> str | list[float]:
    """Sixteen numbers that depend on nothing but the text."""
    numbers = [byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:16]]
    return base64.b64encode(struct.pack("<16f", *numbers)).decode() if as_base64 else numbers


MODELS = {
    name: {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "tests"}
    for name in ("sample-large", "sample-small", "sample-embed")
}


@app.get("/v1/models")
async def models(response: Response) -> dict[str, Any]:
    response.headers["Cache-Control"] = "max-age=60"
    return {"object": "list", "data": list(MODELS.values())}


@app.get("/v1/models/{name}")
async def model(name: str) -> Response:
    if name not in MODELS:
        return openai_error(404, f"The model '{name}' does not exist")
    return JSONResponse(MODELS[name], headers={"Cache-Control": "max-age=60"})


def openai_error(status: int, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status_code=status)


@app.websocket("/ws/echo")
async def echo(socket: WebSocket) -> None:
    """Sends every message back; `close CODE REASON` asks the server to close."""
    offered = socket.scope.get("subprotocols") or [None]
    await socket.accept(subprotocol=offered[0])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is not None and text.startswith("close "):
                _, code, reason = text.split(" ", 2)
                await socket.close(int(code), reason)
                return
            if text is not None:
                await socket.send_text(text)
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


class Server(uvicorn.Server):
    """Announces itself once it accepts connections."""

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        if self.started:
            announce.ready(sockets[0].getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    listening = announce.listen(arguments.port)
    config = uvicorn.Config(app, http="h11", log_level="warning", timeout_graceful_shutdown=2)
    Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()

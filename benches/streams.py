#!/usr/bin/env python3
"""What event streams cost through outrigger: the time to their first byte, and the memory of a crowd of readers.

    cargo build --release && benches/streams.py [target/release/outrigger]

The first table compares requests through the proxy with requests straight to the origin, in turn and in one run, over
keep-alive connections: what the proxy adds to the time from the request to the first event, where the stream passes
through and where it fills the cache. The second has a thousand readers join one stream that is still running: how often
the origin was asked, who received every byte, and by how much the proxy's resident memory grew at its peak.

Load and origin run on one core, the proxy on another, as in compare.py. Ends with 1 if a budget is exceeded.
"""

import argparse
import asyncio
import contextlib
import itertools
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from compare import Proxy, free_port, pin, resident_kib, running

FIRST_BYTE_MS = 0.2
GROWTH_MIB = 64

EVENT = 'data: {{"choices":[{{"delta":{{"content":"token {}"}}}}]}}\n\n'
DONE = "data: [DONE]\n\n"

CONFIG = """
version: 1
workers: 1
listeners: [{{name: http, bind: "127.0.0.1:{port}"}}]
admin: {{bind: "127.0.0.1:0"}}
upstreams: {{origin: {{endpoints: [{{address: "127.0.0.1:{origin}"}}], protocol: http1}}}}
cache: {{levels: [{{memory: {{name: l1, capacity: 64MiB}}}}]}}
routes:
  - {{name: pass, match: {{path: /pass}}, upstream: origin, cache: {{mode: "off"}}}}
  - {{name: fill, match: {{path_prefix: /}}, upstream: origin, cache: {{mode: "on"}}}}
"""


class Origin:
    """Answers any request with an event stream; one under /crowd waits after its first events until it is let go."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.asked = 0
        self.go = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /crowd"):
                    self.asked += 1
                    await self.crowd(writer)
                else:
                    writer.write(HEAD + chunk(EVENT.format(0)))
                    await writer.drain()
                    writer.write(chunk(DONE) + LAST)
                    await writer.drain()
        writer.close()

    async def crowd(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for number in range(self.events):
            writer.write(chunk(EVENT.format(number)))
            await writer.drain()
            if number == 10:
                await self.go.wait()
            if number % 10 == 0:
                await asyncio.sleep(0.005)
        writer.write(chunk(DONE) + LAST)
        await writer.drain()

    def body(self) -> bytes:
        return ("".join(map(EVENT.format, range(self.events))) + DONE).encode()


HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: max-age=60\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"


def chunk(text: str) -> bytes:
    data = text.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


async def main() -> int:
    arguments = parse()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A reader needs one descriptor here and one in the proxy, which inherits the limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * arguments.readers + 200)), hard))
    pin(arguments.load_core)
    origin = Origin(arguments.events)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        proxy = outrigger(Path(directory), arguments.binary, port)
        with await asyncio.to_thread(enter, running(proxy, arguments.proxy_core)) as pid:
            good = await first_bytes(arguments, port, proxy.port)
            good &= await crowd(arguments, origin, proxy.port, pid)
    return 0 if good else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?", default="target/release/outrigger", help="outrigger, built for release")
    parser.add_argument("--requests", type=int, default=1000, help="requests of each kind (%(default)s)")
    parser.add_argument("--readers", type=int, default=1000, help="readers of the one stream (%(default)s)")
    parser.add_argument("--events", type=int, default=500, help="events of the one stream (%(default)s)")
    parser.add_argument("--proxy-core", type=int, default=0, help="the proxy's core (%(default)s)")
    parser.add_argument("--load-core", type=int, default=1, help="the core of the load and the origin (%(default)s)")
    return parser.parse_args()


def outrigger(directory: Path, binary: str, origin: int) -> Proxy:
    port = free_port()
    config = directory / "outrigger.yaml"
    config.write_text(CONFIG.format(port=port, origin=origin))
    command = [str(Path(binary).resolve()), "run", "-c", str(config), "--log-level", "warn", "--drain-delay", "1ms"]
    return Proxy("outrigger", command, port)


@contextlib.contextmanager
def entered(context: contextlib.AbstractContextManager, value: int):
    """The rest of a context that was entered elsewhere."""
    try:
        yield value
    finally:
        context.__exit__(None, None, None)


def enter(context: contextlib.AbstractContextManager) -> contextlib.AbstractContextManager:
    """Enters a context that waits, in a thread: the origin that it waits for runs in this one."""
    return entered(context, context.__enter__())


# The time to the first byte.


class Client:
    """A keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def first_byte(self, path: str, says: bytes) -> float:
        """Milliseconds from a request to the first byte of the body; reads the rest of it."""
        started = time.perf_counter()
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: hub.local\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(1)
        took = (time.perf_counter() - started) * 1000
        rest = await self.reader.readuntil(LAST)
        if not head.startswith(b"HTTP/1.1 200") or says not in head or DONE.encode() not in rest:
            raise SystemExit(f"{path} is not answered as it should be:\n{head.decode()}")
        return took


async def first_bytes(arguments: argparse.Namespace, origin: int, proxy: int) -> bool:
    straight = Client(*await asyncio.open_connection("127.0.0.1", origin))
    through = Client(*await asyncio.open_connection("127.0.0.1", proxy))
    numbers = itertools.count()
    cases = [
        ("passes through", lambda: "/pass", b""),
        ("fills the cache", lambda: f"/fill/{next(numbers)}", b"fwd=uri-miss"),
    ]
    print(f"time to first byte of an event stream, ms; {arguments.requests} requests of each kind, in turn\n")
    print("| the stream | straight, median | through outrigger, median | added | budget | added at p99 |")
    print("|---|---|---|---|---|---|")
    good = True
    for name, path, says in cases:
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(arguments.requests + 100):
            target = path()
            pair = await straight.first_byte(target, b""), await through.first_byte(target, says)
            if number >= 100:  # The first ones warm up.
                for known, took in zip(times, pair):
                    known.append(took)
        direct, proxied = map(statistics.median, times)
        tails = [statistics.quantiles(known, n=100)[98] for known in times]
        print(
            f"| {name} | {direct:.3f} | {proxied:.3f} | {proxied - direct:.3f} | {FIRST_BYTE_MS} "
            f"| {tails[1] - tails[0]:.3f} |",
            flush=True,
        )
        good &= proxied - direct <= FIRST_BYTE_MS
    print()
    return good


# The crowd.


async def crowd(arguments: argparse.Namespace, origin: Origin, proxy: int, pid: int) -> bool:
    before = peak = resident_kib(pid)
    readers = [asyncio.create_task(read(proxy)) for _ in range(arguments.readers)]
    joined = asyncio.create_task(until_joined(readers, origin))
    while not all(reader.done() for reader in readers):
        peak = max(peak, resident_kib(pid))
        await asyncio.sleep(0.02)
    await joined
    expected = origin.body()
    complete = sum(reader.result() == expected for reader in readers)
    growth = (peak - before) / 1024
    print(f"{arguments.readers} readers of one running stream of {len(expected) / 1024:.0f} KiB\n")
    print("| what | measured | budget |")
    print("|---|---|---|")
    print(f"| requests to the origin | {origin.asked} | 1 |")
    print(f"| readers with every byte | {complete} | {arguments.readers} |")
    print(f"| growth of resident memory at its peak, MiB | {growth:.1f} | {GROWTH_MIB} |")
    return origin.asked == 1 and complete == arguments.readers and growth <= GROWTH_MIB


async def until_joined(readers: list[asyncio.Task], origin: Origin) -> None:
    """Lets the stream go on once every reader has had its beginning."""
    while Reader.begun < len(readers) and not any(reader.done() for reader in readers):
        await asyncio.sleep(0.01)
    origin.go.set()


class Reader:
    """How many readers have had the beginning of the stream."""

    begun = 0


async def read(port: int) -> bytes:
    """The body of the one stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /crowd HTTP/1.1\r\nHost: hub.local\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        if not body:
            Reader.begun += 1
        body += (await reader.readexactly(size + 2))[:-2]
    writer.close()
    return body


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

#!/usr/bin/env python3
"""What a hit in Redis costs, and what a Redis that dies or freezes does to the latency.

    cargo build --release && benches/redis.py [target/release/outrigger]

2,000 requests per second arrive by the clock, not when the one before is answered, so that a delay is not hidden by the
load waiting for it; a latency counts from the moment at which the request was due. The keys are so many, and the memory
level so small, that nearly every request is answered from Redis; the share that was is shown.

Needs nginx, wrk and redis-server (Debian: nginx-light, wrk, redis-server), Linux and two cores. The sidecar has one
core, the load, the origin and Redis share the other.
"""

import argparse
import contextlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from compare import BODY, PATIENCE, Proxy, awake, cpu_seconds, free_port, get, nginx, pin, running

RATE = 2000
CONNECTIONS = 16
KEYS = 20_000
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}

# As in `Load`: all keys before one comes again.
LUA = """
    local number = 0
    request = function()
        number = number + 1
        return wrk.format("GET", "/item/" .. (number * 7919 % {keys}))
    end
"""

ORIGIN = """
    server {{ listen 127.0.0.1:{port} backlog=4096;
        location /item/ {{ add_header Cache-Control max-age=3600; return 200 '{body}'; }}
        location / {{ add_header Cache-Control no-store; return 200 '{body}'; }} }}
"""

CONFIG = """
version: 1
workers: 1
listeners: [{{name: http, bind: "127.0.0.1:{port}"}}]
admin: {{bind: "127.0.0.1:{admin}"}}
upstreams: {{origin: {{endpoints: [{{address: "127.0.0.1:{origin}"}}]}}}}
cache:
  levels:
    - memory: {{name: l1, capacity: 1MiB}}
    - redis: {{name: fleet, url: "redis://127.0.0.1:{redis}"}}
routes:
  - {{name: item, match: {{path_prefix: /item/}}, upstream: origin, cache: {{mode: "on"}}}}
  - {{name: rest, match: {{path_prefix: /}}, upstream: origin, cache: {{mode: "off"}}}}
"""


def main() -> int:
    arguments = parse()
    missing = [tool for tool in ("nginx", "redis-server", "wrk") if not shutil.which(tool)]
    if missing:
        print(f"please install: {' '.join(missing)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        measure(arguments, Path(directory))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?", default="target/release/outrigger", help="outrigger, built for release")
    parser.add_argument("--seconds", type=int, default=10, help="length of a run (%(default)s)")
    parser.add_argument("--proxy-core", type=int, default=0, help="the sidecar's core (%(default)s)")
    parser.add_argument("--load-core", type=int, default=1, help="the core of everything else (%(default)s)")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, directory: Path) -> None:
    origin_port = free_port()
    origin = nginx(directory / "origin", "origin", ORIGIN.format(port=origin_port, body=BODY), origin_port)
    redis = Redis(directory, arguments.load_core)
    port, admin = free_port(), free_port()
    config = directory / "outrigger.yaml"
    config.write_text(CONFIG.format(port=port, admin=admin, origin=origin_port, redis=redis.port))
    command = [str(Path(arguments.binary).resolve()), "run", "-c", str(config), "--log-level", "warn"]
    sidecar = Proxy("outrigger", [*command, "--drain-delay", "1ms"], port)
    pin(arguments.load_core)
    with redis.running(), running(origin, arguments.load_core), running(sidecar, arguments.proxy_core) as pid:
        fill(port, redis)
        hits(arguments, directory, port, admin, pid)
        trouble(arguments, port, "killed", redis.kill, redis.start)
        trouble(arguments, port, "frozen", redis.freeze, redis.thaw)


class Redis:
    """A redis-server without persistence."""

    def __init__(self, directory: Path, core: int) -> None:
        self.port, self.directory, self.core = free_port(), directory, core

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.kill()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--save", "", "--dir", str(self.directory)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, preexec_fn=lambda: pin(self.core))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def keys(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client:
            client.sendall(b"DBSIZE\r\n")
            return int(client.recv(64).strip(b":\r\n"))


def fill(port: int, redis: Redis) -> None:
    """Asks for every key until Redis has nearly all: what is written behind may be dropped under load."""
    for _ in range(20):
        Load(port, 10**9).run(KEYS)
        time.sleep(1)
        if redis.keys() >= KEYS * 0.99:
            return
    raise SystemExit(f"Redis has {redis.keys()} of {KEYS} values")


def hits(arguments: argparse.Namespace, directory: Path, port: int, admin: int, pid: int) -> None:
    """At 2,000 requests per second, and as fast as they go.

    The CPU of a request is that of the second: at the first a core does little else than wake up and fall asleep.
    """
    print("| hits, 1 KiB | requests/s | p50, ms | p99, ms | CPU us/request | user | system | from Redis | failed |")
    print("|---|---|---|---|---|---|---|---|---|")
    load = Load(port, RATE)

    def by_the_clock() -> tuple[int, float, float, int]:
        load.run(RATE * arguments.seconds)
        return len(load.latencies), load.quantile(50), load.quantile(99), load.failed

    def flat_out() -> tuple[int, float, float, int]:
        script = directory / "keys.lua"
        script.write_text(LUA.format(keys=KEYS))
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{arguments.seconds}s", "--latency", "-s", str(script)]
        told = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True).stdout
        times = re.findall(r"(?:50|99)%\s+([\d.]+)(us|ms|s)", told)
        p50, p99 = (float(value) * MILLISECONDS[unit] for value, unit in times)
        return int(re.search(r"(\d+) requests in", told)[1]), p50, p99, told.count("Non-2xx")

    for name, run in ((f"{RATE}/s", by_the_clock), ("flat out", flat_out)):
        before, cpu_before = level_hits(admin), cpu_seconds(pid)
        # As in compare.py: what it costs to wake a core of a virtual machine is not the proxy's.
        with awake(arguments.load_core, arguments.proxy_core):
            count, p50, p99, failed = run()
        user, system = ((now - then) / count * 1e6 for now, then in zip(cpu_seconds(pid), cpu_before))
        found = (level_hits(admin) - before) / count
        print(
            f"| {name} | {count / arguments.seconds:.0f} | {p50:.2f} | {p99:.2f} | {user + system:.1f} | {user:.1f} "
            f"| {system:.1f} | {found:.1%} | {failed} |",
            flush=True,
        )
    print()


def trouble(
    arguments: argparse.Namespace, port: int, what: str, begin: Callable[[], None], end: Callable[[], None]
) -> None:
    """Latency second by second: two of them healthy, then trouble until two thirds of the run, then healthy again."""
    load = Load(port, RATE)
    over = arguments.seconds * 2 / 3
    timers = [threading.Timer(2, begin), threading.Timer(over, end)]
    for timer in timers:
        timer.start()
    load.run(RATE * arguments.seconds)
    for timer in timers:
        timer.join()
    seconds = [load.quantile(99, second) for second in range(arguments.seconds)]
    columns = "".join(f" {second} s |" for second in range(len(seconds)))
    print(f"| {what} from 2 s to {over:.0f} s, p99 in ms |{columns} failed |")
    print("|---|" + "---|" * (len(seconds) + 1))
    print(f"| {what} |" + "".join(f" {p99:.1f} |" for p99 in seconds) + f" {load.failed} |\n", flush=True)
    time.sleep(6)


def level_hits(admin: int) -> float:
    """Hits that the sidecar counted for the level."""
    total = 0.0
    for line in get(admin, "/metrics").decode().splitlines():
        if line.startswith("outrigger_cache_requests_total{") and 'level="fleet"' in line and 'result="hit"' in line:
            total += float(line.rpartition("} ")[2].split()[0])
    return total


class Load:
    """Requests that are due by the clock, over connections that are kept."""

    def __init__(self, port: int, rate: float) -> None:
        self.port, self.rate = port, rate
        # Seconds since the start at which a request was due, and its latency in milliseconds.
        self.latencies: list[tuple[float, float]] = []
        self.failed = 0
        self.lock = threading.Lock()

    def run(self, count: int) -> None:
        started = time.perf_counter() + 0.1
        clients = [threading.Thread(target=self.client, args=(first, count, started)) for first in range(CONNECTIONS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def client(self, first: int, count: int, started: float) -> None:
        latencies, failed = [], 0
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(first, count, CONNECTIONS):
                due = started + number / self.rate
                time.sleep(max(0.0, due - time.perf_counter()))
                # A step that shares no factor with the number of keys visits all of them before one comes again.
                good = ask(connection, f"/item/{number * 7919 % KEYS}")
                failed += not good
                latencies.append((due - started, (time.perf_counter() - due) * 1000))
        with self.lock:
            self.latencies += latencies
            self.failed += failed

    def quantile(self, percent: int, second: int | None = None) -> float:
        chosen = [latency for due, latency in self.latencies if second is None or int(due) == second]
        return statistics.quantiles(chosen, n=100)[percent - 1]


def ask(connection: socket.socket, path: str) -> bool:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?im)^content-length: (\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head.startswith(b"HTTP/1.1 200") and body.decode() == BODY


if __name__ == "__main__":
    sys.exit(main())

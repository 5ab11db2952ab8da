#!/usr/bin/env python3
"""CPU per request of outrigger and nginx, side by side on this machine.

nginx runs twice: as it is, and sending the fields with every request and response that outrigger always sends
(forwarding fields, a trace, Via, Cache-Status), which is the like compared with the like.

    cargo build --release && benches/compare.py [target/release/outrigger]

Each proxy in turn has one core to itself; the load (wrk) and the origin (another nginx) share a second one. A figure
is the CPU time of all processes of the proxy, from /proc, divided by the requests that wrk counted, so it does not
matter how fast the load is. A process of the lowest class (SCHED_IDLE) keeps each core from halting: in a virtual
machine a halted core costs several microseconds to wake, which are booked on whoever sends to it, on one proxy today
and on the other tomorrow. Runs alternate, and medians are shown: single runs differ by some per cent, and figures
of two machines cannot be compared at all.

Needs nginx and wrk (Debian: nginx-light, wrk), taskset's system calls (Linux) and two cores.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BODY = json.dumps({"data": "x" * (1024 - len('{"data": ""}'))})
CONNECTIONS = 64
TICK = os.sysconf("SC_CLK_TCK")
# Longest wait for a process to answer, in seconds.
PATIENCE = 10

NGINX = """
daemon off; worker_processes 1; error_log {directory}/error.log error; pid {directory}/pid; {user}
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 100000000; default_type application/json;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    {http}
}}
"""

ORIGIN = """
    server {{ listen 127.0.0.1:{port} backlog=4096;
        location = /hit {{ add_header Cache-Control max-age=3600; return 200 '{body}'; }}
        location / {{ add_header Cache-Control no-store; return 200 '{body}'; }} }}
"""

PROXY = """
    proxy_cache_path {directory}/cache keys_zone=memory:16m inactive=1h;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 100000000; }}
    server {{ listen 127.0.0.1:{port} backlog=4096; proxy_http_version 1.1; {fields}
        location = /hit {{ proxy_cache memory; add_header Cache-Status "nginx; $upstream_cache_status";
            proxy_pass http://origin; }}
        location / {{ proxy_pass http://origin; }} }}
"""

# What outrigger tells the origin with every request, and the client with every response.
FIELDS = """
    proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Real-IP $remote_addr; proxy_set_header Forwarded "for=$remote_addr;proto=$scheme";
    proxy_set_header Via "1.1 nginx"; proxy_set_header traceparent "00-$request_id-0102030405060708-01";
    proxy_set_header Connection ""; add_header Via "1.1 nginx"; add_header Cache-Status "nginx; fwd=bypass";
"""

OUTRIGGER = """
version: 1
workers: 1
listeners: [{{name: http, bind: "127.0.0.1:{port}"}}]
admin: {{bind: "127.0.0.1:0"}}
upstreams: {{origin: {{endpoints: [{{address: "127.0.0.1:{origin}"}}], protocol: http1}}}}
cache: {{levels: [{{memory: {{name: l1, capacity: 64MiB}}}}]}}
routes:
  - {{name: hit, match: {{path: /hit}}, upstream: origin, cache: {{mode: "on"}}}}
  - {{name: rest, match: {{path_prefix: /}}, upstream: origin, cache: {{mode: "off"}}}}
"""


@dataclass(frozen=True)
class Proxy:
    """How one proxy is started."""

    name: str
    command: list[str]
    port: int


@dataclass(frozen=True)
class Cost:
    """What a run has cost, in microseconds per request."""

    user: float
    system: float
    rate: float

    @property
    def total(self) -> float:
        return self.user + self.system


def main() -> int:
    arguments = parse()
    missing = [tool for tool in ("nginx", "wrk") if not shutil.which(tool)]
    if missing:
        print(f"please install: {' '.join(missing)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        compare(arguments, Path(directory))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?", default="target/release/outrigger", help="outrigger, built for release")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run (%(default)s)")
    parser.add_argument("--starts", type=int, default=11, help="starts that are timed (%(default)s)")
    parser.add_argument("--proxy-core", type=int, default=0, help="the proxy's core (%(default)s)")
    parser.add_argument("--load-core", type=int, default=1, help="the core of the load and the origin (%(default)s)")
    return parser.parse_args()


def compare(arguments: argparse.Namespace, directory: Path) -> None:
    origin_port = free_port()
    origin = nginx(directory / "origin", "origin", ORIGIN.format(port=origin_port, body=BODY), origin_port)
    proxies = [
        outrigger(directory / "outrigger", arguments.binary, origin_port),
        nginx_proxy(directory / "nginx", "nginx", origin_port, 'proxy_set_header Connection "";'),
        nginx_proxy(directory / "fields", "nginx, fields", origin_port, FIELDS),
    ]
    with running(origin, arguments.load_core):
        print(f"1 KiB of JSON, {CONNECTIONS} keep-alive connections, one core; medians of {arguments.rounds} runs\n")
        with awake(arguments.load_core, arguments.proxy_core):
            for case in ("/hit", "/pass"):
                costs = alternate(arguments, proxies, case)
                show_costs({"/hit": "cache hit", "/pass": "pass-through"}[case], costs)
        show_footprint(arguments, proxies)


# The proxies and the origin.


def nginx(directory: Path, name: str, http: str, port: int) -> Proxy:
    directory.mkdir()
    config = directory / "nginx.conf"
    # Started by root, the workers would be somebody who may not write into the directory.
    user = "user root root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(directory=directory, http=http, user=user))
    return Proxy(name, ["nginx", "-p", str(directory), "-c", str(config)], port)


def nginx_proxy(directory: Path, name: str, origin: int, fields: str) -> Proxy:
    port = free_port()
    http = PROXY.format(directory=directory, origin=origin, port=port, fields=fields)
    return nginx(directory, name, http, port)


def outrigger(directory: Path, binary: str, origin: int) -> Proxy:
    directory.mkdir()
    port = free_port()
    config = directory / "outrigger.yaml"
    config.write_text(OUTRIGGER.format(port=port, origin=origin))
    command = [str(Path(binary).resolve()), "run", "-c", str(config), "--log-level", "warn", "--drain-delay", "1ms"]
    return Proxy("outrigger", command, port)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextlib.contextmanager
def running(proxy: Proxy, core: int) -> Iterator[int]:
    """Runs a proxy on one core and gives its process id once it answers."""
    process = subprocess.Popen(proxy.command, stdout=subprocess.DEVNULL, preexec_fn=lambda: pin(core))
    try:
        wait_until_it_answers(proxy, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pin(core: int) -> None:
    os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def awake(*cores: int) -> Iterator[None]:
    """Keeps cores from halting, with work that gives way to anything else."""

    def lowest(core: int) -> None:
        pin(core)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    spinning = [sys.executable, "-c", "while True: pass"]
    spinners = [subprocess.Popen(spinning, preexec_fn=lambda core=core: lowest(core)) for core in cores]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def wait_until_it_answers(proxy: Proxy, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{proxy.name} ended with {process.returncode}")
        try:
            if get(proxy.port, "/pass").startswith(b"HTTP/1.1 200"):
                return
        except OSError:
            pass
        time.sleep(0.0005)
    raise SystemExit(f"{proxy.name} does not answer")


def get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        return answer


# CPU per request.


def alternate(arguments: argparse.Namespace, proxies: list[Proxy], path: str) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {proxy.name: [] for proxy in proxies}
    for round_number in range(arguments.rounds):
        # Who is first changes, so that a machine that slows down does not favour one.
        for proxy in proxies if round_number % 2 == 0 else reversed(proxies):
            with running(proxy, arguments.proxy_core) as pid:
                costs[proxy.name].append(measure(arguments, proxy, pid, path))
    return costs


def measure(arguments: argparse.Namespace, proxy: Proxy, pid: int, path: str) -> Cost:
    load(arguments.load_core, proxy.port, path, 1)
    check(proxy, path)
    user, system = cpu_seconds(pid)
    requests = load(arguments.load_core, proxy.port, path, arguments.seconds)
    user_after, system_after = cpu_seconds(pid)
    per_request = 1e6 / requests
    return Cost(
        (user_after - user) * per_request, (system_after - system) * per_request, requests / arguments.seconds
    )


def check(proxy: Proxy, path: str) -> None:
    head, _, body = get(proxy.port, path).partition(b"\r\n\r\n")
    is_hit = re.search(rb"(?im)^cache-status:.*\bhit\b", head) is not None
    if body.decode() != BODY or is_hit != (path == "/hit"):
        raise SystemExit(f"{proxy.name} does not answer {path} as it should:\n{head.decode()}")


def load(core: int, port: int, path: str, seconds: int) -> int:
    """Runs wrk and gives the number of requests."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: pin(core))
    if "Socket errors" in result.stdout or "Non-2xx" in result.stdout:
        raise SystemExit(f"the load failed:\n{result.stdout}")
    return int(re.search(r"(\d+) requests in", result.stdout)[1])


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system time of a process and its children that live."""
    times = [stat(one)[11:13] for one in family(pid)]
    return sum(int(user) for user, _ in times) / TICK, sum(int(system) for _, system in times) / TICK


def family(pid: int) -> list[int]:
    def is_child(candidate: str) -> bool:
        try:
            return int(stat(int(candidate))[1]) == pid
        except FileNotFoundError:
            return False

    return [pid] + [int(name) for name in os.listdir("/proc") if name.isdigit() and is_child(name)]


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may have spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def show_costs(case: str, costs: dict[str, list[Cost]]) -> None:
    medians = {name: median_cost(runs) for name, runs in costs.items()}
    reference = medians["nginx"]
    print(f"| {case:<13} | CPU us/request | user | system | to nginx | user to nginx | requests/s |")
    print("|---|---|---|---|---|---|---|")
    for name, cost in medians.items():
        ratio, user_ratio = cost.total / reference.total, cost.user / reference.user
        print(
            f"| {name:<13} | {cost.total:.2f} | {cost.user:.2f} | {cost.system:.2f} "
            f"| {ratio:.2f} | {user_ratio:.2f} | {cost.rate:.0f} |"
        )
    print(flush=True)


def median_cost(runs: list[Cost]) -> Cost:
    middle = statistics.median
    return Cost(middle(run.user for run in runs), middle(run.system for run in runs), middle(run.rate for run in runs))


# Start, memory, size.


def show_footprint(arguments: argparse.Namespace, proxies: list[Proxy]) -> None:
    print("| footprint | start to first answer, ms | idle resident, MiB | binary, MiB |")
    print("|---|---|---|---|")
    for proxy in proxies:
        starts = []
        for _ in range(arguments.starts):
            started = time.perf_counter()
            with running(proxy, arguments.proxy_core) as pid:
                starts.append((time.perf_counter() - started) * 1000)
                if len(starts) == arguments.starts:
                    time.sleep(1)
                    resident = sum(resident_kib(one) for one in family(pid)) / 1024
        size = stripped_size(shutil.which(proxy.command[0]) or proxy.command[0]) / 2**20
        print(f"| {proxy.name} | {statistics.median(starts):.1f} | {resident:.1f} | {size:.1f} |", flush=True)


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def stripped_size(binary: str) -> int:
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "-o", stripped.name, binary], check=True)
        return os.stat(stripped.name).st_size


if __name__ == "__main__":
    sys.exit(main())

"""Drives an API through the sidecar with the clients that people really use.

    python drive.py httpx|openai|openai_stream|websockets --base-url URL [--admin URL --token TOKEN] [--direct]
    python drive.py grpc --target HOST:PORT [--direct]

The API is that of `app.py`, or `grpc_echo.py` for gRPC. Exits 0 if every check held and 1 if not, with a line for
each. `--direct` means that no sidecar is in between: what only a cache can do is left out, the rest must hold.
"""

import argparse
import sys

import grpc_checks
import httpx_checks
import openai_checks
import websockets_checks
from checks import Checks


def main() -> int:
    arguments = parse()
    checks = Checks()
    match arguments.client:
        case "httpx":
            httpx_checks.run(checks, arguments.base_url, arguments.admin, arguments.token, arguments.direct)
        case "openai":
            openai_checks.run(checks, arguments.base_url, arguments.direct)
        case "openai_stream":
            openai_checks.run_stream(checks, arguments.base_url)
        case "openai_replay":
            openai_checks.run_replay(checks, arguments.base_url)
        case "websockets":
            websockets_checks.run(checks, arguments.base_url)
        case "grpc":
            grpc_checks.run(checks, arguments.target)
    return checks.exit_code()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    clients = parser.add_subparsers(dest="client", required=True)
    for name in ("httpx", "openai", "openai_stream", "openai_replay", "websockets", "grpc"):
        client = clients.add_parser(name)
        client.add_argument("--direct", action="store_true", help="no sidecar in between")
        if name == "grpc":
            client.add_argument("--target", required=True, metavar="HOST:PORT")
        else:
            client.add_argument("--base-url", required=True, metavar="URL", type=lambda url: url.rstrip("/"))
        if name == "httpx":
            client.add_argument("--admin", metavar="URL", type=lambda url: url.rstrip("/"))
            client.add_argument("--token", help="of an operator or admin")
    arguments = parser.parse_args()
    if arguments.client == "httpx" and not arguments.direct and not (arguments.admin and arguments.token):
        parser.error("httpx through a sidecar needs --admin and --token")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

"""How the servers of the client tests say where they listen: one line `ready PORT` on standard output."""

import socket


def listen(port: int) -> socket.socket:
    """A socket bound to the loopback address; port 0 takes a free one."""
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without, each answer in two writes waits
    # for the client's delayed acknowledgement.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening


def ready(port: int) -> None:
    """To be called when connections are accepted."""
    print(f"ready {port}", flush=True)

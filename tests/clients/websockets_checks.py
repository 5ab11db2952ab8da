"""What the `websockets` library sees."""

import os

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from checks import Checks, expect, expect_equal

# Longest wait for one message, in seconds.
PATIENCE = 30
# Bytes of the largest message; uvicorn takes up to 16 MiB.
LARGE = 5 * 1024 * 1024


def run(checks: Checks, base_url: str) -> None:
    url = base_url.replace("http", "ws", 1)
    for check in CHECKS:
        checks.run(check, url)


def open_echo(url: str, **options) -> ClientConnection:
    return connect(f"{url}/ws/echo", open_timeout=PATIENCE, close_timeout=PATIENCE, max_size=None, **options)


def messages_of_both_kinds_come_back(url: str) -> None:
    with open_echo(url) as socket:
        for message in ("hello", "", "snow ☃ and \U0001f6f6", b"", b"\x00\xff" * 500):
            socket.send(message)
            expect_equal(socket.recv(timeout=PATIENCE), message, "echo")


def large_messages_come_back_with_and_without_compression(url: str) -> None:
    message = os.urandom(LARGE)
    for compression in ("deflate", None):
        with open_echo(url, compression=compression) as socket:
            socket.send(message)
            expect(socket.recv(timeout=PATIENCE) == message, f"another message came back (compression {compression})")


def fragments_are_one_message(url: str) -> None:
    with open_echo(url) as socket:
        socket.send(iter(["one ", "two ", "three"]))
        expect_equal(socket.recv(timeout=PATIENCE), "one two three", "echo")


def many_messages_keep_their_order(url: str) -> None:
    with open_echo(url) as socket:
        for number in range(500):
            socket.send(str(number))
        received = [socket.recv(timeout=PATIENCE) for _ in range(500)]
    expect_equal(received, [str(number) for number in range(500)], "echoes")


def a_ping_is_answered(url: str) -> None:
    with open_echo(url) as socket:
        expect(socket.ping(b"are you there?").wait(PATIENCE), "no pong came back")


def a_subprotocol_is_agreed_on(url: str) -> None:
    with open_echo(url, subprotocols=["chat.v2", "chat.v1"]) as socket:
        expect_equal(socket.subprotocol, "chat.v2", "subprotocol")


def the_servers_close_code_and_reason_arrive(url: str) -> None:
    with open_echo(url) as socket:
        socket.send("close 4001 enough of this")
        try:
            socket.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            expect(closed.rcvd is not None, "the connection ended without a close frame")
            expect_equal((closed.rcvd.code, closed.rcvd.reason), (4001, "enough of this"), "code and reason")
        else:
            expect(False, "the connection was not closed")


def the_clients_close_is_answered_in_kind(url: str) -> None:
    with open_echo(url) as socket:
        socket.close(1001, "going away")
        expect_equal((socket.close_code, socket.close_reason), (1001, "going away"), "code and reason")
        expect(socket.protocol.close_rcvd is not None, "the server did not answer the close frame")


def a_path_without_websocket_is_refused(url: str) -> None:
    try:
        connect(f"{url}/ws/nowhere", open_timeout=PATIENCE)
    except InvalidStatus as refused:
        expect(400 <= refused.response.status_code < 500, f"status {refused.response.status_code}")
    else:
        expect(False, "the connection was accepted")


CHECKS = [
    messages_of_both_kinds_come_back,
    large_messages_come_back_with_and_without_compression,
    fragments_are_one_message,
    many_messages_keep_their_order,
    a_ping_is_answered,
    a_subprotocol_is_agreed_on,
    the_servers_close_code_and_reason_arrive,
    the_clients_close_is_answered_in_kind,
    a_path_without_websocket_is_refused,
]

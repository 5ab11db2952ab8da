"""What a grpcio client sees of `grpc_echo.py`."""

import os
import queue

import grpc

from checks import Checks, expect, expect_equal
from grpc_echo import LARGEST, SERVICE

# Longest wait for one call, in seconds.
PATIENCE = 30
# Bytes of the large message.
LARGE = 6 * 1024 * 1024


def run(checks: Checks, target: str) -> None:
    limits = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
    with grpc.insecure_channel(target, options=limits) as channel:
        for check in CHECKS:
            checks.run(check, channel)


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def a_unary_call_carries_metadata_both_ways(channel: grpc.Channel) -> None:
    answer, call = channel.unary_unary(path("Unary")).with_call(
        b"hello", metadata=(("x-ask", "please"),), timeout=PATIENCE
    )
    expect_equal(answer, b"hello", "answer")
    expect_equal(dict(call.initial_metadata()).get("x-initial"), "please", "initial metadata")
    trailing = dict(call.trailing_metadata())
    expect_equal((trailing.get("x-trailing"), trailing.get("x-length-bin")), ("please", b"5"), "trailing metadata")
    expect_equal(call.code(), grpc.StatusCode.OK, "code")


def an_empty_and_a_large_message_come_back(channel: grpc.Channel) -> None:
    unary = channel.unary_unary(path("Unary"))
    expect_equal(unary(b"", timeout=PATIENCE), b"", "empty message")
    large = os.urandom(LARGE)
    expect(unary(large, timeout=PATIENCE) == large, "another large message came back")


def a_server_stream_arrives_in_order_with_its_trailers(channel: grpc.Channel) -> None:
    call = channel.unary_stream(path("Stream"))(b"1000", timeout=PATIENCE)
    expect_equal(list(call), [str(number).encode() for number in range(1000)], "messages")
    expect_equal(dict(call.trailing_metadata()).get("x-messages"), "1000", "trailing metadata")


def an_empty_server_stream_is_no_error(channel: grpc.Channel) -> None:
    call = channel.unary_stream(path("Stream"))(b"0", timeout=PATIENCE)
    expect_equal((list(call), call.code()), ([], grpc.StatusCode.OK), "messages and code")


def a_client_stream_arrives_whole(channel: grpc.Channel) -> None:
    answer = channel.stream_unary(path("Collect"))(iter([b"a", b"b", b"c"]), timeout=PATIENCE)
    expect_equal(answer, b"a,b,c", "answer")


def a_conversation_takes_turns(channel: grpc.Channel) -> None:
    """Each message is sent only after the echo of the one before, which a proxy that buffers cannot carry."""
    outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    call = channel.stream_stream(path("Talk"))(iter(outbox.get, None), timeout=PATIENCE)
    for number in range(50):
        message = f"turn {number}".encode()
        outbox.put(message)
        expect_equal(next(call), message, "echo")
    outbox.put(None)
    expect_equal(list(call), [], "messages after the last turn")
    expect_equal(dict(call.trailing_metadata()).get("x-messages"), "50", "trailing metadata")


def an_error_keeps_its_code_details_and_trailers(channel: grpc.Channel) -> None:
    try:
        channel.unary_unary(path("Fail"))("not today: äöü".encode(), timeout=PATIENCE)
    except grpc.RpcError as error:
        expect_equal(error.code(), grpc.StatusCode.FAILED_PRECONDITION, "code")
        expect_equal(error.details(), "not today: äöü", "details")
        expect_equal(dict(error.trailing_metadata()).get("x-why"), "asked for", "trailing metadata")
    else:
        expect(False, "the call did not fail")


def an_error_after_messages_arrives_after_them(channel: grpc.Channel) -> None:
    call = channel.unary_stream(path("BreakOff"))(b"", timeout=PATIENCE)
    expect_equal([next(call), next(call)], [b"one", b"two"], "messages")
    try:
        next(call)
    except grpc.RpcError as error:
        expect_equal((error.code(), error.details()), (grpc.StatusCode.DATA_LOSS, "lost the rest"), "error")
    else:
        expect(False, "the stream did not fail")


def an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    try:
        channel.unary_unary(path("Nowhere"))(b"", timeout=PATIENCE)
    except grpc.RpcError as error:
        expect_equal(error.code(), grpc.StatusCode.UNIMPLEMENTED, "code")
    else:
        expect(False, "an unknown method answered")


def a_call_given_up_is_cancelled_at_the_server(channel: grpc.Channel) -> None:
    try:
        channel.unary_unary(path("Hang"))(b"", timeout=0.5)
    except grpc.RpcError as error:
        expect_equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "code")
    else:
        expect(False, "the hanging call answered")
    answer = channel.unary_unary(path("AwaitHangUp"))(b"", timeout=PATIENCE)
    expect_equal(answer, b"gone", "the client, as the server sees it")


CHECKS = [
    a_unary_call_carries_metadata_both_ways,
    an_empty_and_a_large_message_come_back,
    a_server_stream_arrives_in_order_with_its_trailers,
    an_empty_server_stream_is_no_error,
    a_client_stream_arrives_whole,
    a_conversation_takes_turns,
    an_error_keeps_its_code_details_and_trailers,
    an_error_after_messages_arrives_after_them,
    an_unknown_method_is_unimplemented,
    a_call_given_up_is_cancelled_at_the_server,
]

"""A gRPC server made with grpcio. Messages are plain bytes, so that no generated code is needed.

    python grpc_echo.py [--port PORT]

prints `ready PORT` on standard output once it accepts connections, and ends on SIGTERM.
"""

import argparse
import signal
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc

import announce

SERVICE = "outrigger.tests.Echo"
# Bytes of the largest message.
LARGEST = 32 * 1024 * 1024


class Echo:
    """The methods of the service."""

    def __init__(self) -> None:
        self.hung_up = threading.Event()

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """The same bytes; metadata comes back as initial and as trailing metadata."""
        sent = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-initial", sent.get("x-ask", "")),))
        context.set_trailing_metadata((("x-trailing", sent.get("x-ask", "")), ("x-length-bin", str(len(request)).encode())))
        return request

    def stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """As many messages as the request says, then their number as a trailer."""
        number = int(request)
        for index in range(number):
            yield str(index).encode()
        context.set_trailing_metadata((("x-messages", str(number)),))

    def collect(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """All messages of the client in one."""
        return b",".join(requests)

    def talk(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Each message as it comes."""
        count = 0
        for request in requests:
            count += 1
            yield request
        context.set_trailing_metadata((("x-messages", str(count)),))

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """An error with details and metadata, before any message."""
        context.set_trailing_metadata((("x-why", "asked for"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())

    def break_off(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """An error after two messages."""
        yield b"one"
        yield b"two"
        context.abort(grpc.StatusCode.DATA_LOSS, "lost the rest")

    def hang(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Never answers; notes that the client has gone."""
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait()
        self.hung_up.set()
        return b""

    def await_hang_up(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Waits for the client of `Hang` to be gone; answers whether it is."""
        return b"gone" if self.hung_up.wait(timeout=10) else b"still there"


def handlers(echo: Echo) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Unary": grpc.unary_unary_rpc_method_handler(echo.unary),
            "Stream": grpc.unary_stream_rpc_method_handler(echo.stream),
            "Collect": grpc.stream_unary_rpc_method_handler(echo.collect),
            "Talk": grpc.stream_stream_rpc_method_handler(echo.talk),
            "Fail": grpc.unary_unary_rpc_method_handler(echo.fail),
            "BreakOff": grpc.unary_stream_rpc_method_handler(echo.break_off),
            "Hang": grpc.unary_unary_rpc_method_handler(echo.hang),
            "AwaitHangUp": grpc.unary_unary_rpc_method_handler(echo.await_hang_up),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()

    limits = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=limits)
    server.add_generic_rpc_handlers((handlers(Echo()),))
    port = server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=1))
    server.start()
    announce.ready(port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()

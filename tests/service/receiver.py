"""Somebody who is told: a real HTTP server on this machine that keeps what it was sent, and answers as it is told to.

Signatures are judged by OpenAI's own client, which shares nothing with what made them.
"""

import http.server
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

import msgspec
import openai

Decide: TypeAlias = Callable[[int], int | tuple[int, dict[str, str]]]
"""The status that a message is answered with, and perhaps headers."""


class Got(msgspec.Struct, frozen=True):
    """One message."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """What was received; `answer` decides on each message, by its number from 0."""

    def __init__(self, answer: Decide) -> None:
        self.got: list[Got] = []
        self.answer: Decide = answer
        self.connections = 0
        self.url = ""
        self.port = 0
        self._lock = threading.Lock()

    def ids(self) -> list[str]:
        return [one.id for one in self.got]

    def take(self, one: Got) -> tuple[int, dict[str, str]]:
        with self._lock:
            number = len(self.got)
            self.got.append(one)
        answer = self.answer(number)
        return (answer, {}) if isinstance(answer, int) else answer


def unwrapped(secret: str, got: Got) -> Any:
    """The event of a message, if it was signed with this secret just now; else openai.InvalidWebhookSignatureError."""
    with openai.OpenAI(api_key="k", webhook_secret=secret) as client:
        return client.webhooks.unwrap(got.body, got.headers)


def soon(happened: Callable[[], object], seconds: float = 15.0) -> None:
    """Until it has happened."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@contextmanager
def receiving(
    answer: Decide = lambda _number: 200,
    *,
    tls: ssl.SSLContext | None = None,
) -> Generator[Receiver]:
    receiver = Receiver(answer)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more = receiver.take(Got(self.path, headers, body, time.time()))
            try:
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                # Whoever sent it did not wait for the answer.
                self.close_connection = True

        def do_GET(self) -> None:
            receiver.got.append(Got(self.path, {}, b"GET", time.time()))
            self.send_error(405)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name for it
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> Any:
            receiver.connections += 1
            return super().get_request()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A connection that breaks is part of the exercise."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_address[1]
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{receiver.port}/hooks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

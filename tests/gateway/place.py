"""A provider that answers as a test says: a server on a free port, which keeps what it was sent."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import msgspec

Script = Callable[["Sent"], Iterable[bytes]]
"""What is answered to a call, in pieces. When there are no more, the connection ends."""


class Sent(msgspec.Struct):
    """A call as it came in. `gone` tells whether its caller has hung up."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: Callable[[], bool]


class Place:
    """Use as a context manager. One connection serves one call."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.sent: list[Sent] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(lambda connection=connection: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            line = stream.readline().decode()
            if not line:
                return
            method, path, _ = line.split(" ", 2)
            headers: dict[str, str] = {}
            while (line := stream.readline().decode("latin-1").strip()) != "":
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", "0")))
            sent = Sent(method, path, headers, body, lambda: _gone(connection))
            self.sent.append(sent)
            try:
                for piece in self.script(sent):
                    connection.sendall(piece)
            except OSError:
                return


def _gone(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def reply(status: int, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    """A whole answer, after which the connection ends."""
    head = [
        f"HTTP/1.1 {status} Told",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


def stream(*events: bytes) -> Iterator[bytes]:
    """A stream of events, each on its way by itself."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    for event in events:
        yield event
        time.sleep(0.01)


def chunked(events: Iterable[bytes], *, whole: bool = True) -> Iterator[bytes]:
    """A stream of events as HTTP frames it; without its end, where it is not `whole`, it has been cut off."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for event in events:
        yield b"%x\r\n%b\r\n" % (len(event), event)
    if whole:
        yield b"0\r\n\r\n"


def event(document: Mapping[str, Any]) -> bytes:
    """A server-sent event, with a name where Anthropic gives it one."""
    name = f"event: {document['type']}\n" if "type" in document else ""
    return f"{name}data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()

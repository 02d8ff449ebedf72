"""A server of bytes: what it answers, and when it hangs up, is for the test to say."""

import socket
import struct
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import NamedTuple

HANG_UP = b""
"""Instead of a reply: the connection is closed."""
RESET = b"\0reset"
"""Instead of a reply: the connection is reset."""


class Asked(NamedTuple):
    """One request: on which connection it came, and as which of all."""

    connection: int
    number: int
    head: str
    body: bytes


def reply(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Wire:
    """Serves in threads of its own."""

    def __init__(self, answer: Callable[[Asked], bytes], *, idle: float | None = None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.closed = threading.Event()
        """A client has hung up."""
        self._answer = answer
        self._idle = idle
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=300)
        self._open: list[socket.socket] = []
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """Close every connection from this side, as a server does with those that idle."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open.clear()

    def close(self) -> None:
        # Whoever waits in `accept` would keep the port open.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.hang_up()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.append(client)
                number = self.connections
            threading.Thread(target=self._serve, args=(client, number), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with suppress(OSError):
            client.settimeout(self._idle)
            while (asked := self._read(client, number)) is not None:
                data = self._answer(asked)
                if data == RESET:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if data in {HANG_UP, RESET}:
                    break
                client.sendall(data)
        client.close()
        self.closed.set()

    def _read(self, client: socket.socket, number: int) -> Asked | None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(65536)
            if not part:
                return None
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        length = next(
            (
                int(line.split(":")[1])
                for line in text.split("\r\n")
                if line.lower().startswith("content-length")
            ),
            0,
        )
        while len(body) < length:
            part = client.recv(1 << 20)
            if not part:
                return None
            body += part
        with self._lock:
            asked = Asked(number, len(self.asked), text, body)
            self.asked.append(asked)
        return asked


@contextmanager
def wire(answer: Callable[[Asked], bytes], *, idle: float | None = None) -> Generator[Wire]:
    server = Wire(answer, idle=idle)
    try:
        yield server
    finally:
        server.close()

"""A stretch of network between a client and its server, which can be cut at a chosen place."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_COMMIT = b"COMMIT\x00"


class Wire:
    """Passes bytes on between clients of `port` and a PostgreSQL server. Use as a context manager.

    `cut_commits` answers, for each COMMIT that a client sends: None (let it be), "before" (the connection breaks
    before the server has seen it) or "after" (the server has answered, and the client never hears of it).
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self.cut_commits: Callable[[], str | None] = lambda: None
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            _hang_up(end)
        for thread in self._threads:
            thread.join()
        for end in self._open:
            end.close()

    def url(self, url: str) -> str:
        """A server's URL, by way of this wire."""
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}"))

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                try:
                    server = socket.create_connection(("127.0.0.1", self._server))
                except OSError:
                    _hang_up(client)
                    continue
                self._open.append(server)
                deaf = threading.Event()
                self._start(self._to_server, client, server, deaf)
                self._start(self._to_client, client, server, deaf)

    def _to_server(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                cut = self.cut_commits() if data.endswith(_COMMIT) else None
                if cut == "before":
                    break
                if cut == "after":
                    deaf.set()
                server.sendall(data)
        for end in (client, server):
            if not deaf.is_set():
                _hang_up(end)

    def _to_client(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while (data := server.recv(65536)) and not deaf.is_set():
                client.sendall(data)
        _hang_up(client)
        _hang_up(server)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

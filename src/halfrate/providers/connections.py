"""Connections: which can be taken up again, how one is hung up under whoever waits on it, and proxies."""

import http.client
import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Final
from urllib.parse import SplitResult, urlsplit

_FRESH: Final = 5.0
"""Seconds after which an idle connection is not trusted with a paid call. Servers close theirs after a minute or so,
and one that is closed while a request is on its way loses the reply."""
_OLD: Final = 60.0
"""Seconds after which an idle connection is let go: the other side has most likely done so."""
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))


class Idle:
    """Connections that nobody uses. For use by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[http.client.HTTPConnection, float]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, connection: http.client.HTTPConnection) -> None:
        """Keep one; what has been kept for long is let go."""
        now = time.monotonic()
        with self._lock:
            old = 0
            while old < len(self._kept) and self._kept[old][1] < now - _OLD:
                old += 1
            gone, self._kept = self._kept[:old], [*self._kept[old:], (connection, now)]
        for one, _ in gone:
            one.close()

    def take(self, *, trusted: bool) -> http.client.HTTPConnection | None:
        """The one that was used last, or None. `trusted`: one that is certain to be there still; those that are
        not are let go."""
        oldest = time.monotonic() - _FRESH
        while True:
            with self._lock:
                if not self._kept:
                    return None
                connection, since = self._kept.pop()
            if not trusted or (since >= oldest and not spoke_up(connection)):
                return connection
            connection.close()

    def close(self) -> None:
        with self._lock:
            kept, self._kept = self._kept, []
        for connection, _ in kept:
            connection.close()


class Line:
    """The connection that one realtime call is on, so that somebody else can hang up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._hung_up = False

    def take(self, connection: http.client.HTTPConnection) -> bool:
        """Whether the call may go out on it."""
        with self._lock:
            self._connection = connection
            return not self._hung_up

    def release(self) -> None:
        """The connection is somebody else's from now on."""
        with self._lock:
            self._connection = None

    def hang_up(self) -> None:
        with self._lock:
            self._hung_up = True
            plug = _socket_of(self._connection) if self._connection is not None else None
            if plug is not None:
                with suppress(OSError):
                    # Past TLS, which its own thread is in the midst of.
                    socket.socket.shutdown(plug, socket.SHUT_RDWR)


def _socket_of(connection: http.client.HTTPConnection) -> socket.socket | None:
    """The connection's socket, where it has a real one."""
    found: object = connection.sock
    return found if isinstance(found, socket.socket) else None


def keep_alive(connection: http.client.HTTPConnection) -> None:
    """Have the kernel ask now and then whether the other side is there. A model may think for many minutes, in
    which nothing is sent, and what lies between (NAT, firewalls) forgets connections on which nothing is."""
    plug = _socket_of(connection)
    if plug is None:
        return
    with suppress(OSError):
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):
                plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def spoke_up(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has sent something on an idle connection: it has closed it, or is out of step."""
    plug = _socket_of(connection)
    if plug is None:
        return False
    poll = select.poll()
    poll.register(plug, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def proxy_for(url: SplitResult) -> tuple[str, int] | None:
    """The proxy that the environment names for this URL, as (host, port)."""
    # Importing what knows all about proxies takes longer than asking whether there is one.
    if not any(name.lower().endswith("_proxy") and name.lower() != "no_proxy" for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(url.hostname or ""):
        return None
    named = getproxies().get(url.scheme)
    if not named:
        return None
    parts = urlsplit(named if "//" in named else f"//{named}")
    return (parts.hostname, parts.port or 8080) if parts.hostname else None

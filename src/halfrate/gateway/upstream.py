"""Calls to a provider in real time: HTTP/1.1 over connections that are kept.

A gateway's own work on a call should be little beside the call's way through it, and a general client costs several
times what all the rest of the gateway does. This one knows what a gateway needs and no more: a request with a body that
is there whole, a response that is passed on as it comes, and to say for certain whether a request can have left.

    NotSent        nothing of the request left this machine: it may be sent again, or elsewhere
    Lost           it may have arrived, and nobody knows what became of it
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

Headers = Sequence[tuple[bytes, bytes]]

_HIGH: Final = 1 << 18
"""Bytes of a response that wait to be passed on, before no more of it is read."""
_IDLE: Final = 55.0
"""Seconds after which an unused connection is let go: most servers close theirs after a minute."""
_HEAD: Final = 1 << 16
"""Bytes of a response's headers, at most."""
_FORBIDDEN: Final = frozenset(b"\r\n\0")


class NotSent(Exception):
    """No connection was made, or it broke before anything was written."""


class Lost(Exception):
    """The connection broke, or took too long, after the request had begun to leave."""


class Response:
    """A response whose head is there. Read it to its end, or close it: its connection waits for that."""

    def __init__(self, line: "_Line", status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._line = line
        self._over = False
        self.status = status
        self.headers = headers

    async def chunk(self) -> bytes:
        """What has come of the body since the last time, as soon as there is something; b"" at its end.

        Raises Lost where the connection breaks before that.
        """
        if self._over:
            # The connection may be on another's business by now.
            return b""
        data = await self._line.chunk()
        self._over = not data
        return data

    async def read(self, limit: int) -> bytes:
        """All of the body. Raises Lost, also for one of more than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while part := await self.chunk():
            size += len(part)
            if size > limit:
                self.close()
                raise Lost(f"the answer is larger than {limit:,} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Hang up, unless the body was read to its end: the connection is another's by then."""
        self._line.drop(self)


class Upstream:
    """Connections to one place.

    Args:
        url: where it is; paths of requests are put behind its own.
        most: connections at a time. Who finds none free waits.
        connect: seconds for a connection to be made.
    """

    def __init__(
        self,
        url: str,
        *,
        most: int = 1_000,
        connect: float = 10.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server")
        self._host = parts.hostname
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._context = context
        self._path = parts.path.rstrip("/").encode()
        self._connect = connect
        self._named = parts.netloc.rpartition("@")[2].encode()
        self._room = asyncio.Semaphore(most)
        self._idle: deque[tuple[_Line, float]] = deque()
        self._lines: set[_Line] = set()

    async def send(self, method: bytes, path: bytes, head: bytes, body: bytes, *, seconds: float) -> Response:
        """Send a request, once. `head`: its headers, as of `encoded`. `seconds`: for the head of the response, and for
        each wait on its body.

        Raises NotSent or Lost. A caller that is cancelled hangs up.
        """
        request = b"%b %b%b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            method, self._path, path, self._named, head, len(body), body,
        )  # fmt: skip
        await self._room.acquire()
        try:
            line = self._kept() or await self._connected()
            line.lease(self._room)
        except BaseException:
            self._room.release()
            raise
        try:
            return await line.ask(request, seconds)
        except BaseException:
            line.hang_up()
            raise

    def close(self) -> None:
        """Hang up on everything."""
        for line in list(self._lines):
            line.hang_up()
        self._idle.clear()

    def _kept(self) -> "_Line | None":
        """The connection that was used last, if it is still there."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            line, since = self._idle.pop()
            if line.alive and now - since < _IDLE:
                return line
            line.hang_up()
        return None

    async def _connected(self) -> "_Line":
        loop = asyncio.get_running_loop()
        context = None
        if self._secure:
            context = self._context = self._context or ssl.create_default_context()
        try:
            async with asyncio.timeout(self._connect):
                _, line = await loop.create_connection(
                    lambda: _Line(self),
                    self._host,
                    self._port,
                    ssl=context,
                    server_hostname=self._host if context is not None else None,
                )
        except TimeoutError:
            raise NotSent(f"no connection to {self._host} within {self._connect:g} s") from None
        except (OSError, ssl.SSLError) as error:
            raise NotSent(f"no connection to {self._host}: {error}") from error
        self._lines.add(line)
        return line

    def keep(self, line: "_Line") -> None:
        """A connection is free again."""
        self._idle.append((line, asyncio.get_running_loop().time()))

    def gone(self, line: "_Line") -> None:
        """A connection has ended."""
        self._lines.discard(line)


class _Line(asyncio.Protocol):
    """One connection, with at most one request on it at a time."""

    def __init__(self, owner: Upstream) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._room: asyncio.Semaphore | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = 0.0
        self._reset()
        self.alive = True

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._complete = False
        self._lasting = False
        self._asked = False
        self._why = ""
        self._response: Response | None = None
        self._head: asyncio.Future[Response] | None = None
        self._more: asyncio.Future[None] | None = None

    # ------------------------------------------------------------ what callers do

    def lease(self, room: asyncio.Semaphore) -> None:
        """The connection is somebody's now, who has taken one of the places there are."""
        self._room = room

    async def ask(self, request: bytes, seconds: float) -> Response:
        """Write a request and wait for the head of its response."""
        if self._transport is None or not self.alive:
            raise NotSent("the connection was closed")
        self._asked = True
        self._seconds = seconds
        self._head = self._loop.create_future()
        self._timer = self._loop.call_later(seconds, self._late)
        self._transport.write(request)
        return await self._head

    async def chunk(self) -> bytes:
        while not self._chunks:
            if self._complete:
                self._done()
                return b""
            if not self.alive:
                raise Lost(self._why or "the connection broke in the middle of the answer")
            self._more = self._loop.create_future()
            self._timer = self._loop.call_later(self._seconds, self._late)
            try:
                await self._more
            finally:
                self._quiet()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._waiting = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def drop(self, response: Response) -> None:
        if self._response is response:
            self.hang_up()

    def hang_up(self) -> None:
        self.alive = False
        self._free()
        self._owner.gone(self)
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ what the network does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._asked:
            # Something that nobody asked for: the other side is out of step, or says that it closes.
            self.hang_up()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._broken(f"the answer is no HTTP: {error}")

    def eof_received(self) -> bool:
        if self._asked and self._response is not None and not self._complete:
            # A body without a length ends with its connection.
            if self._lasting:
                self._broken("the connection ended in the middle of the answer")
            else:
                self._ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._owner.gone(self)
        if self._asked and not self._complete:
            self._broken(str(exc) if exc is not None else "the connection was closed before the answer")

    # ------------------------------------------------------------ what the parser finds

    def on_message_begin(self) -> None:
        if self._response is not None:
            self._broken("two answers came to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > _HEAD:
            self._broken("the answer's headers are too large")
            return
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            # Something in advance, as 100 or 103.
            self._headers.clear()
            return
        # Asked later, the parser would speak of an answer that it has not seen.
        self._lasting = self._parser.should_keep_alive()
        self._response = Response(self, status, self._headers)
        self._quiet()
        if self._head is not None and not self._head.done():
            self._head.set_result(self._response)

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._chunks.append(body)
        self._waiting += len(body)
        if self._waiting > _HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self._response is None:
            return
        self._ended()

    # ------------------------------------------------------------ parts

    def _ended(self) -> None:
        self._complete = True
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._broken(f"nothing came for {self._seconds:g} s")

    def _broken(self, why: str) -> None:
        self._quiet()
        self._why = self._why or why
        self.alive = False
        if self._head is not None and not self._head.done():
            self._head.set_exception(Lost(self._why))
        self._wake()
        self.hang_up()

    def _free(self) -> None:
        """Give back the place that was taken for a request."""
        self._quiet()
        room, self._room = self._room, None
        if room is not None:
            room.release()

    def _done(self) -> None:
        """The response was read to its end."""
        if self._response is None:
            return
        reusable = self.alive and self._lasting
        self._free()
        if reusable:
            self._reset()
            self._owner.keep(self)
        else:
            self._response = None
            self.hang_up()


def encoded(headers: Headers) -> bytes:
    """The lines of headers. Raises NotSent for one that would bring others with it."""
    for name, value in headers:
        if not _FORBIDDEN.isdisjoint(name) or not _FORBIDDEN.isdisjoint(value):
            raise NotSent(f"the header {name.decode('latin-1')!r} cannot be sent")
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)

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

from halfrate.gateway.outbox import outbox_of

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

    __slots__ = ("_line", "_over", "headers", "status")

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
        if not self._over:
            whole = self._line.whole(limit)
            if whole is not None:
                self._over = True
                return whole
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
        self._most = self._places = most
        self._in_line: deque[asyncio.Future[None]] = deque()
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
        if self._places:
            self._places -= 1
        else:
            await self._place()
        try:
            line = self._kept() or await self._connected()
        except BaseException:
            self.release()
            raise
        try:
            return await line.ask(request, seconds)
        except BaseException:
            line.hang_up()
            raise

    async def _place(self) -> None:
        """Wait for one of the places there are."""
        turn = asyncio.get_running_loop().create_future()
        self._in_line.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # It had come, and nobody takes it.
                self.release()
            raise

    def release(self) -> None:
        """A place is free: whoever waits first has it."""
        while self._in_line:
            turn = self._in_line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._places += 1

    @property
    def under_way(self) -> int:
        """Requests that were sent, or are about to be, and whose answer is not read."""
        return self._most - self._places

    def close(self) -> None:
        """Hang up on everything."""
        for line in list(self._lines):
            line.hang_up()
        self._idle.clear()

    def _kept(self) -> "_Line | None":
        """The connection that was used last, if it is still there."""
        while self._idle:
            line, since = self._idle.pop()
            if line.alive and line.loop.time() - since < _IDLE:
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
        self._idle.append((line, line.loop.time()))

    def gone(self, line: "_Line") -> None:
        """A connection has ended."""
        self._lines.discard(line)


class _Line(asyncio.Protocol):
    """One connection, with at most one request on it at a time."""

    def __init__(self, owner: Upstream) -> None:
        self.loop = asyncio.get_running_loop()
        self.alive = True
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._outbox = outbox_of(self.loop)
        self._parser = httptools.HttpResponseParser(self)
        self._asked = False
        self._placed = False
        self._seconds = 0.0
        self._late_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._why = ""
        # Of one response; see `_done`.
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._head: asyncio.Future[Response] | None = None
        self._response: Response | None = None
        self._lasting = False
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._more: asyncio.Future[None] | None = None
        self._complete = False

    # ------------------------------------------------------------ what callers do

    def ask(self, request: bytes, seconds: float) -> "asyncio.Future[Response]":
        """Write a request; the head of its response, once it is there. Raises NotSent.

        The connection is taken by that, with the place that its caller has.
        """
        self._asked = self._placed = True
        if self._transport is None or not self.alive:
            raise NotSent("the connection was closed")
        self._seconds = seconds
        self._head = self.loop.create_future()
        self._expect()
        self._outbox.write(self._transport, request, self._owner.under_way)
        return self._head

    async def chunk(self) -> bytes:
        while not self._chunks:
            if self._complete:
                self._done()
                return b""
            if not self.alive:
                raise Lost(self._why or "the connection broke in the middle of the answer")
            self._more = self.loop.create_future()
            self._expect()
            try:
                await self._more
            finally:
                self._late_at = 0.0
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        self._waiting = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def whole(self, limit: int) -> bytes | None:
        """All of the body, where it is there already and nothing of it was taken; it is read to its end by that."""
        if not self._complete or self._paused or self._waiting > limit:
            return None
        chunks = self._chunks
        self._done()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def drop(self, response: Response) -> None:
        if self._response is response:
            self.hang_up()

    def hang_up(self) -> None:
        self._free()
        self._dead()
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
        if self._response is None:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._broken(f"the answer is no HTTP: {error}")
        else:
            if self._response is None and self._head_size > _HEAD:
                self._broken("the answer's headers are too large")

    def eof_received(self) -> bool:
        if self._asked and self._response is not None and not self._complete:
            # A body without a length ends with its connection.
            if self._lasting:
                self._broken("the connection ended in the middle of the answer")
            else:
                self._ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._dead()
        if self._asked and not self._complete:
            self._broken(str(exc) if exc is not None else "the connection was closed before the answer")

    # ------------------------------------------------------------ what the parser finds

    def on_message_begin(self) -> None:
        if self._response is not None:
            self._broken("two answers came to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            # Something in advance, as 100 or 103.
            self._headers = []
            return
        # Asked later, the parser would speak of an answer that it has not seen.
        self._lasting = self._parser.should_keep_alive()
        headers, self._headers = self._headers, []
        # Of what came until now a part may be of the body.
        if self._head_size > _HEAD and sum(len(name) + len(value) for name, value in headers) > _HEAD:
            self._broken("the answer's headers are too large")
            return
        response = self._response = Response(self, status, headers)
        self._late_at = 0.0
        if self._head is not None and not self._head.done():
            self._head.set_result(response)

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._chunks.append(body)
        self._waiting += len(body)
        if self._waiting > _HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._more is not None:
            self._wake()

    def on_message_complete(self) -> None:
        if self._response is not None:
            self._ended()

    # ------------------------------------------------------------ parts

    def _ended(self) -> None:
        self._complete = True
        if self._more is not None:
            self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _expect(self) -> None:
        """From now on something is to come within so many seconds.

        A timer that is set and taken back costs more than the rest of this file. So one is left where it is, and asks
        when it goes off what is waited for then.
        """
        self._late_at = late_at = self.loop.time() + self._seconds
        if self._alarm is not None:
            if self._alarm_at <= late_at:
                return
            self._alarm.cancel()
        self._alarm_at = late_at
        self._alarm = self.loop.call_at(late_at, self._look)

    def _look(self) -> None:
        self._alarm = None
        if not self._late_at:
            return
        if self._late_at <= self._alarm_at:
            self._broken(f"nothing came for {self._seconds:g} s")
        else:
            self._alarm_at = self._late_at
            self._alarm = self.loop.call_at(self._late_at, self._look)

    def _broken(self, why: str) -> None:
        self._why = self._why or why
        self.alive = False
        if self._head is not None and not self._head.done():
            self._head.set_exception(Lost(self._why))
        self._wake()
        self.hang_up()

    def _dead(self) -> None:
        self.alive = False
        self._owner.gone(self)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _free(self) -> None:
        """Give back the place that was taken for a request."""
        self._late_at = 0.0
        if self._placed:
            self._placed = False
            self._owner.release()

    def _done(self) -> None:
        """The response was read to its end."""
        if self._response is None:
            return
        self._response = None
        if not (self.alive and self._lasting):
            self.hang_up()
            return
        self._headers = []
        self._head_size = 0
        self._chunks = []
        self._waiting = 0
        self._more = None
        self._complete = False
        self._asked = False
        self._free()
        self._owner.keep(self)


def encoded(headers: Headers) -> bytes:
    """The lines of headers. Raises NotSent for one that would bring others with it."""
    for name, value in headers:
        if not _FORBIDDEN.isdisjoint(name) or not _FORBIDDEN.isdisjoint(value):
            raise NotSent(f"the header {name.decode('latin-1')!r} cannot be sent")
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)

"""HTTP/1.1 between callers and an ASGI application, in as few steps as that takes.

uvicorn's own protocol makes a dozen objects a call, writes the head of a reply and its body one after the other, and
sets a timer each time: for the short calls that a gateway answers, that is a good part of all its work. This one is put
in its place. uvicorn still listens, starts and ends; the parser is the same (httptools, which is Node's llhttp).

One connection has one exchange at a time: a call, and its reply. Calls that come before the reply to the one before is
written wait in line, and nothing more is read meanwhile. Behind a call that makes no sense nothing is read any more, as
nobody knows where the next begins.
"""

import asyncio
import functools
import http
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Message, Scope
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from halfrate.gateway.outbox import outbox_of

Headers = list[tuple[bytes, bytes]]

_HIGH: Final = 1 << 16
"""Bytes of a body that wait to be taken, before no more of it is read."""
_HEAD: Final = 1 << 17
"""Bytes of a call's first line and headers, at most, where they come in several pieces."""
_USUAL: Final = 128
"""Bytes of a URL that is remembered. Longer ones are not: whoever has no key can send them too."""
_SMALL: Final = 1 << 16
"""Bytes of a body that are quicker copied behind their head than written by themselves."""
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in http.HTTPStatus
}
_header: Final = b": ".join
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS: Final = frozenset({204, 304})
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_log = logging.getLogger("uvicorn.error")


class Http(asyncio.Protocol):
    """One connection. uvicorn's server makes it, and ends it by `shutdown`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app = cast("ASGIApp", config.loaded_app)
        self.loop = _loop or asyncio.get_running_loop()
        self.server = server_state
        self.transport = cast("asyncio.Transport", None)
        self._outbox = outbox_of(self.loop)
        self.full = False
        """Whether more was written than has left."""
        self._app_state = app_state
        self._keep_alive: float = config.timeout_keep_alive
        self._connection: Scope = {}
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: Headers = []
        self._head_size = 0
        self._read: Exchange | None = None
        self._answered: Exchange | None = None
        self._in_line: deque[Exchange] = deque()
        self._deaf = False
        """Whether what begins from now on is no call."""
        self._reading = True
        self._drained: asyncio.Future[None] | None = None
        self._rests_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ what the network does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.connections.add(cast("Any", self))
        self._connection = {
            "type": "http",
            "asgi": _ASGI,
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "scheme": "https" if is_ssl(self.transport) else "http",
            "root_path": "",
        }

    def data_received(self, data: bytes) -> None:
        if self._deaf and self._read is None:
            return
        self._rests_since = 0.0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # It is answered as if it had not asked for that (RFC 9110, 7.8); what follows may be no HTTP.
            self._hear_no_more()
        except httptools.HttpParserError:
            self._misunderstood(400, b"Invalid HTTP request received.")
        else:
            if self._headers or self._url:
                # A head that has begun, or headers behind a body in pieces.
                self._head_size += len(data)
                if self._head_size > _HEAD:
                    self._misunderstood(431, b"The headers are too large.")

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(cast("Any", self))
        self._deaf = True
        if self._timer is not None:
            self._timer.cancel()
        if self._answered is not None:
            self._answered.leave()
        self._in_line.clear()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # ------------------------------------------------------------ what the parser finds

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        url, self._url = self._url, b""
        # What comes behind a body in pieces comes too late to be believed.
        headers, self._headers = self._headers, []
        self._head_size = 0
        if self._deaf:
            return
        parser = self._parser
        version = parser.get_http_version()
        path, raw_path, query = _usual_place(url) if len(url) <= _USUAL else _place(url)
        scope: Scope = {
            **self._connection,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": self._app_state.copy(),
        }
        exchange = self._read = Exchange(self, scope)
        if version != "1.1" or not parser.should_keep_alive():
            # It is the last, whatever comes behind it.
            exchange.lasting = False
            self._deaf = True
        if self._answered is None:
            self._answer(exchange)
        else:
            self._in_line.append(exchange)
            self.pause_reading()

    def on_body(self, body: bytes) -> None:
        if self._read is not None:
            self._read.take(body)

    def on_message_complete(self) -> None:
        exchange = self._read
        if exchange is not None:
            self._read = None
            exchange.have_all()
        if self._headers:
            self._headers = []

    # ------------------------------------------------------------ what exchanges do

    def pause_reading(self) -> None:
        if self._reading and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Write at once, behind what waits to be written."""
        self._outbox.flush()
        self.transport.write(data)

    def write_soon(self, data: bytes) -> None:
        """Write the end of a reply."""
        self._outbox.write(self.transport, data, len(self.server.tasks))

    def close(self) -> None:
        """End the connection when all is written."""
        self._outbox.flush()
        self.transport.close()

    async def drained(self) -> None:
        """Until enough has left of what was written, or the caller has gone."""
        while self.full:
            if self._drained is None or self._drained.done():
                self._drained = self.loop.create_future()
            await self._drained

    def over(self, exchange: "Exchange") -> None:
        """A reply is written: the next, if that is there."""
        self._answered = None
        if not exchange.lasting:
            self.close()
        elif self._in_line:
            self._answer(self._in_line.popleft())
        else:
            self.resume_reading()
            self._rest()

    # ------------------------------------------------------------ what uvicorn does

    def shutdown(self) -> None:
        """End when what is under way is answered."""
        if self._answered is None:
            self.close()
        else:
            self._hear_no_more()

    # ------------------------------------------------------------ parts

    def _answer(self, exchange: "Exchange") -> None:
        self._answered = exchange
        exchange.task = self.loop.create_task(exchange.run())
        self.server.tasks.add(exchange.task)

    def _hear_no_more(self) -> None:
        """The calls that are there are answered, and the connection ends with the last of them."""
        self._deaf = True
        last = self._in_line[-1] if self._in_line else self._answered
        if last is not None:
            last.lasting = False

    def _misunderstood(self, status: int, why: bytes) -> None:
        exchange, self._read = self._read, None
        if exchange is not None:
            # The rest of its body cannot be told from anything else.
            exchange.leave()
            if exchange in self._in_line:
                self._in_line.remove(exchange)
        if self._answered is not None and self._answered is not exchange:
            self._hear_no_more()
            return
        self._deaf = True
        if exchange is None or not exchange.begun:
            lines = (
                _STATUS_LINES[status],
                b"content-type: text/plain; charset=utf-8",
                b"content-length: %d" % len(why),
                b"connection: close",
            )
            self.write(b"\r\n".join((*lines, b"", why)))
        self.close()

    def _rest(self) -> None:
        """Wait for the next call, but not for ever. One timer is set at a time, which asks how long it was quiet."""
        self._rests_since = self.loop.time()
        if self._timer is None:
            self._timer = self.loop.call_later(self._keep_alive, self._rested)

    def _rested(self) -> None:
        self._timer = None
        if not self._rests_since:
            return
        left = self._rests_since + self._keep_alive - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._rested)
        else:
            self.close()


class Exchange:
    """A call and its reply. `run` has it answered; the application is given `receive` and `send`.

    Attributes:
        lasting: whether the connection goes on after it.
        begun: whether there is something of a reply.
    """

    # What most exchanges never change stands here, and is not set each time.
    lasting = True
    task: asyncio.Task[None] | None = None
    begun = False
    _size = 0
    _whole = False
    _taken = False
    _gone = False
    _encouraged = False
    _news: asyncio.Future[None] | None = None
    _complete = False
    _head = b""
    _chunked = False
    _left: int | None = None

    def __init__(self, protocol: Http, scope: Scope) -> None:
        self._protocol = protocol
        self._scope = scope
        self._body: list[bytes] = []

    async def run(self) -> None:
        """Have the call answered, whatever the application does."""
        protocol = self._protocol
        try:
            await protocol.app(self._scope, self.receive, self.send)
            if not self._complete and not self._gone:
                _log.error("The application ended before its reply did.")
                await self._fail()
        except asyncio.CancelledError:
            protocol.close()
            raise
        except Exception:  # noqa: BLE001 - the application answers its own: this is one that it did not foresee
            _log.exception("Exception in ASGI application")
            await self._fail()
        finally:
            if self.task is not None:
                protocol.server.tasks.discard(self.task)

    async def _fail(self) -> None:
        if self._gone or self._complete:
            return
        if self.begun:
            # Whoever reads it sees that it is cut off.
            self._protocol.close()
            return
        why = b"Internal Server Error"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(why))]
        self.lasting = False
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": why})

    # ------------------------------------------------------------ the call

    def take(self, body: bytes) -> None:
        """More of the body has come."""
        if self._complete or self._gone:
            return
        self._body.append(body)
        self._size += len(body)
        if self._size > _HIGH:
            self._protocol.pause_reading()
        if self._news is not None:
            self._tell()

    def have_all(self) -> None:
        """The body has ended."""
        self._whole = True
        if self._news is not None:
            self._tell()

    def leave(self) -> None:
        """The caller has gone."""
        self._gone = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def receive(self) -> Message:
        """What has come of the body since the last time, as soon as there is something. Once all of it was taken: that
        the caller has gone, or has the whole reply, when that is so."""
        while not (self._gone or self._complete):
            if not self._taken and (self._whole or self._body):
                parts, self._body = self._body, []
                self._size = 0
                self._taken = self._whole
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                return {"type": "http.request", "body": body, "more_body": not self._taken}
            if not self._whole:
                self._ask_for_more()
            if self._news is None or self._news.done():
                self._news = self._protocol.loop.create_future()
            await self._news
        return {"type": "http.disconnect"}

    def _ask_for_more(self) -> None:
        if not (self.begun or self._encouraged):
            self._encouraged = True
            if any(
                name == b"expect" and value.lower() == b"100-continue"
                for name, value in self._scope["headers"]
            ):
                self._protocol.write(_CONTINUE)
        self._protocol.resume_reading()

    # ------------------------------------------------------------ the reply

    async def send(self, message: Message) -> None:
        """Raises RuntimeError for what makes no reply. Who has gone is sent nothing."""
        if self._protocol.full and not self._gone:
            await self._protocol.drained()
        if self._gone:
            return
        kind = message["type"]
        if not self.begun and kind == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        elif self.begun and not self._complete and kind == "http.response.body":
            self._go_on(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind!r} does not come here in a reply.")

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head. It waits for the body, to leave with it (ASGI, "Response Start"), but not for one whose length is
        unknown: that is a stream, and nobody knows when it goes on."""
        lines = [
            _status_line(status),
            *map(_header, self._protocol.server.default_headers),
            *map(_header, headers),
        ]
        given = dict(headers)
        if b"close" in given.get(b"connection", b""):
            self.lasting = False
        elif not self.lasting:
            lines.append(b"connection: close")
        length = given.get(b"content-length")
        if self._scope["method"] == "HEAD" or status in _BODILESS:
            self._left = -1
        elif length is not None:
            self._left = int(length)
        elif self._scope["http_version"] != "1.0":
            # HTTP/1.0 knows no pieces: there the end of the connection is the end of the body.
            self._chunked = True
            lines.append(b"transfer-encoding: chunked")
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
            raise RuntimeError("A header of the reply would bring others with it.")
        self.begun = True
        self._head = head + b"\r\n\r\n"
        if self._left is None:
            self._write(b"")

    def _go_on(self, body: bytes, more: bool) -> None:
        left = self._left
        if left is None:
            self._write(_piece(body, last=not more) if self._chunked else body)
        elif left < 0:
            # To HEAD, and with some statuses, there is none.
            self._write(b"")
        else:
            self._left = left = left - len(body)
            if left < 0 or (left and not more):
                raise RuntimeError("The body of the reply has not the length that was said.")
            if self._head and not more and len(body) < _SMALL:
                self._protocol.write_soon(self._head + body)
            else:
                self._write(body)
        if not more:
            self._complete = True
            if self._news is not None:
                self._tell()
            self._protocol.over(self)

    def _write(self, data: bytes) -> None:
        """Write now, and what there is of a head before it."""
        head, self._head = self._head, b""
        if head and len(data) < _SMALL:
            data = head + data
        elif head:
            self._protocol.write(head)
        if data:
            self._protocol.write(data)


def _piece(body: bytes, *, last: bool) -> bytes:
    """A part of a body of unknown length (RFC 9112, 7.1)."""
    piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return piece + b"0\r\n\r\n" if last else piece


@functools.lru_cache(1_024)
def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def _place(url: bytes) -> tuple[str, bytes, bytes]:
    """The path of a URL, as it was written too, and its query."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.path, parsed.query or b""


_usual_place: Final = functools.lru_cache(1_024)(_place)

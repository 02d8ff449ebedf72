"""Calls in real time: passed on to whoever has the model, and answered as they are answered there.

What a caller sends in the provider's own form goes through byte for byte, but for the model's name where the caller
writes it otherwise, and for one option of streams that makes OpenAI say what they cost. The answer goes back as it
comes. In between stand the key, the budgets and the ledger.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from halfrate.base.money import added, usd
from halfrate.gateway.asking import Asked, read_body, understood
from halfrate.gateway.attempts import Passed, Streamed, lost
from halfrate.gateway.booking import Attempt, Books
from halfrate.gateway.deferring import Deferring
from halfrate.gateway.errors import ApiError
from halfrate.gateway.events import Relay
from halfrate.gateway.router import Routed, Router, Unanswered
from halfrate.gateway.targets import Target
from halfrate.gateway.upstream import Lost
from halfrate.gateway.wishes import wish_of

_BODY: Final = 64 << 20

_SILENCE: Final = 15.0
"""Seconds of a stream without anything for its caller, before that is told that more comes."""
_STILL: Final = b": more comes\n\n"

Failing = Callable[[Exception, Scope], Response]
Headers = list[tuple[bytes, bytes]]


class RealTime:
    """An ASGI application for the paths of `asking.PATHS`, behind the door.

    Args:
        failing: the reply to a call that raised something.
    """

    def __init__(self, router: Router, deferring: Deferring, books: Books, failing: Failing) -> None:
        self._books = books
        self._router = router
        self._deferring = deferring
        self._failing = failing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        except Exception as error:  # a defect is answered as well, and told of in the log
            if "halfrate.status" in scope:
                # The answer has begun: there is no other any more.
                raise
            await self._failing(error, scope)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            message = f"{scope['path']} does not take {scope['method']}."
            raise ApiError(405, message, code="method_not_allowed", headers={"allow": "POST"})
        headers = scope["halfrate.headers"]
        body = await read_body(receive, headers, _BODY)
        if body is None:
            return
        asked = understood(scope, headers, body)
        self._books.check()
        waiting = wish_of(asked, headers)
        if waiting is not None:
            # It may be held for hours: what it came with is held by nobody else.
            del body, asked
            asked = await self._deferring.take(*waiting, receive, send)
            if asked is None:
                return
        try:
            routed = await self._router.answer(asked)
        except Unanswered as error:
            scope["halfrate.route"] = error.path
            await _refuse(send, error)
            return
        scope["halfrate.route"] = routed.path
        if isinstance(routed.answer, Streamed):
            await self._stream(asked, routed, routed.answer, receive, send)
            return
        answer = routed.answer
        cost = added((routed.before, routed.attempt.cost))
        told = _told(routed.attempt.target, routed.path, answer.used.tier, cost)
        await _send(send, 200, [*answer.headers, *told], answer.body)

    async def _stream(
        self, asked: Asked, routed: Routed, answer: Streamed, receive: Receive, send: Send
    ) -> None:
        """Give an answer on as it comes. What it cost is told in a comment before its last event."""
        stream, relay, attempt = answer.stream, answer.relay, routed.attempt
        watch = asyncio.create_task(_hung_up(receive, stream.close))
        given = _Given(routed, relay, send)
        try:
            told = _told(attempt.target, routed.path)
            head = [*answer.headers, (b"cache-control", b"no-cache"), *told]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            if answer.begun:
                attempt.begun()
                await given.add(answer.begun)
            while piece := await stream.chunk():
                attempt.begun()
                await given.add(relay.take(piece))
            await given.end(relay.end())
        except Lost as error:
            failure = lost(attempt.target, str(error), relay.told())
            if watch.done():
                # Nobody is there any more.
                return
            if attempt.over:
                # What broke off after its last event was a connection, and no answer.
                await given.end(())
                return
            attempt.broke(failure)
            await given.end([(_broken(asked, failure.error), False)])
        finally:
            watch.cancel()
            stream.close()
            attempt.doubt(relay.told(), 200)


class _Given:
    """What a caller is given of a stream."""

    def __init__(self, routed: Routed, relay: Relay, send: Send) -> None:
        self._routed = routed
        self._relay = relay
        self._send = send
        self._ready: list[bytes] = []
        self._now = asyncio.get_running_loop().time
        self._spoke = self._now()

    async def add(self, events: Iterable[tuple[bytes, bool]]) -> None:
        """Send events. Where it takes Lost to make them, those before it are sent with what comes next."""
        self._note(events)
        if not self._ready:
            if self._now() - self._spoke < _SILENCE:
                return
            # What a model thinks is not translated: who waits for long may take it to have stopped.
            self._ready.append(_STILL)
        await self._give(more=True)

    async def end(self, events: Iterable[tuple[bytes, bool]]) -> None:
        """Send events, and no more."""
        self._note(events)
        attempt = self._routed.attempt
        if not attempt.over:
            # It ended without the usual last event: what it said before that counts.
            self._told()
        await self._give(more=False)

    def _note(self, events: Iterable[tuple[bytes, bool]]) -> None:
        for event, is_last in events:
            if is_last:
                self._told()
            self._ready.append(event)

    def _told(self) -> None:
        attempt = self._routed.attempt
        attempt.answered(self._relay.told())
        self._ready.append(_comment(self._routed.before, attempt))

    async def _give(self, *, more: bool) -> None:
        body = b"".join(self._ready)
        self._ready.clear()
        self._spoke = self._now()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _told(target: Target, path: tuple[str, ...], tier: str | None = None, cost: int | None = None) -> Headers:
    """Headers that say what was done, and what it cost if that is known yet."""
    headers = [(b"x-halfrate-model", target.shown)]
    if path:
        headers.append((b"x-halfrate-route", ", ".join(path).encode("ascii", "replace")))
    if tier is not None:
        headers.append((b"x-halfrate-tier", tier.encode("ascii", "replace")))
    if cost is not None:
        headers.append((b"x-halfrate-cost-usd", usd(cost).encode()))
    return headers


async def _refuse(send: Send, refused: Unanswered) -> None:
    """Answer as the provider did, where that is for the caller. Raises ApiError where it is for us to say."""
    error = refused.failure.error
    told = _told(refused.target, refused.path)
    if not isinstance(error, Passed):
        error.headers |= {name.decode(): value.decode() for name, value in told}
        raise error
    await _send(send, error.status, [(b"content-type", error.content_type.encode()), *told], error.document)


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _hung_up(receive: Receive, close: Callable[[], None]) -> None:
    """Hang up where the caller does."""
    while (await receive())["type"] != "http.disconnect":
        pass
    close()


def _comment(before: int | None, attempt: Attempt) -> bytes:
    """A line that clients pass over (HTML standard, 9.2.5), with what the answer cost."""
    cost = added((before, attempt.cost))
    return b"" if cost is None else b": x-halfrate-cost-usd %b\n\n" % usd(cost).encode()


def _broken(asked: Asked, error: ApiError) -> bytes:
    """The last event of a stream that broke off, as the surface's clients understand it."""
    document: Mapping[str, object] = error.body(asked.surface, asked.request_id)
    head = b"event: error\n" if asked.surface == "anthropic" or asked.endpoint == "responses" else b""
    return b"%bdata: %b\n\n" % (head, msgspec.json.encode(document))

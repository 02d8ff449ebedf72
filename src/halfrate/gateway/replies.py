"""Answering callers whose calls can wait: on the line when the answer is there, or at once with where it will be."""

import asyncio
from typing import Final

from starlette.types import Receive, Send

from halfrate.base.money import usd
from halfrate.blobs.shelves import Shelves
from halfrate.core.deferral import Deferred
from halfrate.gateway.asking import Asked
from halfrate.gateway.attempts import Whole, as_stream
from halfrate.gateway.errors import ApiError
from halfrate.gateway.line import Line, unless_gone
from halfrate.gateway.shown_calls import call_view, response_view
from halfrate.gateway.wishes import Wish
from halfrate.providers.passing import Used
from halfrate.store.deferred import DeferredStore

_JSON: Final = (b"content-type", b"application/json")


class Replies:
    """Replies to calls that were taken on.

    Args:
        line: who waits for answers here.
    """

    def __init__(self, store: DeferredStore, places: Shelves, line: Line) -> None:
        self._store = store
        self._places = places
        self._line = line

    async def reply(
        self,
        asked: Asked,
        call: Deferred,
        wish: Wish,
        receive: Receive,
        send: Send,
        future: "asyncio.Future[None] | None" = None,
    ) -> None:
        """Answer one in the background at once, and any other when it has ended, unless its caller hangs up.

        `future`: the caller's place in the line, if it has one. Raises ApiError where there is no answer to give.
        """
        if wish.background:
            await self._at_once(call, send)
            return
        joined = future or self._line.join(call.id)
        try:
            if future is None:
                # It may have ended before somebody waited for it.
                found = await asyncio.to_thread(self._store.find, call.team, call.id)
                if found is not None and found.ended:
                    joined.set_result(None)
            if await unless_gone(receive, joined):
                await self._answer(asked, call, send)
        finally:
            self._line.leave(call.id, joined)

    async def _at_once(self, call: Deferred, send: Send) -> None:
        """How the call stands, with its answer if that is there."""
        body = await self.body(call)
        shown = (response_view if call.endpoint == "responses" else call_view)(call, body, sent=False)
        status = 200 if call.endpoint == "responses" or call.ended else 202
        await _send(send, status, [_JSON, (b"x-halfrate-call", call.id.encode())], shown)

    async def _answer(self, asked: Asked, call: Deferred, send: Send) -> None:
        """The answer, as if it had come at once."""
        found = await asyncio.to_thread(self._store.find, call.team, call.id)
        if found is None or found.answer is None:
            raise _cancelled() if found is not None and found.cancelled else _forgotten(call.id)
        body = await self.body(found)
        if body is None:
            raise _forgotten(call.id)
        answer = found.answer
        headers = [
            (b"x-halfrate-call", found.id.encode()),
            (b"x-halfrate-model", found.model.encode("ascii", "replace")),
        ]
        if answer.tier is not None:
            headers.append((b"x-halfrate-tier", answer.tier.encode("ascii", "replace")))
        if answer.cost is not None:
            headers.append((b"x-halfrate-cost-usd", usd(answer.cost).encode()))
        if asked.stream and answer.status < 400:
            stream = as_stream(asked, Whole([_JSON], body, Used()))
            await _send(send, answer.status, [*stream.headers, *headers], stream.body)
            return
        if answer.status == 504:
            headers.append((b"x-should-retry", b"false"))
        await _send(send, answer.status, [_JSON, *headers], body)

    async def body(self, call: Deferred) -> bytes | None:
        """What a call was answered; None where there is nothing yet, or not any more."""
        answer = call.answer
        if answer is None:
            return None
        return await asyncio.to_thread(self._places.answer, answer.file, answer.at, answer.size)


def _cancelled() -> ApiError:
    return ApiError(
        409, "This call was cancelled before it was run. Nothing was paid.", code="call_cancelled"
    )


def _forgotten(call_id: str) -> ApiError:
    return ApiError(404, f"The answer of {call_id} is not kept any more.", code="answer_not_kept")


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})

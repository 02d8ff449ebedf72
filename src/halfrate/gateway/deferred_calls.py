"""Calls in the background: `/v1/halfrate/calls/{id}`, and `/v1/responses/{id}` as OpenAI has it (API reference,
"Responses")."""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from halfrate.core.deferral import Deferred
from halfrate.core.surface import BatchState
from halfrate.gateway.calls import JSON, key_of, reply
from halfrate.gateway.errors import ApiError, invalid, missing
from halfrate.gateway.openai_files import is_plain
from halfrate.gateway.replies import Replies
from halfrate.gateway.shown_calls import call_view, response_view
from halfrate.service.jobs import Service
from halfrate.store.deferred import TooLate

_UNSENT: Final = frozenset({BatchState.GATHERING, BatchState.VALIDATING})


class DeferredCalls:
    """What can be asked about calls that were taken on.

    Args:
        ended: told of the ids of calls that end by this.
    """

    def __init__(self, service: Service, replies: Replies, ended: Callable[[list[str]], None]) -> None:
        self._service = service
        self._store = service.deferred
        self._replies = replies
        self._ended = ended

    async def retrieve(self, request: Request) -> Response:
        return await self._shown(await self._found(request))

    async def cancel(self, request: Request) -> Response:
        return await self._shown(await self._cancelled(request))

    async def retrieve_response(self, request: Request) -> Response:
        if request.query_params.get("stream", "false") != "false":
            raise invalid(
                "A response in the background is given in one piece here: leave 'stream' out.", "stream"
            )
        return await self._shown(_response(await self._found(request)))

    async def cancel_response(self, request: Request) -> Response:
        _response(await self._found(request))
        return await self._shown(await self._cancelled(request))

    async def delete_response(self, request: Request) -> Response:
        call = _response(await self._found(request))
        if not await asyncio.to_thread(self._store.drop, call.team, call.id):
            raise ApiError(
                409, f"The response {call.id} has not ended: cancel it, or wait.", code="response_not_ended"
            )
        return reply({"id": call.id, "object": "response", "deleted": True})

    # ------------------------------------------------------------ parts

    async def _found(self, request: Request) -> Deferred:
        call_id: str = request.path_params["id"]
        team = key_of(request).team
        call = await asyncio.to_thread(self._store.find, team, call_id) if is_plain(call_id) else None
        if call is None:
            raise missing(f"No call found with id '{call_id}'.")
        return call

    async def _cancelled(self, request: Request) -> Deferred:
        found = await self._found(request)
        try:
            call = await asyncio.to_thread(
                self._store.cancel, found.team, found.id, self._service.clock.now()
            )
        except TooLate as late:
            if late.call.cancelled:
                return late.call
            message = (
                f"{found.id} cannot be cancelled any more: it has been answered, or is with its provider."
            )
            raise ApiError(409, message, code="call_not_cancellable") from None
        if call is None:
            raise missing(f"No call found with id '{found.id}'.")
        self._ended([call.id])
        return call

    async def _shown(self, call: Deferred) -> Response:
        body = await self._replies.body(call)
        if call.answer is not None and body is None:
            raise missing(f"The answer of {call.id} is not kept any more.")
        view = response_view if call.endpoint == "responses" else call_view
        sent = not call.ended and await asyncio.to_thread(self._sent, call)
        return Response(view(call, body, sent=sent), media_type=JSON)

    def _sent(self, call: Deferred) -> bool:
        """Whether somebody is at work on it."""
        if not call.batch:
            return True
        batch = self._service.surfaces.gathering(call.batch)
        return batch is not None and batch.state not in _UNSENT


def _response(call: Deferred) -> Deferred:
    if call.endpoint != "responses":
        raise missing(f"No response found with id '{call.id}'.")
    return call

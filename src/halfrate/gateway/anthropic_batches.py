"""Anthropic's Message Batches API (API reference, "Message Batches")."""

import asyncio
import datetime
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from halfrate.base.clock import Clock
from halfrate.blobs.shelves import Incoming
from halfrate.core.surface import BatchState, SurfaceBatch
from halfrate.gateway.calls import deadline_of, is_repeated, key_of, reply, tags_of, too_large, whole_number
from halfrate.gateway.errors import ApiError, invalid, missing
from halfrate.gateway.openai_files import Download, is_plain
from halfrate.gateway.threads import in_thread
from halfrate.rows.message_input import TooLarge
from halfrate.service.batches import CannotCancel, Keeper, MessagesAsk
from halfrate.service.shelf import Shelf
from halfrate.store.surfaces import NoSuchCursor, Page

BODY_BYTES: Final = 256 << 20
_BLOCK: Final = 1 << 20
_DAY: Final = 86_400.0
_VERSIONS: Final = frozenset({"2023-06-01", "2026-10-21"})
_LONGEST_BETA: Final = 1_000
_PLAIN_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)


_NEAR: Final = frozenset({"127.0.0.1", "::1"})


class AnthropicBatches:
    """`/v1/messages/batches`.

    The header `halfrate-deadline: 2h` says when the last row is needed; rows may then be run in real time at its
    price. Without it a batch never pays more than a batch. `halfrate-tags` are as for OpenAI's batches.

    Args:
        body_bytes: the largest body of a create call.
    """

    def __init__(self, keeper: Keeper, shelf: Shelf, clock: Clock, *, body_bytes: int = BODY_BYTES) -> None:
        self._keeper = keeper
        self._shelf = shelf
        self._clock = clock
        self._body_bytes = body_bytes

    async def create(self, request: Request) -> Response:
        key = key_of(request)
        tags, deadline, options = tags_of(request), deadline_of(request), _options(request)
        repeated = is_repeated(request)
        body = await in_thread(self._shelf.incoming)
        try:
            digest = await self._received(request, body)
            ask = MessagesAsk(body_digest=digest, tags=tags, deadline=deadline, options=options)
            batch = await in_thread(self._keeper.create_messages, key, ask, body, repeated=repeated)
        except TooLarge as error:
            raise ApiError(413, str(error)) from None
        finally:
            await in_thread(body.close)
        return reply(self._view(request, batch))

    async def list(self, request: Request) -> Response:
        limit = whole_number(request, "limit", 20, 1, 1_000)
        after, before = (request.query_params.get(name, "") for name in ("after_id", "before_id"))
        page = await self._page(key_of(request).team, after, before, limit)
        data = [self._view(request, batch) for batch in page.items]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return reply({"data": data, "has_more": page.more, "first_id": first, "last_id": last})

    async def retrieve(self, request: Request) -> Response:
        return reply(self._view(request, await self._found(request)))

    async def results(self, request: Request) -> Response:
        batch = await self._found(request)
        if not batch.ended:
            raise invalid(f"Message batch {batch.id} has no results before it has ended.")
        path = await asyncio.to_thread(self._keeper.results, batch)
        if path is None:
            raise _no_results(batch)
        try:
            # Opened before anything is said: it can be deleted now, and is read to its end.
            return await in_thread(_Results, path)
        except FileNotFoundError:
            raise _no_results(batch) from None

    async def cancel(self, request: Request) -> Response:
        found = await self._found(request)
        try:
            batch = await asyncio.to_thread(self._keeper.cancel, found.team, "anthropic", found.id)
        except CannotCancel:
            raise invalid(f"Message batch {found.id} has ended and cannot be canceled.") from None
        if batch is None:
            raise _no_batch(found.id)
        return reply(self._view(request, batch))

    async def delete(self, request: Request) -> Response:
        batch = await self._found(request)
        if not batch.ended:
            message = f"Message batch {batch.id} cannot be deleted before it has ended. Cancel it first."
            raise invalid(message)
        if not await asyncio.to_thread(self._keeper.delete, batch):
            raise _no_batch(batch.id)
        return reply({"id": batch.id, "type": "message_batch_deleted"})

    async def _received(self, request: Request, body: Incoming) -> str:
        """Write a body to the disk as it arrives; its digest. ApiError 413 where it is too large."""
        most = self._body_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > 20 or int(announced) > most):
            raise too_large(most)
        digest = hashlib.blake2b(digest_size=16)
        arrived = bytearray()

        def write() -> None:
            digest.update(arrived)
            body.write(arrived)

        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise too_large(most)
            arrived += chunk
            if len(arrived) >= _BLOCK:
                await in_thread(write)
                arrived.clear()
        await in_thread(write)
        return digest.hexdigest()

    async def _found(self, request: Request) -> SurfaceBatch:
        batch_id = request.path_params["id"]
        batch = None
        if is_plain(batch_id):
            team = key_of(request).team
            batch = await asyncio.to_thread(self._keeper.find, team, "anthropic", batch_id)
        if batch is None:
            raise _no_batch(batch_id)
        return batch

    async def _page(self, team: str, after: str, before: str, limit: int) -> Page:
        cursor = before or after
        if is_plain(cursor) or not cursor:
            try:
                return await asyncio.to_thread(
                    self._keeper.page, team, "anthropic", after=after, before=before, limit=limit
                )
            except NoSuchCursor:
                pass
        name = "before_id" if before else "after_id"
        raise invalid(f"{name}: there is no message batch '{cursor}'.")

    def _view(self, request: Request, batch: SurfaceBatch) -> dict[str, Any]:
        """A batch as Anthropic shows it: no row is counted as anything but processing before all are."""
        counts = batch.counts
        archived_at = None
        results_url = None
        if batch.ended:
            gone_at = batch.created_at + batch.output_life
            archived_at = gone_at if self._clock.now() >= gone_at else None
            if archived_at is None:
                results_url = f"{base_of(request)}/v1/messages/batches/{batch.id}/results"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": _status(batch),
            "request_counts": {
                "processing": 0 if batch.ended else counts.total,
                "succeeded": counts.completed,
                "errored": counts.failed,
                "canceled": counts.canceled,
                "expired": counts.expired,
            },
            "created_at": _time(batch.created_at),
            "expires_at": _time(batch.deadline or batch.created_at + _DAY),
            "ended_at": _time(batch.times[batch.state.value]) if batch.ended else None,
            "cancel_initiated_at": _time(batch.at(BatchState.CANCELLING)),
            "archived_at": _time(archived_at),
            "results_url": results_url,
        }


class _Results(Download):
    """Result lines, as Anthropic sends them."""

    def __init__(self, path: Path) -> None:
        source = path.open("rb", buffering=0)
        super().__init__(source, os.fstat(source.fileno()).st_size)
        self.headers["content-type"] = "application/x-jsonl"


def base_of(request: Request) -> str:
    """Where the caller found the gateway, as in "http://gateway:8080".

    What a caller says in the Host header is given back to it alone, and only if it is a plain host; else the address
    that the call came in at.
    """
    host = request.headers.get("host", "")
    if not _PLAIN_HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("localhost", None)
        name = f"[{name}]" if ":" in name else name
        host = name if port is None else f"{name}:{port}"
    scheme = request.scope["scheme"]
    if request.client is not None and request.client.host in _NEAR:
        # A server in front of this one, on this machine, that speaks TLS for it.
        told = request.headers.get("x-forwarded-proto", scheme)
        scheme = told if told in {"http", "https"} else scheme
    return f"{scheme}://{host}"


def _status(batch: SurfaceBatch) -> str:
    if batch.ended:
        return "ended"
    return "canceling" if batch.state is BatchState.CANCELLING else "in_progress"


def _time(at: float | None) -> str | None:
    """As RFC 3339 has it."""
    if at is None:
        return None
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat().replace("+00:00", "Z")


def _options(request: Request) -> dict[str, str]:
    return options_of(
        request.headers.get("anthropic-version"), ",".join(request.headers.getlist("anthropic-beta"))
    )


def options_of(version: str | None, beta: str) -> dict[str, str]:
    """What a call's headers ask of Anthropic itself, which gives the same there as it would without a gateway."""
    options: dict[str, str] = {}
    if version in _VERSIONS:
        options["version"] = version
    if len(beta) > _LONGEST_BETA or not is_plain(beta):
        raise invalid("anthropic-beta: expected names with commas between them")
    if beta:
        options["beta"] = beta
    return options


def _no_batch(batch_id: str) -> ApiError:
    return missing(f"There is no message batch '{batch_id}'.")


def _no_results(batch: SurfaceBatch) -> ApiError:
    return missing(f"The results of message batch {batch.id} are not kept any more.")

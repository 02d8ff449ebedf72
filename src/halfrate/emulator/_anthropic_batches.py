"""Anthropic's Message Batches API (batch guide and API reference).

    in_progress -> ended
    in_progress -> canceling -> ended        finished rows stay succeeded, the rest is canceled

Counts stay frozen (everything `processing`) until the batch has ended. `params` are not looked at when a
batch is created: bad ones become errored rows. Results are readable for 29 days from creation, then the batch
is archived.
"""

import mmap
import random
import re
from array import array
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from halfrate.emulator._anthropic_run import AnthropicBatch, advance_batch, cancel_batch
from halfrate.emulator._context import Context
from halfrate.emulator._quirks import bend_create, draw_quirks, refuse_create
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Rows, Schedule
from halfrate.emulator._settings import DAY
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Response,
    body_chunks,
    file_chunks,
    json_response,
    whole_number,
)

_CUSTOM_ID = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


class _CreateBody(msgspec.Struct):
    requests: list[msgspec.Raw]


class _RowHead(msgspec.Struct):
    custom_id: Any = None
    params: msgspec.Raw = msgspec.Raw(b"")


_head = msgspec.json.Decoder(_RowHead)


class AnthropicBatches:
    """The message batches of every key (a workspace, here)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._batches: dict[str, AnthropicBatch] = {}
        self._live: dict[str, AnthropicBatch] = {}
        # In order of creation, which is the order they are archived in.
        self._ageing: deque[AnthropicBatch] = deque()

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/messages/batches", "create", self._create),
            Route("GET", "/v1/messages/batches", "list", self._list),
            Route("GET", "/v1/messages/batches/{}", "poll", self._retrieve),
            Route("GET", "/v1/messages/batches/{}/results", "download", self._results),
            Route("POST", "/v1/messages/batches/{}/cancel", "cancel", self._cancel),
            Route("DELETE", "/v1/messages/batches/{}", "delete", self._delete),
        ]

    def advance(self, now: float) -> None:
        for batch in list(self._live.values()):
            advance_batch(self._context, batch, now)
            if batch.status == "ended":
                del self._live[batch.id]
        while self._ageing and now >= self._archive_at(self._ageing[0]):
            self._drop_results(self._ageing.popleft())

    def _archive_at(self, batch: AnthropicBatch) -> float:
        return batch.created_at + self._context.limits.anthropic_result_days * DAY

    def _drop_results(self, batch: AnthropicBatch) -> None:
        if batch.results is not None:
            self._context.spool.drop(batch.results.path)
            self._context.meter.files_stored -= 1
            self._context.meter.bytes_stored -= batch.results_size
            batch.results = None

    async def _create(self, call: Call) -> Response:
        context, faults = self._context, self._context.faults
        context.meter.creates_received += 1
        about = context.attempt()
        refuse_create(faults, "anthropic", about)
        path = await self._spooled(call)
        try:
            rows_path, offsets = self._parsed(path)
        finally:
            context.spool.drop(path)
        try:
            self._check_queue(call, len(offsets), about)
        except ApiError:
            context.spool.drop(rows_path)
            raise
        # The body may have taken a while to arrive.
        batch = self._made(call, rows_path, offsets, context.clock.now())
        self._batches[batch.id] = self._live[batch.id] = batch
        self._ageing.append(batch)
        context.meter.batches_created["anthropic"] += 1
        context.meter.received(batch.rows.total)
        response = json_response(self._view(call, batch))
        bent = bend_create(faults, "anthropic", about, response)
        if isinstance(bent, ApiError):
            raise bent
        return bent

    async def _spooled(self, call: Call) -> Path:
        limit, size, done = self._context.limits.anthropic_batch_bytes, 0, False
        path = self._context.spool.new()
        try:
            with path.open("wb") as target:
                async for chunk in body_chunks(call.request):
                    size += len(chunk)
                    if size > limit:
                        raise ApiError(413, f"Request exceeds the maximum size of {limit} bytes.")
                    target.write(chunk)
            done = True
        finally:
            if not done:  # too big, or the client went away
                self._context.spool.drop(path)
        return path

    def _parsed(self, path: Path) -> tuple[Path, "array[int]"]:
        """Split the body into one line per request; returns the lines' file and where each starts."""
        if not path.stat().st_size:
            raise ApiError(400, "requests: Field required")
        with path.open("rb") as source:
            # Never closed by hand: every request is a view into it, and it goes when the last of them does.
            body = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            requests = msgspec.json.decode(body, type=_CreateBody).requests
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(400, f"requests: the body is not as expected: {error}") from None
        self._check_ids(requests)
        rows_path, offsets, position = self._context.spool.new(), array("Q"), 0
        with rows_path.open("wb") as target:
            for request in requests:
                line = bytes(request)
                if b"\n" in line:
                    line = msgspec.json.format(line, indent=-1)
                offsets.append(position)
                position += target.write(line + b"\n")
        return rows_path, offsets

    def _check_ids(self, requests: list[msgspec.Raw]) -> None:
        if not requests:
            raise ApiError(400, "requests: List should have at least 1 item after validation, not 0")
        most = self._context.limits.anthropic_rows
        if len(requests) > most:
            raise ApiError(400, f"requests: List should have at most {most} items, not {len(requests)}")
        seen: set[str] = set()
        for number, request in enumerate(requests):
            try:
                row = _head.decode(request)
            except msgspec.DecodeError as error:
                raise ApiError(400, f"requests.{number}: {error}") from None
            if not isinstance(row.custom_id, str):
                raise ApiError(400, f"requests.{number}.custom_id: Field required")
            if not _CUSTOM_ID.fullmatch(row.custom_id):
                message = f"requests.{number}.custom_id: String should match pattern '{_CUSTOM_ID.pattern}'"
                raise ApiError(400, message)
            if row.custom_id in seen:
                message = f"requests: custom_id '{row.custom_id}' is not unique in this batch"
                raise ApiError(400, message)
            if not bytes(row.params).lstrip().startswith(b"{"):
                raise ApiError(400, f"requests.{number}.params: Field required")
            seen.add(row.custom_id)

    def _check_queue(self, call: Call, rows: int, about: str) -> None:
        waiting = sum(batch.rows.total for batch in self._live.values() if batch.project == call.project)
        full = self._context.faults.strike("queue-full", "anthropic", about)
        if full is not None or waiting + rows > self._context.limits.anthropic_queue_rows:
            message = "This request would exceed your organization's limit of batch requests in the queue."
            raise ApiError(429, message, headers=None if full is None else full.retry_after())

    def _made(self, call: Call, path: Path, offsets: "array[int]", now: float) -> AnthropicBatch:
        context, pace = self._context, self._context.pace
        batch_id = context.new_id("msgbatch_")
        quirks = draw_quirks(context.faults, "anthropic", batch_id, now)
        order = list(range(len(offsets)))
        if quirks.shuffled:
            random.Random(f"{context.seed}:{batch_id}").shuffle(order)
        starts_at = now + pace.validate + pace.queue + quirks.stuck_seconds
        seconds = pace.per_1000_rows / 1000
        return AnthropicBatch(
            id=batch_id,
            project=call.project,
            version=call.request.header("anthropic-version"),
            created_at=now,
            expires_at=now + pace.window,
            rows=Rows(path, offsets, array("I", order)),
            schedule=Schedule.plan(len(order), starts_at, seconds, now + pace.window, quirks),
            quirks=quirks,
        )

    def _view(self, call: Call, batch: AnthropicBatch) -> Document:
        host = call.request.header("host") or "localhost"
        archive_at = self._archive_at(batch)
        return batch.view(call.now, f"http://{host}", archive_at if call.now >= archive_at else None)

    def _get(self, call: Call) -> AnthropicBatch:
        found = self._batches.get(call.arg)
        if found is None or found.project != call.project or found.quirks.hidden_until > call.now:
            raise ApiError(404, f"Message batch {call.arg} not found.")
        return found

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._view(call, self._get(call)))

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        limit = whole_number(params.get("limit"), "limit", 20, 1, 1_000)
        found = [
            batch
            for batch in reversed(self._batches.values())
            if batch.project == call.project and batch.quirks.unlisted_until <= call.now
        ]
        ids = [batch.id for batch in found]
        before, after = params.get("before_id"), params.get("after_id")
        for cursor in (before, after):
            if cursor and cursor not in ids:
                raise ApiError(400, f"Invalid cursor: there is no message batch {cursor}")
        if before:  # the page that ends just before the cursor
            end = ids.index(before)
            page, more = found[max(0, end - limit) : end], end > limit
        else:
            start = ids.index(after) + 1 if after else 0
            page, more = found[start : start + limit], len(found) > start + limit
        data = [self._view(call, batch) for batch in page]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return json_response({"data": data, **ends, "has_more": more})

    async def _results(self, call: Call) -> Response:
        batch = self._get(call)
        if batch.status != "ended":
            raise ApiError(400, f"Batch {batch.id} has no available results yet: it has not ended.")
        if batch.results is None:
            raise ApiError(404, f"The results of message batch {batch.id} are not available.")
        headers = {"content-type": "application/x-jsonl", "content-length": str(batch.results_size)}
        return Response(200, file_chunks(batch.results.path, batch.results_size), headers)

    async def _cancel(self, call: Call) -> Response:
        batch = self._get(call)
        cancel_batch(self._context, batch, call.now)
        return json_response(self._view(call, batch))

    async def _delete(self, call: Call) -> Response:
        batch = self._get(call)
        if batch.status != "ended":
            raise ApiError(400, f"Message batch {batch.id} cannot be deleted while it is being processed.")
        self._drop_results(batch)
        del self._batches[batch.id]
        return json_response({"id": batch.id, "type": "message_batch_deleted"})

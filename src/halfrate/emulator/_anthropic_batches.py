"""Anthropic's Message Batches API (batch guide and API reference).

    in_progress -> ended
    in_progress -> canceling -> ended        finished rows stay succeeded, the rest is canceled

Counts stay frozen (everything `processing`) until the batch has ended. `params` are not looked at when a
batch is created: bad ones become errored rows. Results are readable for 29 days from creation, then the batch
is archived.
"""

import mmap
import re
from array import array
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from halfrate.emulator._anthropic_run import AnthropicBatch, AnthropicJobs
from halfrate.emulator._context import Context
from halfrate.emulator._jobs import Input
from halfrate.emulator._quirks import draw_quirks, listed, visible
from halfrate.emulator._routes import Call, Route
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


class AnthropicBatches(AnthropicJobs):
    """The calls about message batches. A key stands for a workspace, here."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
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
        super().advance(now)
        while self._ageing and now >= self._archive_at(self._ageing[0]):
            self._drop_results(self._ageing.popleft())

    def _archive_at(self, batch: AnthropicBatch) -> float:
        return batch.created_at + self._context.limits.anthropic_result_days * DAY

    def _drop_results(self, batch: AnthropicBatch) -> None:
        if batch.output is not None:
            self._context.spool.drop(batch.output.path)
            self._context.meter.files_stored -= 1
            self._context.meter.bytes_stored -= batch.results_size
            batch.output = None

    async def _create(self, call: Call) -> Response:
        context, about = self._context, self.attempt_create()
        limit = context.limits.anthropic_batch_bytes
        too_big = f"Request exceeds the maximum size of {limit} bytes."
        path = await context.spool.write(body_chunks(call.request), limit, too_big)
        try:
            source = self._parsed(path)
        finally:
            context.spool.drop(path)
        try:
            self._check_queue(call, len(source.offsets), about)
        except ApiError:
            context.spool.drop(source.path)
            raise
        batch = self._made(call, source)
        self.keep(batch)
        self._ageing.append(batch)
        return self.create_reply(about, self._view(call, batch))

    def _parsed(self, path: Path) -> Input:
        """Split the body into one line per request."""
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
        found, position = Input(self._context.spool.new(), array("Q")), 0
        with found.path.open("wb") as target:
            for request in requests:
                line = bytes(request)
                if b"\n" in line:
                    line = msgspec.json.format(line, indent=-1)
                found.offsets.append(position)
                position += target.write(line + b"\n")
        return found

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

    def _made(self, call: Call, source: Input) -> AnthropicBatch:
        # The body may have taken a while to arrive.
        call = msgspec.structs.replace(call, now=self._context.clock.now())
        batch_id, version = self._context.new_id("msgbatch_"), call.request.header("anthropic-version")
        quirks = draw_quirks(self._context.faults, "anthropic", batch_id, call.now)
        batch = AnthropicBatch(**self.begin(call, batch_id, source, quirks), version=version)
        # A batch is in progress from its creation: nothing is validated before its rows run.
        batch.validated_at, batch.phase = call.now, "running"
        self._start(batch, call.now)
        return batch

    def _view(self, call: Call, batch: AnthropicBatch) -> Document:
        host = call.request.header("host") or "localhost"
        archive_at = self._archive_at(batch)
        return batch.view(call.now, f"http://{host}", archive_at if call.now >= archive_at else None)

    def _get(self, call: Call) -> AnthropicBatch:
        missing = f"Message batch {call.arg} not found."
        return visible(self._jobs.get(call.arg), call.project, call.now, missing)

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._view(call, self._get(call)))

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        limit = whole_number(params.get("limit"), "limit", 20, 1, 1_000)
        found = listed(reversed(self._jobs.values()), call.project, call.now)
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
        if batch.live:
            raise ApiError(400, f"Batch {batch.id} has no available results yet: it has not ended.")
        if batch.output is None:
            raise ApiError(404, f"The results of message batch {batch.id} are not available.")
        headers = {"content-type": "application/x-jsonl", "content-length": str(batch.results_size)}
        return Response(200, file_chunks(batch.output.path, batch.results_size), headers)

    async def _cancel(self, call: Call) -> Response:
        batch = self._get(call)
        if not batch.live:
            message = f"Message batch {batch.id} has already ended and cannot be canceled."
            raise ApiError(400, message)
        self.cancel(batch, call.now)
        return json_response(self._view(call, batch))

    async def _delete(self, call: Call) -> Response:
        batch = self._get(call)
        if batch.live:
            raise ApiError(400, f"Message batch {batch.id} cannot be deleted while it is being processed.")
        self._drop_results(batch)
        del self._jobs[batch.id]
        return json_response({"id": batch.id, "type": "message_batch_deleted"})

"""Gemini's batches (guide and reference: Batch API): operations that run generateContent or embedContent.

A project may have 100 of them unfinished, and so many enqueued tokens of a model; over that a create is refused with
429 RESOURCE_EXHAUSTED. Create is not idempotent. Webhooks of a batch are not delivered here.
"""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._gemini_files import GeminiFiles
from halfrate.emulator._gemini_input import Read, read_lines
from halfrate.emulator._gemini_models import served
from halfrate.emulator._gemini_run import GeminiBatch, advance_batch, cancel_batch, drop_results
from halfrate.emulator._gemini_wire import (
    MISSING,
    listing,
    not_found,
    page,
    pick,
    pick_document,
    read_request,
    whole,
)
from halfrate.emulator._prices import Model
from halfrate.emulator._quirks import bend_create, draw_quirks, listed, refuse_create, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Rows, Schedule, finishing_order, first_row_at
from halfrate.emulator._wire import ApiError, Document, Response, as_list, json_response

_WINDOWS = 2
"""A batch aims at its window (24 hours) and expires after two."""


class GeminiBatches:
    """The batches of every project."""

    def __init__(self, context: Context, files: GeminiFiles) -> None:
        self._context = context
        self._files = files
        self._batches: dict[str, GeminiBatch] = {}
        self._live: dict[str, GeminiBatch] = {}
        self._serial = 0

    def routes(self, version: str) -> list[Route]:
        return [
            Route("POST", f"/{version}/models/{{}}:batchGenerateContent", "create", self._generate),
            Route("POST", f"/{version}/models/{{}}:asyncBatchEmbedContent", "create", self._embed),
            Route("GET", f"/{version}/batches", "list", self._list),
            Route("GET", f"/{version}/batches/{{}}", "poll", self._get),
            Route("POST", f"/{version}/batches/{{}}:cancel", "cancel", self._cancel),
            Route("DELETE", f"/{version}/batches/{{}}", "delete", self._delete),
        ]

    def advance(self, now: float) -> None:
        for batch in list(self._live.values()):
            advance_batch(self._context, self._files, batch, now)
            if batch.ended:
                del self._live[batch.id]

    async def _generate(self, call: Call) -> Response:
        return await self._create(call, "batchGenerateContent", embeds=False)

    async def _embed(self, call: Call) -> Response:
        return await self._create(call, "asyncBatchEmbedContent", embeds=True)

    async def _create(self, call: Call, method: str, *, embeds: bool) -> Response:
        context, faults = self._context, self._context.faults
        context.meter.creates_received += 1
        about = context.attempt()
        refuse_create(faults, "gemini", about)
        model = served(call.arg, "gemini", method, "embedding" if embeds else "text")
        given = pick_document(await read_request(call.request, context.limits.gemini_inline_bytes), "batch")
        source = pick_document(given, "inputConfig")
        inline = pick(source, "requests") is not None
        found = self._read(call, source, embeds=embeds)
        try:
            self._check_queue(call, model, found, about)
        except ApiError:
            context.spool.drop(found.path)
            raise
        batch = self._made(call, model, found, given, embeds=embeds, inline=inline)
        self._batches[batch.id] = self._live[batch.id] = batch
        context.meter.batches_created["gemini"] += 1
        context.meter.received(batch.rows.total)
        return bend_create(faults, "gemini", about, json_response(batch.view(call.now, output=True)))

    def _read(self, call: Call, source: Document, *, embeds: bool) -> Read:
        """The rows that a create call names, in a file of their own. ApiError 400 for none."""
        name, inline = pick(source, "fileName"), pick(source, "requests")
        if (name is None) == (inline is None):
            message = "Exactly one of file_name and requests must be set."
            raise ApiError(400, f"* CreateBatchRequest.batch.input_config: {message}")
        context = self._context
        counts = context.limits.gemini_enqueued_tokens is not None
        if name is None:
            requests = as_list(pick_document(source, "requests").get("requests"))
            if not requests:
                raise ApiError(400, "* CreateBatchRequest.batch.input_config.requests: must not be empty.")
            return read_lines(context, _encoded(requests), embeds=embeds, counts=counts)
        stored = self._files.find(call.project, str(name))
        if stored is None or stored.generated:
            raise not_found()
        with stored.path.open("rb") as lines:
            return read_lines(context, lines, embeds=embeds, counts=counts)

    def _check_queue(self, call: Call, model: Model, found: Read, about: str) -> None:
        mine = [batch for batch in self._live.values() if batch.project == call.project]
        limits = self._context.limits
        full = self._context.faults.strike("queue-full", "gemini", about)
        waiting = sum(batch.tokens for batch in mine if batch.model is model) + found.tokens
        most = limits.gemini_enqueued_tokens
        crowded = len(mine) >= limits.gemini_concurrent_batches
        if full is not None or crowded or (most is not None and waiting > most):
            message = (
                "You exceeded your current quota, please check your plan and billing details. "
                f"{'Concurrent batch requests' if crowded else 'Batch enqueued tokens'}, "
                f"model: {model.name}"
            )
            raise ApiError(429, message, headers=None if full is None else full.retry_after())

    def _made(
        self, call: Call, model: Model, found: Read, given: Document, *, embeds: bool, inline: bool
    ) -> GeminiBatch:
        context, pace = self._context, self._context.pace
        batch_id, now = context.new_id(""), context.clock.now()
        quirks = draw_quirks(context.faults, "gemini", batch_id, now)
        order = finishing_order(f"{context.seed}:{batch_id}", len(found.offsets), quirks)
        starts_at = first_row_at(pace, now, quirks)
        deadline, seconds = now + _WINDOWS * pace.window, pace.per_1000_rows / 1000
        priority = whole(given.get("priority"))
        self._serial += 1
        return GeminiBatch(
            id=batch_id,
            project=call.project,
            model=model,
            embeds=embeds,
            inline=inline,
            display_name=str(pick(given, "displayName") or ""),
            priority=None if priority is None else str(priority),
            created_at=now,
            updated_at=now,
            serial=self._serial,
            rows=Rows(found.path, found.offsets, order),
            tokens=found.tokens,
            schedule=Schedule.plan(len(order), starts_at, seconds, deadline, quirks),
            quirks=quirks,
            input_error=found.error,
        )

    def _named(self, call: Call) -> GeminiBatch:
        return visible(self._batches.get(call.arg), call.project, call.now, MISSING)

    async def _get(self, call: Call) -> Response:
        return json_response(self._named(call).view(call.now, output=True))

    async def _list(self, call: Call) -> Response:
        mine = [
            (batch.serial, batch)
            for batch in listed(reversed(self._batches.values()), call.project, call.now)
        ]
        shown, token = page(call.request, mine, 50, 100)
        return listing("operations", [batch.view(call.now, output=False) for batch in shown], token)

    async def _cancel(self, call: Call) -> Response:
        cancel_batch(self._context, self._named(call), call.now)
        return json_response({})

    async def _delete(self, call: Call) -> Response:
        """Removes the batch at once, running or not; results that are a file stay in the Files API."""
        batch = self._named(call)
        if not batch.ended:
            del self._live[batch.id]
            self._context.meter.ended("cancelled")
            self._context.spool.drop(batch.rows.path)
        drop_results(self._context, batch)
        del self._batches[batch.id]
        return json_response({})


def _encoded(requests: list[object]) -> Iterator[bytes]:
    for request in requests:
        yield msgspec.json.encode(request)

"""OpenAI's Batch API: one life cycle, five calls (batch guide and API reference).

    validating -> failed
    validating -> in_progress -> finalizing -> completed
                  in_progress -> expired                   after 24 h; finished rows are delivered and billed
    validating, in_progress, finalizing -> cancelling -> cancelled     finished rows are delivered and billed

Creation is not idempotent: the same call twice makes two batches.
"""

import random
from array import array
from collections import defaultdict, deque

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._openai_files import OpenAIFiles, StoredFile, listing, page_after, read_life
from halfrate.emulator._openai_input import InputCheck
from halfrate.emulator._openai_models import ENDPOINTS
from halfrate.emulator._openai_run import LIVE, OpenAIBatch, advance_batch, cancel_batch
from halfrate.emulator._quirks import bend_create, draw_quirks, refuse_create
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Rows, Schedule
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Response,
    as_document,
    json_response,
    read_document,
    whole_number,
)

_HOUR = 3_600.0


class OpenAIBatches:
    """The batches of every key."""

    def __init__(self, context: Context, files: OpenAIFiles) -> None:
        self._context = context
        self._files = files
        self._batches: dict[str, OpenAIBatch] = {}
        self._live: dict[str, OpenAIBatch] = {}
        self._creates: defaultdict[str, deque[float]] = defaultdict(deque)

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/batches", "create", self._create),
            Route("GET", "/v1/batches", "list", self._list),
            Route("GET", "/v1/batches/{}", "poll", self._retrieve),
            Route("POST", "/v1/batches/{}/cancel", "cancel", self._cancel),
        ]

    def advance(self, now: float) -> None:
        """Bring every batch that is not finished up to `now`."""
        for batch in list(self._live.values()):
            advance_batch(self._context, self._files, batch, now, self._enqueued)
            if batch.status not in LIVE:
                del self._live[batch.id]

    def _enqueued(self, batch: OpenAIBatch) -> int:
        """Prompt tokens that a batch's project already has in the queue of its model."""
        return sum(
            other.prompt_tokens
            for other in self._live.values()
            if other.project == batch.project
            and other.model == batch.model
            and other.status in {"in_progress", "finalizing", "cancelling"}
        )

    async def _create(self, call: Call) -> Response:
        context, faults = self._context, self._context.faults
        body = await read_document(call.request)
        call = msgspec.structs.replace(call, now=context.clock.now())
        context.meter.creates_received += 1
        about = context.attempt()
        refuse_create(faults, "openai", about)
        self._count_create(call)
        stored, endpoint, metadata = self._checked(call, body)
        output_life = read_life(body.get("output_expires_after"), "output_expires_after")
        full = faults.strike("queue-full", "openai", about)
        if full is not None and full.text("mode") == "create":
            message = "Enqueued token limit reached. Please try again once some batches have been completed."
            raise ApiError(
                full.whole("status"), message, code="token_limit_exceeded", headers=full.retry_after()
            )
        batch = self._made(call, stored, endpoint)
        batch.metadata, batch.output_life = metadata, output_life
        batch.quirks.queue_full = full is not None
        self._batches[batch.id] = self._live[batch.id] = batch
        context.meter.batches_created["openai"] += 1
        response = json_response(batch.view(call.now))
        bent = bend_create(faults, "openai", about, response)
        if isinstance(bent, ApiError):
            raise bent
        return bent

    def _count_create(self, call: Call) -> None:
        recent = self._creates[call.project]
        while recent and recent[0] <= call.now - _HOUR:
            recent.popleft()
        if len(recent) >= self._context.limits.openai_creates_per_hour:
            wait = int(recent[0] + _HOUR - call.now) + 1
            message = "Rate limit reached for batch creation in this project."
            raise ApiError(429, message, code="rate_limit_exceeded", headers={"retry-after": str(wait)})
        recent.append(call.now)

    def _checked(self, call: Call, body: Document) -> tuple[StoredFile, str, Document | None]:
        for key in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(body.get(key), str):
                message = f"Missing required parameter: '{key}'."
                raise ApiError(400, message, code="missing_required_parameter", param=key)
        endpoint = body["endpoint"]
        if endpoint not in ENDPOINTS:
            expected = ", ".join(f"'{known}'" for known in ENDPOINTS)
            message = f"Invalid value: '{endpoint}'. Supported values are: {expected}."
            raise ApiError(400, message, code="invalid_value", param="endpoint")
        if body["completion_window"] != "24h":
            message = f"Invalid value: '{body['completion_window']}'. Value must be '24h'."
            raise ApiError(400, message, code="invalid_value", param="completion_window")
        stored = self._files.find(call.project, body["input_file_id"])
        if stored is None or stored.ready_at > call.now:
            message = f"Invalid 'input_file_id': no file with id '{body['input_file_id']}' exists."
            raise ApiError(400, message, code="invalid_value", param="input_file_id")
        if stored.purpose != "batch":
            message = f"Invalid 'input_file_id': its purpose is '{stored.purpose}', expected 'batch'."
            raise ApiError(400, message, code="invalid_value", param="input_file_id")
        return stored, endpoint, _checked_metadata(body.get("metadata"))

    def _made(self, call: Call, stored: StoredFile, endpoint: str) -> OpenAIBatch:
        context, pace, now = self._context, self._context.pace, call.now
        checked = InputCheck(endpoint, context.limits).check(stored.path)
        batch_id = context.new_id("batch_")
        quirks = draw_quirks(context.faults, "openai", batch_id, now)
        if quirks.fail_code is not None:
            message = "The input file failed validation."
            line = quirks.fail_line
            checked.errors.append({"code": quirks.fail_code, "message": message, "param": None, "line": line})
        # The batch keeps its own link to the input: deleting the file does not stop the batch.
        path = context.spool.new()
        path.hardlink_to(stored.path)
        order = array("I", range(len(checked.offsets)))
        if quirks.shuffled:
            shuffled = list(order)
            random.Random(f"{context.seed}:{batch_id}").shuffle(shuffled)
            order = array("I", shuffled)
        starts_at = now + pace.validate + pace.queue + quirks.stuck_seconds
        seconds = pace.per_1000_rows / 1000
        return OpenAIBatch(
            id=batch_id,
            project=call.project,
            endpoint=endpoint,
            input_file_id=stored.id,
            created_at=now,
            expires_at=now + pace.window,
            validated_at=now + pace.validate,
            model=checked.model,
            prompt_tokens=checked.prompt_tokens,
            problems=checked.errors,
            rows=Rows(path, checked.offsets, order),
            schedule=Schedule.plan(len(order), starts_at, seconds, now + pace.window, quirks),
            quirks=quirks,
        )

    def _get(self, call: Call) -> OpenAIBatch:
        found = self._batches.get(call.arg)
        if found is None or found.project != call.project or found.quirks.hidden_until > call.now:
            raise ApiError(404, f"No batch found with id '{call.arg}'.")
        return found

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._get(call).view(call.now))

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        limit = whole_number(params.get("limit"), "limit", 20, 1, 100)
        found = [
            batch.id
            for batch in reversed(self._batches.values())
            if batch.project == call.project and batch.quirks.unlisted_until <= call.now
        ]
        page, more = page_after(found, params.get("after"), limit)
        return json_response(listing([self._batches[batch_id].view(call.now) for batch_id in page], more))

    async def _cancel(self, call: Call) -> Response:
        batch = self._get(call)
        cancel_batch(self._context, batch, call.now)
        return json_response(batch.view(call.now))


def _checked_metadata(given: object) -> Document | None:
    """Up to 16 pairs of texts, keys to 64 characters, values to 512."""
    if given is None:
        return None
    found = as_document(given)
    if found is None:
        raise ApiError(400, "Invalid type for 'metadata': expected an object.", param="metadata")
    if len(found) > 16:
        message = f"Invalid 'metadata': too many properties. Expected at most 16, but got {len(found)}."
        raise ApiError(400, message, code="object_above_max_properties", param="metadata")
    for key, value in found.items():
        if not isinstance(value, str):
            message = f"Invalid type for 'metadata.{key}': expected a string."
            raise ApiError(400, message, code="invalid_type", param=f"metadata.{key}")
        if len(key) > 64 or len(value) > 512:
            message = f"Invalid 'metadata.{key}': keys have at most 64 characters, values 512."
            raise ApiError(400, message, code="string_above_max_length", param=f"metadata.{key}")
    return found

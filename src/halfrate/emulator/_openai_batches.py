"""OpenAI's Batch API: one life cycle, five calls (batch guide and API reference).

    validating -> failed
    validating -> in_progress -> finalizing -> completed
                  in_progress -> expired                   after 24 h; finished rows are delivered and billed
    validating, in_progress, finalizing -> cancelling -> cancelled     finished rows are delivered and billed

Creation is not idempotent: the same call twice makes two batches. The life cycle is that of every dialect, whatever
it calls the states.
"""

import math
from collections import defaultdict, deque

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import OPENAI, Dialect
from halfrate.emulator._jobs import Input
from halfrate.emulator._openai_files import OpenAIFiles, StoredFile, listing, page_after, read_life
from halfrate.emulator._openai_input import InputCheck
from halfrate.emulator._openai_run import OpenAIBatch, OpenAIJobs
from halfrate.emulator._quirks import draw_quirks, listed, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._wire import ApiError, Document, Response, as_document, json_response, whole_number

_HOUR = 3_600.0


class _Asked(msgspec.Struct, frozen=True):
    """What a create call asks for, once it has been checked."""

    stored: StoredFile
    endpoint: str
    window: str
    hours: int
    metadata: Document | None
    params: Document
    output_life: float | None
    deletes_input: bool


class OpenAIBatches(OpenAIJobs):
    """The calls about batches."""

    def __init__(self, context: Context, files: OpenAIFiles, dialect: Dialect = OPENAI) -> None:
        super().__init__(context, files, dialect)
        self._creates: defaultdict[str, deque[float]] = defaultdict(deque)

    def routes(self) -> list[Route]:
        table = [
            ("POST", "/batches", "create", self._create),
            ("GET", "/batches", "list", self._list),
            ("GET", "/batches/{}", "poll", self._retrieve),
            ("POST", "/batches/{}/cancel", "cancel", self._cancel),
        ]
        return [
            Route(method, pattern, operation, handler)
            for method, path, operation, handler in table
            for pattern in self._dialect.routes_to(path)
        ]

    def _view(self, batch: OpenAIBatch, now: float) -> Document:
        """The batch object as a reply shows it."""
        return batch.view(now)

    def _created(self, batch: OpenAIBatch, now: float) -> Document:
        """What the create call answers with."""
        return self._view(batch, now)

    async def _create(self, call: Call) -> Response:
        call, body, about = await self.read_create(call)
        self._count_create(call)
        asked = self._checked(call, body)
        full = self._context.faults.strike("queue-full", self.provider, about)
        if full is not None and full.text("mode") == "create":
            raise self._full(full.whole("status"), full.retry_after())
        batch = self._made(call, asked)
        batch.quirks.queue_full = full is not None
        self.keep(batch)
        return self.create_reply(about, self._created(batch, call.now))

    def _full(self, status: int, headers: dict[str, str]) -> ApiError:
        """A queue that is full at the create call. 429 is the fault's own default, for which a dialect may have
        another status."""
        message = "Enqueued token limit reached. Please try again once some batches have been completed."
        status = self._dialect.full_status if status == 429 else status
        return ApiError(status, message, code="token_limit_exceeded", headers=headers)

    def _count_create(self, call: Call) -> None:
        recent = self._creates[call.project]
        while recent and recent[0] <= call.now - _HOUR:
            recent.popleft()
        if len(recent) >= self._context.limits.openai_creates_per_hour:
            wait = int(recent[0] + _HOUR - call.now) + 1
            message = "Rate limit reached for batch creation in this project."
            raise ApiError(429, message, code="rate_limit_exceeded", headers={"retry-after": str(wait)})
        recent.append(call.now)

    def _checked(self, call: Call, body: Document) -> _Asked:
        dialect = self._dialect
        needed = ("input_file_id", "endpoint", "completion_window")
        for key in needed[: 2 if dialect.window_default else 3]:
            if not isinstance(body.get(key), str):
                message = f"Missing required parameter: '{key}'."
                raise ApiError(400, message, code="missing_required_parameter", param=key)
        endpoint = body["endpoint"]
        if endpoint not in dialect.endpoints:
            expected = ", ".join(f"'{known}'" for known in dialect.endpoints)
            message = f"Invalid value: '{endpoint}'. Supported values are: {expected}."
            raise ApiError(400, message, code="invalid_value", param="endpoint")
        window, hours = self._window(body)
        stored = self._input(call, body["input_file_id"])
        life = body.get("output_expires_after")
        return _Asked(
            stored=stored,
            endpoint=endpoint,
            window=window,
            hours=hours,
            metadata=_checked_metadata(body.get("metadata")) if dialect.metadata else None,
            params=_checked_params(body.get("request_params")) if dialect.request_params else {},
            output_life=read_life(life, "output_expires_after", shortest=dialect.shortest_life),
            deletes_input=dialect.deletes_input and body.get("auto_delete_input_file") is not False,
        )

    def _window(self, body: Document) -> tuple[str, int]:
        """The completion window and its hours."""
        dialect = self._dialect
        asked = dialect.window_default if dialect.window_fixed else body.get("completion_window")
        window = dialect.window_default if asked is None else asked
        hours = dialect.hours(window)
        if hours is None or not isinstance(window, str):
            message = f"Invalid value: '{window}'. Value must be {_offered(dialect)}."
            raise ApiError(400, message, code="invalid_value", param="completion_window")
        return window, hours

    def _input(self, call: Call, file_id: str) -> StoredFile:
        """The input file, if a batch can be made of it."""
        stored = self._files.find(call.project, file_id)
        if stored is None or stored.ready_at > call.now:
            message = f"Invalid 'input_file_id': no file with id '{file_id}' exists."
            raise ApiError(400, message, code="invalid_value", param="input_file_id")
        if stored.purpose != self._dialect.purpose:
            expected = f"expected '{self._dialect.purpose}'"
            message = f"Invalid 'input_file_id': its purpose is '{stored.purpose}', {expected}."
            raise ApiError(400, message, code="invalid_value", param="input_file_id")
        if stored.pending(call.now):
            message = f"The file '{file_id}' is not in a processed state yet."
            raise ApiError(400, message, code="invalid_request", param="input_file_id")
        return stored

    def _made(self, call: Call, asked: _Asked) -> OpenAIBatch:
        context, dialect = self._context, self._dialect
        checked = InputCheck(dialect, asked.endpoint, context.limits, asked.params).check(asked.stored.path)
        batch_id = context.new_id("batch_")
        quirks = draw_quirks(context.faults, self.provider, batch_id, call.now)
        if quirks.fail_code is not None:
            message = "The input file failed validation."
            line = quirks.fail_line
            checked.errors.append({"code": quirks.fail_code, "message": message, "param": None, "line": line})
        # The batch keeps its own link to the input: deleting the file does not stop the batch.
        path = context.spool.new()
        path.hardlink_to(asked.stored.path)
        source = Input(path, checked.offsets, checked.errors)
        deadline = None if dialect.expires or quirks.expire_done is not None else math.inf
        return OpenAIBatch(
            **self.begin(call, batch_id, source, quirks, hours=asked.hours, deadline=deadline),
            dialect=dialect,
            endpoint=asked.endpoint,
            window=asked.window,
            input_file_id=asked.stored.id,
            model=checked.model,
            prompt_tokens=checked.prompt_tokens,
            input_bytes=asked.stored.size,
            params=asked.params,
            deletes_input=asked.deletes_input,
            metadata=asked.metadata,
            output_life=asked.output_life,
        )

    def _get(self, call: Call) -> OpenAIBatch:
        missing = f"No batch found with id '{call.arg}'."
        return visible(self._jobs.get(call.arg), call.project, call.now, missing)

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._view(self._get(call), call.now))

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        limit = whole_number(params.get("limit"), "limit", 20, 1, 100)
        found = [batch.id for batch in self._listed(call)]
        page, more = page_after(found, params.get("after"), limit)
        return json_response(listing([self._view(self._jobs[batch_id], call.now) for batch_id in page], more))

    def _listed(self, call: Call) -> list[OpenAIBatch]:
        """What a listing may show, the newest first."""
        return listed(reversed(self._jobs.values()), call.project, call.now)

    async def _cancel(self, call: Call) -> Response:
        batch = self._get(call)
        if not batch.live:
            message = f"Cannot cancel a batch with status '{batch.phase}'."
            raise ApiError(409, message, code="batch_not_cancellable")
        self.cancel(batch, call.now)
        return json_response(self._view(batch, call.now))


def _offered(dialect: Dialect) -> str:
    """The windows that a dialect offers, in words."""
    hours = [f"'{hours}h'" for hours in range(1, 721) if hours in dialect.window_hours]
    return " or ".join(hours) if len(hours) < 4 else f"between {hours[0]} and {hours[-1]}"


def _checked_params(given: object) -> Document:
    """Model and options of every row."""
    found = as_document(given)
    if found is None or not isinstance(found.get("model"), str):
        message = "Missing required parameter: 'request_params.model'."
        raise ApiError(400, message, code="missing_required_parameter", param="request_params")
    return found


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

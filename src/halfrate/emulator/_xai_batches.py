"""xAI's batches (batch guide and REST reference, 2026).

A batch is open: calls add requests to it until it is cancelled. One made from a file is sealed, and a single invalid
line cancels it. There is no status: `state` counts, and `num_pending` is 0 when all is done, which an empty batch
seems to be as well. Times are bare dates. Results can be read as soon as each is there.
"""

from array import array
from collections import defaultdict, deque
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._jobs import Job, Jobs, Result, Row
from halfrate.emulator._openai_models import CHAT
from halfrate.emulator._quirks import Quirks, draw_quirks, listed, refuse_full, reset_upload, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Answered, Ask, Lines
from halfrate.emulator._wire import ApiError, Document, Response, json_response, read_body
from halfrate.emulator._xai_files import XaiFiles, bounds
from halfrate.emulator._xai_input import InputError, XaiInput, read_added, read_file, read_row
from halfrate.emulator._xai_models import PICODOLLARS_PER_TICK, answer
from halfrate.emulator._xai_wire import row_error

_ADDS_WINDOW: Final = 30.0


class Wave(Job, kw_only=True):
    """The rows that came to a batch together."""

    batch_id: str


class XaiBatch(msgspec.Struct, kw_only=True):
    """A batch: what it shows, and what it is made of."""

    id: str
    project: str
    name: str
    created_at: float
    expires_at: float
    input_file_id: str | None
    quirks: Quirks
    results: Lines
    cancelled_at: float | None = None
    cancel_message: str | None = None
    waves: list[Wave] = []
    models: dict[str, str] = {}
    states: dict[str, str] = {}
    offsets: "array[int]" = msgspec.field(default_factory=lambda: array("Q"))
    written: int = 0

    def shown(self) -> list[Wave]:
        """The waves that count: a file's rows do once it has been validated."""
        return [
            wave
            for wave in self.waves
            if wave.phase != "failed" and (self.input_file_id is None or wave.started_at is not None)
        ]

    def state(self) -> dict[str, int]:
        """The counters."""
        waves = self.shown()
        succeeded, failed = (sum(wave.counted[part] for wave in waves) for part in (0, 1))
        total = sum(wave.rows.total for wave in waves)
        left = {"cancelled": 0, "pending": 0}
        for wave in waves:
            left["pending" if wave.live else "cancelled"] += wave.rows.total - wave.rows.done
        return {
            "num_requests": total,
            "num_pending": left["pending"],
            "num_success": succeeded,
            "num_error": failed,
            "num_cancelled": left["cancelled"],
        }

    def view(self) -> Document:
        """The batch as the API shows it."""
        ticks = sum(wave.picodollars for wave in self.waves) // PICODOLLARS_PER_TICK
        return {
            "batch_id": self.id,
            "name": self.name,
            "input_file_id": self.input_file_id,
            "create_time": _date(self.created_at),
            "expire_time": _date(self.expires_at),
            "create_api_key_id": "emulator",
            "cancel_time": _date(self.cancelled_at),
            "cancel_by_xai_message": self.cancel_message,
            "state": self.state(),
            "cost_breakdown": {"total_cost_usd_ticks": ticks},
        }


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).date().isoformat()


class XaiBatches(Jobs[Wave]):
    """The batches of every team."""

    provider = "xai"
    id_key = "batch_request_id"

    def __init__(self, context: Context, files: XaiFiles) -> None:
        super().__init__(context)
        self._files = files
        self._batches: dict[str, XaiBatch] = {}
        self._creates: defaultdict[str, deque[float]] = defaultdict(deque)
        self._adds: defaultdict[str, deque[float]] = defaultdict(deque)

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/batches", "create", self._create),
            Route("GET", "/v1/batches", "list", self._list),
            Route("GET", "/v1/batches/{}", "poll", self._retrieve),
            Route("POST", "/v1/batches/{}", "cancel", self._cancel),
            Route("POST", "/v1/batches/{}/requests", "upload", self._add),
            Route("GET", "/v1/batches/{}/requests", "list", self._requests),
            Route("GET", "/v1/batches/{}/results", "download", self._results),
        ]

    def read(self, job: Wave, line: bytes) -> Row:
        row = read_row(line)
        return Row(row.id, bytes(row.body))

    def batch_id(self, job: Wave) -> str:
        return job.batch_id

    def answer(self, job: Wave, body: Document, ask: Ask) -> Answered:
        return answer(self._context, body, ask)

    def line(self, job: Wave, result: Result) -> Document:
        row_id = result.row.id or ""
        document: Document = {"batch_request_id": row_id}
        states = self._batches[job.batch_id].states
        if result.error is None:
            body = None if result.answered is None else result.answered.body
            states[row_id] = "succeeded"
            return {**document, "batch_result": {"response": {"chat_get_completion": body}}}
        states[row_id] = "failed"
        error: Document | None = row_error(result.error)
        if result.plan.null_error:
            error = None
        if result.plan.status_zero:
            error = {}
        return {**document, "batch_result": {"error": error}, "error_message": result.error.message}

    def add(self, job: Wave, line: Document, row: Row, *, failed: bool, malformed: bool = False) -> None:
        # Results are items of a page, not lines of a file: a broken one has neither a response nor an error.
        encoded = msgspec.json.encode({**line, "batch_result": {}} if malformed else line) + b"\n"
        batch = self._batches[job.batch_id]
        batch.offsets.append(batch.written)
        batch.written += len(encoded)
        batch.results.add(encoded)

    def count_end(self, job: Wave) -> None:
        if job is self._batches[job.batch_id].waves[0]:
            super().count_end(job)

    def ended(self, job: Wave, at: float) -> None:
        batch = self._batches[job.batch_id]
        if job.phase == "failed":
            batch.cancelled_at, batch.cancel_message = at, job.problems[0]

    async def _create(self, call: Call) -> Response:
        call, body, about = await self.read_create(call)
        most = self._context.limits.xai_creates_per_second
        _throttle(self._creates[call.project], call.now, 1.0, most)
        refuse_full(self._context.faults, "xai", about)
        return self.create_reply(about, self._made(call, body).view())

    def _made(self, call: Call, body: Document) -> XaiBatch:
        context = self._context
        name, file_id = body.get("name"), body.get("input_file_id")
        if not isinstance(name, str) or not name:
            raise ApiError(400, "Batch name is required.")
        kept = None
        if file_id is not None:
            kept = self._files.find(call.project, str(file_id))
            if kept is None or kept.ready_at > call.now:
                raise ApiError(404, f"File {file_id} not found.")
        batch_id = context.new_id("batch_")
        batch = XaiBatch(
            id=batch_id,
            project=call.project,
            name=name,
            created_at=call.now,
            expires_at=call.now + context.pace.window,
            input_file_id=None if kept is None else kept.id,
            quirks=draw_quirks(context.faults, "xai", batch_id, call.now),
            results=Lines(context.spool.new()),
        )
        self._batches[batch_id] = batch
        context.meter.batches_created["xai"] += 1
        if kept is not None:
            source = read_file(kept.path, context.spool.new(), context.limits.xai_rows)
            self._add_wave(call, batch, source)
        return batch

    def _add_wave(self, call: Call, batch: XaiBatch, source: XaiInput) -> None:
        quirks, wave_id = batch.quirks, f"{batch.id}/{len(batch.waves)}"
        if quirks.fail_code is not None and batch.input_file_id is not None:
            where = f"line {quirks.fail_line}: {quirks.fail_code}"
            source.problems.append(f"JSONL file validation failed: {where}")
        wave = Wave(**self.begin(call, wave_id, source, quirks), batch_id=batch.id)
        batch.waves.append(wave)
        batch.models.update(source.models)
        self._live[wave.id] = wave

    def _get(self, call: Call, batch_id: str) -> XaiBatch:
        return visible(self._batches.get(batch_id), call.project, call.now, f"Batch {batch_id} not found.")

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._get(call, call.arg).view())

    async def _list(self, call: Call) -> Response:
        found = listed(reversed(self._batches.values()), call.project, call.now)
        start, end, token = bounds(call.request.params(), len(found))
        data = [batch.view() for batch in found[start:end]]
        return json_response({"batches": data, "pagination_token": token})

    async def _cancel(self, call: Call) -> Response:
        batch_id, colon, verb = call.arg.rpartition(":")
        if not colon or verb != "cancel":
            raise ApiError(404, f"Method not found: POST {call.request.path}")
        batch = self._get(call, batch_id)
        for wave in batch.waves:
            if wave.live:
                self.cancel(wave, call.now)
        ignored = any(wave.live and wave.phase != "cancelling" for wave in batch.waves)
        if batch.cancelled_at is None and not ignored:
            batch.cancelled_at = call.now
        return json_response(batch.view())

    async def _add(self, call: Call) -> Response:
        context = self._context
        batch = self._get(call, call.arg)
        if reset := await reset_upload(context.faults, "xai", context.attempt(), call.request):
            return reset
        body = await read_body(call.request, context.limits.xai_add_bytes)
        call = msgspec.structs.replace(call, now=context.clock.now())
        most = context.limits.xai_adds_per_half_minute
        _throttle(self._adds[call.project], call.now, _ADDS_WINDOW, most)
        if batch.input_file_id is not None:
            raise ApiError(400, f"Batch {batch.id} was made from a file: nothing can be added to it.")
        if batch.cancelled_at is not None:
            raise ApiError(400, f"Batch {batch.id} has been cancelled: nothing can be added to it.")
        path = context.spool.new()
        try:
            source = read_added(body, batch.models, path, len(batch.models))
        except InputError as error:
            context.spool.drop(path)
            raise ApiError(400, str(error)) from None
        self._add_wave(call, batch, source)
        return json_response({})

    async def _requests(self, call: Call) -> Response:
        batch = self._get(call, call.arg)
        ids = list(batch.models) if batch.shown() else []
        start, end, token = bounds(call.request.params(), len(ids))
        over = not any(wave.live for wave in batch.waves)
        data = [
            {
                "batch_request_id": row_id,
                "endpoint": CHAT,
                "model": batch.models[row_id],
                "state": batch.states.get(row_id, "cancelled" if over else "pending"),
                "create_time": _date(batch.created_at),
                "finish_time": _date(call.now) if row_id in batch.states else None,
            }
            for row_id in ids[start:end]
        ]
        return json_response({"batch_request_metadata": data, "pagination_token": token})

    async def _results(self, call: Call) -> Response:
        batch = self._get(call, call.arg)
        over = not any(wave.live for wave in batch.waves)
        total = 0 if over and batch.quirks.no_files else len(batch.offsets)
        start, end, token = bounds(call.request.params(), total)
        found: list[Any] = []
        if end > start:
            batch.results.flush()
            with batch.results.path.open("rb") as source:
                source.seek(batch.offsets[start])
                found = [msgspec.Raw(source.readline()) for _ in range(start, end)]
        body = msgspec.json.encode({"results": found, "pagination_token": token})
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        return Response(200, body, headers)


def _throttle(recent: deque[float], now: float, window: float, most: int) -> None:
    while recent and recent[0] <= now - window:
        recent.popleft()
    if len(recent) >= most:
        wait = max(1, int(recent[0] + window - now + 0.999))
        raise ApiError(429, "Too many requests. Please slow down.", headers={"retry-after": str(wait)})
    recent.append(now)

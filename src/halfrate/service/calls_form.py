"""Batches of calls that can wait: made of what was gathered, and answered call by call."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from halfrate.base.errors import InputError, UsageError
from halfrate.base.ids import new_job_id
from halfrate.blobs.shelves import Shelves
from halfrate.core.deferral import Answer, Deferred
from halfrate.core.keys import Surface
from halfrate.core.surface import BatchCounts, BatchPart, BatchState, LineFault, SurfaceBatch
from halfrate.providers.registry import adapter_class, split_model
from halfrate.rows.lines import line_blocks
from halfrate.rows.target import TargetFile
from halfrate.service.drafts import Ask
from halfrate.service.forms import Ran, Results, fault_of, not_run_because
from halfrate.service.report import Report

if TYPE_CHECKING:
    from halfrate.service.jobs import Service

_MANY: Final = 1_000
"""Answers that are kept and recorded at a time."""
_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Of Anthropic's errors (API reference, "Errors"); in a batch's results they come without."""
_FAULTS: Final = {"budget_exceeded": 402, "model_unavailable": 500}
_EXPIRED: Final = "The provider found no time for this call, try after try. It was not run."
_CANCELLED: Final = "The batch of this call was cancelled before it was run."


class _Named(msgspec.Struct, gc=False):
    custom_id: str


class _Response(msgspec.Struct, gc=False):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Error(msgspec.Struct, gc=False):
    code: str | None = None
    message: str | None = None
    type: str | None = None


class _OpenAILine(msgspec.Struct, gc=False):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


class _Errored(msgspec.Struct, gc=False):
    error: _Error = msgspec.field(default_factory=_Error)


class _Result(msgspec.Struct, gc=False):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _AnthropicLine(msgspec.Struct, gc=False):
    custom_id: str
    result: _Result


class _Came(msgspec.Struct, frozen=True, gc=False):
    """What became of a call. `ran`: whether it was run, and may have cost something."""

    call_id: str
    status: int
    body: bytes
    ran: bool = True


_named = msgspec.json.Decoder(_Named).decode
_openai_line = msgspec.json.Decoder(_OpenAILine).decode
_anthropic_line = msgspec.json.Decoder(_AnthropicLine).decode
_errored = msgspec.json.Decoder(_Errored).decode


class CallsForm:
    """See `Form`. `ended` receives the ids of calls that have been answered, in a thread."""

    partial = True
    shows_progress = False

    def __init__(self, service: "Service", places: Shelves, ended: Callable[[Sequence[str]], None]) -> None:
        self._service = service
        self._store = service.deferred
        self._places = places
        self._ended = ended

    def planned(self, batch: SurfaceBatch, folder: Path, now: float) -> SurfaceBatch:
        if batch.state is BatchState.GATHERING:
            # Whoever gathered it has died.
            batch = batch.moved(BatchState.VALIDATING, now)
        rows = self._set_apart(batch, folder)
        if not rows:
            return batch.moved(BatchState.FAILED, now)
        part = BatchPart(new_job_id(), batch.extra["model"], batch.extra["name"], rows)
        return msgspec.structs.replace(batch, parts=(part,), counts=BatchCounts(total=rows))

    def _set_apart(self, batch: SurfaceBatch, folder: Path) -> int:
        """Write the rows of the calls that wait; how many there are."""
        waiting = {call.id for call in self._store.waiting(batch.id)}
        rows = 0
        with TargetFile(_rows(folder)) as file:
            for call_id, line in _lines(folder / "input.jsonl"):
                if call_id in waiting:
                    waiting.discard(call_id)
                    file.write(line)
                    rows += 1
            file.commit()
        return rows

    def inputs(self, batch: SurfaceBatch, folder: Path) -> dict[str, Path]:
        if self._places.depot.afar:
            # Another machine may have settled which calls these are, and what is here be from before that.
            self._set_apart(batch, folder)
        return {part.asked: _rows(folder) for part in batch.parts}

    def options(self, batch: SurfaceBatch, part: BatchPart) -> dict[str, str]:
        return batch.options

    def asked(self, ask: Ask, part: BatchPart) -> Ask:
        facts = adapter_class(split_model(part.model)[1]).capabilities
        # One caller's calls that fail are no reason to keep those of others back.
        ask = msgspec.structs.replace(ask, keep_going=True)
        if part.rows < facts.least_rows:
            return msgspec.structs.replace(ask, tier="standard")
        return msgspec.structs.replace(ask, small_tails="realtime") if facts.least_rows > 1 else ask

    def left_out(self, batch: SurfaceBatch, folder: Path, error: UsageError) -> bool:
        """Answer the one call that cannot be run, so that the others are."""
        number = _row_of(error)
        rows = list(_lines(_rows(folder)))
        if number is None or number >= len(rows) or len(rows) == 1:
            return False
        waiting = {call.id: call for call in self._store.waiting(batch.id)}
        call_id, _ = rows.pop(number)
        with TargetFile(_rows(folder)) as file:
            file.write(b"".join(line for _, line in rows))
            file.commit()
        if call_id in waiting:
            self._answer(batch, waiting, [_refused(call_id, batch, fault_of(error))], {}, {})
        return True

    def progress(self, batch: SurfaceBatch, folder: Path, reports: Sequence[Report]) -> SurfaceBatch:
        """Answer the calls whose rows are done while others are not."""
        done = sum(report.succeeded for report in reports)
        if done <= batch.counts.completed:
            return batch
        for part, report in zip(batch.parts, reports, strict=True):
            raw = folder / "raw-now.jsonl"
            self._service.deliver_raw(part.job_id, raw)
            self._harvest(batch, raw, report, done=False)
        counts = msgspec.structs.replace(batch.counts, completed=done)
        return msgspec.structs.replace(batch, counts=counts)

    def results(self, batch: SurfaceBatch, folder: Path, ran: Sequence[Ran], now: float) -> Results:
        for one in ran:
            self._harvest(batch, one.raw, one.report, done=True)
        # What is left was never made a job of.
        waiting = {call.id: call for call in self._store.waiting(batch.id)}
        fault = next((part.fault for part in batch.parts if part.fault is not None), None)
        fault = fault or LineFault("server_error", "This call could not be run. Nothing was sent. Try again.")
        self._answer(batch, waiting, [_refused(call_id, batch, fault) for call_id in waiting], {}, {})
        return Results((), batch.counts, None, None)

    # ------------------------------------------------------------ parts

    def _harvest(self, batch: SurfaceBatch, raw: Path, report: Report, *, done: bool) -> None:
        """Answer what a job has come to so far; where it is done, all of it."""
        waiting = {call.id: call for call in self._store.waiting(batch.id)}
        if not waiting:
            return
        tiers = self._service.tiers(report.job.id)
        paid = self._service.results(report.job.id)
        not_run = not_run_because(report)
        came: list[_Came] = []
        costs: dict[str, int | None] = {}
        served: dict[str, str] = {}
        for line, result in zip(_all_lines(raw), paid, strict=True):
            # A row that failed may be tried again as long as its job goes on.
            if not done and result.status != "succeeded":
                continue
            one = _read(line, batch, not_run)
            if one.call_id not in waiting:
                continue
            came.append(_as_asked(one, waiting[one.call_id], batch))
            costs[one.call_id] = result.cost
            served[one.call_id] = tiers.get(result.row, report.job.tier)
            if len(came) >= _MANY:
                self._answer(batch, waiting, came, served, costs)
                came = []
        self._answer(batch, waiting, came, served, costs)

    def _answer(
        self,
        batch: SurfaceBatch,
        waiting: Mapping[str, Deferred],
        came: Sequence[_Came],
        served: Mapping[str, str],
        costs: Mapping[str, int | None],
    ) -> None:
        if not came:
            return
        file, places = self._places.add_answers(batch.id, (one.body for one in came))
        now = self._service.clock.now()
        ended = [
            msgspec.structs.replace(
                waiting[one.call_id],
                ended_at=now,
                answer=Answer(
                    one.status,
                    served.get(one.call_id) if one.ran else None,
                    costs.get(one.call_id, 0) if one.ran else 0,
                    file,
                    at,
                    size,
                ),
            )
            for one, (at, size) in zip(came, places, strict=True)
        ]
        self._ended(self._store.end(ended))


def _row_of(error: UsageError) -> int | None:
    """The row that an error names, from 0."""
    if not isinstance(error, InputError):
        return None
    return error.row if error.line is None else error.line - 1


def _rows(folder: Path) -> Path:
    return folder / "rows-0.jsonl"


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Lines with the ids of their calls. One that was not written to its end is none."""
    for line in _all_lines(path):
        try:
            yield _named(line).custom_id, line
        except msgspec.DecodeError:
            continue


def _all_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from itertools.chain.from_iterable(line_blocks(stream))


def _read(line: bytes, batch: SurfaceBatch, not_run: str) -> _Came:
    """A result line as the answer to a call."""
    return _read_anthropic(line, not_run) if batch.endpoint == "messages" else _read_openai(line, not_run)


def _as_asked(one: _Came, call: Deferred, batch: SurfaceBatch) -> _Came:
    """An answer in the form of the call, where that was put as another's."""
    if call.endpoint == batch.endpoint or one.status != 200:
        return one
    from halfrate.providers.translation.responses import to_response

    response = to_response(msgspec.json.decode(one.body), call.told)
    return msgspec.structs.replace(one, body=msgspec.json.encode(response))


def _read_openai(line: bytes, not_run: str) -> _Came:
    found = _openai_line(line)
    if found.response is not None and found.response.status_code:
        return _Came(found.custom_id, found.response.status_code, bytes(found.response.body))
    code = found.error.code if found.error is not None else None
    message = {"batch_expired": _EXPIRED, "batch_cancelled": _CANCELLED, "not_run": not_run}.get(code or "")
    if message is None:
        message = (found.error.message if found.error is not None else None) or not_run
    return _Came(found.custom_id, 503, error_body("openai", 503, code, message), ran=False)


def _read_anthropic(line: bytes, not_run: str) -> _Came:
    found = _anthropic_line(line)
    result = found.result
    if result.type == "succeeded":
        return _Came(found.custom_id, 200, bytes(result.message))
    if result.type == "errored":
        kind = _errored(result.error).error.type or "api_error"
        return _Came(found.custom_id, _STATUSES.get(kind, 500), bytes(result.error))
    message = _EXPIRED if result.type == "expired" else not_run
    return _Came(found.custom_id, 503, error_body("anthropic", 503, None, message), ran=False)


def _refused(call_id: str, batch: SurfaceBatch, fault: LineFault) -> _Came:
    surface: Surface = "anthropic" if batch.endpoint == "messages" else "openai"
    status = _FAULTS.get(fault.code, 500 if fault.code == "server_error" else 400)
    return _Came(call_id, status, error_body(surface, status, fault.code, fault.message), ran=False)


def error_body(surface: Surface, status: int, code: str | None, message: str) -> bytes:
    """An error as a surface has it."""
    if surface == "anthropic":
        kind = next((name for name, number in _STATUSES.items() if number == status), "api_error")
        document: object = {"type": "error", "error": {"type": kind, "message": message}}
    else:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        document = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return msgspec.json.encode(document)

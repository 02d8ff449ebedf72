"""The life of one Gemini batch: what its state is at a given time, and how its rows become results.

    PENDING -> RUNNING -> SUCCEEDED | FAILED | CANCELLED | EXPIRED        each as BATCH_STATE_...

There is no cancelling state: a batch stays as it was until it is CANCELLED. Rows that had finished by then are
delivered, which the guide neither promises nor excludes. A batch that is not done after 48 hours is EXPIRED, and no row
of it is delivered. Whether those that had run are billed, the guide does not say.
"""

import msgspec

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._gemini_embeddings import embed
from halfrate.emulator._gemini_files import GeminiFiles
from halfrate.emulator._gemini_input import InputRow, read_row, request_of
from halfrate.emulator._gemini_models import answer
from halfrate.emulator._gemini_wire import CANCELLED, DEADLINE, INVALID, rpc_status
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._prices import Model
from halfrate.emulator._quirks import Quirks, injected
from halfrate.emulator._rows import (
    Answered,
    Ask,
    Lines,
    RowPlan,
    Rows,
    Schedule,
    active_row_faults,
    plan_row,
)
from halfrate.emulator._wire import ApiError, Document, file_chunks

_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})


class GeminiBatch(msgspec.Struct, kw_only=True):
    """A batch: what it shows, and what it is made of."""

    id: str
    project: str
    model: Model
    embeds: bool
    inline: bool
    display_name: str
    priority: str | None
    created_at: float
    serial: int
    rows: Rows
    tokens: int
    schedule: Schedule
    quirks: Quirks
    input_error: str | None = None
    state: str = "PENDING"
    updated_at: float = 0.0
    ended_at: float | None = None
    cancel_asked_at: float | None = None
    races_cancel: bool = False
    error: Document | None = None
    good: int = 0
    bad: int = 0
    results: Lines | None = None
    responses_file: str | None = None

    @property
    def name(self) -> str:
        return f"batches/{self.id}"

    @property
    def ended(self) -> bool:
        return self.state in _ENDED

    def view(self, now: float, *, output: bool) -> Document:
        """The operation object; a listing has it without output."""
        kind = f"{_TYPE}{'EmbedContentBatch' if self.embeds else 'GenerateContentBatch'}"
        strange = self.quirks.strange(now)
        state = self.state if strange is None else strange.upper()
        metadata: Document = {
            "@type": kind,
            "model": f"models/{self.model.name}",
            "displayName": self.display_name,
            "createTime": rfc3339(self.created_at),
            "updateTime": rfc3339(self.updated_at),
            "endTime": rfc3339(self.ended_at),
            "state": f"BATCH_STATE_{state}",
            "batchStats": self._stats(),
            "priority": self.priority,
            "name": self.name,
        }
        made = self._output() if output else {}
        if made:
            metadata["output"] = made
        kept = {key: value for key, value in metadata.items() if value not in (None, "")}
        found: Document = {"name": self.name, "metadata": kept}
        if self.ended:
            found["done"] = True
            if self.error is not None:
                found["error"] = self.error
            else:
                found["response"] = {"@type": f"{kind}Output", **made}
        return found

    def _stats(self) -> dict[str, str]:
        """Counts are int64, and so strings; those that are zero are absent, as in JSON of protocol buffers."""
        good, bad = self.good, self.bad
        pending = 0 if self.state == "SUCCEEDED" else self.rows.total - self.rows.done
        if self.ended:
            good, bad = self.quirks.counted(good, bad)
        counts = {
            "requestCount": self.rows.total,
            "successfulRequestCount": good,
            "failedRequestCount": bad,
            "pendingRequestCount": pending,
        }
        return {key: str(count) for key, count in counts.items() if count}

    def _output(self) -> Document:
        if not self.ended:
            return {}
        if self.responses_file is not None:
            return {"responsesFile": self.responses_file}
        if self.inline and self.results is not None:
            data = b"".join(file_chunks(self.results.path))
            lines = [msgspec.Raw(line) for line in data.split(b"\n") if line]
            key = "inlinedEmbedContentResponses" if self.embeds else "inlinedResponses"
            return {key: {"inlinedResponses": lines}}
        return {}


def advance_batch(context: Context, files: GeminiFiles, batch: GeminiBatch, now: float) -> None:
    """Take every step that is due by `now`, each at its own time."""
    if batch.ended:
        return
    schedule = batch.schedule
    cancel_at = None if batch.cancel_asked_at is None else batch.cancel_asked_at + context.pace.cancel
    if cancel_at is None and batch.state == "PENDING" and now >= schedule.starts_at:
        fault, told = batch.quirks.fail_code, batch.input_error
        if fault is not None:
            told = f"{fault}: line {batch.quirks.fail_line} of the input is not as expected."
        if told is not None:
            batch.error = {"code": INVALID, "message": told}
            _end(context, files, batch, "FAILED", schedule.starts_at)
            return
        batch.state, batch.updated_at = "RUNNING", schedule.starts_at
    if cancel_at is None:
        # What an expired batch has done is lost. Whether it is billed, the guide does not say: here it is not, but
        # where the fault says that rows were billed and nothing came of them.
        if not schedule.expires or batch.quirks.no_files:
            _run_rows(context, batch, schedule.rows_at(min(now, schedule.ends_at)), now)
        due = schedule.ends_at + (0.0 if schedule.expires else context.pace.finalize)
        if now >= due:
            _end(context, files, batch, "EXPIRED" if schedule.expires else "SUCCEEDED", due)
    elif now >= cancel_at:
        if batch.races_cancel and batch.input_error is None:
            _run_rows(context, batch, batch.rows.total, cancel_at)
            _end(context, files, batch, "SUCCEEDED", cancel_at)
        else:
            _end(context, files, batch, "CANCELLED", cancel_at)


def cancel_batch(context: Context, batch: GeminiBatch, now: float) -> None:
    """Ask a batch to stop. One that has ended stays as it is; asking twice changes nothing."""
    if batch.ended or batch.cancel_asked_at is not None:
        return
    if context.faults.strike("cancel-ignored", "gemini", batch.id):
        return
    batch.races_cancel = context.faults.strike("cancel-race", "gemini", batch.id) is not None
    batch.cancel_asked_at = now


def _end(context: Context, files: GeminiFiles, batch: GeminiBatch, state: str, at: float) -> None:
    batch.state, batch.ended_at, batch.updated_at = state, at, at
    context.meter.ended("completed" if state == "SUCCEEDED" else state.lower())
    context.spool.drop(batch.rows.path)
    if state == "CANCELLED":
        batch.error = {"code": CANCELLED, "message": "The operation was cancelled."}
    if state == "EXPIRED":
        message = "The batch was not done within 48 hours; it has expired without results."
        batch.error = {"code": DEADLINE, "message": message}
    if batch.results is None:
        return
    batch.results.flush()
    if state in {"EXPIRED", "FAILED"} or batch.quirks.no_files:
        drop_results(context, batch)
    elif not batch.inline:
        batch.results.cut(batch.quirks.cut_bytes)
        name = f"files/batch-{batch.id}"
        batch.responses_file = files.generate(batch.results.path, batch.project, name, at).name
        batch.results = None


def drop_results(context: Context, batch: GeminiBatch) -> None:
    """Remove what is not in a file of the Files API."""
    if batch.results is not None:
        context.spool.drop(batch.results.path)
        batch.results = None


def _run_rows(context: Context, batch: GeminiBatch, upto: int, now: float) -> None:
    active = active_row_faults(context.faults)
    for line in batch.rows.take(upto):
        _run_row(context, batch, read_row(line), active, now)
    if batch.results is not None:
        batch.results.flush()


def _run_row(context: Context, batch: GeminiBatch, row: InputRow, active: list[str], now: float) -> None:
    about = f"{batch.id}:{row.id or batch.rows.done}"
    raw, plan, mark = bytes(row.request), RowPlan(), ""
    outcome: Document
    try:
        body = request_of(row)
        mark = fingerprint(body)
        if active:
            plan = plan_row(context.faults, active, "gemini", about, (mark, raw))
        if batch.quirks.all_rows_status is not None:
            plan.error_status = batch.quirks.all_rows_status
        if plan.missing:
            batch.bad += 1
            return
        if plan.fails:
            raise injected(plan.error_status or 0)
        ask = Ask(batch.project, now, about, batch.id, plan.twist, "gemini")
        answered = _answered(context, batch, body, ask)
        charge = Charge(
            now, "gemini", "batch", answered.model, answered.tokens, batch.id, row.id, mark, batch.project
        )
        context.meter.bill(charge)
        outcome = {"response": answered.body}
        batch.good += 1
    except ApiError as error:
        batch.bad += 1
        outcome = {"error": None if plan.null_error else {} if plan.status_zero else rpc_status(error)}
    _write(context, batch, plan, row, outcome)


def _answered(context: Context, batch: GeminiBatch, body: Document, ask: Ask) -> Answered:
    if not batch.embeds:
        return answer(context, body, batch.model, ask)
    answered = embed(body, batch.model)
    answered.body["tokenCount"] = str(answered.tokens.input)
    return answered


def _write(context: Context, batch: GeminiBatch, plan: RowPlan, row: InputRow, outcome: Document) -> None:
    known = {"metadata": row.metadata} if batch.inline else {"key": row.key}
    if plan.no_id or next(iter(known.values())) is None:
        known = {}
    # A broken line can stand in a file only: inline, the whole reply would be broken.
    malformed = plan.malformed and not batch.inline
    for _ in range(plan.copies):
        _add(context, batch, {**known, **outcome}, malformed=malformed)
    if plan.stranger:
        key = {"key": context.new_id("stranger-")}
        _add(context, batch, {**({"metadata": key} if batch.inline else key), **outcome})


def _add(context: Context, batch: GeminiBatch, line: Document, *, malformed: bool = False) -> None:
    if batch.results is None:
        batch.results = Lines(context.spool.new())
    batch.results.add_document(line, malformed=malformed)

"""The life of one message batch: what its state is at a given time, and how its rows become result lines."""

import msgspec

from halfrate.emulator._anthropic_models import answer
from halfrate.emulator._anthropic_wire import error_document
from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._quirks import Quirks, injected
from halfrate.emulator._rows import Ask, Lines, RowPlan, Rows, Schedule, active_row_faults, broken, plan_row
from halfrate.emulator._wire import ApiError, Document


class AnthropicBatch(msgspec.Struct, kw_only=True):
    """A batch: what it shows, and what it is made of."""

    id: str
    project: str
    version: str
    created_at: float
    expires_at: float
    rows: Rows
    schedule: Schedule
    quirks: Quirks
    status: str = "in_progress"
    ended_at: float | None = None
    cancel_initiated_at: float | None = None
    races_cancel: bool = False
    counts: dict[str, int] = {}
    results: Lines | None = None
    results_size: int = 0

    def view(self, now: float, origin: str, archived_at: float | None) -> Document:
        """The message batch object of the API reference."""
        status = self.status
        if now < self.quirks.strange_until and self.quirks.strange_status is not None:
            status = self.quirks.strange_status
        counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        if self.status == "ended":
            counts |= self.counts
            if self.quirks.counts_wrong:
                counts["succeeded"], counts["errored"] = counts["errored"], counts["succeeded"] + 1
        else:  # frozen: no sign of progress before the end
            counts["processing"] = self.rows.total
        readable = self.results is not None and self.status == "ended" and archived_at is None
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "ended_at": rfc3339(self.ended_at),
            "cancel_initiated_at": rfc3339(self.cancel_initiated_at),
            "archived_at": rfc3339(archived_at),
            "results_url": f"{origin}/v1/messages/batches/{self.id}/results" if readable else None,
        }


class _Row(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


_row = msgspec.json.Decoder(_Row)


def advance_batch(context: Context, batch: AnthropicBatch, now: float) -> None:
    """Take every step that is due by `now`, each at its own time."""
    if batch.status == "in_progress":
        _run_rows(context, batch, batch.schedule.rows_at(now), now)
        schedule = batch.schedule
        due = schedule.ends_at + (0.0 if schedule.expires else context.pace.finalize)
        if now >= due:
            _end(context, batch, "expired" if schedule.expires else "completed", due)
    elif batch.status == "canceling":
        due = (batch.cancel_initiated_at or now) + context.pace.cancel
        if now >= due:
            if batch.races_cancel:
                _run_rows(context, batch, batch.rows.total, due)
            _end(context, batch, "completed" if batch.races_cancel else "cancelled", due)


def cancel_batch(context: Context, batch: AnthropicBatch, now: float) -> None:
    """Ask a batch to stop. ApiError 400 when it has ended; asking twice changes nothing."""
    if batch.status == "canceling":
        return
    if batch.status == "ended":
        raise ApiError(400, f"Message batch {batch.id} has already ended and cannot be canceled.")
    if context.faults.strike("cancel-ignored", "anthropic", batch.id):
        return
    batch.races_cancel = context.faults.strike("cancel-race", "anthropic", batch.id) is not None
    batch.status, batch.cancel_initiated_at = "canceling", now


def _end(context: Context, batch: AnthropicBatch, how: str, at: float) -> None:
    """Every row has exactly one line once a batch has ended: those that never ran say so."""
    kind = "expired" if how == "expired" else "canceled"
    for line in batch.rows.rest():
        _add(context, batch, {"custom_id": _row.decode(line).custom_id, "result": {"type": kind}})
        _count(batch, kind)
    batch.status, batch.ended_at = "ended", at
    context.meter.ended(how)
    context.spool.drop(batch.rows.path)
    if batch.results is None:
        return
    batch.results.flush()
    if batch.quirks.no_files:
        context.spool.drop(batch.results.path)
        batch.results = None
        return
    batch.results.cut(batch.quirks.cut_bytes)
    batch.results_size = batch.results.path.stat().st_size
    context.meter.files_stored += 1
    context.meter.bytes_stored += batch.results_size


def _count(batch: AnthropicBatch, kind: str) -> None:
    batch.counts[kind] = batch.counts.get(kind, 0) + 1


def _run_rows(context: Context, batch: AnthropicBatch, upto: int, now: float) -> None:
    active = active_row_faults(context.faults)
    for line in batch.rows.take(upto):
        _run_row(context, batch, _row.decode(line), active, now)
    if batch.results is not None:
        batch.results.flush()


def _run_row(context: Context, batch: AnthropicBatch, row: _Row, active: list[str], now: float) -> None:
    raw = bytes(row.params)
    params: Document = msgspec.json.decode(raw)
    mark = fingerprint(params)
    about = f"{batch.id}:{row.custom_id}"
    plan = plan_row(context.faults, active, "anthropic", about, (mark, raw)) if active else RowPlan()
    if batch.quirks.all_rows_status is not None:
        plan.error_status = batch.quirks.all_rows_status
    if plan.missing:
        _count(batch, "errored")
        return
    result: Document
    try:
        if plan.fails:
            raise injected(plan.error_status or 0)
        ask = Ask(batch.project, now, about, batch.id, plan.twist)
        answered = answer(context, params, batch.version, ask, "batch")
        charge = Charge(
            now, "anthropic", "batch", answered.model, answered.tokens, batch.id, row.custom_id, mark
        )
        context.meter.bill(charge)
        result = {"type": "succeeded", "message": answered.body}
        _count(batch, "succeeded")
    except ApiError as error:
        result = {"type": "errored", "error": error_document(error, context.new_id("req_"))}
        if plan.null_error:
            result["error"] = None
        if plan.status_zero:
            result["error"] = {}
        _count(batch, "errored")
    _write(context, batch, plan, {"custom_id": row.custom_id, "result": result})


def _write(context: Context, batch: AnthropicBatch, plan: RowPlan, line: Document) -> None:
    if plan.no_id:
        line = {"result": line["result"]}
    for _ in range(plan.copies):
        _add(context, batch, line, malformed=plan.malformed)
    if plan.stranger:
        _add(context, batch, {**line, "custom_id": context.new_id("stranger-")})


def _add(context: Context, batch: AnthropicBatch, line: Document, *, malformed: bool = False) -> None:
    if batch.results is None:
        batch.results = Lines(context.spool.new())
    encoded = msgspec.json.encode(line) + b"\n"
    batch.results.add(broken(encoded) if malformed else encoded)

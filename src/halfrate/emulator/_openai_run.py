"""The life of one OpenAI batch, in every dialect: its state at a given time, and how its rows become result lines."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import Dialect
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._openai_files import OpenAIFiles
from halfrate.emulator._openai_input import InputRow, read_row
from halfrate.emulator._openai_models import answer
from halfrate.emulator._openai_wire import error_document
from halfrate.emulator._prices import Tokens
from halfrate.emulator._quirks import Quirks, injected
from halfrate.emulator._rows import Ask, Lines, RowPlan, Rows, Schedule, active_row_faults, broken, plan_row
from halfrate.emulator._wire import ApiError, Document

LIVE = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
_EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
_CANCELLED = ("batch_cancelled", "This request was cancelled before it was executed.")


class OpenAIBatch(msgspec.Struct, kw_only=True):
    """A batch: what it shows, and what it is made of."""

    id: str
    dialect: Dialect
    project: str
    endpoint: str
    window: str
    input_file_id: str
    created_at: float
    expires_at: float
    validated_at: float
    model: str | None
    prompt_tokens: int
    problems: list[Document]
    rows: Rows
    schedule: Schedule
    quirks: Quirks
    input_bytes: int = 0
    params: Document = {}
    """What the create call says for every row."""
    deletes_input: bool = False
    metadata: Document | None = None
    output_life: float | None = None
    status: str = "validating"
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    races_cancel: bool = False
    early_until: float = 0.0
    completed: int = 0
    failed: int = 0
    tokens: Tokens = Tokens()
    output: Lines | None = None
    errors: Lines | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None

    def shown(self, now: float) -> tuple[str, bool]:
        """(the status in the provider's word, whether the end is not to be seen yet)."""
        if now < self.quirks.strange_until and self.quirks.strange_status is not None:
            return self.quirks.strange_status, now < self.early_until
        if now < self.early_until:  # its event is out already
            return self.dialect.word("validating" if self.status == "failed" else "finalizing"), True
        return self.dialect.word(self.status), False

    def view(self, now: float) -> Document:
        """The batch object of the API reference."""
        dialect, no_file = self.dialect, self.dialect.no_file()
        status, hidden = self.shown(now)
        failed = self.status == "failed" and not hidden
        document: Document = {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": self._errors() if failed else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.window,
            "status": status,
            "output_file_id": no_file if hidden else self.output_file_id or no_file,
            "error_file_id": no_file if hidden else self.error_file_id or no_file,
            "created_at": dialect.time(self.created_at),
            "in_progress_at": dialect.time(self.in_progress_at),
            "expires_at": dialect.time(self.expires_at),
            "finalizing_at": dialect.time(self.finalizing_at),
            "completed_at": None if hidden else dialect.time(self.completed_at),
            "failed_at": None if hidden else dialect.time(self.failed_at),
            "expired_at": None if hidden else dialect.time(self.expired_at),
            "cancelling_at": dialect.time(self.cancelling_at),
            "cancelled_at": None if hidden else dialect.time(self.cancelled_at),
            "request_counts": self._counts(),
        }
        if dialect.metadata:
            document["metadata"] = self.metadata
        if dialect.request_params:
            document["request_params"] = self.params
        if dialect.usage:
            document |= {"model": self.model, "usage": self._usage()}
        return document

    def progress(self) -> float:
        """Per cent of the rows that are done."""
        counts = self._counts()
        return 100.0 * (counts["completed"] + counts["failed"]) / counts["total"] if counts["total"] else 0.0

    def _errors(self) -> Document | str:
        if self.dialect.errors_as_text:
            return "; ".join(problem["message"] for problem in self.problems)
        return {"object": "list", "data": self.problems}

    def _counts(self) -> dict[str, int]:
        total = 0 if self.status in {"validating", "failed"} else self.rows.total
        completed, failed = self.completed, self.failed
        if self.quirks.counts_wrong:
            completed, failed = failed, completed + 1
        return {"total": total, "completed": completed, "failed": failed}

    def _usage(self) -> dict[str, Any]:
        tokens = self.tokens
        return {
            "input_tokens": tokens.prompt,
            "input_tokens_details": {"cached_tokens": tokens.cached},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.prompt + tokens.output,
        }


def advance_batch(
    context: Context,
    files: OpenAIFiles,
    batch: OpenAIBatch,
    now: float,
    enqueued: Callable[[OpenAIBatch], int],
) -> None:
    """Take every step that is due by `now`, each at its own time."""
    while True:
        status = batch.status
        match status:
            case "validating":
                _validate(context, batch, now, enqueued)
            case "in_progress":
                _work(context, files, batch, now)
            case "finalizing":
                due = (batch.finalizing_at or now) + context.pace.finalize
                if now >= due:
                    batch.completed_at = due
                    _end(context, files, batch, "completed", due)
            case "cancelling":
                _finish_cancel(context, files, batch, now)
            case _:
                return
        if batch.status == status:
            return


def _validate(
    context: Context, batch: OpenAIBatch, now: float, enqueued: Callable[[OpenAIBatch], int]
) -> None:
    if now < batch.validated_at:
        return
    limit = context.limits.openai_enqueued_tokens
    over = limit is not None and enqueued(batch) + batch.prompt_tokens > limit
    if not batch.problems and (over or batch.quirks.queue_full):
        message = (
            f"Enqueued token limit reached for {batch.model} in organization org-emulator. "
            f"Limit: {limit or 2_000_000:,} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        problem = {"code": "token_limit_exceeded", "message": message, "param": None, "line": None}
        batch.problems.append(problem)
    if batch.problems:
        batch.failed_at = batch.validated_at
        batch.status = "failed"
        _announce(context, batch, batch.validated_at)
        context.spool.drop(batch.rows.path)
        return
    context.meter.received(batch.rows.total)
    batch.status, batch.in_progress_at = "in_progress", batch.validated_at


def _work(context: Context, files: OpenAIFiles, batch: OpenAIBatch, now: float) -> None:
    _run_rows(context, batch, batch.schedule.rows_at(now), now)
    ends_at = max(batch.schedule.ends_at, batch.validated_at)
    if now < ends_at:
        return
    if batch.schedule.expires:
        _unfinished(context, batch, _EXPIRED)
        batch.expired_at = ends_at
        _end(context, files, batch, "expired", ends_at)
    else:
        batch.status, batch.finalizing_at = "finalizing", ends_at


def _finish_cancel(context: Context, files: OpenAIFiles, batch: OpenAIBatch, now: float) -> None:
    due = (batch.cancelling_at or now) + context.pace.cancel
    if now < due:
        return
    if batch.races_cancel:
        _run_rows(context, batch, batch.rows.total, due)
        batch.finalizing_at = batch.completed_at = due
        _end(context, files, batch, "completed", due)
        return
    absent = context.faults.strike("cancel-absent", batch.dialect.provider, batch.id) is not None
    if batch.in_progress_at is not None and not absent:
        _unfinished(context, batch, _CANCELLED)
    batch.cancelled_at = due
    _end(context, files, batch, "cancelled", due)


def cancel_batch(context: Context, batch: OpenAIBatch, now: float) -> None:
    """Ask a batch to stop. ApiError 409 when it has already come to its end; asking twice changes nothing."""
    if batch.status == "cancelling":
        return
    if batch.status not in LIVE:
        raise ApiError(
            409, f"Cannot cancel a batch with status '{batch.status}'.", code="batch_not_cancellable"
        )
    provider = batch.dialect.provider
    if context.faults.strike("cancel-ignored", provider, batch.id):
        return
    sound = not batch.problems
    batch.races_cancel = sound and context.faults.strike("cancel-race", provider, batch.id) is not None
    if batch.races_cancel and batch.in_progress_at is None:
        context.meter.received(batch.rows.total)
        batch.in_progress_at = now
    batch.status, batch.cancelling_at = "cancelling", now


def _end(context: Context, files: OpenAIFiles, batch: OpenAIBatch, status: str, at: float) -> None:
    """Reach a final state: result files appear (empty ones do not), the event goes out."""
    batch.status = status
    if status == "completed" and batch.dialect.empty_error_file and batch.errors is None:
        batch.errors = Lines(context.spool.new())
        batch.errors.path.touch()
    for kind, lines in (("output", batch.output), ("error", batch.errors)):
        if lines is None:
            continue
        lines.flush()
        if batch.quirks.no_files:
            context.spool.drop(lines.path)
            continue
        lines.cut(batch.quirks.cut_bytes)
        names = (batch.project, f"{batch.id}_{kind}.jsonl", batch.dialect.output_purpose)
        stored = files.store(lines.path, names, at, batch.output_life)
        if kind == "output":
            batch.output_file_id = stored.id
        else:
            batch.error_file_id = stored.id
    batch.output = batch.errors = None
    context.spool.drop(batch.rows.path)
    if batch.deletes_input:
        files.discard(batch.project, batch.input_file_id)
    _announce(context, batch, at)


def _announce(context: Context, batch: OpenAIBatch, at: float) -> None:
    context.meter.ended(batch.status)
    if not batch.dialect.webhooks:
        return
    provider = batch.dialect.provider
    early = context.faults.strike("webhook-early", provider, batch.id) if context.outbox.targets else None
    if early is not None:
        batch.early_until = at + early.number("seconds")
    context.outbox.batch_event(batch.id, batch.status, at, context.new_id("evt_"))


def _run_rows(context: Context, batch: OpenAIBatch, upto: int, now: float) -> None:
    active = active_row_faults(context.faults)
    for line in batch.rows.take(upto):
        _run_row(context, batch, read_row(line), active, now)
    for lines in (batch.output, batch.errors):
        if lines is not None:
            lines.flush()


def _unfinished(context: Context, batch: OpenAIBatch, why: tuple[str, str]) -> None:
    """Rows that never ran get a line in the error file: no response, and a code that says why."""
    code, message = why
    for line in batch.rows.rest():
        custom_id = read_row(line).custom_id
        document = {"id": context.new_id("batch_req_"), "custom_id": custom_id, "response": None}
        absent = {**document, "error": {"code": code, "message": message}}
        _add(context, batch, _styled(batch.dialect, absent), failed=True)


def _run_row(context: Context, batch: OpenAIBatch, row: InputRow, active: list[str], now: float) -> None:
    dialect, raw = batch.dialect, bytes(row.body)
    body: Document = {**batch.params, **msgspec.json.decode(raw)}
    mark = fingerprint(body)
    about = f"{batch.id}:{row.custom_id}"
    plan = plan_row(context.faults, active, dialect.provider, about, (mark, raw)) if active else RowPlan()
    if batch.quirks.all_rows_status is not None:
        plan.error_status = batch.quirks.all_rows_status
    if plan.missing:
        batch.failed += 1
        return
    status, document = 200, None
    try:
        if plan.fails:
            raise injected(plan.error_status or 0)
        ask = Ask(batch.project, now, about, batch.id, plan.twist, dialect.provider)
        answered = answer(context, dialect.endpoints[batch.endpoint], dialect.asked(body), ask)
        document = dialect.dressed(answered.body)
        paid = (answered.model, answered.tokens, batch.id, row.custom_id, mark)
        context.meter.bill(Charge(now, dialect.provider, "batch", *paid))
        batch.tokens = _plus(batch.tokens, answered.tokens)
        batch.completed += 1
    except ApiError as error:
        status, document = error.status, error_document(error)
        if plan.null_error:
            document = {"error": None}
        if plan.status_zero:
            status, document = 0, {}
        batch.failed += 1
    _write(context, batch, plan, row.custom_id, (status, document))


def _write(
    context: Context, batch: OpenAIBatch, plan: RowPlan, custom_id: str, response: tuple[int, Document]
) -> None:
    status, body = response
    line: Document = {
        "id": context.new_id("batch_req_"),
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": context.new_id("req_"), "body": body},
        "error": None,
    }
    line = _styled(batch.dialect, line)
    failed = status != 200
    if plan.no_id:
        del line["custom_id"]
    for _ in range(plan.copies):
        _add(context, batch, line, failed=failed, malformed=plan.malformed)
    if plan.stranger:
        _add(context, batch, {**line, "custom_id": context.new_id("stranger-")}, failed=failed)
    if plan.both_files:
        other = partial(_add, context, batch, failed=not failed)
        again = error_document(injected(500))
        other({**line, "response": {**line["response"], "status_code": 500, "body": again}})


def _styled(dialect: Dialect, line: Document) -> Document:
    """A result line with the fields that the provider gives it."""
    if dialect.row_style == "full":
        return line
    line = {name: value for name, value in line.items() if name != "id"}
    if dialect.row_style == "bare":
        if line["response"] is None:
            del line["response"]
        else:
            del line["error"]
            line["response"] = {name: line["response"][name] for name in ("status_code", "body")}
    return line


def _add(
    context: Context, batch: OpenAIBatch, line: Document, *, failed: bool, malformed: bool = False
) -> None:
    lines = batch.errors if failed else batch.output
    if lines is None:
        lines = Lines(context.spool.new())
        if failed:
            batch.errors = lines
        else:
            batch.output = lines
    encoded = msgspec.json.encode(line) + b"\n"
    lines.add(broken(encoded) if malformed else encoded)


def _plus(one: Tokens, other: Tokens) -> Tokens:
    return Tokens(
        one.input + other.input,
        one.cached + other.cached,
        one.write_5m + other.write_5m,
        one.write_1h + other.write_1h,
        one.output + other.output,
    )

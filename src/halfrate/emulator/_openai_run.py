"""The life of one OpenAI batch, in every dialect: its state at a given time, and how its rows become result lines."""

from typing import Any

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import Dialect
from halfrate.emulator._jobs import Job, Jobs, Phase, Result, Row
from halfrate.emulator._openai_files import OpenAIFiles
from halfrate.emulator._openai_input import read_row
from halfrate.emulator._openai_models import answer
from halfrate.emulator._openai_wire import error_document
from halfrate.emulator._quirks import injected
from halfrate.emulator._rows import Answered, Ask, Lines
from halfrate.emulator._wire import Document

_EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
_CANCELLED = ("batch_cancelled", "This request was cancelled before it was executed.")


class OpenAIBatch(Job, kw_only=True):
    """A batch: what it shows besides."""

    dialect: Dialect
    endpoint: str
    window: str
    input_file_id: str
    model: str | None
    prompt_tokens: int
    input_bytes: int
    params: Document
    """What the create call says for every row."""
    deletes_input: bool
    metadata: Document | None
    output_life: float | None
    early_until: float = 0.0
    output_file_id: str | None = None
    error_file_id: str | None = None

    def shown(self, now: float) -> tuple[str, bool]:
        """(the status in the provider's word, whether the end is not to be seen yet)."""
        strange = self.strange(now)
        if strange is not None:
            return strange, now < self.early_until
        if now < self.early_until:  # its event is out already
            return self.dialect.word("validating" if self.phase == "failed" else "finalizing"), True
        return self.dialect.word("in_progress" if self.phase == "running" else self.phase), False

    def view(self, now: float) -> Document:
        """The batch object of the API reference."""
        dialect, no_file = self.dialect, self.dialect.no_file()
        status, hidden = self.shown(now)

        def end(phase: Phase) -> int | str | None:
            return dialect.time(self.ended_at) if phase == self.phase and not hidden else None

        document: Document = {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": self._errors() if self.phase == "failed" and not hidden else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.window,
            "status": status,
            "output_file_id": no_file if hidden else self.output_file_id or no_file,
            "error_file_id": no_file if hidden else self.error_file_id or no_file,
            "created_at": dialect.time(self.created_at),
            "in_progress_at": dialect.time(self.started_at),
            "expires_at": dialect.time(self.expires_at),
            "finalizing_at": dialect.time(self.finalizing_at),
            "completed_at": end("completed"),
            "failed_at": end("failed"),
            "expired_at": end("expired"),
            "cancelling_at": dialect.time(self.cancelling_at),
            "cancelled_at": end("cancelled"),
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
        total = 0 if self.phase in {"validating", "failed"} else self.rows.total
        completed, failed = self.counted
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


class OpenAIJobs(Jobs[OpenAIBatch]):
    """The batches of every key at one provider, without the calls about them."""

    def __init__(self, context: Context, files: OpenAIFiles, dialect: Dialect) -> None:
        super().__init__(context)
        self.provider = dialect.provider
        self._files = files
        self._dialect = dialect

    def read(self, job: OpenAIBatch, line: bytes) -> Row:
        row = read_row(line)
        return Row(row.custom_id, bytes(row.body))

    def asked(self, job: OpenAIBatch, body: Document) -> Document:
        return {**job.params, **body}

    def answer(self, job: OpenAIBatch, body: Document, ask: Ask) -> Answered:
        return answer(self._context, self._dialect.endpoints[job.endpoint], self._dialect.asked(body), ask)

    def line(self, job: OpenAIBatch, result: Result) -> Document:
        status, body = 200, None if result.answered is None else self._dialect.dressed(result.answered.body)
        if result.error is not None:
            status, body = result.error.status, error_document(result.error)
            if result.plan.null_error:
                body = {"error": None}
            if result.plan.status_zero:
                status, body = 0, {}
        line_id, request_id = self._context.new_id("batch_req_"), self._context.new_id("req_")
        response = {"status_code": status, "request_id": request_id, "body": body}
        line = {"id": line_id, "custom_id": result.row.id, "response": response, "error": None}
        return _styled(self._dialect, line)

    def again(self, job: OpenAIBatch, result: Result, line: Document) -> Document:
        body = error_document(injected(500))
        return {**line, "response": {**line["response"], "status_code": 500, "body": body}}

    def validated(self, job: OpenAIBatch) -> None:
        limit = self._context.limits.openai_enqueued_tokens
        over = limit is not None and self._enqueued(job) + job.prompt_tokens > limit
        if not job.problems and (over or job.quirks.queue_full):
            message = (
                f"Enqueued token limit reached for {job.model} in organization org-emulator. "
                f"Limit: {limit or 2_000_000:,} enqueued tokens. "
                "Please try again once some in_progress batches have been completed."
            )
            problem = {"code": "token_limit_exceeded", "message": message, "param": None, "line": None}
            job.problems.append(problem)

    def _enqueued(self, batch: OpenAIBatch) -> int:
        """Prompt tokens that a batch's project already has in the queue of its model."""
        return sum(
            other.prompt_tokens
            for other in self._live.values()
            if other.project == batch.project
            and other.model == batch.model
            and other.phase in {"running", "finalizing", "cancelling"}
        )

    def closing(self, job: OpenAIBatch) -> None:
        match job.phase:
            case "expired":
                self._unfinished(job, _EXPIRED)
            case "cancelled":
                absent = self._context.faults.strike("cancel-absent", self.provider, job.id) is not None
                if job.started_at is not None and not absent:
                    self._unfinished(job, _CANCELLED)
            case "completed":
                if job.races_cancel:
                    job.finalizing_at = job.ended_at
                if self._dialect.empty_error_file and job.errors is None:
                    job.errors = Lines(self._context.spool.new())
                    job.errors.path.touch()
            case _:
                pass

    def _unfinished(self, job: OpenAIBatch, why: tuple[str, str]) -> None:
        """Rows that never ran get a line in the error file: no response, and a code that says why."""
        code, message = why
        for raw in job.rows.rest():
            row = self.read(job, raw)
            document = {"id": self._context.new_id("batch_req_"), "custom_id": row.id, "response": None}
            absent = {**document, "error": {"code": code, "message": message}}
            self.add(job, _styled(self._dialect, absent), row, failed=True)

    def ended(self, job: OpenAIBatch, at: float) -> None:
        """Result files appear; empty ones do not."""
        job.output_file_id = self._stored(job, "output", job.output, at)
        job.error_file_id = self._stored(job, "error", job.errors, at)
        job.output = job.errors = None
        if job.deletes_input and job.phase != "failed":
            self._files.discard(job.project, job.input_file_id)

    def _stored(self, job: OpenAIBatch, kind: str, lines: Lines | None, at: float) -> str | None:
        """The id of the file that lines become."""
        if lines is None:
            return None
        names = (job.project, f"{job.id}_{kind}.jsonl", self._dialect.output_purpose)
        return self._files.store(lines.path, names, at, job.output_life).id

    def count_end(self, job: OpenAIBatch) -> None:
        """The event goes out as well."""
        super().count_end(job)
        faults, outbox, at = self._context.faults, self._context.outbox, job.ended_at or 0.0
        if not self._dialect.webhooks:
            return
        if outbox.targets and (early := faults.strike("webhook-early", self.provider, job.id)):
            job.early_until = at + early.number("seconds")
        outbox.batch_event(job.id, job.phase, at, self._context.new_id("evt_"))


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

"""The life of one message batch: what its state is at a given time, and how its rows become result lines."""

import msgspec

from halfrate.emulator._anthropic_models import answer
from halfrate.emulator._anthropic_wire import error_document
from halfrate.emulator._context import rfc3339
from halfrate.emulator._jobs import Job, Jobs, Result, Row
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import Document


class AnthropicBatch(Job, kw_only=True):
    """A batch: what it shows besides."""

    version: str
    results_size: int = 0

    def view(self, now: float, origin: str, archived_at: float | None) -> Document:
        """The message batch object of the API reference."""
        status = "ended" if not self.live else "canceling" if self.phase == "cancelling" else "in_progress"
        counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        if self.live:  # frozen: no sign of progress before the end
            counts["processing"] = self.rows.total
        else:
            counts["succeeded"], counts["errored"] = self.counted
            counts[self.left_as] = self.rows.total - self.rows.done
        readable = self.output is not None and not self.live and archived_at is None
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.strange(now) or status,
            "request_counts": counts,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "ended_at": rfc3339(self.ended_at),
            "cancel_initiated_at": rfc3339(self.cancelling_at),
            "archived_at": rfc3339(archived_at),
            "results_url": f"{origin}/v1/messages/batches/{self.id}/results" if readable else None,
        }

    @property
    def left_as(self) -> str:
        """What has become of the rows that never ran."""
        return "expired" if self.phase == "expired" else "canceled"


class _Row(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


_row = msgspec.json.Decoder(_Row)


class AnthropicJobs(Jobs[AnthropicBatch]):
    """The message batches of every workspace, without the calls about them."""

    provider = "anthropic"

    def read(self, job: AnthropicBatch, line: bytes) -> Row:
        row = _row.decode(line)
        return Row(row.custom_id, bytes(row.params))

    def answer(self, job: AnthropicBatch, body: Document, ask: Ask) -> Answered:
        return answer(self._context, body, job.version, ask, "batch")

    def line(self, job: AnthropicBatch, result: Result) -> Document:
        outcome: Document
        if result.error is None:
            body = None if result.answered is None else result.answered.body
            outcome = {"type": "succeeded", "message": body}
        else:
            error: Document | None = error_document(result.error, self._context.new_id("req_"))
            if result.plan.null_error:
                error = None
            if result.plan.status_zero:
                error = {}
            outcome = {"type": "errored", "error": error}
        return {"custom_id": result.row.id, "result": outcome}

    def again(self, job: AnthropicBatch, result: Result, line: Document) -> None:
        """All lines are in one place."""

    def add(
        self, job: AnthropicBatch, line: Document, row: Row, *, failed: bool, malformed: bool = False
    ) -> None:
        super().add(job, line, row, failed=False, malformed=malformed)

    def closing(self, job: AnthropicBatch) -> None:
        """Every row has exactly one line once a batch has ended: those that never ran say so."""
        for raw in job.rows.rest():
            row = self.read(job, raw)
            self.add(job, {"custom_id": row.id, "result": {"type": job.left_as}}, row, failed=True)

    def ended(self, job: AnthropicBatch, at: float) -> None:
        if job.output is not None:
            job.results_size = job.output.path.stat().st_size
            self._context.meter.files_stored += 1
            self._context.meter.bytes_stored += job.results_size

"""The life of one Vertex AI batch prediction job, and what its rows become.

    QUEUED -> PENDING -> RUNNING -> SUCCEEDED | PARTIALLY_SUCCEEDED | FAILED | EXPIRED        each as JOB_STATE_...
    QUEUED, PENDING, RUNNING -> CANCELLING -> CANCELLED

A job waits for 72 hours at most, and runs for 24: then it is EXPIRED. Rows that had finished are delivered and billed
however it ends. A row comes back with its whole request, labels and all, since it has no id of its own; one that failed
has a `status` and an empty response. A job of which rows failed is PARTIALLY_SUCCEEDED.
"""

from datetime import UTC, datetime
from http import HTTPStatus

import msgspec

from halfrate.emulator._bigquery_store import read_lines, read_uri
from halfrate.emulator._context import rfc3339
from halfrate.emulator._gcs_store import split_uri
from halfrate.emulator._gemini_embeddings import embed
from halfrate.emulator._gemini_models import answer
from halfrate.emulator._gemini_wire import INVALID, error_document
from halfrate.emulator._jobs import Job, Jobs, Result, Row
from halfrate.emulator._prices import Model
from halfrate.emulator._rows import Answered, Ask, Lines
from halfrate.emulator._vertex_input import Source
from halfrate.emulator._wire import ApiError, Document, as_document

_STATES = {
    "validating": "QUEUED",
    "running": "RUNNING",
    "finalizing": "RUNNING",
    "cancelling": "CANCELLING",
    "completed": "SUCCEEDED",
    "failed": "FAILED",
    "expired": "EXPIRED",
    "cancelled": "CANCELLED",
}


class VertexJob(Job, kw_only=True):
    """A job: what Vertex AI shows of it besides."""

    name: str
    display_name: str
    labels: dict[str, str]
    model: Model
    model_name: str
    source: Source
    config: Document
    destination: str
    serial: int
    table: tuple[str, str, str] | None = None
    where: str | None = None
    """The directory or table that holds the results, once there are any."""

    @property
    def state(self) -> str:
        if self.phase == "completed" and self.failed:
            return "PARTIALLY_SUCCEEDED"
        return _STATES[self.phase]

    def view(self, now: float) -> Document:
        """The BatchPredictionJob of the REST reference."""
        state = "PENDING" if self.waiting(now) else self.state
        strange = self.strange(now)
        if strange is not None:
            state = strange.upper()
        started = None if self.started_at is None else max(self.started_at, self.schedule.starts_at)
        shown: Document = {
            "name": self.name,
            "displayName": self.display_name,
            "model": self.model_name,
            **self.config,
            "state": f"JOB_STATE_{state}",
            "createTime": rfc3339(self.created_at),
            "startTime": rfc3339(started) if started is not None and now >= started else None,
            "endTime": rfc3339(self.ended_at),
            "updateTime": rfc3339(self.ended_at or self.created_at),
            "labels": self.labels or None,
            "completionStats": self._stats(state),
            "outputInfo": self._output(),
            "error": self._error(),
        }
        return {key: value for key, value in shown.items() if value is not None}

    def _stats(self, state: str) -> Document | None:
        """Counts are int64, and so strings; while a job runs nobody says how many rows are left: -1."""
        if state in {"QUEUED", "PENDING"} or self.phase == "failed":
            return None
        good, bad = self.counted
        left = -1 if self.live else self.rows.total - self.rows.done
        counts = {"successfulCount": good, "failedCount": bad, "incompleteCount": left}
        return {key: str(count) for key, count in counts.items() if count}

    def _output(self) -> Document | None:
        if self.where is None:
            return None
        return {"gcsOutputDirectory" if self.table is None else "bigqueryOutputTable": self.where}

    def _error(self) -> Document | None:
        if self.phase == "failed":
            return {"code": INVALID, "message": self.problems[0]}
        if self.phase == "expired":
            return {"code": 4, "message": "The job was not done in time; what had finished is in the output."}
        return {"code": 1, "message": "CANCELED"} if self.phase == "cancelled" else None


class VertexJobs(Jobs[VertexJob]):
    """The jobs of every project, without the calls about them."""

    provider = "vertex"

    def read(self, job: VertexJob, line: bytes) -> Row:
        row: Document = msgspec.json.decode(line)
        # Labels are a row's name, not what it asks: they are no part of the body that is known again.
        labels = as_document(row["request"].get("labels")) or {}
        key = row.get("key")
        row_id = str(key) if key is not None else "/".join(map(str, labels.values())) or None
        return Row(row_id, msgspec.json.encode(row))

    def asked(self, job: VertexJob, body: Document) -> Document:
        return {key: value for key, value in body["request"].items() if key != "labels"}

    def answer(self, job: VertexJob, body: Document, ask: Ask) -> Answered:
        if job.model.kind == "embedding":
            return embed(body, job.model)
        return answer(self._context, body, job.model, ask)

    def line(self, job: VertexJob, result: Result) -> Document:
        row: Document = msgspec.json.decode(result.row.raw)
        at = datetime.fromtimestamp(self._context.clock.now(), UTC).isoformat(timespec="milliseconds")
        found: Document = {} if row.get("key") is None else {"key": row["key"]}
        found |= {"status": _status(result), "processed_time": at, "request": row["request"], "response": {}}
        if result.answered is not None:
            found["response"] = result.answered.body
        return {**found, **({"columns": row["columns"]} if "columns" in row else {})}

    def _run(self, job: VertexJob, upto: int, now: float) -> None:
        """No row begins once a job's time is over, however late somebody looks."""
        if job.phase == "running":
            upto = job.schedule.rows_at(min(now, job.schedule.ends_at))
        super()._run(job, upto, now)

    def _write(self, job: VertexJob, result: Result) -> None:
        """All lines are in one place, good or bad. A broken one can stand in a file only."""
        plan, line = result.plan, self.line(job, result)
        if job.output is None:
            job.output = Lines(self._context.spool.new())
        known = _renamed(line, None) if plan.no_id else line
        for _ in range(plan.copies):
            job.output.add_document(known, malformed=plan.malformed and job.table is None)
        if plan.stranger:
            job.output.add_document(_renamed(line, self._context.new_id("stranger-")))

    def closing(self, job: VertexJob) -> None:
        if job.table is not None:
            # A table has whole rows.
            job.quirks.cut_bytes = 0

    def ended(self, job: VertexJob, at: float) -> None:
        if job.phase == "failed":
            return
        if job.table is None:
            job.where = self._deliver_files(job, at)
        else:
            job.where = self._deliver_rows(job, at)
        if job.output is not None:
            self._context.spool.drop(job.output.path)
            job.output = None

    def _deliver_files(self, job: VertexJob, at: float) -> str:
        """`predictions.jsonl`, or several numbered ones where there are many rows."""
        stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        where = f"{job.destination.rstrip('/')}/prediction-model-{stamp}"
        bucket, folder = split_uri(where)
        if job.output is None:
            return where
        most = self._context.limits.vertex_shard_rows
        with job.output.path.open("rb") as lines:
            if job.output.count <= most:
                names = iter(["predictions.jsonl"])
            else:
                shards = -(-job.output.count // most)
                names = (f"predictions_{number:05d}.jsonl" for number in range(1, shards + 1))
            for name in names:
                path = self._context.spool.new()
                with path.open("wb") as target:
                    for _ in range(most):
                        target.write(lines.readline())
                self._context.buckets.put(bucket, f"{folder}/{name}", path, at, "application/jsonl")
        return where

    def _deliver_rows(self, job: VertexJob, at: float) -> str:
        name = job.table or read_uri(job.destination)
        tables = self._context.tables
        table = tables.get(name) or tables.make(name, at)
        if job.output is not None:
            with job.output.path.open("rb") as lines:
                table.add(map(_row_of_table, read_lines(lines)))
        return table.uri


def _status(result: Result) -> str | None:
    """ "" for a row that was answered, else the status and the error document in one text."""
    if result.error is None or result.plan.status_zero:
        return ""
    status = result.error.status
    known = {one.value: one.phrase for one in HTTPStatus}
    phrase = known.get(status, "Internal Server Error" if status >= 500 else "Bad Request")
    detail = {} if result.plan.null_error else error_document(_bare(result.error))
    return f"{phrase}: {msgspec.json.encode(detail or None).decode()}"


def _bare(error: ApiError) -> ApiError:
    return ApiError(error.status, error.message)


def _renamed(line: Document, name: str | None) -> Document:
    """A result line with another row's name in place of its own, or with none."""
    request: Document = dict(line["request"])
    labels = as_document(request.pop("labels", None)) or {}
    changed: Document = {key: value for key, value in line.items() if key != "key"}
    if name is not None:
        request["labels"] = dict.fromkeys(labels, name)
        if "key" in line:
            changed["key"] = name
    return {**changed, "request": request}


def _row_of_table(line: Document) -> Document:
    columns = as_document(line.get("columns")) or {}
    return {
        **columns,
        "request": msgspec.json.encode(line["request"]).decode(),
        "response": msgspec.json.encode(line["response"]).decode(),
        "status": line["status"],
        "processed_time": line["processed_time"],
    }

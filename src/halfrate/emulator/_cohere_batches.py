"""Cohere's batches (cohere 7.3: `client.batches`; API reference; batch cookbook; recorded exchanges of 2026-09).

    QUEUED -> IN_PROGRESS -> COMPLETED | FAILED
    QUEUED, IN_PROGRESS -> CANCELING -> CANCELED

There is no idempotency and no tag but the name; a listing begins with the oldest batch. The results are a dataset,
which is named once the batch has ended. Nothing is said of a window: here it is 24 hours, after which a batch has
FAILED with what it has done in its dataset. Nothing is said of the results of a cancelled batch: here they are kept.
"""

import uuid
from typing import Any, Final

import msgspec

from halfrate.emulator._cohere_avro import OUTPUT_SCHEMA, AvroLines
from halfrate.emulator._cohere_datasets import Datasets
from halfrate.emulator._cohere_input import read_row
from halfrate.emulator._cohere_models import answer, resolve
from halfrate.emulator._cohere_wire import refused
from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._jobs import Job, Jobs, Result, Row
from halfrate.emulator._quirks import draw_quirks, listed, refuse_full, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document, Response, json_response, whole_number

_STATUSES: Final = {
    "validating": "QUEUED",
    "running": "IN_PROGRESS",
    "finalizing": "IN_PROGRESS",
    "cancelling": "CANCELING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "expired": "FAILED",
    "cancelled": "CANCELED",
}
_FORMS: Final = ("float", "int8", "uint8", "binary", "ubinary")
_PAGE, _MOST = 50, 1_000
_LATE: Final = "the batch did not finish in time"


class CohereBatch(Job, kw_only=True):
    """A batch job."""

    name: str
    model: str
    input_dataset_id: str
    output_dataset_id: str = ""
    containers: list[AvroLines] = msgspec.field(default_factory=list[AvroLines])

    def status(self, now: float) -> str:
        shown = "QUEUED" if self.waiting(now) else _STATUSES[self.phase]
        return self.strange(now) or f"BATCH_STATUS_{shown}"

    def updated_at(self, now: float) -> float:
        """When its status last changed."""
        begun = self.schedule.starts_at if self.phase in {"running", "finalizing"} else self.created_at
        return self.ended_at or self.cancelling_at or (begun if begun <= now else self.created_at)

    def view(self, now: float) -> Document:
        """The batch as the API shows it: every field, empty ones too, and int64 as text."""
        succeeded, failed = self.counted
        reason = self.problems[0] if self.phase == "failed" else _LATE if self.phase == "expired" else ""
        return {
            "id": self.id,
            "name": self.name,
            "creator_id": _uuid(f"creator:{self.project}"),
            "org_id": _uuid(f"org:{self.project}"),
            "status": self.status(now),
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at(now)),
            "input_dataset_id": self.input_dataset_id,
            "output_dataset_id": self.output_dataset_id,
            "input_tokens": str(self.tokens.prompt),
            "output_tokens": str(self.tokens.output),
            "model": self.model,
            "num_records": self.rows.total,
            "num_successful_records": succeeded,
            "num_failed_records": failed,
            "status_reason": reason,
        }


class CohereBatches(Jobs[CohereBatch]):
    """The batches of every key."""

    provider = "cohere"

    def __init__(self, context: Context, datasets: Datasets) -> None:
        super().__init__(context)
        self._datasets = datasets

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v2/batches", "create", self._create),
            Route("GET", "/v2/batches", "list", self._list),
            Route("GET", "/v2/batches/{}", "poll", self._retrieve),
            Route("POST", "/v2/batches/{}:cancel", "cancel", self._cancel),
        ]

    def read(self, job: CohereBatch, line: bytes) -> Row:
        row = read_row(line)
        return Row(row.custom_id, msgspec.json.encode(row.body))

    def asked(self, job: CohereBatch, body: Document) -> Document:
        return {**body, "model": job.model}

    def answer(self, job: CohereBatch, body: Document, ask: Ask) -> Answered:
        return answer(self._context, body, ask)

    def line(self, job: CohereBatch, result: Result) -> Document:
        """A record. An error is a text and nothing else; one that has none is "" like no error at all."""
        body, error = None, ""
        if result.answered is not None:
            body = _record_body(result.answered)
        elif result.error is not None and not (result.plan.null_error or result.plan.status_zero):
            error = result.error.message
        return {"custom_id": result.row.id, "body": body, "error": error}

    def add(
        self, job: CohereBatch, line: Document, row: Row, *, failed: bool, malformed: bool = False
    ) -> None:
        """Append a record to the results: those of failed rows are among them. The schema wants an id."""
        current = job.containers[-1] if job.containers else None
        if current is None or current.count >= self._context.limits.cohere_part_rows:
            if current is not None:
                current.flush()
            job.output = current = self._new_container(job)
        current.add_record({"custom_id": "", **line}, malformed=malformed)

    def ended(self, job: CohereBatch, at: float) -> None:
        if job.phase == "completed" and not job.containers:
            self._new_container(job)
        if job.quirks.no_files:
            for container in job.containers:
                self._context.spool.drop(container.path)
        elif job.containers:
            job.output_dataset_id = self._datasets.store(
                job.project, f"{job.name}-output", job.containers, at
            )
        job.containers, job.output = [], None

    def _new_container(self, job: CohereBatch) -> AvroLines:
        sync = self._context.random.randbytes(16)
        job.containers.append(AvroLines(self._context.spool.new(), OUTPUT_SCHEMA, sync))
        return job.containers[-1]

    async def _create(self, call: Call) -> Response:
        call, body, about = await self.read_create(call)
        refuse_full(self._context.faults, "cohere", about)
        return self.create_reply(about, {"batch": self._made(call, body).view(call.now)})

    def _made(self, call: Call, body: Document) -> CohereBatch:
        for key in ("name", "input_dataset_id", "model"):
            if not isinstance(body.get(key), str) or not body[key]:
                raise refused(f"{key} is required.")
        model, dataset_id = resolve(body).name, body["input_dataset_id"]
        dataset = self._datasets.find(call.project, dataset_id)
        if dataset is None:
            raise ApiError(404, f"dataset with id {dataset_id} not found")
        if dataset.status(call.now) != "validated":
            raise refused(f"dataset {dataset_id} is not validated.")
        source = self._datasets.rows(dataset)
        batch_id = self._context.new_uuid()
        quirks = draw_quirks(self._context.faults, "cohere", batch_id, call.now)
        if quirks.fail_code is not None:
            source.problems.append(f"line {quirks.fail_line}: {quirks.fail_code}")
        batch = CohereBatch(
            **self.begin(call, batch_id, source, quirks),
            name=body["name"],
            model=model,
            input_dataset_id=dataset_id,
        )
        self.keep(batch)
        return batch

    def _get(self, call: Call) -> CohereBatch:
        missing = f"batch with id {call.arg} not found"
        return visible(self._jobs.get(call.arg), call.project, call.now, missing)

    async def _retrieve(self, call: Call) -> Response:
        return json_response({"batch": self._get(call).view(call.now)})

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        found = listed(self._jobs.values(), call.project, call.now)
        match params.get("order_by", "").split() or ["created_at"]:
            case ["created_at", *way]:
                pass
            case ["updated_at", *way]:
                found.sort(key=lambda batch: batch.updated_at(call.now))
            case way:
                raise refused("order_by must be created_at or updated_at.")
        if way == ["desc"]:
            found.reverse()
        size = min(_MOST, whole_number(params.get("page_size"), "page_size", _PAGE, 0, 1 << 31) or _PAGE)
        start = whole_number(params.get("page_token"), "page_token", 0, 0, 1 << 40)
        more = start + size < len(found)
        page = [batch.view(call.now) for batch in found[start : start + size]]
        return json_response({"batches": page, "next_page_token": str(start + size) if more else ""})

    async def _cancel(self, call: Call) -> Response:
        batch = self._get(call)
        if not batch.live:
            raise refused(f"batch {batch.id} has ended with {batch.status(call.now)}.")
        self.cancel(batch, call.now)
        return json_response({})


def _record_body(answered: Answered) -> Document:
    """An answer as the records of a result file have it."""
    document = answered.body
    vectors: dict[str, Any] = document["embeddings"]
    tokens = answered.tokens
    return {
        "id": document["id"],
        "embeddings": {name: vectors.get(name) for name in _FORMS},
        "texts": document.get("texts"),
        "images": None,
        "meta": {"billed_units": {"input_tokens": tokens.prompt, "output_tokens": tokens.output}},
    }


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))

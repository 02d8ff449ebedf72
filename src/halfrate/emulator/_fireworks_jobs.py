"""Fireworks' batch inference jobs (API reference and batch guide, 2026).

    VALIDATING -> FAILED
    VALIDATING -> PENDING -> RUNNING -> WRITING_RESULTS -> COMPLETED
                             RUNNING -> EXPIRED             finished rows are in the output dataset
    live -> DELETING_CLEANING_UP -> gone                    by DELETE: no other call stops a job

The client chooses the id, so creation is idempotent: a second one gets 409. The output dataset has two files:
`BIJOutputSet.jsonl` with `{custom_id, response}`, where the response is the completion itself, and `error-data`
(so its clients have found; the guide does not name them, and what a line of `error-data` looks like is nowhere said).
"""

import re
from typing import Any, Final

import msgspec

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._fireworks_datasets import Dataset, Datasets, check_id, page_of
from halfrate.emulator._fireworks_input import check_dataset, read_row
from halfrate.emulator._fireworks_models import answer, defaults, resolve
from halfrate.emulator._fireworks_wire import INFERENCE, error_document
from halfrate.emulator._jobs import Input, Job, Jobs, Result, Row
from halfrate.emulator._quirks import draw_quirks, injected, listed, refuse_full, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document, Response, as_document, json_response

RESULTS, ERRORS = "BIJOutputSet.jsonl", "error-data"
_STATES: Final = {
    "validating": "VALIDATING",
    "running": "RUNNING",
    "finalizing": "WRITING_RESULTS",
    "cancelling": "DELETING_CLEANING_UP",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "expired": "EXPIRED",
    "cancelled": "CANCELLED",
}
_TERM: Final = re.compile(r'\s*(\w+)\s*(!?=|:)\s*(?:"([^"]*)"|(\S+))\s*')
_FIELDS: Final = {
    "state": "state",
    "name": "name",
    "display_name": "displayName",
    "displayname": "displayName",
    "model": "model",
    "input_dataset_id": "inputDatasetId",
    "inputdatasetid": "inputDatasetId",
    "output_dataset_id": "outputDatasetId",
    "outputdatasetid": "outputDatasetId",
}


class FireworksJob(Job, kw_only=True):
    """A batch inference job."""

    account: str
    name: str
    display_name: str
    model: str
    source: Dataset
    output_id: str
    parameters: Document
    given: Document
    declared: int
    continued_from: str | None = None
    done: set[str] = msgspec.field(default_factory=set)

    def state(self, now: float) -> str:
        shown = "PENDING" if self.waiting(now) else _STATES[self.phase]
        return self.strange(now) or f"JOB_STATE_{shown}"

    def view(self, now: float) -> Document:
        """The job as the API shows it."""
        failed = self.phase == "failed"
        status = {"code": "OK", "message": ""}
        if failed:
            status = {"code": "INVALID_ARGUMENT", "message": self.problems[0]}
        return {
            "name": self.name,
            "displayName": self.display_name,
            "createTime": rfc3339(self.created_at),
            "createdBy": "emulator@example.com",
            "updateTime": rfc3339(self.ended_at or self.started_at or self.created_at),
            "expireTime": rfc3339(self.expires_at),
            "state": self.state(now),
            "status": status,
            "model": self.model,
            "inputDatasetId": self.source.name,
            "outputDatasetId": f"accounts/{self.account}/datasets/{self.output_id}",
            "inferenceParameters": self.given,
            "continuedFromJobName": self.continued_from or "",
            "jobProgress": self._progress(),
        }

    def _progress(self) -> Document:
        succeeded, failed = self.counted
        total = self.rows.total
        return {
            "percent": 100 * self.rows.done // total if total else 0,
            # Echoes what the dataset was declared to hold, which nobody checks.
            "totalInputRequests": self.declared,
            "inputRequests": self.declared,
            "totalProcessedRequests": succeeded + failed,
            "successfullyProcessedRequests": succeeded,
            "failedRequests": failed,
            "outputRows": succeeded,
            "inputTokens": self.tokens.prompt,
            "outputTokens": self.tokens.output,
            "cachedInputTokenCount": self.tokens.cached,
        }


class FireworksJobs(Jobs[FireworksJob]):
    """The jobs of every key and account."""

    provider = "fireworks"

    def __init__(self, context: Context, datasets: Datasets) -> None:
        super().__init__(context)
        self._datasets = datasets

    def routes(self) -> list[Route]:
        root = "/v1/accounts/{}/batchInferenceJobs"
        return [
            Route("POST", root, "create", self._create),
            Route("GET", root, "list", self._list),
            Route("GET", f"{root}/{{}}", "poll", self._retrieve),
            Route("DELETE", f"{root}/{{}}", "delete", self._delete),
        ]

    def read(self, job: FireworksJob, line: bytes) -> Row:
        row = read_row(line)
        return Row(str(row.custom_id), bytes(row.body))

    def asked(self, job: FireworksJob, body: Document) -> Document:
        return {**job.parameters, **body, "model": job.model}

    def answer(self, job: FireworksJob, body: Document, ask: Ask) -> Answered:
        return answer(self._context, body, ask)

    def line(self, job: FireworksJob, result: Result) -> Document:
        row_id = result.row.id or ""
        if result.answered is not None:
            job.done.add(row_id)
            return {"custom_id": row_id, "response": result.answered.body}
        error = result.error or injected(500)
        if result.plan.null_error:
            return {"custom_id": row_id, "error": None}
        if result.plan.status_zero:
            return {"custom_id": row_id, "error": {}}
        error.kind = INFERENCE
        wording = error_document(error)["error"]
        return {"custom_id": row_id, "error": {**wording, "code": error.status}}

    def ended(self, job: FireworksJob, at: float) -> None:
        if job.phase == "cancelled":
            self._jobs.pop(job.id, None)
        if job.started_at is None or job.quirks.no_files:
            return
        output = Dataset(
            account=job.account,
            id=job.output_id,
            project=job.project,
            created_at=at,
            example_count=job.succeeded,
            uploaded=False,
            validated=True,
        )
        self._datasets.make(output, replace=True)
        for name, lines in ((RESULTS, job.output), (ERRORS, job.errors)):
            path = self._context.spool.new() if lines is None else lines.path
            path.touch()
            self._datasets.add_file(output, name, path, at)
        job.output = job.errors = None

    async def _create(self, call: Call) -> Response:
        call, body, about = await self.read_create(call)
        refuse_full(self._context.faults, "fireworks", about)
        return self.create_reply(about, self._made(call, body).view(call.now))

    def _made(self, call: Call, body: Document) -> FireworksJob:
        context = self._context
        job_id = call.request.params().get("batchInferenceJobId") or context.new_id("bij-")[:24]
        check_id(job_id, "batch_inference_job_id")
        name = f"accounts/{call.arg}/batchInferenceJobs/{job_id}"
        if _key(call.project, name) in self._jobs:
            raise ApiError(409, f"batch inference job {name} already exists")
        if body.get("model") is None:
            raise ApiError(400, "model is required")
        model = resolve(body).name
        before = self._before(call, body)
        dataset = self._source(call, body, before)
        output_id = str(_read(body, "outputDatasetId", "output_dataset_id") or f"{job_id[:55]}-output")
        output_id = output_id.rpartition("/")[2]
        check_id(output_id, "output_dataset_id")
        if self._datasets.find(call.project, call.arg, output_id) is not None:
            raise ApiError(409, f"dataset accounts/{call.arg}/datasets/{output_id} already exists")
        given = _read(body, "inferenceParameters", "inference_parameters")
        parameters = defaults(given)
        source = self._input(dataset, set() if before is None else before.done)
        key = _key(call.project, name)
        quirks = draw_quirks(context.faults, "fireworks", key, call.now)
        if quirks.fail_code is not None:
            source.problems.append(f"Dataset has a syntax error: line {quirks.fail_line}: {quirks.fail_code}")
        job = FireworksJob(
            **self.begin(call, key, source, quirks),
            account=call.arg,
            name=name,
            display_name=str(_read(body, "displayName", "display_name") or ""),
            model=model,
            source=dataset,
            output_id=output_id,
            parameters=parameters,
            given={"extraBody": "{}", **(as_document(given) or {})},
            declared=dataset.example_count,
            continued_from=None if before is None else before.name,
        )
        self.keep(job)
        return job

    def batch_id(self, job: FireworksJob) -> str:
        return job.name

    def _before(self, call: Call, body: Document) -> FireworksJob | None:
        """The job that this one continues."""
        name = _read(body, "continuedFromJobName", "continued_from_job_name")
        if not name:
            return None
        before = self._jobs.get(_key(call.project, str(name)))
        if before is None:
            raise ApiError(404, f"batch inference job {name} not found")
        if before.live:
            raise ApiError(400, f"batch inference job {name} has not ended")
        return before

    def _source(self, call: Call, body: Document, before: FireworksJob | None) -> Dataset:
        given = _read(body, "inputDatasetId", "input_dataset_id")
        if given is None and before is not None:
            given = before.source.name
        if not isinstance(given, str) or not given:
            raise ApiError(400, "input_dataset_id is required")
        dataset = self._datasets.find(call.project, call.arg, given)
        if dataset is None:
            raise ApiError(404, f"dataset {given} not found")
        if not self._datasets.ready(dataset, call.now):
            raise ApiError(400, f"dataset {dataset.name} is not ready")
        return dataset

    def _input(self, dataset: Dataset, done: set[str]) -> Input:
        limit = self._context.limits.fireworks_input_bytes
        kept = self._datasets.kept(dataset)
        if sum(file.size for file in kept) > limit:
            raise ApiError(400, f"the input dataset is larger than {limit} bytes")
        return check_dataset([(file.name, file.path) for file in kept], self._context.spool.new(), done)

    def _get(self, call: Call) -> FireworksJob:
        name = f"accounts/{call.arg}/batchInferenceJobs/{call.args[1]}"
        return visible(self._jobs.get(_key(call.project, name)), call.project, call.now, "resource not found")

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._get(call).view(call.now))

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        terms = _terms(params.get("filter", ""))
        found = [
            job.view(call.now)
            for job in listed(reversed(self._jobs.values()), call.project, call.now)
            if job.account == call.arg
        ]
        found = [view for view in found if all(_holds(view, *term) for term in terms)]
        order = params.get("orderBy", "create_time desc").split()
        if order == ["create_time"] or order[1:] == ["asc"]:
            found.reverse()
        page, token = page_of(found, params)
        return json_response({"batchInferenceJobs": page, "nextPageToken": token, "totalSize": len(found)})

    async def _delete(self, call: Call) -> Response:
        job = self._get(call)
        if job.live:
            self.cancel(job, call.now)
        else:
            del self._jobs[job.id]
        return json_response({})


def _key(project: str, name: str) -> str:
    return f"{project}/{name}"


def _read(body: Document, *spellings: str) -> Any:
    """A field of a body: the gateway reads both spellings."""
    return next((body[name] for name in spellings if name in body), None)


def _terms(text: str) -> list[tuple[str, str, str]]:
    """(field, comparison, value) of each term of a filter (AIP-160, as far as `=`, `!=`, `:` and AND go)."""
    found: list[tuple[str, str, str]] = []
    for term in re.split(r"\s+AND\s+", text) if text.strip() else ():
        match = _TERM.fullmatch(term)
        field = None if match is None else _FIELDS.get(match.group(1).lower())
        if match is None or field is None:
            raise ApiError(400, f"invalid filter: {term}")
        found.append((field, match.group(2), match.group(3) or match.group(4) or ""))
    return found


def _holds(view: Document, field: str, comparison: str, wanted: str) -> bool:
    value = str(view[field])
    if comparison == ":":
        return wanted in value
    same = value == wanted or (field == "state" and value == f"JOB_STATE_{wanted}")
    return same == (comparison == "=")

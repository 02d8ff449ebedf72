"""Mistral's batch jobs (mistralai 3.7: `client.batch.jobs`; batch guide, 2026-08-21).

    QUEUED -> RUNNING -> SUCCESS | FAILED | TIMEOUT_EXCEEDED
    QUEUED, RUNNING -> CANCELLATION_REQUESTED -> CANCELLED

The model stands at the job. Creation is not idempotent: the same call twice makes two jobs.
"""

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from halfrate.emulator._context import Context, timestamp
from halfrate.emulator._jobs import Input, Job, Jobs, Result, Row
from halfrate.emulator._mistral_files import MistralFiles, page_of
from halfrate.emulator._mistral_input import check_files, read_row, write_requests
from halfrate.emulator._mistral_models import SERVED, answer, resolve
from halfrate.emulator._mistral_wire import error_document, refused
from halfrate.emulator._quirks import draw_quirks, listed, refuse_full, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document, Response, as_document, as_list, json_response

_STATUSES: Final = {
    "validating": "QUEUED",
    "running": "RUNNING",
    "finalizing": "RUNNING",
    "cancelling": "CANCELLATION_REQUESTED",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelled": "CANCELLED",
}
_FILTERS: Final = frozenset(
    {"page", "page_size", "model", "agent_id", "metadata", "created_after", "created_by_me", "status"}
    | {"order_by"}
)
_NESTED: Final = re.compile(r"^metadata\[(.+)\]$")


class MistralJob(Job, kw_only=True):
    """A batch job."""

    endpoint: str
    model: str | None
    agent_id: str | None
    input_files: list[str]
    metadata: Document
    output_file: str | None = None
    error_file: str | None = None
    reasons: Counter[str] = msgspec.field(default_factory=Counter)

    def status(self, now: float) -> str:
        shown = "QUEUED" if self.waiting(now) else _STATUSES[self.phase]
        return self.strange(now) or shown

    def view(self, now: float) -> Document:
        """The job as the API shows it."""
        succeeded, failed = self.counted
        begun = self.started_at is not None and not self.waiting(now)
        messages = self.reasons if self.phase != "failed" else Counter(self.problems)
        return {
            "id": self.id,
            "object": "batch",
            "input_files": self.input_files,
            "metadata": self.metadata,
            "endpoint": self.endpoint,
            "model": self.model,
            "agent_id": self.agent_id,
            "output_file": self.output_file,
            "error_file": self.error_file,
            "errors": [{"message": text, "count": count} for text, count in messages.items()],
            "status": self.status(now),
            "created_at": timestamp(self.created_at),
            "started_at": timestamp(self.schedule.starts_at) if begun else None,
            "completed_at": timestamp(self.ended_at),
            "total_requests": self.rows.total,
            "completed_requests": succeeded + failed,
            "succeeded_requests": succeeded,
            "failed_requests": failed,
            "outputs": None,
        }


class MistralBatches(Jobs[MistralJob]):
    """The jobs of every workspace."""

    provider = "mistral"

    def __init__(self, context: Context, files: MistralFiles) -> None:
        super().__init__(context)
        self._files = files

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/batch/jobs", "create", self._create),
            Route("GET", "/v1/batch/jobs", "list", self._list),
            Route("GET", "/v1/batch/jobs/{}", "poll", self._retrieve),
            Route("DELETE", "/v1/batch/jobs/{}", "delete", self._delete),
            Route("POST", "/v1/batch/jobs/{}/cancel", "cancel", self._cancel),
        ]

    def read(self, job: MistralJob, line: bytes) -> Row:
        row = read_row(line)
        return Row(row.custom_id, bytes(row.body))

    def asked(self, job: MistralJob, body: Document) -> Document:
        return body if job.model is None else {**body, "model": job.model}

    def answer(self, job: MistralJob, body: Document, ask: Ask) -> Answered:
        return answer(self._context, job.endpoint, body, ask)

    def line(self, job: MistralJob, result: Result) -> Document:
        status, body = 200, None if result.answered is None else result.answered.body
        if result.error is not None:
            status, body = result.error.status, error_document(result.error)
            job.reasons[result.error.message] += 1
            if result.plan.null_error:
                body = {"object": "error", "message": None}
            if result.plan.status_zero:
                status, body = 0, {}
        return {
            "id": f"batch-{job.id[:8]}-{self._context.new_id('')[:12]}",
            "custom_id": result.row.id,
            "response": {"status_code": status, "body": body},
            "error": None,
        }

    def ended(self, job: MistralJob, at: float) -> None:
        for kind, lines in (("output", job.output), ("error", job.errors)):
            if lines is None:
                continue
            name = f"{job.id}_{kind}.jsonl"
            file_id = self._files.store(lines.path, job.project, name, at, kind)
            if kind == "output":
                job.output_file = file_id
            else:
                job.error_file = file_id
        job.output = job.errors = None

    async def _create(self, call: Call) -> Response:
        call, body, about = await self.read_create(call)
        return self.create_reply(about, self._made(call, body, about).view(call.now))

    def _made(self, call: Call, body: Document, about: str) -> MistralJob:
        endpoint, model, hours = self._checked(body)
        files = [str(one) for one in as_list(body.get("input_files")) or ()]
        source = self._input(call, body, files)
        try:
            self._check_queue(call, len(source.offsets), about)
        except ApiError:
            self._context.spool.drop(source.path)
            raise
        job_id = self._context.new_uuid()
        quirks = draw_quirks(self._context.faults, "mistral", job_id, call.now)
        if quirks.fail_code is not None:
            source.problems.append(f"Line {quirks.fail_line}: {quirks.fail_code}")
        job = MistralJob(
            **self.begin(call, job_id, source, quirks, hours=hours),
            endpoint=endpoint,
            model=model,
            agent_id=body.get("agent_id"),
            input_files=files,
            metadata=as_document(body.get("metadata")) or {},
        )
        self.keep(job)
        return job

    def _checked(self, body: Document) -> tuple[str, str | None, float]:
        """(endpoint, model, hours) of a new job."""
        endpoint, model, hours = body.get("endpoint"), body.get("model"), body.get("timeout_hours", 24)
        if endpoint not in SERVED:
            raise refused(f"Input should be one of {', '.join(SERVED)}", "endpoint")
        if model is not None:
            resolve(body)
        if not isinstance(hours, int) or isinstance(hours, bool) or not 1 <= hours <= 168:
            raise refused("Input should be between 1 and 168", "timeout_hours")
        metadata = body.get("metadata")
        held = as_document(metadata)
        if metadata is not None and (held is None or not all(isinstance(v, str) for v in held.values())):
            raise refused("Input should be a dictionary of strings", "metadata")
        if (body.get("input_files") is None) == (body.get("requests") is None):
            raise refused("Exactly one of input_files and requests should be given", "input_files")
        return str(endpoint), model, float(hours)

    def _input(self, call: Call, body: Document, files: list[str]) -> Input:
        requests = as_list(body.get("requests"))
        if requests is not None:
            most = self._context.limits.mistral_inline_rows
            if not 0 < len(requests) <= most:
                raise refused(f"List should have at least 1 and at most {most} items", "requests")
            return write_requests(requests, self._context.spool.new())
        paths: list[Path] = []
        for file_id in files:
            kept = self._files.find(call.project, file_id)
            if kept is None or kept.ready_at > call.now:
                raise ApiError(404, f"No file with id {file_id} found.")
            paths.append(kept.path)
        if not paths:
            raise refused("List should have at least 1 item", "input_files")
        return check_files(paths, self._context.spool.new())

    def _check_queue(self, call: Call, rows: int, about: str) -> None:
        waiting = sum(
            job.rows.total - job.rows.done for job in self._live.values() if job.project == call.project
        )
        most = self._context.limits.mistral_pending_rows
        refuse_full(self._context.faults, "mistral", about)
        if waiting + rows > most:
            raise ApiError(429, f"A workspace may have at most {most} pending batch requests.")

    def _get(self, call: Call) -> MistralJob:
        missing = f"No batch job with id {call.arg} found."
        return visible(self._jobs.get(call.arg), call.project, call.now, missing)

    async def _retrieve(self, call: Call) -> Response:
        job = self._get(call)
        view = job.view(call.now)
        if call.request.params().get("inline", "").lower() == "true":
            view["outputs"] = self._outputs(job)
        return json_response(view)

    def _outputs(self, job: MistralJob) -> list[Any] | None:
        """The lines of both result files, as far as they can be read."""
        if job.live:
            return None
        found: list[Any] = []
        for file_id in filter(None, (job.output_file, job.error_file)):
            kept = self._files.find(job.project, file_id)
            for line in () if kept is None else kept.path.read_bytes().split(b"\n"):
                try:
                    found.append(msgspec.json.decode(line))
                except msgspec.DecodeError:
                    continue
        return found

    async def _list(self, call: Call) -> Response:
        found = list(filter(_filter(call), listed(self._jobs.values(), call.project, call.now)))
        params = call.request.params()
        if params.get("order_by", "-created") != "created":
            found.reverse()
        data = [job.view(call.now) for job in page_of(found, params)]
        return json_response({"object": "list", "data": data, "total": len(found)})

    async def _cancel(self, call: Call) -> Response:
        job = self._get(call)
        if not job.live:
            raise ApiError(409, f"Batch job {job.id} has ended with status {job.status(call.now)}.")
        self.cancel(job, call.now)
        return json_response(job.view(call.now))

    async def _delete(self, call: Call) -> Response:
        job = self._get(call)
        if job.live:
            raise ApiError(409, f"Batch job {job.id} is still being processed.")
        del self._jobs[job.id]
        return json_response({"id": job.id, "object": "batch", "deleted": True})


def _filter(call: Call) -> Callable[[MistralJob], bool]:
    """The filter of a listing. The SDK (3.7) sends the metadata as bare query keys, so any key that is not
    another filter's is one of the metadata; `metadata[key]=` and `metadata=` with a JSON object are read too."""
    given = parse_qs(call.request.query, keep_blank_values=True)
    wanted: Document = {}
    for key, values in given.items():
        nested = _NESTED.match(key)
        if nested is not None:
            wanted[nested.group(1)] = values[-1]
        elif key not in _FILTERS:
            wanted[key] = values[-1]
    for text in given.get("metadata", ()):
        wanted |= _json_object(text)
    statuses = {one for text in given.get("status", ()) for one in text.split(",")}
    after = _moment(given["created_after"][-1]) if "created_after" in given else None
    model, agent = given.get("model", [None])[-1], given.get("agent_id", [None])[-1]

    def matches(job: MistralJob) -> bool:
        return (
            (model is None or job.model == model)
            and (agent is None or job.agent_id == agent)
            and (after is None or job.created_at > after)
            and (not statuses or job.status(call.now) in statuses)
            and all(job.metadata.get(key) == value for key, value in wanted.items())
        )

    return matches


def _json_object(text: str) -> Document:
    try:
        found = as_document(msgspec.json.decode(text))
    except msgspec.DecodeError:
        found = None
    if found is None:
        raise refused("Input should be a valid dictionary", "metadata")
    return found


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace(" ", "+")).timestamp()
    except ValueError:
        raise refused("Input should be a valid datetime", "created_after") from None

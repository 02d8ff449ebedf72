"""Vertex AI's batchPredictionJobs (REST reference): create, get, list, cancel, delete."""

import re

import msgspec

from halfrate.emulator._bigquery_store import read_uri
from halfrate.emulator._context import Context
from halfrate.emulator._gcs_store import split_uri
from halfrate.emulator._gemini_wire import listing, page, pick, pick_document
from halfrate.emulator._models import find_model
from halfrate.emulator._prices import Model
from halfrate.emulator._quirks import draw_quirks, listed, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import first_row_at
from halfrate.emulator._vertex_input import read_rows, read_source
from halfrate.emulator._vertex_run import VertexJob, VertexJobs
from halfrate.emulator._wire import ApiError, Document, Response, as_document, json_response, read_document

_QUEUE_WINDOWS = 3
"""A job may wait for three windows (72 hours), and run for one."""
_TERM = re.compile(r'\s*([a-zA-Z_.]+)\s*=\s*(?:"([^"]*)"|(\S+))\s*')


class BatchPredictionJobs(VertexJobs):
    """The calls about jobs."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._serial = 0

    def routes(self, version: str) -> list[Route]:
        base = f"/{version}/projects/{{}}/locations/{{}}/batchPredictionJobs"
        return [
            Route("POST", base, "create", self._create),
            Route("GET", base, "list", self._list),
            Route("GET", f"{base}/{{}}", "poll", self._get),
            Route("POST", f"{base}/{{}}:cancel", "cancel", self._cancel),
            Route("DELETE", f"{base}/{{}}", "delete", self._delete),
        ]

    async def _create(self, call: Call) -> Response:
        about = self.attempt_create()
        body = await read_document(call.request)
        display_name = pick(body, "displayName")
        if not isinstance(display_name, str) or not display_name:
            raise ApiError(400, "The display name of the job is missing.")
        model = _model(pick(body, "model"))
        full = self._context.faults.strike("queue-full", "vertex", about)
        if full is not None:
            message = "Quota exceeded for aiplatform.googleapis.com/batch_prediction_requests."
            raise ApiError(429, message, headers=full.retry_after())
        job = self._made(call, body, model, display_name)
        self.keep(job)
        return self.create_reply(about, job.view(call.now))

    def _made(self, call: Call, body: Document, model: Model, display_name: str) -> VertexJob:
        context, now = self._context, self._context.clock.now()
        call = msgspec.structs.replace(call, project="/".join(call.args), now=now)
        source = read_source(pick_document(body, "inputConfig"))
        destination, table = _destination(pick_document(body, "outputConfig"), now)
        found = read_rows(context, source, "content" if model.kind == "embedding" else "contents")
        job_id = str(10**18 + int(context.new_id(""), 16) % 10**18)
        quirks = draw_quirks(context.faults, "vertex", job_id, now)
        if quirks.fail_code is not None:
            told = f"{quirks.fail_code}: line {quirks.fail_line} of the input is not as expected."
            found.problems.insert(0, told)
        # What waits too long never starts; what has started has one window.
        starts_at, window = first_row_at(context.pace, now, quirks), context.pace.window
        latest = now + _QUEUE_WINDOWS * window
        deadline = latest if starts_at > latest else starts_at + window
        self._serial += 1
        return VertexJob(
            **self.begin(call, job_id, found, quirks, hours=24 * (_QUEUE_WINDOWS + 1), deadline=deadline),
            name=_name(call, job_id),
            display_name=display_name,
            labels={str(key): str(value) for key, value in (as_document(body.get("labels")) or {}).items()},
            model=model,
            model_name=str(pick(body, "model")),
            source=source,
            config={
                "inputConfig": pick_document(body, "inputConfig"),
                "outputConfig": pick_document(body, "outputConfig"),
            },
            destination=destination,
            table=table,
            serial=self._serial,
        )

    def _named(self, call: Call) -> VertexJob:
        *place, job_id = call.args
        missing = f"The BatchPredictionJob {_name(call, job_id)} does not exist."
        return visible(self._jobs.get(job_id), "/".join(place), call.now, missing)

    async def _get(self, call: Call) -> Response:
        return json_response(self._named(call).view(call.now))

    async def _list(self, call: Call) -> Response:
        terms = _terms(call.request.params().get("filter", ""))
        mine = [
            (job.serial, job)
            for job in listed(reversed(self._jobs.values()), "/".join(call.args), call.now)
            if all(_matches(job, key, value) for key, value in terms)
        ]
        shown, token = page(call.request, mine, 50, 100)
        return listing("batchPredictionJobs", [job.view(call.now) for job in shown], token)

    async def _cancel(self, call: Call) -> Response:
        """Asks for an end. A job that has ended already stays as it is."""
        job = self._named(call)
        if job.live:
            self.cancel(job, call.now)
        return json_response({})

    async def _delete(self, call: Call) -> Response:
        job = self._named(call)
        if job.live:
            raise ApiError(400, f"The BatchPredictionJob {job.name} is {job.state} and cannot be deleted.")
        del self._jobs[job.id]
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        operation = f"{job.name.partition('/batchPredictionJobs')[0]}/operations/{job.id}"
        return json_response({"name": operation, "done": True, "response": empty})


def _name(call: Call, job_id: str) -> str:
    """The name of a job of the place that a call is about."""
    return f"projects/{call.args[0]}/locations/{call.args[1]}/batchPredictionJobs/{job_id}"


def _model(name: object) -> Model:
    """The model of a create call: `publishers/google/models/...`, perhaps with a project before it."""
    short = str(name).rpartition("models/")[2]
    model = find_model(short, "vertex") if "publishers/google/models/" in str(name) else None
    if model is None:
        raise ApiError(400, f"The model {name} does not exist, or does not support batch prediction.")
    return model


def _destination(config: Document, now: float) -> tuple[str, tuple[str, str, str] | None]:
    """(URI, table) of the output. ApiError 400 for none."""
    form = pick(config, "predictionsFormat")
    prefix = pick(pick_document(config, "gcsDestination"), "outputUriPrefix")
    table = pick(pick_document(config, "bigqueryDestination"), "outputUri")
    if form == "jsonl" and isinstance(prefix, str):
        split_uri(prefix)
        return prefix, None
    if form == "bigquery" and isinstance(table, str):
        return table, read_uri(table, f"predictions_{int(now)}")
    raise ApiError(400, "The output must be jsonl in Cloud Storage, or a BigQuery table.")


def _terms(text: str) -> list[tuple[str, str]]:
    """The equalities of a filter, joined by AND. ApiError 400 for a filter of another kind."""
    terms: list[tuple[str, str]] = []
    for part in re.split(r"\s+AND\s+", text) if text.strip() else []:
        match = _TERM.fullmatch(part)
        if match is None:
            raise ApiError(400, f"Invalid filter: {text}")
        terms.append((match[1], match[2] if match[2] is not None else match[3]))
    return terms


def _matches(job: VertexJob, key: str, value: str) -> bool:
    if key in {"display_name", "displayName"}:
        return job.display_name == value
    if key == "state":
        return f"JOB_STATE_{job.state}" == value
    if key.startswith("labels."):
        return job.labels.get(key.removeprefix("labels.")) == value
    raise ApiError(400, f"Invalid filter field: {key}")

"""Bedrock's model invocation jobs (botocore 1.44, service `bedrock` 2023-04-20; batch inference guide, 2026).

    Submitted -> Validating -> Failed
    Submitted -> Validating -> Scheduled -> InProgress -> Completed
                               Scheduled -> Expired              no row was begun before the timeout
                               InProgress -> PartiallyCompleted  the timeout came before the last row
    any that is active -> Stopping -> Stopped

The data lies in S3: results go to `{output}{job id}/{input file}.out` with the input echoed in every line, and counts
to `manifest.json.out`. A repeated `clientRequestToken` is answered without a second job.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from halfrate.emulator._bedrock_input import InputReader, read_row
from halfrate.emulator._bedrock_models import answer, resolve
from halfrate.emulator._bedrock_wire import conflict, quota
from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._jobs import Job, Jobs, Result, Row
from halfrate.emulator._prices import Model
from halfrate.emulator._quirks import draw_quirks, injected, listed, visible
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Answered, Ask, Lines
from halfrate.emulator._s3_client import BucketError, bucket_of
from halfrate.emulator._wire import ApiError, Document, Response, as_document, json_response, whole_number

ACCOUNT: Final = "123456789012"
KINDS: Final = ("InvokeModel", "Converse")
_NAME: Final = re.compile(r"[a-zA-Z0-9]{1,63}(-*[a-zA-Z0-9+\-.]){0,63}")
_TOKEN: Final = re.compile(r"[a-zA-Z0-9]{1,256}(-*[a-zA-Z0-9]){0,256}")
_ROLE: Final = re.compile(r"arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+")
_URI: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[-!_*'().a-z0-9A-Z/]*)?")
_STATUSES: Final = {
    "running": "InProgress",
    "finalizing": "InProgress",
    "cancelling": "Stopping",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Stopped",
}


class BedrockJob(Job, kw_only=True):
    """A model invocation job."""

    arn: str
    request: Document
    model: Model
    names: list[str]
    parts: dict[int, Lines] = msgspec.field(default_factory=dict)
    """What there is of each output file."""

    @property
    def name(self) -> str:
        return str(self.request["jobName"])

    def status(self, now: float) -> str:
        strange = self.strange(now)
        if strange is not None:
            return strange
        if self.phase == "validating":
            return "Submitted" if now < (self.created_at + self.validated_at) / 2 else "Validating"
        if self.phase == "expired":
            return "PartiallyCompleted" if self.rows.done else "Expired"
        return "Scheduled" if self.waiting(now) else _STATUSES[self.phase]

    def view(self, now: float) -> Document:
        """The job as the API shows it. Members without a value are left out, as in the real replies."""
        succeeded, failed = self.counted
        counted = self.started_at is not None
        found: Document = {
            "jobArn": self.arn,
            **{key: self.request[key] for key in _ECHOED if key in self.request},
            "status": self.status(now),
            "message": self.problems[0] if self.phase == "failed" and self.problems else None,
            "submitTime": rfc3339(self.created_at),
            "lastModifiedTime": rfc3339(self.ended_at or self.cancelling_at or self.created_at),
            "endTime": rfc3339(self.ended_at),
            "jobExpirationTime": rfc3339(self.expires_at),
            "totalRecordCount": self.rows.total if counted else None,
            "processedRecordCount": succeeded + failed if counted else None,
            "successRecordCount": succeeded if counted else None,
            "errorRecordCount": failed if counted else None,
        }
        return {key: value for key, value in found.items() if value is not None}


_ECHOED: Final = (
    "jobName",
    "modelId",
    "clientRequestToken",
    "roleArn",
    "inputDataConfig",
    "outputDataConfig",
    "vpcConfig",
    "timeoutDurationInHours",
    "modelInvocationType",
)


class BedrockJobs(Jobs[BedrockJob]):
    """The jobs of every account and region."""

    provider = "bedrock"
    id_key = "recordId"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tokens: dict[tuple[str, str], BedrockJob] = {}

    def routes(self) -> list[Route]:
        # An ARN in a path has a slash in it, which comes here decoded.
        job = "/model-invocation-job/{}"
        return [
            Route("POST", "/model-invocation-job", "create", self._create),
            Route("GET", "/model-invocation-jobs", "list", self._list),
            Route("POST", f"{job}/stop", "cancel", self._stop),
            Route("POST", f"{job}/{{}}/stop", "cancel", self._stop),
            Route("GET", job, "poll", self._retrieve),
            Route("GET", f"{job}/{{}}", "poll", self._retrieve),
        ]

    def read(self, job: BedrockJob, line: bytes) -> Row:
        row = read_row(line)
        return Row(row.id, bytes(row.body), row.part)

    def answer(self, job: BedrockJob, body: Document, ask: Ask) -> Answered:
        kind = job.request.get("modelInvocationType", KINDS[0])
        return answer(self._context, job.model, kind, body, ask)

    def line(self, job: BedrockJob, result: Result) -> Document:
        line: Document = {"recordId": result.row.id, "modelInput": msgspec.Raw(result.row.raw)}
        if result.error is None:
            return {**line, "modelOutput": None if result.answered is None else result.answered.body}
        error: Document | None = {"errorCode": result.error.status, "errorMessage": result.error.message}
        if result.plan.null_error:
            error = None
        if result.plan.status_zero:
            error = {}
        return {**line, "error": error}

    def add(
        self, job: BedrockJob, line: Document, row: Row, *, failed: bool, malformed: bool = False
    ) -> None:
        if row.part not in job.parts:
            job.parts[row.part] = Lines(self._context.spool.new())
        job.parts[row.part].add_document(line, malformed=malformed)

    def ended(self, job: BedrockJob, at: float) -> None:
        if job.started_at is None:
            return
        bucket, prefix = _place(job.request["outputDataConfig"], "s3OutputDataConfig")
        folder = f"{prefix}{'/' if prefix and not prefix.endswith('/') else ''}{job.id}/"
        try:
            target = bucket_of(self._context, bucket)
            for part, lines in job.parts.items():
                lines.flush()
                lines.cut(job.quirks.cut_bytes)
                if job.quirks.no_files:
                    self._context.spool.drop(lines.path)
                else:
                    target.put(f"{folder}{job.names[part]}.out", lines.path)
            if not job.quirks.no_files:
                path = self._context.spool.new()
                path.write_bytes(msgspec.json.encode(self._manifest(job)))
                target.put(f"{folder}manifest.json.out", path)
        except BucketError as error:
            job.phase = "failed"
            job.problems.append(f"The output data cannot be written: {error}")
        job.parts.clear()

    def _manifest(self, job: BedrockJob) -> dict[str, int]:
        succeeded, failed = job.counted
        return {
            "totalRecordCount": job.rows.total,
            "processedRecordCount": succeeded + failed,
            "successRecordCount": succeeded,
            "errorRecordCount": failed,
            "inputTokenCount": job.tokens.prompt,
            "outputTokenCount": job.tokens.output,
        }

    async def _create(self, call: Call) -> Response:
        call, body, about = await self.read_create(call)
        job = self._repeated(call, body) or self._made(call, body, about)
        return self.create_reply(about, {"jobArn": job.arn})

    def _repeated(self, call: Call, body: Document) -> BedrockJob | None:
        """The job that a call with the same token has made."""
        token = body.get("clientRequestToken")
        found = self._tokens.get((call.project, str(token))) if token is not None else None
        if found is not None and found.request != body:
            raise conflict("The clientRequestToken has been used with other parameters.")
        return found

    def _made(self, call: Call, body: Document, about: str) -> BedrockJob:
        context = self._context
        model = _checked(body)
        if any(job.name == body["jobName"] for job in self._jobs.values() if job.project == call.project):
            raise conflict(f"The job name {body['jobName']} is already in use. Try again with another one.")
        self._check_quota(call, model, about)
        bucket, key = _place(body["inputDataConfig"], "s3InputDataConfig")
        source = InputReader(context, bucket_of(context, bucket), key).read()
        job_id = context.new_id("")[-12:]
        quirks = draw_quirks(context.faults, "bedrock", job_id, call.now)
        if quirks.fail_code is not None:
            source.problems.append(f"{quirks.fail_code} at line {quirks.fail_line}")
        hours = float(body.get("timeoutDurationInHours", 24))
        region = call.project.rpartition("/")[2]
        job = BedrockJob(
            **self.begin(call, job_id, source, quirks, hours=hours),
            arn=f"arn:aws:bedrock:{region}:{ACCOUNT}:model-invocation-job/{job_id}",
            request=body,
            model=model,
            names=source.names,
        )
        self.keep(job)
        if "clientRequestToken" in body:
            self._tokens[call.project, body["clientRequestToken"]] = job
        return job

    def _check_quota(self, call: Call, model: Model, about: str) -> None:
        full = self._context.faults.strike("queue-full", "bedrock", about)
        if full is not None:
            status = full.whole("status")
            if status != 429:
                raise injected(status, full.retry_after())
            raise quota("The quota of jobs for this model has been reached.", full.retry_after())
        live = [job for job in self._live.values() if (job.project, job.model) == (call.project, model)]
        if len(live) >= self._context.limits.bedrock_jobs:
            raise quota(f"You have reached the quota of {len(live)} in-progress and submitted batch jobs.")

    def _get(self, call: Call) -> BedrockJob:
        missing = "Could not find the model invocation job. Check its identifier."
        return visible(self._jobs.get(call.args[-1]), call.project, call.now, missing)

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._get(call).view(call.now))

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        matches = _filter(params, call.now)
        found = list(filter(matches, listed(self._jobs.values(), call.project, call.now)))
        if params.get("sortOrder", "Descending") != "Ascending":
            found.reverse()
        most = whole_number(params.get("maxResults"), "maxResults", 100, 1, 1_000)
        start = whole_number(params.get("nextToken"), "nextToken", 0, 0, 1 << 40)
        page = [job.view(call.now) for job in found[start : start + most]]
        more = {"nextToken": str(start + most)} if len(found) > start + most else {}
        return json_response({"invocationJobSummaries": page, **more})

    async def _stop(self, call: Call) -> Response:
        job = self._get(call)
        if not job.live:
            raise conflict(f"The job cannot be stopped: its status is {job.status(call.now)}.")
        self.cancel(job, call.now)
        return json_response({})


def _checked(body: Document) -> Model:
    """The model of a new job. Raises ApiError where the call is not as the service model has it."""
    for key, pattern in (("jobName", _NAME), ("roleArn", _ROLE)):
        _match(body.get(key), key, pattern)
    if len(body["jobName"]) > 63:
        raise ApiError(400, "Value at 'jobName' failed to satisfy constraint: length at most 63")
    if "clientRequestToken" in body:
        _match(body["clientRequestToken"], "clientRequestToken", _TOKEN)
    hours = body.get("timeoutDurationInHours", 24)
    if not isinstance(hours, int) or isinstance(hours, bool) or not 24 <= hours <= 168:
        raise ApiError(400, "Value at 'timeoutDurationInHours' failed to satisfy constraint: 24 to 168")
    if body.get("modelInvocationType", KINDS[0]) not in KINDS:
        raise ApiError(400, f"Value at 'modelInvocationType' is one of {', '.join(KINDS)}")
    _place(body.get("inputDataConfig"), "s3InputDataConfig")
    _place(body.get("outputDataConfig"), "s3OutputDataConfig")
    return resolve(body.get("modelId"))


def _match(given: object, name: str, pattern: re.Pattern[str]) -> None:
    if not isinstance(given, str) or not pattern.fullmatch(given):
        message = f"Value at '{name}' failed to satisfy constraint: pattern {pattern.pattern}"
        raise ApiError(400, message)


def _place(config: Any, kind: str) -> tuple[str, str]:
    """(bucket, key) of one of the two data configurations."""
    inner = as_document((as_document(config) or {}).get(kind)) or {}
    found = _URI.fullmatch(str(inner.get("s3Uri", "")))
    if found is None:
        raise ApiError(400, f"Value at '{kind}.s3Uri' is not a valid S3 URI.")
    return found.group(1), (found.group(2) or "").removeprefix("/")


def _filter(params: dict[str, str], now: float) -> Callable[[BedrockJob], bool]:
    after, before = (
        _moment(params[key]) if key in params else None for key in ("submitTimeAfter", "submitTimeBefore")
    )
    status, name = params.get("statusEquals"), params.get("nameContains", "")

    def matches(job: BedrockJob) -> bool:
        return (
            (after is None or job.created_at > after)
            and (before is None or job.created_at < before)
            and (status is None or job.status(now) == status)
            and name in job.name
        )

    return matches


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ApiError(400, f"{text} is not a valid timestamp.") from None

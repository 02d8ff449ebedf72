"""Amazon Bedrock: model invocation jobs over rows that lie in a bucket of the user's, under a name that we choose.

Facts are from botocore 1.44.5 (service `bedrock`) and Bedrock's user guide (batch inference and its quotas), as of
2026-11.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import OutcomeUnknown, ProviderError, Refused, SettingsError, UsageError
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import (
    Capabilities,
    Endpoint,
    Envelope,
    Limits,
    Option,
    RawForm,
    RequestSpec,
    Setting,
    Translated,
)
from halfrate.providers.base import Account, BatchView, Call, Intent, Lookup, Reply, Tier
from halfrate.providers.bedrock_bodies import Invocation, bare_name, body_of, invocation_in
from halfrate.providers.bedrock_calls import KEEP, errored, understand
from halfrate.providers.bedrock_results import completion_in, line_reader, list_in
from halfrate.providers.bedrock_wire import TITLE, AwsHttp, folder_of, region_of, runtime_url, signer
from halfrate.providers.calls import DEFAULT_TIMEOUT, asks_for_stream, no_stream
from halfrate.providers.http import unreadable
from halfrate.providers.object_credentials import AwsChain
from halfrate.providers.objects import Bucket, split
from halfrate.providers.translation import embeddings, request_to

_SKEW: Final = 300.0
_PAGE: Final = 1000
_NOT_FOUND: Final = 404
_WINDOWS: Final = ("24h", "48h", "72h", "96h", "120h", "144h", "168h")
_ENDED: Final = frozenset({"Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired"})
_WAITING: Final = frozenset({"Submitted", "Validating"})
_ABSENT: Final = {
    "PartiallyCompleted": Kind.EXPIRED,
    "Expired": Kind.EXPIRED,
    "Stopped": Kind.CANCELLED,
}
_MANIFEST: Final = "manifest.json.out"
_ROLE: Final = re.compile(r"arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+")
# A job that failed for one of these would fail again: how many records there are, their form, what may be read.
_HOPELESS: Final = re.compile(
    r"at least|minimum|at most|maximum|malformed|\bformat|permission|access denied|not authorized|cannot be read"
    r"|cannot be written|not support",
    re.IGNORECASE,
)
_INTERNAL: Final = re.compile(r"internal|try again|temporar", re.IGNORECASE)


class _InputPlace(msgspec.Struct):
    uri: str = msgspec.field(name="s3Uri", default="")


class _Input(msgspec.Struct):
    s3: _InputPlace | None = msgspec.field(name="s3InputDataConfig", default=None)


class _Output(msgspec.Struct):
    s3: _InputPlace | None = msgspec.field(name="s3OutputDataConfig", default=None)


class _Job(msgspec.Struct, rename="camel"):
    job_arn: str
    job_name: str = ""
    status: str = "Submitted"
    message: str | None = None
    input_data_config: _Input | None = None
    output_data_config: _Output | None = None
    processed_record_count: int | None = None
    success_record_count: int | None = None
    error_record_count: int | None = None

    @property
    def job_id(self) -> str:
        return self.job_arn.rpartition("/")[2]

    @property
    def source(self) -> str:
        """Where its rows lie."""
        found = self.input_data_config.s3 if self.input_data_config is not None else None
        return found.uri if found is not None else ""

    @property
    def folder(self) -> str:
        """Where its results lie, "" where it is not said."""
        found = self.output_data_config.s3 if self.output_data_config is not None else None
        return f"{found.uri.rstrip('/')}/{self.job_id}" if found is not None and found.uri else ""

    @property
    def finished(self) -> int:
        return self.processed_record_count or (self.success_record_count or 0) + (
            self.error_record_count or 0
        )


class _Record(msgspec.Struct, rename="camel"):
    model_input: msgspec.Raw


class _Jobs(msgspec.Struct, rename="camel"):
    invocation_job_summaries: list[_Job] = msgspec.field(default_factory=list[_Job])
    next_token: str | None = None


class _Made(msgspec.Struct, rename="camel"):
    job_arn: str


class _Manifest(msgspec.Struct, rename="camel"):
    processed_record_count: int | None = None


class Bedrock:
    """Amazon Bedrock.

    A create with the name and the token of one before it makes no second job. Results lie in the user's own bucket,
    with the rows repeated in them, until they are deleted.
    """

    capabilities: Capabilities = Capabilities(
        provider="bedrock",
        title=TITLE,
        endpoints=("messages", "embeddings"),
        native_form="bedrock",
        # Quotas by model and region: 50,000 records, in newer ones 100,000; 1 GB a file. The results repeat the rows,
        # so that of a batch of 200 MB there is more than that to be fetched.
        limits=Limits(rows=49_000, bytes=200_000_000, row_bytes=200_000_000),
        key_variables=("AWS_BEARER_TOKEN_BEDROCK",),
        # Without a key of Bedrock's own, calls are signed with what AWS's chain of credentials gives.
        needs_key=False,
        url_variable="AWS_ENDPOINT_URL_BEDROCK",
        default_url="https://bedrock.{region}.amazonaws.com",
        settings=(
            Setting(
                "region", "the region of your jobs and your bucket", ("AWS_REGION", "AWS_DEFAULT_REGION")
            ),
            Setting(
                "role", "the ARN of the role that Bedrock reads and writes with", ("HALFRATE_BEDROCK_ROLE",)
            ),
            Setting(
                "bucket", "the place for rows and results, s3://BUCKET/FOLDER", ("HALFRATE_BEDROCK_BUCKET",)
            ),
            Setting(
                "runtime_url",
                "where models are called in real time, if not at AWS",
                ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME",),
                default="",
            ),
            Setting("s3_url", "where the bucket is, if not at AWS", ("AWS_ENDPOINT_URL_S3",), default=""),
        ),
        least_rows=100,
        windows=_WINDOWS,
        cache_stacks=False,
        kept="until deleted from your bucket",
        adoption="name",
        translates=("chat", "embeddings"),
        raw=RawForm(
            "recordId",
            b',"error":{"errorCode":"not_run","errorMessage":"the provider gave no result for this row"}}\n',
        ),
        options=(
            Option("window", "how long the batch may take", _WINDOWS),
            Option(
                "invocation",
                "how the model is asked, if not as its family usually is",
                ("invoke", "converse"),
            ),
            Option("serves", "the model behind an inference profile of your own, for its form and its price"),
        ),
    )

    def __init__(self, account: Account) -> None:
        settings = account.settings
        self._role = settings.get("role", "")
        self._home = folder_of(settings["bucket"]) if settings.get("bucket") else ""
        if self._role and not _ROLE.fullmatch(self._role):
            raise SettingsError(
                f"{self._role!r} is not a role. Write its ARN, as in arn:aws:iam::123456789012:role/batch. Nothing was "
                "sent."
            )
        self._chain = AwsChain()
        self._signs = not account.key
        self._region = region_of(account.base_url, settings.get("region", ""))
        self._s3_url = settings.get("s3_url", "")
        self._buckets: dict[str, Bucket] = {}
        headers = {"Authorization": f"Bearer {account.key}"} if account.key else {}
        sign = signer(self._region, self._chain) if self._signs else None
        self._http = AwsHttp(account.base_url, headers, TITLE, sign=sign)
        runtime = settings.get("runtime_url") or runtime_url(account.base_url)
        self._models = AwsHttp(runtime, headers, TITLE, sign=sign)

    # ------------------------------------------------------------ encoding and decoding

    def envelope(self, endpoint: Endpoint) -> Envelope:
        return Envelope(b'{"recordId":"', b'","modelInput":', b"}")

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        return body_of(spec)

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return line_reader(row_prefix)

    def tiers(self, endpoint: Endpoint) -> tuple[Tier, ...]:
        return ("standard",)

    def tier_of(self, line: bytes) -> str:
        return "standard"

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        if endpoint == "embeddings":
            return embeddings.request_to("bedrock", body, bare_name(model))
        return request_to("converse", {**body, "model": model})

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        return list_in(line) if endpoint == "embeddings" else completion_in(line, created)

    # ------------------------------------------------------------ safe to repeat

    async def upload(self, intent: Intent) -> str:
        place = self._input(intent.tag)
        bucket, key = self._object(place)
        await bucket.put_file(key, intent.requests)
        return place

    async def find(self, intent: Intent, now: float) -> Lookup:
        since = datetime.fromtimestamp((intent.made_at or now) - _SKEW, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = {
            "maxResults": str(_PAGE),
            "nameContains": intent.tag,
            "sortBy": "CreationTime",
            "sortOrder": "Descending",
            "submitTimeAfter": since,
        }
        found: list[_Job] = []
        while True:
            path = "/model-invocation-jobs?" + "&".join(f"{k}={_quoted(v)}" for k, v in query.items())
            page = self._http.decode(await self._http.ask("GET", path), _Jobs)
            found += [
                job
                for job in page.invocation_job_summaries
                if job.job_name == intent.tag and job.job_arn not in intent.past
            ]
            if not page.next_token:
                break
            query["nextToken"] = page.next_token
        found.sort(key=lambda job: job.status == "Failed")
        return Lookup(tuple(job.job_arn for job in found))

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        reply = await self._http.ask("GET", _path(batch_id))
        return await self._view(self._http.decode(reply, _Job))

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        paths: list[Path] = []
        for place in view.files:
            path = targets(len(paths))
            bucket, key = self._object(place)
            await bucket.get_file(key, path)
            paths.append(path)
        return paths

    async def cancel(self, batch_id: str) -> None:
        # A job that has ended is answered with ConflictException or ValidationException.
        await self._http.ask_to_end(f"{_path(batch_id)}/stop")

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        for place in leftovers:
            bucket, key = self._object(place)
            await bucket.delete(key)

    async def strays(self, tag: str) -> tuple[str, ...]:
        place = self._input(tag)
        bucket, key = self._object(place)
        return (place,) if await bucket.size(key) is not None else ()

    async def close(self) -> None:
        await self._models.close()
        await self._http.close()

    # ------------------------------------------------------------ the paid calls

    async def create(self, intent: Intent) -> BatchView:
        request: dict[str, Any] = {
            "jobName": intent.tag,
            "clientRequestToken": intent.tag,
            "roleArn": self._role,
            "modelId": intent.model,
            "modelInvocationType": await asyncio.to_thread(_invocation, intent.requests),
            "inputDataConfig": {"s3InputDataConfig": {"s3Uri": intent.file_id, "s3InputFormat": "JSONL"}},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{self._home}/{intent.tag}/"}},
            "timeoutDurationInHours": int(intent.options.get("window", _WINDOWS[0]).removesuffix("h")),
        }
        try:
            await self._ready()
            # PAID CALL: sent once, and harmless if it came twice: a token that was used names the job that it made. A
            # process killed on this line may leave a job at work that nobody knows of yet; `find` knows it by its name.
            reply = await self._http.send(
                "POST",
                "/model-invocation-job",
                body=msgspec.json.encode(request),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            raise _meaning(refusal) from refusal
        return BatchView(
            batch_id=self._http.decode(reply, _Made).job_arn, status="Submitted", ended=False, accepted=False
        )

    async def call(self, call: Call) -> Reply:
        if call.tier not in self.tiers(call.endpoint):
            raise UsageError(f"{TITLE} serves {call.endpoint} in no tier {call.tier!r}.")
        if asks_for_stream(call.body):
            raise no_stream(
                TITLE,
                call,
                lambda status, _: errored(call.row_id, status, "streaming is not supported in a batch"),
            )
        await self._ready()
        verb = "converse" if invocation_in(call.body) == "Converse" else "invoke"
        # PAID CALL: sent once. A process killed on this line may have paid for an answer that it will never see; the
        # journal says which rows were under way.
        answer = await self._models.call(
            f"/model/{_quoted(call.model)}/{verb}",
            call.body,
            headers={"Accept": "application/json"},
            keep=KEEP,
            timeout=call.timeout or DEFAULT_TIMEOUT,
            in_time=call.in_time,
        )
        return understand(call, answer)

    # ------------------------------------------------------------ parts

    async def _ready(self) -> None:
        """Look for credentials before anything is sent: that there are none must not be found out amid a paid call."""
        if self._signs:
            try:
                await asyncio.to_thread(self._chain.keys)
            except SettingsError as error:
                raise Refused(str(error), status=401, code="no_credentials") from error

    def _input(self, tag: str) -> str:
        if not self._home:
            raise SettingsError(
                "There is no bucket for the rows. Set HALFRATE_BEDROCK_BUCKET. Nothing was sent."
            )
        return f"{self._home}/{tag}.jsonl"

    def _object(self, place: str) -> tuple[Bucket, str]:
        name, key = split(place)
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = Bucket(name, region=self._region, endpoint=self._s3_url, chain=self._chain)
            self._buckets[name] = bucket
        return bucket, key

    async def _view(self, job: _Job) -> BatchView:
        view = BatchView(
            batch_id=job.job_arn,
            status=job.status,
            # A status never seen before is not an end: the job may still be at work.
            ended=job.status in _ENDED,
            rows_finished=job.finished,
            accepted=job.status not in _WAITING,
        )
        return await self._ended(job, view) if view.ended else view

    async def _ended(self, job: _Job, view: BatchView) -> BatchView:
        """With what a job has left in the bucket, whatever its end: what is finished is paid for."""
        finished = view.rows_finished
        objects: list[str] = []
        if job.folder:
            bucket, key = self._object(job.folder)
            objects = await _objects(bucket, key)
            if f"{job.folder}/{_MANIFEST}" in objects:
                finished = max(finished, await self._counted(bucket, f"{key}/{_MANIFEST}"))
        files = [place for place in objects if place.endswith(".out") and not place.endswith(_MANIFEST)]
        if not files and job.folder and (finished or job.status in {"Completed", "PartiallyCompleted"}):
            # There were results, and they are gone. That is found out, and told, where they are fetched.
            files = [f"{job.folder}/{job.source.rpartition('/')[2]}.out"]
        failure = None
        if job.status == "Failed" and not files:
            failure = ("failed", job.message or f"{TITLE} gave no reason")
        hopeless = (
            failure is not None
            and _HOPELESS.search(failure[1]) is not None
            and not _INTERNAL.search(failure[1])
        )
        return msgspec.structs.replace(
            view,
            rows_finished=finished,
            files=tuple(files),
            leftovers=tuple(filter(None, (job.source, *objects))),
            absent=_ABSENT.get(job.status, Kind.MISSING),
            failure=failure,
            hopeless=hopeless,
        )

    async def _counted(self, bucket: Bucket, key: str) -> int:
        """How many rows a job says it has been through, where its results lie."""
        try:
            return msgspec.json.decode(await bucket.read(key), type=_Manifest).processed_record_count or 0
        except (msgspec.DecodeError, UnicodeDecodeError, ProviderError):
            # The results speak for themselves; this would only have said whether all of them were read.
            return 0


async def _objects(bucket: Bucket, folder: str) -> list[str]:
    try:
        return [f"{bucket.place}/{name}" for name, _ in await bucket.list(folder)]
    except Refused as refusal:
        if refusal.status == _NOT_FOUND:
            # The bucket is gone. It is not the job that is not known.
            return []
        raise


def _invocation(requests: Path) -> Invocation:
    """How the rows of a request file are to be run. They are all of one form, which the first one shows."""
    try:
        with requests.open("rb") as file:
            return invocation_in(msgspec.json.decode(file.readline(), type=_Record).model_input)
    except OSError as error:
        raise unreadable(requests, error) from error


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def _path(arn: str) -> str:
    return f"/model-invocation-job/{_quoted(arn)}"


def _meaning(refusal: Refused) -> Refused | OutcomeUnknown:
    """What a refused create means."""
    if refusal.status >= 500 or refusal.status == 408:
        return OutcomeUnknown(f"{refusal}. The job may have been made all the same")
    if refusal.code == "ConflictException":
        # The name, or the token, is taken: by a create of this job that came before.
        return OutcomeUnknown(f"{refusal}. A create of this job came before")
    if refusal.code == "ServiceQuotaExceededException":
        refusal.queue_full = True
    elif refusal.status == 400:
        # Where a 400 speaks of a file, the life cycle takes it to be the request file, and uploads that again. Here it
        # speaks of an inference pro-file: Bedrock looks at the rows only when the job is made.
        refusal.status = 422
    return refusal

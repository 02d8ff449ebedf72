"""Vertex AI: batch prediction jobs of Gemini models, over rows in a bucket or in a table of the user's own.

Facts are from cloud.google.com (batch prediction pages, REST reference of BatchPredictionJob) and the SDK (google-genai
3.4), as of 2026-11.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused, SettingsError, UsageError
from halfrate.base.ids import new_token
from halfrate.base.results import LineReader
from halfrate.base.types import (
    Capabilities,
    Endpoint,
    Envelope,
    Framing,
    Limits,
    RawForm,
    RequestSpec,
    Setting,
    Translated,
)
from halfrate.providers.answers import Answer
from halfrate.providers.base import Account, BatchView, Call, Intent, Lookup, Reply, Streaming, Tier
from halfrate.providers.calls import DEFAULT_TIMEOUT
from halfrate.providers.gemini_bodies import body_of
from halfrate.providers.gemini_calls import STREAM, understand
from halfrate.providers.gemini_results import completion_in
from halfrate.providers.http import Http, Sign
from halfrate.providers.object_credentials import GoogleChain
from halfrate.providers.objects import Bucket, split
from halfrate.providers.stream_calls import signed
from halfrate.providers.translation import request_to
from halfrate.providers.vertex_jobs import RECORD, WHOLE, Job, Jobs, files_among, table_of, view_of
from halfrate.providers.vertex_results import ENVELOPE, LABEL, line_reader, realtime_line
from halfrate.providers.vertex_tables import Table, Tables

_TITLE: Final = "Vertex AI"
_PAGE: Final = 100
_NOT_FOUND: Final = 404
_JOBS: Final = "/batchPredictionJobs"


class Vertex:
    """Google's Vertex AI. Rows and results are in a bucket of the user's, or in BigQuery, until they are deleted."""

    capabilities: Capabilities = Capabilities(
        provider="vertex",
        title=_TITLE,
        # Rows of embedding models have another form there, of which the pages say too little to pay for it.
        endpoints=("generate",),
        native_form="vertex",
        translates=("chat",),
        # 200,000 rows and 1 GB a job. Fewer rows keep our memory flat; a request with its data may have 20 MB.
        limits=Limits(rows=49_000, bytes=190_000_000, row_bytes=20_000_000),
        framing=Framing(b"", b"\n", b"\n"),
        uploads_file=True,
        echoes_tag=True,
        one_model_per_batch=True,
        create_timeout=300.0,
        key_variables=("GOOGLE_BEARER_TOKEN",),
        # Without a token that is given, Google's own chain of credentials is asked for one.
        needs_key=False,
        url_variable="GOOGLE_VERTEX_BASE_URL",
        default_url="https://{location}-aiplatform.googleapis.com",
        region_in_url=r"/locations/(?!global(?:/|$))([a-z0-9-]+)",
        url_path="/v1/projects/{project}/locations/{location}",
        settings=(
            Setting("project", "the project that runs and pays for your jobs", ("GOOGLE_CLOUD_PROJECT",)),
            Setting("location", "where your jobs run", ("GOOGLE_CLOUD_LOCATION",), default="us-central1"),
            Setting(
                "bucket",
                "the place for rows and results, gs://BUCKET/FOLDER or bq://PROJECT.DATASET",
                ("HALFRATE_VERTEX_BUCKET",),
            ),
            Setting(
                "storage_url",
                "where Cloud Storage is, if not at Google",
                ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
                default="",
            ),
            Setting(
                "bigquery_url",
                "where BigQuery is, if not at Google",
                ("BIGQUERY_EMULATOR_HOST",),
                default="https://bigquery.googleapis.com",
            ),
        ),
        kept="until deleted from your bucket or dataset",
        adoption="name",
        raw=RawForm(LABEL, b',"status":"the provider gave no result for this row","response":{}}\n'),
    )

    def __init__(self, account: Account) -> None:
        settings = account.settings
        self._home = settings.get("bucket", "").rstrip("/")
        if self._home and not _is_home(self._home):
            raise SettingsError(
                f"{self._home!r} is no place for rows. Write gs://BUCKET/FOLDER, or bq://PROJECT.DATASET for BigQuery. "
                "Nothing was sent."
            )
        self._chain = GoogleChain(account.key)
        self._given = bool(account.key)
        self._headers = {"Authorization": f"Bearer {account.key}"} if account.key else {}
        self._sign: Sign | None = None if account.key else self._signed
        # The name `global` stands in paths alone: its host is the one without a location.
        url = account.base_url.replace("//global-aiplatform.", "//aiplatform.", 1)
        root, mark, place = url.partition("/projects/")
        self._place = mark + place
        self._http = Http(root, self._headers, _TITLE, sign=self._sign)
        self._storage_url = _url(settings.get("storage_url", ""))
        self._bigquery_url = _url(settings.get("bigquery_url", ""))
        self._project = settings.get("project", "")
        self._buckets: dict[str, Bucket] = {}
        self._opened: Tables | None = None

    # ------------------------------------------------------------ encoding and decoding

    def envelope(self, endpoint: Endpoint) -> Envelope:
        return ENVELOPE

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        if ENVELOPE.inside in spec.params:
            raise UsageError(
                f"{_TITLE}'s rows bear their ids in their labels: no others can be set. Nothing was sent."
            )
        return body_of(spec)

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        return request_to("gemini", {**body, "model": model})

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        return completion_in(line, created)

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return line_reader(row_prefix)

    def tiers(self, endpoint: Endpoint) -> tuple[Tier, ...]:
        return ("standard",) if endpoint == "generate" else ()

    def tier_of(self, line: bytes) -> str:
        return "standard"

    # ------------------------------------------------------------ safe to repeat

    async def upload(self, intent: Intent) -> str:
        place = self._input(intent.tag)
        if place.startswith("bq://"):
            await self._tables().fill(Table.of(place), intent.requests)
        else:
            bucket, key = self._object(place)
            await bucket.put_file(key, intent.requests)
        return place

    async def find(self, intent: Intent, now: float) -> Lookup:
        # Names are not unique. The listing is asked for ours, and believed only where they are the same.
        wanted = quote(f'display_name="{intent.tag}"', safe="")
        found: list[Job] = []
        after = ""
        while True:
            path = f"{self._place}{_JOBS}?filter={wanted}&pageSize={_PAGE}{after}"
            page = self._http.decode(await self._http.ask("GET", path), Jobs)
            found += [
                job
                for job in page.batch_prediction_jobs
                if job.display_name == intent.tag and job.job_id not in intent.past
            ]
            if not page.next_page_token:
                break
            after = f"&pageToken={quote(page.next_page_token, safe='')}"
        found.sort(key=lambda job: (job.short_state == "FAILED", job.create_time))
        return Lookup(tuple(job.job_id for job in found))

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        return view_of(self._http.decode(await self._http.ask("GET", self._job(batch_id)), Job))

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        paths: list[Path] = []
        for place in view.files:
            first = len(paths)
            try:
                paths += await self._fetch(place, lambda at, first=first: targets(first + at))
            except Refused as refusal:
                # A job that was ended before its first row was done need not have made what it was to write to.
                if refusal.status != _NOT_FOUND or view.rows_finished or view.status in WHOLE:
                    raise
        return paths

    async def _fetch(self, place: str, targets: Callable[[int], Path]) -> list[Path]:
        if place.startswith("bq://"):
            path = targets(0)
            await self._tables().read(Table.of(place), path)
            return [path]
        bucket, folder = self._object(place)
        names = files_among([name for name, _ in await bucket.list(folder)])
        if not names:
            raise Refused(f"There are no results in {place}", status=_NOT_FOUND)
        paths: list[Path] = []
        for name in names:
            path = targets(len(paths))
            await bucket.get_file(name, path)
            paths.append(path)
        return paths

    async def cancel(self, batch_id: str) -> None:
        await self._http.ask_to_end(f"{self._job(batch_id)}:cancel")

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        # The record goes last: as long as it is there, it says what belongs to it.
        for place in sorted(leftovers, key=lambda place: place.startswith(RECORD)):
            if place.startswith(RECORD):
                await self._http.delete(self._job(place.removeprefix(RECORD)))
            elif place.startswith("bq://"):
                await self._tables().delete(Table.of(place))
            else:
                bucket, key = self._object(place)
                names = [name for name, _ in await bucket.list(key)] if place.endswith("/") else [key]
                for name in names:
                    await bucket.delete(name)

    async def strays(self, tag: str) -> tuple[str, ...]:
        place = self._input(tag)
        if place.startswith("bq://"):
            there = await self._tables().there(Table.of(place))
        else:
            bucket, key = self._object(place)
            there = await bucket.size(key) is not None
        return (place,) if there else ()

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
        await self._http.close()

    # ------------------------------------------------------------ the paid calls

    async def create(self, intent: Intent) -> BatchView:
        source = intent.file_id or ""
        if source.startswith("bq://"):
            # Each create writes to a table of its own: of two that came about by accident both are harvested, and
            # what was paid twice is told apart.
            target = f"{source}_out_{new_token()}"
            given = {"instancesFormat": "bigquery", "bigquerySource": {"inputUri": source}}
            wanted = {"predictionsFormat": "bigquery", "bigqueryDestination": {"outputUri": target}}
        else:
            target = source.removesuffix(".jsonl")
            given = {"instancesFormat": "jsonl", "gcsSource": {"uris": [source]}}
            wanted = {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": target}}
        request: dict[str, Any] = {
            "displayName": intent.tag,
            "model": _resource(intent.model),
            "labels": {"halfrate": intent.tag},
            "inputConfig": given,
            "outputConfig": wanted,
        }
        await self._ready()
        try:
            # PAID CALL: sent once. The service has no handle by which a second one were known for a repetition; `find`
            # knows by its name what the first may have made.
            reply = await self._http.send(
                "POST",
                f"{self._place}{_JOBS}",
                body=msgspec.json.encode(request),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            if refusal.status >= 500 or refusal.status == 408:
                raise OutcomeUnknown(f"{refusal}. The job may have been made all the same") from refusal
            refusal.queue_full = refusal.status == 429
            if refusal.status == 400:
                # Where a 400 speaks of a file, the life cycle takes it to be the request file, and uploads that again.
                # Here rows are looked at only when the job has been made.
                refusal.status = 422
            raise
        return view_of(self._http.decode(reply, Job))

    async def call(self, call: Call) -> Reply:
        self._check(call)
        await self._ready()
        # PAID CALL: sent once. A process killed on this line may have paid for an answer that it will never see; the
        # journal says which rows were under way.
        answer = await self._http.call(
            f"{self._model(call.model)}:generateContent",
            call.body,
            headers={},
            keep=(),
            timeout=call.timeout or DEFAULT_TIMEOUT,
            in_time=call.in_time,
        )
        return self.understood(call, answer)

    def _check(self, call: Call) -> None:
        if call.tier not in self.tiers(call.endpoint):
            raise UsageError(f"{_TITLE} serves {call.endpoint} in no tier {call.tier!r}.")

    def understood(self, call: Call, answer: Answer) -> Reply:
        return understand(_TITLE, call, answer, realtime_line)

    async def streaming(self, call: Call) -> Streaming | None:
        self._check(call)
        # A token lives for an hour: each call has the one that is good now.
        headers = await self._ready()
        return Streaming(
            url=self._http.base_url,
            path=f"{self._model(call.model)}:{STREAM}",
            headers=signed(headers),
            body=call.body,
            form="gemini",
            secret=headers["Authorization"].removeprefix("Bearer "),
        )

    # ------------------------------------------------------------ parts

    def _signed(self, _method: str, _url: str, _body: bytes | None) -> Mapping[str, str]:
        return self._chain.headers()

    async def _ready(self) -> Mapping[str, str]:
        """The credentials. They are looked for before anything is sent: that there are none must not be found out amid
        a paid call."""
        if self._given:
            return self._headers
        try:
            return await asyncio.to_thread(self._chain.headers)
        except SettingsError as error:
            raise Refused(str(error), status=401, code="no_credentials") from error

    def _model(self, name: str) -> str:
        """Where calls of a model go."""
        resource = quote(_resource(name), safe="/@")
        return f"/{resource}" if resource.startswith("projects/") else f"{self._place}/{resource}"

    def _job(self, job_id: str) -> str:
        return f"{self._place}{_JOBS}/{quote(job_id, safe='')}"

    def _input(self, tag: str) -> str:
        """Where the rows of a batch go."""
        if not self._home:
            raise SettingsError(
                "There is no place for the rows. Set HALFRATE_VERTEX_BUCKET. Nothing was sent."
            )
        table = self._home.startswith("bq://")
        return f"{self._home}.{table_of(tag)}" if table else f"{self._home}/{tag}.jsonl"

    def _object(self, place: str) -> tuple[Bucket, str]:
        name, key = split(place)
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(name, endpoint=self._storage_url, google=self._chain)
        return bucket, key

    def _tables(self) -> Tables:
        if self._opened is None:
            self._opened = Tables(self._bigquery_url, self._headers, self._sign, self._project)
        return self._opened


def _is_home(place: str) -> bool:
    """Whether this is a bucket, perhaps with a folder, or a dataset with its project."""
    kind, _, rest = place.partition("://")
    if kind == "bq":
        return all(rest.rpartition(".")[::2])
    return kind == "gs" and bool(rest.partition("/")[0])


def _resource(model: str) -> str:
    return model if "/" in model else f"publishers/google/models/{model}"


def _url(place: str) -> str:
    """An address; Google's own clients take one without a scheme for the emulators of theirs."""
    return f"http://{place}" if place and "://" not in place else place

"""Fireworks: datasets in and out, and jobs whose ids we choose, so that the same create twice makes one.

Facts are from docs.fireworks.ai (batch inference, API reference of datasets and batch inference jobs), as of 2026-11.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import Capabilities, Endpoint, Limits, RawForm, RequestSpec, Setting, Translated
from halfrate.providers.base import Account, BatchView, Call, Intent, Lookup
from halfrate.providers.bodies import splice, with_field
from halfrate.providers.calls import on_one_line, quoted
from halfrate.providers.completions import Unwrapped, wrapped_reader
from halfrate.providers.dialects import MB
from halfrate.providers.http import Http
from halfrate.providers.openai_calls import Wording
from halfrate.providers.openai_dialect import Dialect, OpenAIDialect, file_name, in_doubt, multipart
from halfrate.providers.openai_results import Body, ChatBody, Fault, kind_of
from halfrate.providers.plain import Columns

_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_READY: Final = 600.0
"""Seconds to wait until an uploaded dataset is taken in."""
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "EXPIRED", "CANCELLED"})
_ABSENT: Final = {"EXPIRED": Kind.EXPIRED, "CANCELLED": Kind.CANCELLED}
_WAITING: Final = frozenset({"CREATING", "CREATING_INPUT_DATASET", "VALIDATING"})


class _Status(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Progress(msgspec.Struct, rename="camel"):
    total_processed_requests: int | None = None
    successfully_processed_requests: int | None = None
    failed_requests: int | None = None


class _Job(msgspec.Struct, rename="camel"):
    name: str
    state: str = ""
    input_dataset_id: str = ""
    output_dataset_id: str = ""
    status: _Status | None = None
    job_progress: _Progress | None = None


class _Dataset(msgspec.Struct):
    state: str = ""
    status: _Status | None = None


class _Places(msgspec.Struct):
    urls: dict[str, str] = msgspec.field(name="filenameToSignedUrls", default_factory=dict[str, str])


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    response: Body | None = None
    error: Fault | None = None


class _Whole(msgspec.Struct):
    response: dict[str, Any] | None = None


class _Named(msgspec.Struct, gc=False):
    custom_id: str


class _Answered(msgspec.Struct, gc=False):
    custom_id: str
    response: ChatBody


_decode = msgspec.json.Decoder(_Line).decode
_decode_name = msgspec.json.Decoder(_Named).decode
_decode_answered = msgspec.json.Decoder(_Answered).decode


def _line(row_id: str, status: int, body: bytes, _: str | None) -> bytes:
    """A realtime reply as a result of a batch."""
    if status == 200:
        return b'{"custom_id":%b,"response":%b}\n' % (quoted(row_id), on_one_line(body))
    try:
        fault = msgspec.json.decode(body, type=Body).fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fault = None
    message = (fault and fault.message) or f"status {status}"
    return b'{"custom_id":%b,"error":{"code":%d,"message":%b}}\n' % (quoted(row_id), status, quoted(message))


class Fireworks(OpenAIDialect):
    """Fireworks AI. A job that is cancelled is deleted; what it finished is in its output dataset all the same."""

    capabilities = Capabilities(
        provider="fireworks",
        title="Fireworks",
        endpoints=("chat",),
        native_form="rows",
        translates=("chat",),
        # A dataset may have more, in parts; up to 150 MB it is uploaded in one go.
        limits=Limits(rows=49_000, bytes=140 * MB, row_bytes=140 * MB),
        key_variables=("FIREWORKS_API_KEY",),
        url_variable="FIREWORKS_BASE_URL",
        default_url="https://api.fireworks.ai",
        url_path="/v1/accounts/{account}",
        settings=(Setting("account", "the id of your account", ("FIREWORKS_ACCOUNT_ID",)),),
        cache_stacks=True,
        kept="until deleted",
        adoption="id",
        raw=RawForm(
            "custom_id",
            b',"error":{"code":"not_run","message":"the provider gave no result for this row"}}\n',
        ),
    )
    dialect = Dialect(rows_name_url=False, answer_limit="max_tokens")
    wording = Wording(_line)

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._account = account.settings.get("account", "")
        root = account.base_url.removesuffix(f"/v1/accounts/{self._account}")
        # Batches belong to an account; calls in real time know it by the key.
        headers = {"Authorization": f"Bearer {account.key}"} if account.key else {}
        self._batches = self._http
        self._http = Http(f"{root}/inference/v1", headers, self.title)

    async def close(self) -> None:
        await self._batches.close()
        await super().close()

    # ------------------------------------------------------------ encoding and decoding

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        body = self._body(spec)
        del body["model"]
        return splice(body)

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return wrapped_reader(endpoint, row_prefix, _unwrap, _name, _decode_answered, _columns)

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        return msgspec.json.decode(line, type=_Whole).response

    # ------------------------------------------------------------ safe to repeat

    async def upload(self, intent: Intent) -> str:
        dataset: dict[str, Any] = {
            "datasetId": intent.tag,
            "dataset": {"userUploaded": {}, "exampleCount": str(intent.rows)},
        }
        try:
            await self._batches.ask_once("POST", "/datasets", body=msgspec.json.encode(dataset))
        except Refused as refusal:
            # An earlier try of this upload made it already; its file is written anew.
            if refusal.status != _CONFLICT:
                raise
        form = multipart({}, file_name(intent.tag), intent.requests)
        await self._batches.ask_once("POST", f"{_dataset(intent.tag)}:upload", body=form, timeout=3600.0)
        waited, pause = 0.0, 0.2
        while (found := await self._dataset(intent.tag)) is None or found.state != "READY":
            why = found.status.message if found is not None and found.status is not None else ""
            if found is not None and why and found.state not in {"UPLOADING", "PENDING"}:
                await self.clean_up((intent.tag,))
                raise Refused(f"Fireworks could not take in the request file: {why}", status=400)
            if waited >= _READY:
                raise OutcomeUnknown("Fireworks has not taken in the request file yet")
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(10.0, 1.5 * pause)
        return intent.tag

    async def find(self, intent: Intent, now: float) -> Lookup:
        if intent.tag in intent.past or await self._job(intent.tag) is None:
            return Lookup()
        return Lookup((intent.tag,))

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        try:
            reply = await self._batches.ask("GET", f"/batchInferenceJobs/{quote(batch_id, safe='')}")
        except Refused as refusal:
            if refusal.status != _NOT_FOUND or not cancelled:
                raise
            # A cancel deletes the job. Its datasets stay.
            return await self._view_of(batch_id, "CANCELLED", None)
        job = self._batches.decode(reply, _Job)
        return await self._view_of(batch_id, job.state.removeprefix("JOB_STATE_"), job)

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        paths: list[Path] = []
        for dataset in view.files:
            reply = await self._batches.ask("GET", f"{_dataset(dataset)}:getDownloadEndpoint")
            for _, url in sorted(self._batches.decode(reply, _Places).urls.items()):
                there, place = self._batches.elsewhere(url)
                try:
                    path = targets(len(paths))
                    await there.download(place, path)
                    paths.append(path)
                finally:
                    await there.close()
        return paths

    async def cancel(self, batch_id: str) -> None:
        await self._batches.delete(f"/batchInferenceJobs/{quote(batch_id, safe='')}")

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        for dataset in leftovers:
            await self._batches.delete(_dataset(dataset))

    async def strays(self, tag: str) -> tuple[str, ...]:
        return (tag,) if await self._dataset(tag) is not None else ()

    # ------------------------------------------------------------ the paid calls

    async def create(self, intent: Intent) -> BatchView:
        model = intent.model if "/" in intent.model else f"accounts/fireworks/models/{intent.model}"
        request: dict[str, Any] = {
            "displayName": intent.tag,
            "model": model,
            "inputDatasetId": f"accounts/{self._account}/datasets/{intent.file_id}",
            "outputDatasetId": f"accounts/{self._account}/datasets/{_output(intent.tag)}",
            "inferenceParameters": {},
        }
        try:
            # PAID CALL: sent once, and harmless if it came twice: the second one finds its id taken.
            reply = await self._batches.send(
                "POST",
                f"/batchInferenceJobs?batchInferenceJobId={quote(intent.tag, safe='')}",
                body=msgspec.json.encode(request),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            if refusal.status == _CONFLICT:
                raise OutcomeUnknown(f"{refusal}. A create of this batch came before") from refusal
            raise in_doubt(refusal) from refusal
        job = self._batches.decode(reply, _Job)
        return await self._view_of(intent.tag, job.state.removeprefix("JOB_STATE_"), job)

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        asked = super().from_openai(body, model, endpoint)
        del asked["model"]
        return asked

    def _call_body(self, call: Call) -> bytes:
        return with_field(call.body, "model", self._called(call.model))

    def _called(self, model: str) -> str:
        return model if "/" in model else f"accounts/fireworks/models/{model}"

    # ------------------------------------------------------------ parts

    async def _job(self, name: str) -> _Job | None:
        try:
            reply = await self._batches.ask("GET", f"/batchInferenceJobs/{quote(name, safe='')}")
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return None
            raise
        return self._batches.decode(reply, _Job)

    async def _dataset(self, name: str) -> _Dataset | None:
        try:
            reply = await self._batches.ask("GET", _dataset(name))
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return None
            raise
        return self._batches.decode(reply, _Dataset)

    async def _view_of(self, tag: str, state: str, job: _Job | None) -> BatchView:
        ended = state in _ENDED
        # Where nothing was run there is no output dataset, and the name of one says nothing.
        made = ended and (state == "COMPLETED" or await self._dataset(_output(tag)) is not None)
        progress = (job.job_progress if job is not None else None) or _Progress()
        failure = None
        if state == "FAILED" and not made:
            status = (job.status if job is not None else None) or _Status()
            failure = (status.code or "failed", status.message or "Fireworks gave no reason")
        return BatchView(
            batch_id=tag,
            status=state.lower(),
            ended=ended,
            rows_finished=progress.total_processed_requests or 0,
            accepted=state not in _WAITING,
            files=(_output(tag),) if made else (),
            leftovers=(tag, *((_output(tag),) if made else ())),
            absent=_ABSENT.get(state, Kind.MISSING),
            failure=failure,
        )


def _dataset(name: str) -> str:
    return f"/datasets/{quote(name, safe='')}"


def _output(tag: str) -> str:
    return f"{tag}-out"


def _unwrap(line: bytes) -> Unwrapped:
    found = _decode(line)
    fault = found.error
    if fault is None and found.response is not None:
        fault = found.response.fault
        if fault is None:
            return Unwrapped(found.custom_id, found.response)
    code = str(fault.code or "") if fault is not None else ""
    return Unwrapped(found.custom_id, None, fault, kind_of(int(code) if code.isdecimal() else 0, code))


def _name(line: bytes) -> str:
    return _decode_name(line).custom_id


def _columns(answered: list[_Answered]) -> Columns:
    bodies = [line.response for line in answered]
    choices = [body.choices[0] for body in bodies]
    return Columns(
        [line.custom_id for line in answered],
        [choice.message.content for choice in choices],
        [body.usage for body in bodies],
        [body.model for body in bodies],
        [choice.finish_reason for choice in choices],
    )

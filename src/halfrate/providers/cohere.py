"""Cohere: batches of embeddings over datasets, whose results are Avro.

Facts are from docs.cohere.com (batches and datasets), its batch cookbook and the SDK (7.3), as of 2026-11.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import Capabilities, Endpoint, Limits, RawForm, RequestSpec, Translated
from halfrate.providers.base import BatchView, Call, Intent, Lookup
from halfrate.providers.bodies import PROMPT, splice, with_field
from halfrate.providers.calls import Fault, on_one_line, quoted
from halfrate.providers.cohere_results import line_reader, list_in, to_lines
from halfrate.providers.dialects import MB
from halfrate.providers.openai_bodies import embeddings
from halfrate.providers.openai_calls import Wording
from halfrate.providers.openai_dialect import Dialect, OpenAIDialect, file_name, in_doubt, multipart
from halfrate.providers.translation.embeddings import request_to

_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELED"})
_WAITING: Final = frozenset({"UNSPECIFIED", "QUEUED"})
_PAGE: Final = 100
_READY: Final = 1800.0
_INPUT: Final = "batch-embed-v2-input"


class _Batch(msgspec.Struct):
    id: str
    status: str = ""
    name: str | None = None
    created_at: str | None = None
    input_dataset_id: str | None = None
    output_dataset_id: str | None = None
    status_reason: str | None = None
    num_successful_records: int | str | None = 0
    num_failed_records: int | str | None = 0

    @property
    def state(self) -> str:
        return self.status.removeprefix("BATCH_STATUS_")


class _OneBatch(msgspec.Struct):
    batch: _Batch


class _Batches(msgspec.Struct):
    batches: list[_Batch] = msgspec.field(default_factory=list[_Batch])
    next_page_token: str | None = None


class _Part(msgspec.Struct):
    url: str | None = None
    index: int = 0


class _Dataset(msgspec.Struct):
    id: str
    name: str | None = None
    validation_status: str = ""
    validation_error: str | None = None
    dataset_parts: list[_Part] | None = None


class _OneDataset(msgspec.Struct):
    dataset: _Dataset


class _Datasets(msgspec.Struct):
    datasets: list[_Dataset] = msgspec.field(default_factory=list[_Dataset])


class _Made(msgspec.Struct):
    id: str


class _OwnFault(msgspec.Struct):
    message: str


def _fault_in(body: bytes) -> Fault | None:
    try:
        return Fault(message=msgspec.json.decode(body, type=_OwnFault).message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _line(row_id: str, status: int, body: bytes, _: str | None) -> bytes:
    """A realtime reply as a result of a batch."""
    if status == 200:
        return b'{"custom_id":%b,"body":%b,"error":""}\n' % (quoted(row_id), on_one_line(body))
    fault = _fault_in(body)
    message = f"{status}: {(fault and fault.message) or 'no reason given'}"
    return b'{"custom_id":%b,"body":null,"error":%b}\n' % (quoted(row_id), quoted(message))


class Cohere(OpenAIDialect):
    """Cohere: embeddings alone."""

    capabilities = Capabilities(
        provider="cohere",
        title="Cohere",
        endpoints=("embeddings",),
        native_form="rows",
        translates=("embeddings",),
        limits=Limits(rows=49_000, bytes=95 * MB, row_bytes=95 * MB, embedding_inputs=49_000),
        key_variables=("CO_API_KEY", "COHERE_API_KEY"),
        url_variable="CO_API_URL",
        default_url="https://api.cohere.com",
        discount="not said",
        kept="30 days",
        adoption="name",
        raw=RawForm("custom_id", b',"body":null,"error":"the provider gave no result for this row"}\n'),
    )
    dialect = Dialect(rows_name_url=False, tiers={"embeddings": ("standard",)})
    wording = Wording(_line, _fault_in)

    # ------------------------------------------------------------ encoding and decoding

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        embeddings(spec)  # refuses what embeddings do not take
        usual = {"input_type": "search_document", "embedding_types": ["float"]}
        return splice({"texts": [PROMPT], **usual, **spec.params})

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return line_reader(row_prefix)

    # ------------------------------------------------------------ safe to repeat

    async def upload(self, intent: Intent) -> str:
        form = multipart({}, file_name(intent.tag), intent.requests, field="data")
        place = f"/v1/datasets?name={quote(intent.tag, safe='')}&type={_INPUT}"
        reply = await self._http.ask_once("POST", place, body=form, timeout=3600.0)
        dataset_id = self._http.decode(reply, _Made).id
        waited, pause = 0.0, 0.5
        while (found := await self._dataset(dataset_id)).validation_status != "validated":
            if found.validation_status in {"failed", "skipped"}:
                await self.clean_up((dataset_id,))
                why = found.validation_error or "no reason given"
                raise Refused(f"Cohere could not take in the request file: {why}", status=400)
            if waited >= _READY:
                raise OutcomeUnknown("Cohere has not taken in the request file yet")
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(10.0, 1.5 * pause)
        return dataset_id

    async def _dataset(self, dataset_id: str) -> _Dataset:
        reply = await self._http.ask("GET", f"/v1/datasets/{quote(dataset_id, safe='')}")
        return self._http.decode(reply, _OneDataset).dataset

    async def find(self, intent: Intent, now: float) -> Lookup:
        # The oldest come first, and no order is promised: every page is read.
        found: list[_Batch] = []
        after = ""
        while True:
            query = f"/v2/batches?page_size={_PAGE}{after}"
            page = self._http.decode(await self._http.ask("GET", query), _Batches)
            found += [batch for batch in page.batches if _is_ours(batch, intent)]
            if not page.next_page_token or not page.batches:
                break
            after = f"&page_token={quote(page.next_page_token, safe='')}"
        found.sort(key=lambda batch: (batch.state == "FAILED", batch.created_at or ""))
        return Lookup(tuple(batch.id for batch in found))

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        reply = await self._http.ask("GET", f"/v2/batches/{quote(batch_id, safe='')}")
        return _view_of(self._http.decode(reply, _OneBatch).batch)

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        paths: list[Path] = []
        for dataset_id in view.files:
            parts = (await self._dataset(dataset_id)).dataset_parts or []
            for part in sorted(parts, key=lambda part: part.index):
                if part.url is None:
                    raise OutcomeUnknown("Cohere named a result file without saying where it is")
                there, place = self._http.elsewhere(urljoin(f"{self.base_url}/", part.url))
                target = targets(len(paths))
                packed = target.with_name(f"{target.name}.avro")
                try:
                    await there.download(place, packed)
                    await asyncio.to_thread(to_lines, packed, target)
                finally:
                    await there.close()
                paths.append(target)
        return paths

    async def cancel(self, batch_id: str) -> None:
        await self._http.ask_to_end(f"/v2/batches/{quote(batch_id, safe='')}:cancel")

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        for dataset_id in leftovers:
            await self._http.delete(f"/v1/datasets/{quote(dataset_id, safe='')}")

    async def strays(self, tag: str) -> tuple[str, ...]:
        found: list[str] = []
        offset = 0
        while True:
            query = f"/v1/datasets?limit={_PAGE}&offset={offset}"
            page = self._http.decode(await self._http.ask("GET", query), _Datasets).datasets
            found += [dataset.id for dataset in page if dataset.name == tag]
            if len(page) < _PAGE:
                return tuple(found)
            offset += _PAGE

    # ------------------------------------------------------------ the paid calls

    async def create(self, intent: Intent) -> BatchView:
        request = {"name": intent.tag, "input_dataset_id": intent.file_id, "model": intent.model}
        try:
            # PAID CALL: sent once. `find` knows by its name, or by its dataset, what it may have made.
            reply = await self._http.send(
                "POST",
                "/v2/batches",
                body=msgspec.json.encode(request),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            raise in_doubt(refusal) from refusal
        return _view_of(self._http.decode(reply, _OneBatch).batch)

    def _call_path(self, call: Call) -> str:
        return "/v2/embed"

    def passage(self, endpoint: Endpoint, model: str) -> None:
        """Its embeddings are asked for in a form of its own."""

    def _call_body(self, call: Call) -> bytes:
        return with_field(call.body, "model", call.model)

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        return request_to("cohere", body, model)

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        return list_in(line)


def _is_ours(batch: _Batch, intent: Intent) -> bool:
    same_file = intent.file_id is not None and batch.input_dataset_id == intent.file_id
    return (batch.name == intent.tag or same_file) and batch.id not in intent.past


def _view_of(batch: _Batch) -> BatchView:
    state = batch.state
    ended = state in _ENDED
    files = (batch.output_dataset_id,) if ended and batch.output_dataset_id else ()
    failure = None
    if state == "FAILED" and not files:
        failure = ("failed", batch.status_reason or "Cohere gave no reason")
    # There is no status for a batch that ran out of time: it failed, and what it finished is there.
    absent = {"CANCELED": Kind.CANCELLED, "FAILED": Kind.EXPIRED}.get(state, Kind.MISSING)
    return BatchView(
        batch_id=batch.id,
        status=state.lower(),
        ended=ended,
        rows_finished=int(batch.num_successful_records or 0) + int(batch.num_failed_records or 0),
        accepted=state not in _WAITING,
        files=files,
        leftovers=tuple(name for name in (batch.input_dataset_id, *files) if name),
        absent=absent,
        failure=failure,
        hopeless=failure is not None and "model" in failure[1].lower(),
    )

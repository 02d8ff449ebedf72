"""xAI: batches of a file of OpenAI's rows that have counters instead of a status, and pages instead of result files.

Facts are from docs.x.ai (batch guide and REST reference) and the SDK (1.21), as of 2026-11.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import Refused
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import Capabilities, Endpoint, Limits, RawForm, Translated
from halfrate.providers.base import BatchView, Intent, Lookup
from halfrate.providers.calls import Fault as CallFault
from halfrate.providers.calls import on_one_line, quoted
from halfrate.providers.completions import Unwrapped, wrapped_reader
from halfrate.providers.dialects import MB
from halfrate.providers.files import LinesFile
from halfrate.providers.openai_calls import Wording
from halfrate.providers.openai_dialect import Dialect, File, OpenAIDialect, file_name, in_doubt
from halfrate.providers.openai_results import Body, ChatBody, Fault
from halfrate.providers.plain import Columns

_PAGE: Final = 100
_RESULTS: Final = 500
# Codes of gRPC that time may cure: cancelled, unknown, deadline exceeded, resource exhausted, aborted, internal,
# unavailable.
_PASSING: Final = frozenset({0, 1, 2, 4, 8, 10, 13, 14})
_CANCELLED: Final = 1
_GRPC: Final = {401: 16, 403: 7, 404: 5, 408: 4, 409: 10, 429: 8, 503: 14}
"""A status of HTTP as the code of gRPC that a failed row has."""


class _State(msgspec.Struct):
    num_requests: int = 0
    num_pending: int = 0
    num_success: int = 0
    num_error: int = 0
    num_cancelled: int = 0


class _Batch(msgspec.Struct):
    batch_id: str
    name: str | None = None
    input_file_id: str | None = None
    cancel_time: str | None = None
    cancel_by_xai_message: str | None = None
    state: _State = msgspec.field(default_factory=_State)


class _Batches(msgspec.Struct):
    batches: list[_Batch] = msgspec.field(default_factory=list[_Batch])
    pagination_token: str | None = None


class _Results(msgspec.Struct):
    results: list[msgspec.Raw] = msgspec.field(default_factory=list[msgspec.Raw])
    pagination_token: str | None = None


class _Files(msgspec.Struct):
    data: list[File] = msgspec.field(default_factory=list[File])
    pagination_token: str | None = None


class _Response(msgspec.Struct, gc=False):
    chat_get_completion: Body | None = None


class _Result(msgspec.Struct, gc=False):
    response: _Response | None = None
    error: Fault | None = None


class _Line(msgspec.Struct, gc=False):
    batch_request_id: str
    batch_result: _Result


class _WholeResponse(msgspec.Struct):
    chat_get_completion: dict[str, Any] | None = None


class _WholeResult(msgspec.Struct):
    response: _WholeResponse | None = None


class _Whole(msgspec.Struct):
    batch_result: _WholeResult = msgspec.field(default_factory=_WholeResult)


class _Named(msgspec.Struct, gc=False):
    batch_request_id: str


class _Completion(msgspec.Struct, gc=False):
    chat_get_completion: ChatBody


class _Good(msgspec.Struct, gc=False):
    response: _Completion


class _Answered(msgspec.Struct, gc=False):
    batch_request_id: str
    batch_result: _Good


_decode = msgspec.json.Decoder(_Line).decode
_decode_name = msgspec.json.Decoder(_Named).decode
_decode_answered = msgspec.json.Decoder(_Answered).decode


class _OwnFault(msgspec.Struct):
    error: str | Fault
    code: str | int | None = None


def _fault_in(body: bytes) -> CallFault | None:
    try:
        found = msgspec.json.decode(body, type=_OwnFault)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found.error, Fault):
        return CallFault(message=found.error.message, code=found.error.code, type=found.error.type)
    return CallFault(message=found.error, code=found.code)


def _line(row_id: str, status: int, body: bytes, _: str | None) -> bytes:
    """A realtime reply as a result of a batch."""
    if status == 200:
        inner = b'"response":{"chat_get_completion":%b}' % on_one_line(body)
    else:
        fault = _fault_in(body)
        message = (fault and fault.message) or f"status {status}"
        inner = b'"error":{"code":%d,"message":%b}' % (
            _GRPC.get(status, 13 if status >= 500 else 3),
            quoted(message),
        )
    return b'{"batch_request_id":%b,"batch_result":{%b}}\n' % (quoted(row_id), inner)


class XAI(OpenAIDialect):
    """xAI. A fifth off, for some models alone."""

    capabilities = Capabilities(
        provider="xai",
        title="xAI",
        endpoints=("chat",),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=190 * MB, row_bytes=24 * MB),
        key_variables=("XAI_API_KEY",),
        url_variable="XAI_BASE_URL",
        default_url="https://api.x.ai/v1",
        discount="20 %, some models",
        cache_stacks=True,
        adoption="name",
        raw=RawForm(
            "batch_request_id",
            b',"batch_result":{"error":{"code":1,"message":"the provider gave no result for this row"}}}\n',
        ),
    )
    dialect = Dialect()
    wording = Wording(_line, _fault_in)

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return wrapped_reader(endpoint, row_prefix, _unwrap, _name, _decode_answered, _columns)

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        response = msgspec.json.decode(line, type=_Whole).batch_result.response
        return response.chat_get_completion if response is not None else None

    async def create(self, intent: Intent) -> BatchView:
        request = {"name": intent.tag, "input_file_id": intent.file_id}
        try:
            # PAID CALL: sent once. `find` knows by its name, or by its file, what it may have made.
            reply = await self._http.send(
                "POST",
                "/batches",
                body=msgspec.json.encode(request),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            raise in_doubt(refusal) from refusal
        return _view_of(self._http.decode(reply, _Batch))

    async def find(self, intent: Intent, now: float) -> Lookup:
        # Times are bare dates and no order is promised: every page is read.
        found: list[_Batch] = []
        after = ""
        while True:
            page = self._http.decode(await self._http.ask("GET", f"/batches?limit={_PAGE}{after}"), _Batches)
            found += [batch for batch in page.batches if _is_ours(batch, intent)]
            if not page.pagination_token or not page.batches:
                break
            after = f"&pagination_token={quote(page.pagination_token, safe='')}"
        found.sort(key=lambda batch: (batch.cancel_time is not None, batch.batch_id))
        return Lookup(tuple(batch.batch_id for batch in found))

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        reply = await self._http.ask("GET", f"/batches/{quote(batch_id, safe='')}")
        return _view_of(self._http.decode(reply, _Batch))

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        path = targets(0)
        with LinesFile(path, self.title) as file:
            after = ""
            while True:
                place = f"/batches/{quote(view.batch_id, safe='')}/results?limit={_RESULTS}{after}"
                page = self._http.decode(await self._http.ask("GET", place), _Results)
                file.add(page.results)
                if not page.pagination_token or not page.results:
                    break
                after = f"&pagination_token={quote(page.pagination_token, safe='')}"
            file.commit()
        return [path]

    async def cancel(self, batch_id: str) -> None:
        await self._http.ask_to_end(f"/batches/{quote(batch_id, safe='')}:cancel")

    async def strays(self, tag: str) -> tuple[str, ...]:
        found: list[str] = []
        after = ""
        while True:
            page = self._http.decode(await self._http.ask("GET", f"/files?limit={_PAGE}{after}"), _Files)
            found += [file.id for file in page.data if file.filename == file_name(tag)]
            if not page.pagination_token or not page.data:
                return tuple(found)
            after = f"&pagination_token={quote(page.pagination_token, safe='')}"


def _unwrap(line: bytes) -> Unwrapped:
    found = _decode(line)
    result = found.batch_result
    if result.error is not None:
        return Unwrapped(found.batch_request_id, None, result.error, _kind(result.error))
    if result.response is not None and result.response.chat_get_completion is not None:
        return Unwrapped(found.batch_request_id, result.response.chat_get_completion)
    raise msgspec.ValidationError("neither a completion nor an error")


def _name(line: bytes) -> str:
    return _decode_name(line).batch_request_id


def _kind(fault: Fault) -> Kind:
    try:
        code = int(fault.code or 0)
    except ValueError:
        return Kind.FAILED_PASSING
    if code == _CANCELLED:
        return Kind.CANCELLED
    return Kind.FAILED_PASSING if code in _PASSING else Kind.FAILED


def _columns(answered: list[_Answered]) -> Columns:
    bodies = [line.batch_result.response.chat_get_completion for line in answered]
    choices = [body.choices[0] for body in bodies]
    return Columns(
        [line.batch_request_id for line in answered],
        [choice.message.content for choice in choices],
        [body.usage for body in bodies],
        [body.model for body in bodies],
        [choice.finish_reason for choice in choices],
    )


def _is_ours(batch: _Batch, intent: Intent) -> bool:
    same_file = intent.file_id is not None and batch.input_file_id == intent.file_id
    return (batch.name == intent.tag or same_file) and batch.batch_id not in intent.past


def _view_of(batch: _Batch) -> BatchView:
    state = batch.state
    refused = batch.cancel_by_xai_message
    # A batch without a row seems to be done: a file that is not taken in yet.
    done = state.num_requests > 0 and state.num_pending == 0
    failure = ("cancelled_by_xai", refused) if refused and not state.num_success else None
    return BatchView(
        batch_id=batch.batch_id,
        status="done"
        if done
        else "cancelled"
        if refused
        else "validating"
        if not state.num_requests
        else "running",
        ended=done or refused is not None,
        rows_finished=state.num_success + state.num_error,
        accepted=state.num_requests > 0,
        files=(batch.batch_id,) if done and failure is None else (),
        leftovers=(batch.input_file_id,) if batch.input_file_id else (),
        absent=Kind.CANCELLED
        if state.num_cancelled or batch.cancel_time
        else Kind.EXPIRED
        if done
        else Kind.MISSING,
        failure=failure,
        # A batch is of one model here: what is wrong with that is wrong for every row.
        hopeless=failure is not None and "model" in failure[1].lower(),
    )

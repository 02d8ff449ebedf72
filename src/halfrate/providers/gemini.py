"""The Gemini API: batches of a file that was uploaded, or of rows in the create call where they are few.

Facts are from ai.google.dev (batch mode, files, rate limits) and the SDK (3.4), as of 2026-11.
"""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused, UsageError
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import (
    Capabilities,
    Endpoint,
    Envelope,
    Framing,
    Limits,
    RawForm,
    RequestSpec,
    Translated,
)
from halfrate.providers.answers import Answer
from halfrate.providers.base import Account, BatchView, Call, Intent, Lookup, Reply, Streaming, Tier
from halfrate.providers.calls import DEFAULT_TIMEOUT, quoted
from halfrate.providers.files import LinesFile
from halfrate.providers.gemini_bodies import body_of
from halfrate.providers.gemini_calls import STREAM, WRONG_KEY, understand
from halfrate.providers.gemini_results import completion_in, line_reader, list_in
from halfrate.providers.http import Http, Upload, unreadable
from halfrate.providers.translation import embeddings, request_to

_VERSION: Final = "/v1beta"
_INLINE: Final = "inline"
"""Instead of a file's name: the rows travel in the create call."""
_INLINE_ROWS: Final = 500
_INLINE_BYTES: Final = 4_000_000
"""A create call may have 20 MB; of few rows a second journey is not worth its time."""
_PAGE: Final = 100
_READY: Final = 600.0
_NOT_FOUND: Final = 404
_CREATE: Final[dict[Endpoint, str]] = {
    "generate": "batchGenerateContent",
    "embeddings": "asyncBatchEmbedContent",
}
_CALL: Final[dict[Endpoint, str]] = {"generate": "generateContent", "embeddings": "embedContent"}
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
_ABSENT: Final = {"EXPIRED": Kind.EXPIRED, "CANCELLED": Kind.CANCELLED}


class _Stats(msgspec.Struct, rename="camel"):
    """Counts are int64, which JSON of protocol buffers writes as strings."""

    successful_request_count: str | int = 0
    failed_request_count: str | int = 0


class _Many(msgspec.Struct, rename="camel"):
    inlined_responses: list[msgspec.Raw] = msgspec.field(default_factory=list[msgspec.Raw])


class _Output(msgspec.Struct, rename="camel"):
    responses_file: str | None = None
    inlined_responses: _Many | None = None
    inlined_embed_content_responses: _Many | None = None

    @property
    def inlined(self) -> _Many | None:
        return self.inlined_responses or self.inlined_embed_content_responses


class _Input(msgspec.Struct, rename="camel"):
    file_name: str | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    display_name: str | None = None
    state: str = ""
    create_time: datetime | None = None
    batch_stats: _Stats | None = None
    output: _Output | None = None
    input_config: _Input | None = None


class _Status(msgspec.Struct):
    code: int | None = None
    message: str | None = None


class _Operation(msgspec.Struct):
    name: str
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    done: bool = False
    error: _Status | None = None
    response: _Output | None = None


class _Operations(msgspec.Struct, rename="camel"):
    operations: list[_Operation] = msgspec.field(default_factory=list[_Operation])
    next_page_token: str | None = None


class _File(msgspec.Struct, rename="camel"):
    name: str
    display_name: str | None = None
    state: str = "ACTIVE"
    error: _Status | None = None


class _Uploaded(msgspec.Struct):
    file: _File


class _Files(msgspec.Struct, rename="camel"):
    files: list[_File] = msgspec.field(default_factory=list[_File])
    next_page_token: str | None = None


class _Row(msgspec.Struct):
    key: msgspec.Raw
    request: msgspec.Raw


class _Inlined(msgspec.Struct):
    metadata: dict[str, msgspec.Raw] | None = None
    response: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class Gemini:
    """Google's Gemini Developer API.

    A batch that is not done after 48 hours expires and keeps nothing of what it has done. So its batches are small
    here: a queue that moves at all gets through one of them.
    """

    capabilities: Capabilities = Capabilities(
        provider="gemini",
        title="Gemini",
        endpoints=("generate", "embeddings"),
        native_form="gemini",
        translates=("chat", "embeddings"),
        limits=Limits(rows=10_000, bytes=20_000_000, row_bytes=20_000_000, row_inputs=1),
        framing=Framing(b"", b"\n", b"\n"),
        uploads_file=True,
        echoes_tag=True,
        one_model_per_batch=True,
        create_timeout=300.0,
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        url_variable="GOOGLE_GEMINI_BASE_URL",
        default_url="https://generativelanguage.googleapis.com",
        windows=("24h",),
        kept="48 hours",
        adoption="name",
        raw=RawForm("key", b',"error":{"code":1,"message":"the provider gave no result for this row"}}\n'),
    )

    def __init__(self, account: Account) -> None:
        self._root = account.base_url
        headers = {"x-goog-api-key": account.key}
        self._http = Http(account.base_url, headers, "Gemini", wrong_key=WRONG_KEY)
        self._key = account.key

    # ------------------------------------------------------------ encoding and decoding

    def envelope(self, endpoint: Endpoint) -> Envelope:
        return Envelope(b'{"key":"', b'","request":', b"}")

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        return body_of(spec)

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        if endpoint == "embeddings":
            return embeddings.request_to("gemini", body, model)
        return request_to("gemini", {**body, "model": model})

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        return list_in(line) if endpoint == "embeddings" else completion_in(line, created)

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return line_reader(endpoint, row_prefix)

    def tiers(self, endpoint: Endpoint) -> tuple[Tier, ...]:
        return ("standard",) if endpoint in _CALL else ()

    def tier_of(self, line: bytes) -> str:
        return "standard"

    # ------------------------------------------------------------ safe to repeat

    async def upload(self, intent: Intent) -> str:
        if _travels(intent):
            return _INLINE
        size = _size(intent.requests)
        # The protocol of resumable uploads, in one piece: where it breaks, the whole is sent again.
        start = await self._http.call(
            "/upload" + _VERSION + "/files",
            msgspec.json.encode({"file": {"displayName": intent.tag, "mimeType": "application/jsonl"}}),
            headers={
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(size),
                "X-Goog-Upload-Header-Content-Type": "application/jsonl",
            },
            keep=("x-goog-upload-url",),
            timeout=120.0,
            in_time=lambda: True,
        )
        place = start.headers.get("x-goog-upload-url")
        if start.status != 200:
            raise start.refusal("Gemini", wrong_key=WRONG_KEY)
        if place is None:
            raise OutcomeUnknown("Gemini took an upload without saying where to put the file")
        # What is in that URL is all that is asked for there: the key stays here.
        there, path = self._http.elsewhere(urljoin(f"{self._root}/", place))
        headers = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
        try:
            body = Upload(b"", intent.requests, b"", "application/jsonl")
            reply = await there.send("POST", path, body=body, timeout=3600.0, headers=headers)
        finally:
            await there.close()
        return await self._taken_in(self._http.decode(reply, _Uploaded).file)

    async def _taken_in(self, file: _File) -> str:
        waited, pause = 0.0, 0.5
        while file.state == "PROCESSING":
            if waited >= _READY:
                raise OutcomeUnknown("Gemini has not taken in the request file yet")
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(10.0, 1.5 * pause)
            file = self._http.decode(await self._http.ask("GET", f"{_VERSION}/{_path(file.name)}"), _File)
        if file.state == "FAILED":
            await self.clean_up((file.name,))
            why = (file.error.message if file.error is not None else None) or "no reason given"
            raise Refused(f"Gemini could not take in the request file: {why}", status=400)
        return file.name

    async def find(self, intent: Intent, now: float) -> Lookup:
        # Names are not unique, and the listing has no filter and promises no order: every page is read.
        found: list[_Operation] = []
        after = ""
        while True:
            query = f"{_VERSION}/batches?pageSize={_PAGE}{after}"
            page = self._http.decode(await self._http.ask("GET", query), _Operations)
            found += [
                batch
                for batch in page.operations
                if batch.metadata.display_name == intent.tag and batch.name not in intent.past
            ]
            if not page.next_page_token:
                break
            after = f"&pageToken={quote(page.next_page_token, safe='')}"
        found.sort(key=lambda batch: (batch.error is not None, _made_at(batch)))
        return Lookup(tuple(batch.name for batch in found))

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        return self._view(await self._operation(batch_id))

    async def _operation(self, batch_id: str) -> _Operation:
        return self._http.decode(await self._http.ask("GET", f"{_VERSION}/{_path(batch_id)}"), _Operation)

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        paths: list[Path] = []
        for name in view.files:
            path = targets(len(paths))
            if name == _INLINE:
                await self._fetch_inline(view.batch_id, path)
            else:
                await self._http.download(f"{_VERSION}/{_path(name)}:download?alt=media", path)
            paths.append(path)
        return paths

    async def _fetch_inline(self, batch_id: str, path: Path) -> None:
        output = _output(await self._operation(batch_id))
        found = output.inlined if output is not None else None
        with LinesFile(path, "Gemini") as file:
            file.add(_as_lines(found.inlined_responses if found is not None else []))
            file.commit()

    async def cancel(self, batch_id: str) -> None:
        await self._http.ask_to_end(f"{_VERSION}/{_path(batch_id)}:cancel")

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        for name in leftovers:
            if name == _INLINE:
                continue
            try:
                await self._http.delete(f"{_VERSION}/{_path(name)}")
            except Refused as refusal:
                # A result file may be the provider's own, and go with its batch.
                if refusal.status not in {400, 403} or not name.startswith("files/batch-"):
                    raise

    async def strays(self, tag: str) -> tuple[str, ...]:
        found: list[str] = []
        after = ""
        while True:
            query = f"{_VERSION}/files?pageSize={_PAGE}{after}"
            page = self._http.decode(await self._http.ask("GET", query), _Files)
            found += [file.name for file in page.files if file.display_name == tag]
            if not page.next_page_token:
                return tuple(found)
            after = f"&pageToken={quote(page.next_page_token, safe='')}"

    async def close(self) -> None:
        await self._http.close()

    # ------------------------------------------------------------ the paid calls

    async def create(self, intent: Intent) -> BatchView:
        head = b'{"batch":{"displayName":%b,"inputConfig":' % quoted(intent.tag)
        if intent.file_id == _INLINE:
            rows = await asyncio.to_thread(lambda: b",".join(_inlined(intent.requests)))
            body = head + b'{"requests":{"requests":[' + rows + b"]}}}}"
        else:
            body = head + b'{"fileName":%b}}}' % quoted(intent.file_id or "")
        path = f"{_VERSION}/models/{quote(intent.model, safe='')}:{_CREATE[intent.endpoint]}"
        try:
            # PAID CALL: sent once. The service says itself that a second one makes a second batch; `find` knows by
            # its name what the first may have made.
            reply = await self._http.send(
                "POST", path, body=body, timeout=self.capabilities.create_timeout, in_time=intent.in_time
            )
        except Refused as refusal:
            if refusal.status >= 500 or refusal.status == 408:
                raise OutcomeUnknown(f"{refusal}. The batch may have been accepted all the same") from refusal
            # Too many tokens in the queue, or a hundred batches at work.
            refusal.queue_full = refusal.status == 429
            raise
        return self._view(self._http.decode(reply, _Operation))

    async def call(self, call: Call) -> Reply:
        self._check(call)
        # PAID CALL: sent once. A process killed on this line may have paid for an answer that it will never see;
        # the journal says which rows were under way.
        answer = await self._http.call(
            f"{_VERSION}/models/{quote(call.model, safe='')}:{_method(call)}",
            call.body,
            headers={},
            keep=(),
            timeout=call.timeout or DEFAULT_TIMEOUT,
            in_time=call.in_time,
        )
        return self.understood(call, answer)

    def _check(self, call: Call) -> None:
        if call.tier not in self.tiers(call.endpoint):
            raise UsageError(f"Gemini serves {call.endpoint} in no tier {call.tier!r}.")

    def understood(self, call: Call, answer: Answer) -> Reply:
        return understand("Gemini", call, answer, _line)

    async def streaming(self, call: Call) -> Streaming | None:
        if call.endpoint != "generate":
            return None
        self._check(call)
        return Streaming(
            url=self._http.base_url,
            path=f"{_VERSION}/models/{quote(call.model, safe='')}:{STREAM}",
            headers=self._http.fixed_headers() or (),
            body=call.body,
            form="gemini",
            secret=self._key,
        )

    # ------------------------------------------------------------ batches as they are described

    def _view(self, batch: _Operation) -> BatchView:
        facts = batch.metadata
        state = facts.state.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
        stats = facts.batch_stats or _Stats()
        output = _output(batch)
        files: tuple[str, ...] = ()
        if output is not None and output.responses_file:
            files = (output.responses_file,)
        elif output is not None and output.inlined is not None:
            files = (_INLINE,)
        ended = state in _ENDED or batch.done
        failure = None
        # An operation's error is where it is said why; the state alone says that something is.
        if ended and not files and state not in _ABSENT and (batch.error is not None or state == "FAILED"):
            error = batch.error or _Status()
            failure = (str(error.code or "failed"), error.message or "Gemini gave no reason")
        source = facts.input_config.file_name if facts.input_config is not None else None
        leftovers = (batch.name, *(name for name in (source, *files) if name and name != _INLINE))
        return BatchView(
            batch_id=batch.name,
            status=state.lower(),
            ended=ended,
            rows_finished=int(stats.successful_request_count) + int(stats.failed_request_count),
            accepted=True,
            files=files if ended else (),
            leftovers=leftovers,
            absent=_ABSENT.get(state, Kind.MISSING),
            failure=failure,
        )


def _output(batch: _Operation) -> _Output | None:
    """Where the results are: it stands in two places, and either may be empty."""
    for found in (batch.metadata.output, batch.response):
        if found is not None and (found.responses_file or found.inlined is not None):
            return found
    return None


def _made_at(batch: _Operation) -> float:
    made = batch.metadata.create_time
    return made.timestamp() if made is not None else 0.0


def _path(name: str) -> str:
    """A resource's name as part of a URL: `files/x`, `batches/y`."""
    kind, _, rest = name.partition("/")
    return f"{quote(kind, safe='')}/{quote(rest, safe='')}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error


def _method(call: Call) -> str:
    """What is called; for several texts at once, which stand as requests in the body, that has a name of its own."""
    if call.endpoint == "embeddings" and "requests" in _decode_fields(call.body):
        return "batchEmbedContents"
    return _CALL[call.endpoint]


def _travels(intent: Intent) -> bool:
    return intent.rows <= _INLINE_ROWS and _size(intent.requests) <= _INLINE_BYTES


def _inlined(path: Path) -> Iterator[bytes]:
    """The rows of a request file as a create call has them, their bodies untouched."""
    try:
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    row = msgspec.json.decode(line, type=_Row)
                    yield b'{"request":%b,"metadata":{"key":%b}}' % (bytes(row.request), bytes(row.key))
    except OSError as error:
        raise unreadable(path, error) from error


def _as_lines(responses: list[msgspec.Raw]) -> Iterator[bytes]:
    """Inline results as the lines of a result file."""
    for raw in responses:
        found = msgspec.json.decode(raw, type=_Inlined)
        named = (found.metadata or {}).get("key")
        # A result without a key stays one: it may be of any row, and may be paid for.
        key = b'"key":%b,' % bytes(named) if named is not None else b""
        failed = bytes(found.error) != b"null"
        yield (
            b'{%b"error":%b}' % (key, bytes(found.error))
            if failed
            else b'{%b"response":%b}'
            % (
                key,
                bytes(found.response),
            )
        )


def _line(row_id: str, response: bytes | None, status: bytes) -> bytes:
    """A realtime reply as a line of a batch's results."""
    if response is None:
        return b'{"key":%b,"error":%b}\n' % (quoted(row_id), status)
    return b'{"key":%b,"response":%b}\n' % (quoted(row_id), response)

"""OpenAI: Files and Batches.

Facts are from OpenAI's batch guide and API reference as of 2026-09, and from how the service answers.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused, UsageError
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import Capabilities, Endpoint, Envelope, Framing, Limits, RequestSpec
from halfrate.providers.base import Account, BatchView, Call, Intent, Lookup, Reply, Tier
from halfrate.providers.bodies import PROMPT, splice, strict_schema, with_params
from halfrate.providers.calls import DEFAULT_TIMEOUT, asks_for_stream, no_stream
from halfrate.providers.http import Http, Upload
from halfrate.providers.openai_calls import KEEP, TIERS, line_of, tier_of, understand, with_tier
from halfrate.providers.openai_results import line_reader

_PATHS: Final[dict[Endpoint, str]] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
}

ENDPOINT_OF_URL: Final[dict[str, Endpoint]] = {path: endpoint for endpoint, path in _PATHS.items()}

_ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_QUEUE_FULL: Final = "token_limit_exceeded"
# Reasons that name a line but hold for every line: the model, not the row, is at fault.
_WHOLE_FILE: Final = frozenset({"model_not_found", "invalid_model", "mismatched_model", "url_mismatch"})
_ABSENT: Final = {"expired": Kind.EXPIRED, "cancelled": Kind.CANCELLED}
_SKEW: Final = 300.0  # how far the provider's clock may be from ours
# Flex answers late: fifteen minutes is what its guide has clients wait.
_TIMEOUTS: Final[dict[Tier, float]] = {"flex": 900.0}
_BOUNDARY: Final = "halfrate-7f2c1f0a5b9d4e6c"


class _Counts(msgspec.Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class _LineError(msgspec.Struct):
    code: str | None = None
    message: str | None = None
    line: int | None = None


class _Errors(msgspec.Struct):
    data: list[_LineError] | None = None


class _Batch(msgspec.Struct):
    id: str
    status: str
    created_at: float | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: _Counts | None = None
    errors: _Errors | None = None
    metadata: dict[str, Any] | None = None


class _Page(msgspec.Struct):
    data: list[_Batch]
    has_more: bool = False


class _File(msgspec.Struct):
    id: str
    filename: str = ""


class _Files(msgspec.Struct):
    data: list[_File]
    has_more: bool = False


class OpenAI:
    """OpenAI's own API; also whatever else is at OPENAI_BASE_URL and speaks it."""

    capabilities: Capabilities = Capabilities(
        provider="openai",
        title="OpenAI",
        endpoints=("chat", "responses", "embeddings"),
        native_form="openai",
        # 50,000 rows and 200 MB a file, 50,000 embedding inputs over all rows (batch guide, 2026-09-26).
        limits=Limits(rows=49_000, bytes=190_000_000, row_bytes=190_000_000, embedding_inputs=49_000),
        framing=Framing(b"", b"\n", b"\n"),
        uploads_file=True,
        echoes_tag=True,
        one_model_per_batch=True,
        create_timeout=120.0,
        creates_per_hour=2_000,
        key_variables=("OPENAI_API_KEY",),
        url_variable="OPENAI_BASE_URL",
        default_url="https://api.openai.com/v1",
    )

    def __init__(self, account: Account) -> None:
        self._http = Http(account.base_url, {"Authorization": f"Bearer {account.key}"}, "OpenAI")

    def envelope(self, endpoint: Endpoint) -> Envelope:
        between = f'","method":"POST","url":"{_PATHS[endpoint]}","body":'
        return Envelope(b'{"custom_id":"', between.encode(), b"}")

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        return splice(_BODIES[spec.endpoint](spec))

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return line_reader(endpoint, row_prefix)

    def tiers(self, endpoint: Endpoint) -> tuple[Tier, ...]:
        return TIERS.get(endpoint, ())

    def tier_of(self, line: bytes) -> str:
        return tier_of(line)

    async def upload(self, intent: Intent) -> str:
        name = _file_name(intent.tag)
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        form = Upload(
            head.encode(),
            intent.requests,
            f"\r\n--{_BOUNDARY}--\r\n".encode(),
            f"multipart/form-data; boundary={_BOUNDARY}",
        )
        # Each upload that was begun is counted, so that none leaves a file behind unseen.
        reply = await self._http.ask_once("POST", "/files", body=form, timeout=3600.0)
        return self._http.decode(reply, _File).id

    async def create(self, intent: Intent) -> BatchView:
        request = {
            "input_file_id": intent.file_id,
            "endpoint": _PATHS[intent.endpoint],
            "completion_window": "24h",
            "metadata": {"halfrate": intent.tag},
        }
        try:
            # PAID CALL: sent once. A process killed on this line may leave a batch at work that nobody knows
            # of yet; its intent is committed, and `find` below recognises it by the tag in its metadata.
            reply = await self._http.send(
                "POST",
                "/batches",
                body=msgspec.json.encode(request),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            if refusal.status >= 500 or refusal.status == 408:
                raise OutcomeUnknown(f"{refusal}. The batch may have been accepted all the same") from refusal
            refusal.queue_full = refusal.code == _QUEUE_FULL
            refusal.queue_limit = _queue_limit(str(refusal)) if refusal.queue_full else None
            raise
        return _view(self._http.decode(reply, _Batch))

    async def call(self, call: Call) -> Reply:
        if call.tier not in self.tiers(call.endpoint):
            raise UsageError(f"OpenAI serves {call.endpoint} in no tier {call.tier!r}.")
        if asks_for_stream(call.body):
            raise no_stream("OpenAI", call, lambda status, body: line_of(call.row_id, status, body))
        # PAID CALL: sent once. A process killed on this line may have paid for an answer that it will never see;
        # the journal says which rows were under way. The id is for OpenAI's support and for the logs on the way:
        # nothing can be asked by it (API overview, "supplying your own request id").
        answer = await self._http.call(
            _PATHS[call.endpoint].removeprefix("/v1"),
            with_tier(call.body, call.tier),
            headers={"X-Client-Request-Id": call.row_id},
            keep=KEEP,
            timeout=call.timeout or _TIMEOUTS.get(call.tier, DEFAULT_TIMEOUT),
            in_time=call.in_time,
        )
        return understand(call, answer)

    async def find(self, intent: Intent, now: float) -> Lookup:
        # The listing has no filter; it runs from the newest batch back, 100 a page.
        oldest = (intent.made_at or now) - _SKEW
        found: list[_Batch] = []
        after = ""
        while True:
            query = f"/batches?limit=100{after}"
            page = self._http.decode(await self._http.ask("GET", query), _Page)
            for batch in page.data:
                ours = (batch.metadata or {}).get("halfrate") == intent.tag
                same_file = intent.file_id is not None and batch.input_file_id == intent.file_id
                if (ours or same_file) and batch.id not in intent.past:
                    found.append(batch)
            last = page.data[-1] if page.data else None
            if last is None or not page.has_more or (last.created_at or now) < oldest:
                break
            after = f"&after={quote(last.id, safe='')}"
        # Keep one that can still bring rows rather than one that was refused in validation.
        found.sort(key=lambda batch: (batch.status == "failed", batch.created_at or 0.0))
        return Lookup(tuple(batch.id for batch in found))

    async def poll(self, batch_id: str) -> BatchView:
        return _view(
            self._http.decode(await self._http.ask("GET", f"/batches/{quote(batch_id, safe='')}"), _Batch)
        )

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        paths: list[Path] = []
        for file_id in view.files:
            path = targets(len(paths))
            await self._http.download(f"/files/{quote(file_id, safe='')}/content", path)
            paths.append(path)
        return paths

    async def cancel(self, batch_id: str) -> None:
        await self._http.ask_to_end(f"/batches/{quote(batch_id, safe='')}/cancel")

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        for file_id in leftovers:
            await self._http.delete(f"/files/{quote(file_id, safe='')}")

    async def strays(self, tag: str) -> tuple[str, ...]:
        found: list[str] = []
        after = ""
        while True:
            query = f"/files?purpose=batch&limit=1000{after}"
            page = self._http.decode(await self._http.ask("GET", query), _Files)
            found += [file.id for file in page.data if file.filename == _file_name(tag)]
            if not page.has_more or not page.data:
                return tuple(found)
            after = f"&after={quote(page.data[-1].id, safe='')}"

    async def close(self) -> None:
        await self._http.close()


def _queue_limit(message: str) -> int | None:
    """The limit that a refusal names, as in "Limit: 2,000,000 enqueued tokens"."""
    named = re.search(r"[Ll]imit: ([0-9][0-9,]*) enqueued tokens", message)
    return int(named[1].replace(",", "")) if named is not None else None


def _file_name(tag: str) -> str:
    return f"{tag}.jsonl"


def _view(batch: _Batch) -> BatchView:
    # Ids may be "" instead of null in this dialect.
    files = tuple(file for file in (batch.output_file_id, batch.error_file_id) if file)
    problems = (batch.errors and batch.errors.data) or []
    counts = batch.request_counts or _Counts()
    failed = batch.status == "failed"
    full = failed and any(problem.code == _QUEUE_FULL for problem in problems)
    failure = None
    if failed:
        first = problems[0] if problems else _LineError()
        failure = (first.code or "failed", first.message or "OpenAI gave no reason")
    return BatchView(
        batch_id=batch.id,
        status=batch.status,
        # A status never seen before is not an end: the batch may still be at work.
        ended=batch.status in _ENDED,
        rows_finished=counts.completed + counts.failed,
        accepted=batch.status != "validating",
        queue_full=full,
        queue_limit=_queue_limit(failure[1]) if full and failure is not None else None,
        files=files,
        leftovers=tuple(file for file in (batch.input_file_id, *files) if file),
        absent=_ABSENT.get(batch.status, Kind.MISSING),
        failure=failure,
        hopeless=failed and any(problem.code in _WHOLE_FILE for problem in problems),
        line_errors=tuple(
            (problem.line, problem.message or problem.code or "refused")
            for problem in problems
            if problem.line is not None and problem.code not in _WHOLE_FILE
        ),
    )


def _chat(spec: RequestSpec) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    if spec.system:
        messages.append({"role": "system", "content": spec.system})
    messages.append({"role": "user", "content": PROMPT})
    body: dict[str, Any] = {"model": spec.model, "messages": messages}
    if spec.max_tokens is not None:
        body["max_completion_tokens"] = spec.max_tokens
    if spec.temperature is not None:
        body["temperature"] = spec.temperature
    if spec.schema is not None:
        form = {"name": "answer", "strict": True, "schema": strict_schema(spec.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return with_params(body, spec)


def _responses(spec: RequestSpec) -> dict[str, Any]:
    body: dict[str, Any] = {"model": spec.model, "input": PROMPT}
    if spec.system:
        body["instructions"] = spec.system
    if spec.max_tokens is not None:
        body["max_output_tokens"] = spec.max_tokens
    if spec.temperature is not None:
        body["temperature"] = spec.temperature
    if spec.schema is not None:
        schema = strict_schema(spec.schema)
        body["text"] = {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}}
    return with_params(body, spec)


def _embeddings(spec: RequestSpec) -> dict[str, Any]:
    given = {"--system": spec.system, "--max-tokens": spec.max_tokens, "--temperature": spec.temperature}
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"Embeddings take no {option}.")
    if spec.schema is not None:
        raise UsageError("Embeddings take no --schema.")
    return with_params({"model": spec.model, "input": PROMPT}, spec)


_BODIES: Final[dict[Endpoint, Callable[[RequestSpec], dict[str, Any]]]] = {
    "chat": _chat,
    "responses": _responses,
    "embeddings": _embeddings,
}

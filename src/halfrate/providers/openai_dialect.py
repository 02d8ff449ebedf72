"""The dialect of OpenAI's Files and Batches, which a dozen providers speak, each with an accent of its own.

What one provider does in another way than OpenAI stands in its `Dialect` record, or in a method of its own where
it is more than a word. Facts are from OpenAI's batch guide and API reference as of 2026-09, and from how the
service answers; those of the others stand beside their records.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused, UsageError
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import Capabilities, Endpoint, Envelope, RequestSpec, Translated
from halfrate.providers.answers import Answer
from halfrate.providers.base import Account, BatchView, Call, Intent, Lookup, Passage, Reply, Streaming, Tier
from halfrate.providers.bodies import splice
from halfrate.providers.calls import DEFAULT_TIMEOUT, asks_for_stream, no_stream
from halfrate.providers.http import Http, Upload
from halfrate.providers.openai_bodies import BODIES
from halfrate.providers.openai_calls import KEEP, Wording, tier_of, understand, with_tier
from halfrate.providers.openai_results import completion_in, line_reader
from halfrate.providers.stream_calls import USAGE, asking

_ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_QUEUE_FULL: Final = "token_limit_exceeded"
# Reasons that name a line but hold for every line: the model, not the row, is at fault.
_WHOLE_FILE: Final = frozenset(
    {"model_not_found", "invalid_model", "mismatched_model", "model_mismatch", "url_mismatch"}
)
_ABSENT: Final = {"expired": Kind.EXPIRED, "cancelled": Kind.CANCELLED}
SKEW: Final = 300.0  # how far the provider's clock may be from ours
# Flex answers late: fifteen minutes is what its guide has clients wait.
_TIMEOUTS: Final[dict[Tier, float]] = {"flex": 900.0}
_BOUNDARY: Final = "halfrate-7f2c1f0a5b9d4e6c"
_FORM: Final = f"multipart/form-data; boundary={_BOUNDARY}"

_CLIENT_ID: Final = "X-Client-Request-Id"

URLS: Final[dict[Endpoint, str]] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
}
"""What a row, and the create call, say that they ask for."""
_PLAIN_TIERS: Final[Mapping[Endpoint, tuple[Tier, ...]]] = dict.fromkeys(URLS, ("standard",))


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """In what a provider's accent differs from OpenAI's own. Words are the provider's."""

    base: str = ""
    """What stands between the account's URL and the paths of the API."""
    urls: Mapping[Endpoint, str] = msgspec.field(default_factory=lambda: URLS)
    """The `url` of a row."""
    create_urls: Mapping[Endpoint, str] | None = None
    """The `endpoint` of the create call, where it is not that of the rows."""
    rows_name_url: bool = True
    """Whether a row has `method` and `url` beside its id and its body."""
    metadata: bool = True
    """Whether a batch keeps metadata of ours, and shows them in listings."""
    statuses: Mapping[str, str] = {}
    """Words for states, in lower case, that OpenAI has others for."""
    purpose: str = "batch"
    file_life: int | None = None
    """Seconds after which an uploaded file is to go by itself, asked for at the upload."""
    answer_limit: str = "max_completion_tokens"
    """The field of a chat that limits its answer."""
    tiers: Mapping[Endpoint, tuple[Tier, ...]] = msgspec.field(default_factory=lambda: _PLAIN_TIERS)
    asks_usage: bool = True
    """Whether a stream says what it used only if it is asked to."""


class _Counts(msgspec.Struct):
    total: int | None = 0
    completed: int | None = 0
    failed: int | None = 0


class _LineError(msgspec.Struct):
    code: str | int | None = None
    message: str | None = None
    line: int | None = None


class _Errors(msgspec.Struct):
    data: list[_LineError] | None = None


class Batch(msgspec.Struct):
    """A batch object, as far as it is needed. Ids may be "" instead of null."""

    id: str
    status: str
    created_at: float | str | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: _Counts | None = None
    errors: _Errors | str | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def made_at(self) -> float | None:
        """Unix seconds, whichever way the provider writes times."""
        if isinstance(self.created_at, str):
            try:
                return datetime.fromisoformat(self.created_at).timestamp()
            except ValueError:
                return None
        return self.created_at


class _Page(msgspec.Struct):
    data: list[Batch]
    has_more: bool = False


class File(msgspec.Struct):
    """A file object, as far as it is needed."""

    id: str
    filename: str = ""


class _Files(msgspec.Struct):
    data: list[File]
    has_more: bool = False


class OpenAIDialect:
    """A provider that speaks the dialect. A class for each has its `capabilities` and its `dialect`."""

    capabilities: Capabilities
    dialect: ClassVar[Dialect] = Dialect()
    wording: ClassVar[Wording] = Wording()
    _key: str = ""

    def __init__(self, account: Account) -> None:
        self.base_url = account.base_url + self.dialect.base
        headers = {"Authorization": f"Bearer {account.key}"} if account.key else {}
        self._http = Http(self.base_url, headers, self.title)
        self._key = account.key

    @property
    def title(self) -> str:
        return self.capabilities.title

    # ------------------------------------------------------------ encoding and decoding

    def envelope(self, endpoint: Endpoint) -> Envelope:
        if not self.dialect.rows_name_url:
            return Envelope(b'{"custom_id":"', b'","body":', b"}")
        between = f'","method":"POST","url":"{self.dialect.urls[endpoint]}","body":'
        return Envelope(b'{"custom_id":"', between.encode(), b"}")

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        return splice(self._body(spec))

    def _body(self, spec: RequestSpec) -> dict[str, Any]:
        body = BODIES[spec.endpoint](spec)
        wanted, usual = self.dialect.answer_limit, "max_completion_tokens"
        if wanted != usual and usual in body and usual not in spec.params:
            body = {wanted if name == usual else name: value for name, value in body.items()}
        return body

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return line_reader(endpoint, row_prefix)

    def tiers(self, endpoint: Endpoint) -> tuple[Tier, ...]:
        return self.dialect.tiers.get(endpoint, ())

    def tier_of(self, line: bytes) -> str:
        return tier_of(line)

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        asked = {**body, "model": model}
        if endpoint == "embeddings":
            return asked
        limit = asked.pop("max_completion_tokens", None)
        return asked if limit is None else {**asked, self.dialect.answer_limit: limit}

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        return completion_in(line)

    # ------------------------------------------------------------ safe to repeat

    async def upload(self, intent: Intent) -> str:
        name = file_name(intent.tag)
        fields = {"purpose": self.dialect.purpose}
        if self.dialect.file_life is not None:
            life = str(self.dialect.file_life)
            fields |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": life}
        form = multipart(fields, name, intent.requests)
        # Each upload that was begun is counted, so that none leaves a file behind unseen.
        reply = await self._http.ask_once("POST", "/files", body=form, timeout=3600.0)
        return self._http.decode(reply, File).id

    async def find(self, intent: Intent, now: float) -> Lookup:
        # The listing has no filter; it runs from the newest batch back, 100 a page.
        oldest = (intent.made_at or now) - SKEW
        found: list[Batch] = []
        after = ""
        while True:
            query = f"/batches?limit=100{after}"
            page = self._http.decode(await self._http.ask("GET", query), _Page)
            found += [batch for batch in page.data if self._is_ours(batch, intent)]
            last = page.data[-1] if page.data else None
            if last is None or not page.has_more or (last.made_at or now) < oldest:
                break
            after = f"&after={quote(last.id, safe='')}"
        return in_order(found, self._status)

    def _is_ours(self, batch: Batch, intent: Intent) -> bool:
        tagged = (batch.metadata or {}).get("halfrate") == intent.tag
        same_file = intent.file_id is not None and batch.input_file_id == intent.file_id
        return (tagged or same_file) and batch.id not in intent.past

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        reply = await self._http.ask("GET", f"/batches/{quote(batch_id, safe='')}")
        return self._view(self._http.decode(reply, Batch))

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
            query = f"/files?purpose={self.dialect.purpose}&limit=1000{after}"
            page = self._http.decode(await self._http.ask("GET", query), _Files)
            found += [file.id for file in page.data if file.filename == file_name(tag)]
            if not page.has_more or not page.data:
                return tuple(found)
            after = f"&after={quote(page.data[-1].id, safe='')}"

    async def close(self) -> None:
        await self._http.close()

    # ------------------------------------------------------------ the paid calls

    async def create(self, intent: Intent) -> BatchView:
        try:
            # PAID CALL: sent once. A process killed on this line may leave a batch at work that nobody knows
            # of yet; its intent is committed, and `find` above recognises it by the tag in its metadata, or by
            # the file that it was made from.
            reply = await self._http.send(
                "POST",
                "/batches",
                body=msgspec.json.encode(self._create_request(intent)),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            raise in_doubt(refusal) from refusal
        return self._view(self._created(reply))

    def _create_request(self, intent: Intent) -> dict[str, Any]:
        urls = self.dialect.create_urls or self.dialect.urls
        request: dict[str, Any] = {
            "input_file_id": intent.file_id,
            "endpoint": urls[intent.endpoint],
            "completion_window": intent.options.get("window", self.capabilities.windows[0]),
        }
        if self.dialect.metadata:
            request["metadata"] = {"halfrate": intent.tag}
        return request

    def _created(self, reply: bytes) -> Batch:
        return self._http.decode(reply, Batch)

    async def call(self, call: Call) -> Reply:
        self._check(call)
        if asks_for_stream(call.body):
            raise no_stream(
                self.title, call, lambda status, body: self.wording.line(call.row_id, status, body, None)
            )
        # PAID CALL: sent once. A process killed on this line may have paid for an answer that it will never see;
        # the journal says which rows were under way. The id is for the provider's support and for the logs on the
        # way: nothing can be asked by it (OpenAI's API overview, "supplying your own request id").
        answer = await self._http.call(
            self._call_path(call),
            with_tier(self._call_body(call), call.tier),
            headers={_CLIENT_ID: call.row_id},
            keep=KEEP,
            timeout=call.timeout or _TIMEOUTS.get(call.tier, DEFAULT_TIMEOUT),
            in_time=call.in_time,
        )
        return self.understood(call, answer)

    def _check(self, call: Call) -> None:
        if call.tier not in self.tiers(call.endpoint):
            raise UsageError(f"{self.title} serves {call.endpoint} in no tier {call.tier!r}.")

    def understood(self, call: Call, answer: Answer) -> Reply:
        return understand(self.title, call, answer, self.wording)

    async def streaming(self, call: Call) -> Streaming | None:
        if call.endpoint != "chat":
            return None
        self._check(call)
        headers, secret = await self._credentials_now()
        body = with_tier(self._call_body(call), call.tier)
        return Streaming(
            url=self._http.base_url,
            path=self._call_path(call) + self._http.fixed_query(),
            headers=(*headers, (_CLIENT_ID, call.row_id)),
            body=asking(body, USAGE if self.dialect.asks_usage else {"stream": True}),
            form="openai",
            secret=secret,
        )

    async def _credentials_now(self) -> tuple[tuple[tuple[str, str], ...], str]:
        """What stands in the head of every call, and the secret in it."""
        return self._http.fixed_headers() or (), self._key

    def _call_path(self, call: Call) -> str:
        return URLS[call.endpoint].removeprefix("/v1")

    def _call_body(self, call: Call) -> bytes:
        return call.body

    def passage(self, endpoint: Endpoint, model: str) -> Passage | None:
        headers = self._http.fixed_headers()
        if headers is None or endpoint not in self.capabilities.endpoints or not self.tiers(endpoint):
            return None
        call = Call(endpoint=endpoint, model=model, row_id="", body=b"{}")
        return Passage(
            url=self._http.base_url,
            path=self._call_path(call) + self._http.fixed_query(),
            headers=headers,
            model=self._called(model),
            asks_usage=endpoint == "chat" and self.dialect.asks_usage,
        )

    def _called(self, model: str) -> str:
        """What a model is called in a body."""
        return model

    # ------------------------------------------------------------ batches as they are described

    def _status(self, batch: Batch) -> str:
        """A batch's state in OpenAI's words."""
        word = batch.status.lower()
        return self.dialect.statuses.get(word, word)

    def _view(self, batch: Batch) -> BatchView:
        status = self._status(batch)
        files = tuple(file for file in (batch.output_file_id, batch.error_file_id) if file)
        problems = _problems(batch)
        counts = batch.request_counts or _Counts()
        failed = status == "failed"
        full = failed and any(_is_full(problem) for problem in problems)
        failure = None
        if failed:
            first = problems[0] if problems else _LineError()
            failure = (str(first.code or "failed"), first.message or f"{self.title} gave no reason")
        return BatchView(
            batch_id=batch.id,
            status=batch.status,
            # A status never seen before is not an end: the batch may still be at work.
            ended=status in _ENDED,
            rows_finished=(counts.completed or 0) + (counts.failed or 0),
            accepted=status != "validating",
            queue_full=full,
            queue_limit=queue_limit(failure[1]) if full and failure is not None else None,
            files=files,
            leftovers=tuple(file for file in (batch.input_file_id, *files) if file),
            absent=_ABSENT.get(status, Kind.MISSING),
            failure=failure,
            hopeless=failed and any(problem.code in _WHOLE_FILE for problem in problems),
            line_errors=tuple(
                (problem.line, problem.message or str(problem.code or "refused"))
                for problem in problems
                if problem.line is not None and problem.code not in _WHOLE_FILE
            ),
        )


def _problems(batch: Batch) -> list[_LineError]:
    """Why a batch failed: OpenAI has a list of reasons, others one text."""
    if isinstance(batch.errors, _Errors):
        return batch.errors.data or []
    text = batch.errors or batch.error
    return [_LineError(message=text)] if text else []


def _is_full(problem: _LineError) -> bool:
    """Whether a batch failed for want of room: by the code, or by OpenAI's words where there is none."""
    return problem.code == _QUEUE_FULL or (
        problem.code is None and "enqueued token limit" in (problem.message or "").lower()
    )


def in_doubt(refusal: Refused) -> Refused | OutcomeUnknown:
    """What a refused create means: an error of the server's may come after it has taken effect."""
    if refusal.status >= 500 or refusal.status == 408:
        return OutcomeUnknown(f"{refusal}. The batch may have been accepted all the same")
    refusal.queue_full = refusal.code == _QUEUE_FULL
    refusal.queue_limit = queue_limit(str(refusal)) if refusal.queue_full else None
    return refusal


def in_order(found: list[Batch], status: Callable[[Batch], str]) -> Lookup:
    """Batches of one create, the one to keep first: one that can still bring rows rather than one that was refused
    in validation."""
    found.sort(key=lambda batch: (status(batch) == "failed", batch.made_at or 0.0))
    return Lookup(tuple(batch.id for batch in found))


def multipart(fields: Mapping[str, str], name: str, path: Path, *, field: str = "file") -> Upload:
    """A form with fields and one file, under the name `field`."""
    head = _parts_of(fields)
    head += (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    tail = f"\r\n--{_BOUNDARY}--\r\n"
    return Upload(head.encode(), path, tail.encode(), _FORM)


def fields_alone(fields: Mapping[str, str]) -> tuple[bytes, str]:
    """A form without a file, and its content type."""
    return f"{_parts_of(fields)}--{_BOUNDARY}--\r\n".encode(), _FORM


def _parts_of(fields: Mapping[str, str]) -> str:
    return "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    )


def file_name(tag: str) -> str:
    return f"{tag}.jsonl"


def queue_limit(message: str) -> int | None:
    """The limit that a refusal names, as in "Limit: 2,000,000 enqueued tokens"."""
    named = re.search(r"[Ll]imit: ([0-9][0-9,]*) enqueued tokens", message)
    return int(named[1].replace(",", "")) if named is not None else None

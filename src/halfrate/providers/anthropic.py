"""Anthropic: Message Batches.

Facts are from Anthropic's guide to batch processing and its API reference as of 2026-10.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import IllegalStep, OutcomeUnknown, Refused, UsageError
from halfrate.base.results import RESULTS_GONE, Kind, LineReader
from halfrate.base.types import (
    CacheRules,
    Capabilities,
    Endpoint,
    Envelope,
    Framing,
    Limits,
    Option,
    RawForm,
    RequestSpec,
    Translated,
)
from halfrate.providers.answers import Answer
from halfrate.providers.anthropic_calls import KEEP, errored, tier_of, understand
from halfrate.providers.anthropic_results import id_of, line_reader
from halfrate.providers.base import Account, BatchView, Call, Intent, Lookup, Passage, Reply, Streaming, Tier
from halfrate.providers.bodies import PROMPT, splice, strict_schema, with_params
from halfrate.providers.calls import DEFAULT_TIMEOUT, asks_for_stream, no_stream
from halfrate.providers.http import Http, Upload
from halfrate.providers.stream_calls import asking
from halfrate.providers.translation import answer_from, request_to

_SKEW: Final = 30.0
_DEFAULT_MAX_TOKENS: Final = 4096
_PATH: Final = "/v1/messages/batches"
_LINES_TO_JUDGE: Final = 100


_VERSIONS: Final = ("2023-06-01", "2026-10-21")
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_BATCH_ALONE: Final = "output-300k-"
"""Betas that a batch alone has: answers of 300,000 tokens (guide to batch processing, 2026-09)."""
_OPTIONS: Final = (
    Option("version", "of the API; the newer refuses sampling parameters", _VERSIONS),
    Option("beta", "names for the anthropic-beta header, with commas: output-300k-2026-03-24"),
    Option("cache", "keep what rows share cached, for so long, whatever it costs", ("5m", "1h")),
)


# Guide to prompt caching (2026-10-06) and its tables for older models; at Sonnet 4.6, for which it says 1,024, nothing
# shorter than 2,048 tokens was seen to be cached (2026). A mark on less is ignored, and costs nothing.
_CACHE: Final = CacheRules(
    marks=True,
    cut='","cache_control":{"type":"ephemeral","ttl":"%s"}},{"type":"text","text":"',
    least=(
        ("opus-4-[5-9]|haiku-4-5", 4096),
        ("sonnet-4-6|haiku-3", 2048),
        ("sonnet-4|sonnet-3-7|opus-4", 1024),
        ("", 4096),
    ),
)


class _Counts(msgspec.Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def ended(self) -> int:
        return self.succeeded + self.errored + self.canceled + self.expired


class _Batch(msgspec.Struct):
    id: str
    processing_status: str
    created_at: datetime | None = None
    request_counts: _Counts | None = None
    archived_at: datetime | None = None
    results_url: str | None = None


class _WholeResult(msgspec.Struct):
    message: dict[str, Any] | None = None


class _Whole(msgspec.Struct):
    result: _WholeResult = msgspec.field(default_factory=_WholeResult)


class _Page(msgspec.Struct):
    data: list[_Batch]
    has_more: bool = False
    last_id: str | None = None


class Anthropic:
    """Anthropic's own API, and whatever else speaks it at ANTHROPIC_BASE_URL."""

    capabilities: Capabilities = Capabilities(
        provider="anthropic",
        title="Anthropic",
        endpoints=("messages",),
        native_form="anthropic",
        translates=("chat",),
        # 100,000 requests or 256 MB a batch (guide of 2026-09-26). Fewer rows keep our memory flat.
        limits=Limits(rows=49_000, bytes=240_000_000, row_bytes=240_000_000),
        framing=Framing(b'{"requests":[\n', b",\n", b"\n]}\n"),
        uploads_file=False,
        echoes_tag=False,
        one_model_per_batch=False,
        create_timeout=1800.0,
        key_variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        url_variable="ANTHROPIC_BASE_URL",
        default_url="https://api.anthropic.com",
        region_field="inference_geo",
        cache_stacks=True,
        cache=_CACHE,
        kept="29 days from the create",
        adoption="count",
        options=_OPTIONS,
        raw=RawForm("custom_id", b',"result":{"type":"canceled"}}\n'),
    )

    def __init__(self, account: Account) -> None:
        # Of the two versions in service this one still takes sampling parameters; the newer refuses them.
        bearer = account.key_variable == "ANTHROPIC_AUTH_TOKEN"
        key = {"Authorization": f"Bearer {account.key}"} if bearer else {"x-api-key": account.key}
        headers = {**key, "anthropic-version": _VERSIONS[0]}
        self._http = Http(account.base_url, headers, "Anthropic")
        self._key = account.key

    def envelope(self, endpoint: Endpoint) -> Envelope:
        return Envelope(b'{"custom_id":"', b'","params":', b"}")

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        body: dict[str, Any] = {"model": spec.model, "max_tokens": spec.max_tokens or _DEFAULT_MAX_TOKENS}
        _check_version(spec)
        cache = spec.options.get("cache")
        if cache is not None and not (spec.system or spec.head):
            raise UsageError(
                "The option cache keeps cached what all rows share, and there is nothing. Say --system, or begin the "
                "prompt with it."
            )
        mark = {"cache_control": {"type": "ephemeral", "ttl": cache}}
        # Where a mark stands amid the prompts of some rows, they are texts in a list.
        content: Any = [{"type": "text", "text": PROMPT}] if spec.lead else PROMPT
        if spec.system:
            marked = cache is not None and not spec.head
            body["system"] = [{"type": "text", "text": spec.system, **mark}] if marked else spec.system
        if spec.head:
            # A mark keeps all that stands before it too.
            content = [{"type": "text", "text": spec.head, **mark}, {"type": "text", "text": PROMPT}]
        if spec.temperature is not None:
            body["temperature"] = spec.temperature
        if spec.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": strict_schema(spec.schema)}}
        body["messages"] = [{"role": "user", "content": content}]
        return splice(with_params(body, spec))

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        return {"model": model, **request_to("anthropic", body)}

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        message = msgspec.json.decode(line, type=_Whole).result.message
        if message is None:
            return None
        model, name = str(message.get("model", "")), str(message.get("id", ""))
        return answer_from("anthropic", message, model=model, created=created, answer_id=name)

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        return line_reader(row_prefix)

    def tiers(self, endpoint: Endpoint) -> tuple[Tier, ...]:
        # Priority is served to whom has bought it, unasked, and is sold no more (page on service tiers).
        return ("standard",) if endpoint == "messages" else ()

    def tier_of(self, line: bytes) -> str:
        return tier_of(line)

    async def upload(self, intent: Intent) -> str:
        raise IllegalStep("Anthropic takes rows in the create call; there is no file to upload")

    async def create(self, intent: Intent) -> BatchView:
        body = Upload(b"", intent.requests, b"", "application/json")
        try:
            # PAID CALL: sent once. A process killed on this line may leave a batch at work that nobody knows
            # of yet. Anthropic echoes no name of ours, so `find` knows it by its time and its number of
            # rows, and the ids in its results confirm it; meanwhile no other intent of the account is open.
            timeout = self.capabilities.create_timeout
            reply = await self._http.send(
                "POST",
                _PATH,
                body=body,
                timeout=timeout,
                in_time=intent.in_time,
                headers=_headers(intent.options),
            )
        except Refused as refusal:
            if refusal.status >= 500 or refusal.status == 408:
                raise OutcomeUnknown(f"{refusal}. The batch may have been accepted all the same") from refusal
            refusal.queue_full = refusal.status == 429 and "in the queue" in str(refusal)
            raise
        return _view(self._http.decode(reply, _Batch))

    async def call(self, call: Call) -> Reply:
        self._check(call)
        if asks_for_stream(call.body):
            raise no_stream("Anthropic", call, lambda _, body: errored(call.row_id, body))
        # PAID CALL: sent once. A process killed on this line may have paid for an answer that it will never see;
        # the journal says which rows were under way.
        answer = await self._http.call(
            "/v1/messages",
            call.body,
            headers=_headers(call.options, realtime=True),
            keep=KEEP,
            timeout=call.timeout or DEFAULT_TIMEOUT,
            in_time=call.in_time,
        )
        return self.understood(call, answer)

    def _check(self, call: Call) -> None:
        if call.tier not in self.tiers(call.endpoint):
            raise UsageError(f"Anthropic serves {call.endpoint} in no tier {call.tier!r}.")

    def understood(self, call: Call, answer: Answer) -> Reply:
        return understand(call, answer)

    async def streaming(self, call: Call) -> Streaming | None:
        passage = self.passage(call.endpoint, call.model)
        if passage is None:
            return None
        self._check(call)
        chosen = _headers(call.options, realtime=True)
        return Streaming(
            url=passage.url,
            path=passage.path,
            headers=tuple({**dict(passage.headers), **chosen}.items()),
            body=asking(call.body, {"stream": True}),
            form="anthropic",
            secret=self._key,
        )

    def passage(self, endpoint: Endpoint, model: str) -> Passage | None:
        headers = self._http.fixed_headers()
        if endpoint != "messages" or headers is None:
            return None
        return Passage(url=self._http.base_url, path="/v1/messages", headers=headers, model=model)

    async def find(self, intent: Intent, now: float) -> Lookup:
        oldest = (intent.made_at or now) - _SKEW
        candidates: list[_Batch] = []
        after = ""
        while True:
            page = self._http.decode(await self._http.ask("GET", f"{_PATH}?limit=100{after}"), _Page)
            for batch in page.data:
                counts = batch.request_counts or _Counts()
                rows = counts.processing + counts.ended
                made = batch.created_at.timestamp() if batch.created_at is not None else now
                if rows == intent.rows and made >= oldest and batch.id not in intent.past:
                    candidates.append(batch)
            last = page.data[-1] if page.data else None
            made = last.created_at.timestamp() if last is not None and last.created_at is not None else now
            if last is None or not page.has_more or made < oldest:
                break
            after = f"&after_id={quote(last.id, safe='')}"
        return await self._tell_apart(candidates, intent)

    async def _tell_apart(self, candidates: list[_Batch], intent: Intent) -> Lookup:
        """Ours among batches of the right size and time: by the ids in the results of those that ended."""
        ours: list[str] = []
        open_ones: list[str] = []
        for batch in candidates:
            if batch.processing_status != "ended":
                open_ones.append(batch.id)
            elif batch.results_url:
                path = f"{_PATH}/{quote(batch.id, safe='')}/results"
                lines = await self._http.head(path, _LINES_TO_JUDGE)
                ids = [name for name in map(id_of, lines) if name is not None]
                # One readable id of ours is proof; strange lines among ours, more than it has rows, have been seen. A
                # batch of whose rows none has a readable id is not somebody else's either: it is looked through
                # before it is let go.
                strange = max(0, len(lines) - intent.rows)
                if len(ids) <= strange or any(name.startswith(intent.row_prefix) for name in ids):
                    ours.append(batch.id)
        if not open_ones:
            return Lookup(tuple(ours))
        if len(open_ones) == 1 and not ours:
            # Adopted on trust; should the ids in its results be somebody else's, it is let go unharmed.
            return Lookup((open_ones[0],))
        # One of ours may have a twin among the open ones (something on the way sent the call twice): its
        # finished rows are paid for as well, so it is waited for.
        return Lookup(
            held=f"{len(candidates)} batches of {intent.rows:,} rows were made at that time, and Anthropic shows "
            "whose rows they hold only when they end; waiting for that rather than paying again"
        )

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        return _view(
            self._http.decode(await self._http.ask("GET", f"{_PATH}/{quote(batch_id, safe='')}"), _Batch)
        )

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        if not view.files:
            return []
        path = targets(0)
        # `results_url` names the same place; a path of ours cannot be led to another host.
        await self._http.download(f"{_PATH}/{quote(view.batch_id, safe='')}/results", path)
        return [path]

    async def cancel(self, batch_id: str) -> None:
        await self._http.ask_to_end(f"{_PATH}/{quote(batch_id, safe='')}/cancel")

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        for batch_id in leftovers:
            await self._http.delete(f"{_PATH}/{quote(batch_id, safe='')}")

    async def strays(self, tag: str) -> tuple[str, ...]:
        raise IllegalStep("Anthropic takes rows in the create call; there is no file to look for")

    async def close(self) -> None:
        await self._http.close()


def _check_version(spec: RequestSpec) -> None:
    """Raises UsageError for what the chosen version of the API refuses, once all the rows have been run in vain."""
    if spec.options.get("version") != _VERSIONS[-1]:
        return
    given = ["temperature"] if spec.temperature is not None else []
    given += [name for name in _SAMPLING if name in spec.params]
    if given:
        raise UsageError(
            f"Version {_VERSIONS[-1]} of Anthropic's API takes no {given[0]}. Leave it out, or take version "
            f"{_VERSIONS[0]}. Nothing was sent."
        )


def _headers(options: dict[str, str], *, realtime: bool = False) -> dict[str, str]:
    """What a job's options say in headers."""
    headers: dict[str, str] = {}
    if "version" in options:
        headers["anthropic-version"] = options["version"]
    betas = [name.strip() for name in options.get("beta", "").split(",") if name.strip()]
    betas = [name for name in betas if not (realtime and name.startswith(_BATCH_ALONE))]
    if betas:
        headers["anthropic-beta"] = ",".join(betas)
    return headers


def _view(batch: _Batch) -> BatchView:
    counts = batch.request_counts or _Counts()
    gone = batch.archived_at is not None
    there = batch.results_url is not None
    # Ended, but with answers of which there is no sign yet: they are not there yet.
    ended = batch.processing_status == "ended" and (there or gone or not counts.succeeded)
    return BatchView(
        batch_id=batch.id,
        status=batch.processing_status,
        ended=ended,
        # Outcome counts stay at zero until the whole batch has ended: there is no sign of progress before.
        rows_finished=counts.ended,
        files=(batch.id,) if ended and there and not gone else (),
        leftovers=(batch.id,) if ended else (),
        # Kept for 29 days. They were paid for once; whether to pay again is for the user to say.
        absent=Kind.FAILED if gone else Kind.MISSING,
        absent_because=RESULTS_GONE if gone else "",
    )

"""Calls in real time that the gateway passes on: what each costs, and how that comes into the ledger.

A call is written to a log as soon as it is known what it used, before its caller has all of the answer: a process that
is killed forgets no call that was answered. From the log calls come into the ledger, added up by day, tags, account,
model and tier. How far a log is booked is recorded in the same transaction, so no line is booked twice or forgotten.

The log is the one that `halfrate audit` reads: a line of JSON a call, without anything that was sent or answered.
"""

import datetime
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from halfrate.base.errors import StorageError
from halfrate.base.ids import new_token, shard_id
from halfrate.base.results import Billed, Tokens
from halfrate.base.types import JobPrices, RequestSpec, Usage
from halfrate.core.job import Forecast, Job, JobState
from halfrate.core.lifecycle import Shard, State
from halfrate.core.pricing import JobPricing
from halfrate.providers.base import place_of
from halfrate.service.prices import job_prices
from halfrate.store.calls import CallBook, Entry
from halfrate.usage.gateway import Logged, LoggedTokens, line

_MOST_BYTES: Final = 64 << 20
"""Of a log, before the next is begun."""
_KEPT: Final = 35 * 86_400.0
"""Seconds that a log is kept which is in the ledger: an audit looks at a month."""
_DAY: Final = 86_400.0
_PREFIX: Final = "calls-"
_KINDS: Final = Usage.__struct_fields__


class Bill(msgspec.Struct, frozen=True):
    """What one call cost: picodollars, None where a price, or what was used, is unknown.

    `realtime_cost`: in real time's usual tier; `uncached_cost`: without a cache.
    """

    cost: int | None = None
    realtime_cost: int | None = None
    uncached_cost: int | None = None


def bill(provider: str, model: str, tokens: Tokens, tier: str, day: str) -> Bill:
    """What a call costs at the prices of a day (ISO, UTC). `model`: the one that was asked; the answer may name a dated
    one of it."""
    pricing = pricing_of(provider, model, day)
    cost = pricing.paid(model, tokens, tier)
    realtime_cost = cost if tier == "standard" else pricing.standard(model, tokens)
    cached = tokens.cached or tokens.write_5m or tokens.write_1h
    return Bill(cost, realtime_cost, pricing.uncached(model, tokens, tier) if cached else cost)


@functools.lru_cache(1_024)
def pricing_of(provider: str, model: str, day: str) -> JobPricing:
    """The prices of one model on a day. Read once: they do not change while a process runs."""
    return JobPricing(job_prices(provider, [model], day))


class CallLog:
    """Writes one process's calls. Whole lines, each with one call of the system: a process that is killed leaves none
    in part, and lines of several threads do not mix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle = -1
        self._size = 0
        self._waiting: list[bytes] = []
        self.path: Path | None = None

    def add(self, call: Logged) -> None:
        """Raises StorageError where it cannot be written. It is kept, and written with the next."""
        self._waiting.append(line(call))
        self.check()

    def check(self) -> None:
        """Write what could not be written before. Raises StorageError where it still cannot be."""
        while self._waiting:
            self._write(self._waiting[0])
            del self._waiting[0]

    def _write(self, data: bytes) -> None:
        try:
            if self._handle < 0 or self._size > _MOST_BYTES:
                self._begin()
            written = os.write(self._handle, data)
        except OSError as error:
            raise self._unwritten(str(error.strerror)) from error
        if written != len(data):
            raise self._unwritten("no room for a whole line")
        self._size += written

    def _unwritten(self, why: str) -> StorageError:
        # What stands there in part is followed by another log, so that no line is glued to it.
        self.close()
        return StorageError(
            f"{self.path or self.folder} cannot be written ({why}). {len(self._waiting)} calls were answered that are "
            "not in the ledger yet: make room."
        )

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _begin(self) -> None:
        self.close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = self.folder / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{new_token()}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._handle = os.open(self.path, flags, 0o600)
        self._size = 0


class Bookkeeper:
    """Brings what the logs of a folder say into the ledger. Several processes may do so at once."""

    def __init__(self, book: CallBook, folder: Path) -> None:
        self._book = book
        self._folder = folder

    def book(self) -> int:
        """Book every whole line that is not booked yet; how many calls that were.

        Raises StorageError for a line that is none of ours: a log that was tampered with is not guessed at.
        """
        return sum(self._book_log(path) for path in sorted(self._folder.glob("*.jsonl")))

    def sweep(self, now: float) -> int:
        """Remove logs that are old and in the ledger; how many that were."""
        removed = 0
        for path in sorted(self._folder.glob("*.jsonl")):
            facts = path.stat()
            if now - facts.st_mtime > _KEPT and self._book.booked(path.name) >= facts.st_size:
                path.unlink(missing_ok=True)
                self._book.forget(path.name)
                removed += 1
        return removed

    def _book_log(self, path: Path) -> int:
        since = self._book.booked(path.name)
        if path.stat().st_size <= since:
            return 0
        sums: dict[_Kind, _Sum] = {}
        calls, until = 0, since
        for call, end in _calls(path, since):
            until = end
            if not _paid_here(call):
                continue
            calls += 1
            kind = _kind(call)
            found = sums.get(kind)
            if found is None:
                found = sums[kind] = _Sum(kind)
            found.add(call)
        if until == since:
            return 0
        entries = [one.entry() for one in sums.values()]
        return calls if self._book.book(path.name, since, until, entries) else 0


def _calls(path: Path, since: int) -> Iterator[tuple[Logged, int]]:
    """Calls from byte `since` on, each with where its line ends. A line that is still being written is left."""
    at = since
    with path.open("rb") as stream:
        stream.seek(since)
        for text in stream:
            if not text.endswith(b"\n"):
                return
            at += len(text)
            try:
                yield msgspec.json.decode(text, type=Logged), at
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"{path}, at byte {at - len(text)}: {error}. This is no line of a log of calls; nothing of this "
                    "log from here on comes into the ledger. Remove the line."
                ) from error


def _paid_here(call: Logged) -> bool:
    """Whether it is a matter of the ledger: not what was refused, nor what went to a caller's own account."""
    return bool(call.account) and (call.doubt or (call.status or 200) < 400)


class _Kind(NamedTuple):
    """What calls have in common that are booked together."""

    day: str
    tags: tuple[tuple[str, str], ...]
    account: str
    model: str
    tier: str
    doubt: bool

    @property
    def job_id(self) -> str:
        """The same for each process that books such calls: one of each day, account, model, tier and set of tags."""
        told = msgspec.json.encode(self[:5])
        return _PREFIX + hashlib.blake2b(told, digest_size=10).hexdigest()


def _kind(call: Logged) -> _Kind:
    return _Kind(
        call.time[:10],
        tuple(sorted(call.tags.items())),
        call.account or "",
        call.model or "",
        call.tier or "standard",
        call.doubt,
    )


class _Sum:
    """Calls that are booked together."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self._rows = 0
        self._at = ""
        self._usage = [0] * len(_KINDS)
        self._costs: list[int | None] = [0, 0, 0]

    def add(self, call: Logged) -> None:
        self._rows += 1
        self._at = max(self._at, call.time)
        tokens = call.tokens
        for at, name in enumerate(_KINDS):
            self._usage[at] += getattr(tokens, name)
        costs = (call.cost_picodollars, call.realtime_picodollars, call.uncached_picodollars)
        for at, cost in enumerate(costs):
            known = self._costs[at]
            self._costs[at] = None if known is None or cost is None else known + cost

    def entry(self) -> Entry:
        kind = self._kind
        job = _job(kind)
        shard = Shard(
            id=shard_id(job.id, 0),
            job_id=job.id,
            number=0,
            first_row=0,
            rows=0,
            bytes=0,
            model=kind.model,
            account=kind.account,
            state=State.DONE,
        )
        cost, realtime_cost, uncached_cost = self._costs
        billed = Billed(
            kind.model, self._rows, Usage(*self._usage), cost, realtime_cost, kind.tier, uncached_cost
        )
        return Entry(job, shard, "doubt" if kind.doubt else "rows", billed, _moment(self._at))


def _job(kind: _Kind) -> Job:
    """What calls of one kind are booked on: a job that has no rows, and was over when it began."""
    day = _moment(kind.day)
    return Job(
        id=kind.job_id,
        created_at=day,
        state=JobState.DONE,
        account=kind.account,
        spec=RequestSpec(provider=place_of(kind.account).provider, model=kind.model, endpoint="chat"),
        spec_hash="calls",
        input_name="calls in real time",
        input_format="jsonl",
        input_size=0,
        rows=0,
        request_bytes=0,
        prices=JobPrices({}, {}),
        forecast=Forecast(0, 0, 0, 0),
        tags=dict(kind.tags),
        tier=kind.tier,
        fetched=True,
        finished_at=day + _DAY,
    )


def _moment(text: str) -> float:
    """Seconds since 1970 of a day, or of a time with its zone."""
    moment = datetime.datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()


def tokens_of(tokens: Tokens | None) -> LoggedTokens:
    """As they stand in the log."""
    if tokens is None:
        return LoggedTokens()
    # All of them but where they were used.
    return LoggedTokens(
        tokens[0],
        tokens[1],
        tokens[2],
        tokens[3],
        tokens[4],
        tokens[5],
        tokens[6],
        tokens[7],
        tokens[8],
        tokens[9],
    )

"""Calls in real time that the gateway passes on: what each costs, and how that comes into the ledger.

An attempt at a call is written to a log before it is sent, and again as soon as it is known what it used (see
`call_log`). From the log calls come into the ledger, added up by day, tags, account, model and tier. How far a log is
booked is recorded in the same transaction, so no line is booked twice or forgotten. When a log's writer is gone, what
has begun and has no end is booked as a doubt in the transaction that closes the log, and so once as well.

The log is the one that `halfrate audit` reads: JSON, a line each, without anything that was sent or answered.
"""

import contextlib
import datetime
import functools
import hashlib
import operator
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from halfrate.base.errors import StorageError
from halfrate.base.ids import shard_id
from halfrate.base.results import Billed, Tokens
from halfrate.base.types import JobPrices, RequestSpec, Usage
from halfrate.core.job import Forecast, Job, JobState
from halfrate.core.lifecycle import Shard, State
from halfrate.core.pricing import JobPricing
from halfrate.providers.base import place_of
from halfrate.service.call_log import LogFile, followed, unfinished, writers
from halfrate.service.prices import job_prices
from halfrate.store.calls import CallBook, Entry, Progress
from halfrate.usage.gateway import BEGUN, LoggedTokens

_KEPT: Final = 35 * 86_400.0
"""Seconds that a log is kept which is in the ledger: an audit looks at a month."""
_DAY: Final = 86_400.0
_PREFIX: Final = "calls-"
_counts: Final = operator.attrgetter(*Usage.__struct_fields__)
"""The tokens of a call in the order in which the ledger has them."""


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


class Bookkeeper:
    """Brings what the logs of a folder say into the ledger. Several processes may do so at once."""

    def __init__(self, book: CallBook, folder: Path) -> None:
        self._book = book
        self._folder = folder

    def book(self) -> int:
        """Book every whole line that is not booked yet, and as a doubt every attempt that has no end and whose writer
        is gone; how many calls that were.

        Raises StorageError for a line that is none of ours, when all the other logs are booked: a log that was tampered
        with is not guessed at.
        """
        # Looked for before it is asked what is known of them: what another process has swept since is not opened.
        found = writers(self._folder)
        known = self._book.progress()
        calls = 0
        trouble: StorageError | None = None
        for files in found:
            for file in files:
                progress = known.get(file.name, Progress())
                try:
                    if not progress.closed:
                        calls += self._book_log(file, progress.booked, last=file is files[-1])
                except StorageError as error:
                    trouble = trouble or error
        if trouble is not None:
            raise trouble
        return calls

    def sweep(self, now: float) -> int:
        """Remove logs that are old and in the ledger; how many that were."""
        found = writers(self._folder)
        known = self._book.progress()
        removed = 0
        for file in (file for files in found for file in files):
            progress = known.get(file.name, Progress())
            with _on_disk(file.path):
                facts = file.path.stat()
                whole = progress.closed or (file.writer is None and progress.booked >= facts.st_size)
                if whole and now - facts.st_mtime > _KEPT:
                    file.path.unlink(missing_ok=True)
                    self._book.forget(file.name)
                    removed += 1
        for path in unfinished(self._folder):
            with _on_disk(path):
                if now - path.stat().st_mtime > _DAY:
                    path.unlink(missing_ok=True)
        return removed

    def _book_log(self, file: LogFile, since: int, *, last: bool) -> int:
        """`last`: of its writer's, as far as could be seen. Those before it are over."""
        over = gone = False
        until = since
        sums = _Sums()
        with _on_disk(file.path):
            if file.writer is not None:
                over = not last or file.left()
                # Between the two looks its writer may have gone on to another, and has let go of this one for that.
                gone = last and over and not followed(file)
            if not over and file.path.stat().st_size <= since:
                return 0
            for text, end in _lines(file.path, since):
                if not text.startswith(BEGUN):
                    sums.add(_understood(_call, text, file.path, until))
                until = end
            if gone:
                for text, at in _without_end(file.path):
                    call = _understood(_call, text, file.path, at)
                    call.doubt = True
                    sums.add(call)
            if until == since and not over:
                return 0
            # What is swept at this moment is closed, and so refused.
            booked = self._book.book(file.name, since, until, sums.entries(), closing=over)
            return sums.calls if booked else 0
        return 0


@contextlib.contextmanager
def _on_disk(path: Path) -> Generator[None]:
    """What the disk says of a log that another process may sweep, or that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror}): what it says is not in the ledger."
        ) from error


class _Mark(msgspec.Struct, gc=False):
    """What of a line tells which attempt it is of."""

    begun: int | None = None
    ended: int | None = None


class _Call(msgspec.Struct, gc=False):
    """What of a line comes into the ledger. See `usage.gateway.Logged`."""

    time: str = ""
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    account: str | None = None
    model: str | None = None
    tier: str | None = None
    tokens: LoggedTokens = LoggedTokens()
    cost_picodollars: int | None = None
    realtime_picodollars: int | None = None
    uncached_picodollars: int | None = None
    doubt: bool = False
    status: int | None = None


_mark = msgspec.json.Decoder(_Mark).decode
_call = msgspec.json.Decoder(_Call).decode
_tags = msgspec.json.Decoder(dict[str, str]).decode
_Meaning = TypeVar("_Meaning")


def _lines(path: Path, since: int) -> Iterator[tuple[bytes, int]]:
    """Lines from byte `since` on, each with where it ends. One that is still being written is left, and so is what a
    writer that died has left of one."""
    at = since
    with path.open("rb") as stream:
        stream.seek(since)
        for text in stream:
            if not text.endswith(b"\n"):
                return
            at += len(text)
            yield text, at


def _understood(decode: Callable[[bytes], _Meaning], text: bytes, path: Path, at: int) -> _Meaning:
    """Raises StorageError."""
    try:
        return decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path}, at byte {at}: {error}. This is no line of a log of calls; nothing of this log from here on comes "
            "into the ledger. Remove the line."
        ) from error


def _without_end(path: Path) -> list[tuple[bytes, int]]:
    """The beginnings of the attempts that have no end in a log, each with where it stands."""
    under_way: dict[int, tuple[bytes, int]] = {}
    at = 0
    for text, end in _lines(path, 0):
        mark = _understood(_mark, text, path, at)
        if mark.begun is not None:
            under_way[mark.begun] = (text, at)
        elif mark.ended is not None:
            under_way.pop(mark.ended, None)
        at = end
    return list(under_way.values())


def _paid_here(call: _Call) -> bool:
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


class _Sums:
    """Calls, added up by what tells them apart in the ledger. `calls`: how many of them are a matter of it."""

    def __init__(self) -> None:
        self.calls = 0
        self._sums: dict[_Kind, _Sum] = {}
        self._known: dict[tuple[object, ...], _Sum] = {}

    def add(self, call: _Call) -> None:
        if not _paid_here(call):
            return
        self.calls += 1
        # Most calls are as others were: what they have in common is understood once.
        written = (call.time[:10], bytes(call.tags), call.account, call.model, call.tier, call.doubt)
        found = self._known.get(written)
        if found is None:
            found = self._known[written] = self._sum(call)
        found.add(call)

    def entries(self) -> list[Entry]:
        return [one.entry() for one in self._sums.values()]

    def _sum(self, call: _Call) -> "_Sum":
        kind = _Kind(
            call.time[:10],
            tuple(sorted(_tags(call.tags).items())),
            call.account or "",
            call.model or "",
            call.tier or "standard",
            call.doubt,
        )
        found = self._sums.get(kind)
        if found is None:
            found = self._sums[kind] = _Sum(kind)
        return found


class _Sum:
    """Calls that are booked together."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self._rows = 0
        self._at = ""
        self._usage = [0] * len(Usage.__struct_fields__)
        self._costs: list[int | None] = [0, 0, 0]

    def add(self, call: _Call) -> None:
        self._rows += 1
        self._at = max(self._at, call.time)
        self._usage = [*map(operator.add, self._usage, _counts(call.tokens))]
        costs = self._costs
        costs[0] = _plus(costs[0], call.cost_picodollars)
        costs[1] = _plus(costs[1], call.realtime_picodollars)
        costs[2] = _plus(costs[2], call.uncached_picodollars)

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


def _plus(sum_: int | None, cost: int | None) -> int | None:
    return None if sum_ is None or cost is None else sum_ + cost


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
    return LoggedTokens(*tokens[:10])

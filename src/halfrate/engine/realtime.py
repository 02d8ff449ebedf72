"""Running the rows of an attempt in real time: one call a row, as many at once as the provider takes.

Every row is called until it is answered, is refused for good, or has been refused in passing too often; each of
these ends as a line in the attempt's journal. A call that ends without anybody knowing how leaves its row in
doubt, without a line, unless the policy is to pay again. What is not called, because the run was asked to stop or
because every call would be refused alike, is left unsent for a later run over the same journal.

A `Realtime` is shared by all shards of a process, so that those which call one model of one account share one
pacer. Rows are read as they are needed and held only while they are open.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from halfrate.base.clock import Clock
from halfrate.base.errors import (
    HELD_UP,
    HalfrateError,
    OutcomeUnknown,
    Refused,
    StorageError,
    UsageError,
)
from halfrate.base.types import Endpoint, Envelope, Framing
from halfrate.core.pacing import Budgets, Kind, Load, Pacer, Pacing, Ticket
from halfrate.engine.gate import Gate
from halfrate.providers.base import Adapter, Blame, Call, CallRefused, Tier
from halfrate.rows.journal import Journal, State
from halfrate.rows.requests import request_lines

_BYTES_PER_TOKEN: Final = 4
_OUTPUT: Final = 500
"""Tokens of an answer where nobody says how long it may get."""


class _Longest(msgspec.Struct):
    """How long a body lets its answer get, by the names that both dialects have for it."""

    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    max_tokens: int | None = None


_decode_longest = msgspec.json.Decoder(_Longest).decode


def guess(body: bytes) -> Load:
    """What a row may weigh in tokens: its size, and as much of an answer as it allows."""
    try:
        longest = _decode_longest(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        longest = _Longest()
    output = longest.max_completion_tokens or longest.max_output_tokens or longest.max_tokens or _OUTPUT
    return Load(len(body) // _BYTES_PER_TOKEN + 1, output)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one attempt.

    `account` and `model` say whose budgets are used, `most_a_minute` how many calls the user allows; `requests` is
    the attempt's request file, `rows` how many there are in it, `row_prefix` how their ids begin and `first_row` the
    shard's first row; `load` estimates what a body weighs in tokens.
    """

    account: str
    model: str
    endpoint: Endpoint
    tier: Tier
    requests: Path
    rows: int
    framing: Framing
    envelope: Envelope
    row_prefix: str
    first_row: int
    params: dict[str, Any] = {}
    options: dict[str, str] = {}
    load: Callable[[bytes], Load] = guess
    most_a_minute: int | None = None


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how long rows are tried. Seconds."""

    tries: int = 8
    """Calls of one row that end in the provider's own faults, before the row is given up for this attempt."""
    waits: int = 50
    """The same for calls that are refused because there are too many: it is not the row that is too much, mostly."""
    backoff_first: float = 0.5
    backoff_most: float = 60.0
    give_up: float = 600.0
    """A provider that has answered nothing for so long, or asks to be left alone for longer, ends the run."""
    pay_again: bool = False
    """Call rows again of which nobody knows whether they were run. What they cost is then paid twice, perhaps."""
    commit: float = 0.2
    """Replies that come within this time are synced together."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did, and how its rows stand after it. All replies are durable when it is given.

    `answered`, `failed`, `passing`: rows that got their line in this run: an answer, a refusal for good, a refusal in
    passing once too often. `settled`: rows of the attempt with a line, whoever wrote it; `in_doubt`: rows of
    the attempt that may be paid for and have no line; `unsent`: its rows that are left. `doubts`: calls that may have
    been billed unseen, in all runs, those of rows answered later among them.

    `calls`: calls that left this machine in this run; `refused`: of them, how many were refused. `tiers`: the
    tiers that answers of this run were served in. `halted`: why the run ended before its time, if it did; a run
    that was asked to stop has rows left and no such reason.
    """

    answered: int
    failed: int
    passing: int
    settled: int
    in_doubt: int
    unsent: int
    doubts: int
    calls: int
    refused: int
    tiers: dict[str, int]
    seconds: float
    halted: HalfrateError | None = None

    @property
    def rows_per_second(self) -> float:
        """Rows settled a second in this run."""
        done = self.answered + self.failed + self.passing
        return done / self.seconds if self.seconds > 0 else 0.0


class Realtime:
    """Runs attempts in real time. One for a process and its event loop.

    Args:
        draw: random numbers in [0, 1), for waits that must not fall on one moment.
    """

    def __init__(
        self, clock: Clock, *, pacing: Pacing | None = None, draw: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._pacing = pacing or Pacing()
        self._draw = draw
        self._budgets: dict[tuple[str, str], Budgets] = {}
        self._gates: dict[tuple[str, str, Tier], Gate] = {}

    async def run(
        self,
        work: Work,
        journal: Journal,
        adapter: Adapter,
        *,
        patience: Patience | None = None,
        stop: asyncio.Event | None = None,
        in_time: Callable[[], bool] = lambda: True,
        on_durable: Callable[[int], None] = lambda _: None,
    ) -> Tally:
        """Call every row that is not settled yet.

        Args:
            stop: once set, no call leaves any more; those under way are waited for.
            in_time: whether this process may still call rows; asked before each leaves. If not, the run halts.
            on_durable: hears how many replies of this run are durable, whenever more are.

        Raises StorageError when the journal cannot be written; what is under way then is waited for and kept if it
        can be. A cancelled run hangs up on its calls, and leaves their rows in doubt. UsageError: there is no such
        tier for this endpoint.
        """
        if work.tier not in adapter.tiers(work.endpoint):
            title = adapter.capabilities.title
            raise UsageError(f"{title} serves {work.endpoint} in no tier {work.tier!r}. Nothing was sent.")
        gate = self._gate(work)
        run = _Run(work, journal, adapter, gate, self._clock, self._draw, patience or Patience(), in_time)
        return await run.run(stop or asyncio.Event(), on_durable)

    def limits(self, account: str, model: str) -> dict[Kind, int]:
        """What replies have said is allowed in a minute, so far."""
        budgets = self._budgets.get((account, model))
        return budgets.limits() if budgets is not None else {}

    def _gate(self, work: Work) -> Gate:
        gate = self._gates.get((work.account, work.model, work.tier))
        if gate is None:
            budgets = self._budgets.get((work.account, work.model))
            if budgets is None:
                pacing = self._pacing
                if work.most_a_minute is not None:
                    pacing = msgspec.structs.replace(pacing, requests_per_minute=work.most_a_minute)
                budgets = self._budgets[work.account, work.model] = Budgets(pacing)
            gate = Gate(Pacer(self._pacing, budgets), self._clock)
            self._gates[work.account, work.model, work.tier] = gate
        return gate


class _Row(msgspec.Struct, frozen=True):
    slot: int
    name: str
    body: bytes


class _Again(msgspec.Struct, frozen=True):
    """A row has to be called once more: `load` if there were too many calls at once, `wait` seconds at least."""

    load: bool = False
    wait: float = 0.0
    why: Refused | None = None


class _Run:
    """One run over one attempt."""

    def __init__(
        self,
        work: Work,
        journal: Journal,
        adapter: Adapter,
        gate: Gate,
        clock: Clock,
        draw: Callable[[], float],
        patience: Patience,
        in_time: Callable[[], bool],
    ) -> None:
        self._work = work
        self._journal = journal
        self._adapter = adapter
        self._gate = gate
        self._clock = clock
        self._draw = draw
        self._patience = patience
        self._in_time = in_time
        self._open: set[asyncio.Task[None]] = set()
        self._calling: set[asyncio.Task[None]] = set()
        self._ending = False
        self._news = asyncio.Event()
        self._over = False
        self._wrote = asyncio.Event()
        self._halted: HalfrateError | None = None
        self._broken: BaseException | None = None
        self._counts: Counter[str] = Counter()
        self._tiers: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event, on_durable: Callable[[int], None]) -> Tally:
        started = self._clock.now()
        commits = asyncio.create_task(self._commit(on_durable))
        stopper = asyncio.create_task(self._stop_on(stop))
        try:
            try:
                await self._all_rows()
            except OSError as error:
                self._broken = StorageError(
                    f"{self._work.requests} cannot be read ({error.strerror}). Rows that were not sent yet stay unsent."
                )
                self._end()
            while self._open:
                await self._something()
        finally:
            stopper.cancel()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            self._over = True
            self._wrote.set()
            await asyncio.gather(commits, stopper, return_exceptions=True)
        commits.result()
        if self._broken is not None:
            raise self._broken
        return self._tally(self._clock.now() - started)

    # ------------------------------------------------------------ rows in

    async def _all_rows(self) -> None:
        async with aclosing(self._unsettled()) as rows:
            async for row in rows:
                while not self._ending and len(self._open) >= self._gate.pacer.width:
                    await self._something()
                if self._ending:
                    return
                task = asyncio.create_task(self._row(row))
                self._open.add(task)
                task.add_done_callback(self._done)

    async def _something(self) -> None:
        """Wait until a row is done with, or the run is to end; then, for the calls that are under way alone."""
        self._news.clear()
        if self._ending:
            for task in self._open - self._calling:
                task.cancel()
        await self._news.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = self._broken or error
            self._end()
        self._news.set()

    def _end(self) -> None:
        """No call leaves any more."""
        self._ending = True
        self._news.set()

    async def _stop_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._end()

    async def _unsettled(self) -> AsyncGenerator[_Row]:
        """The rows to call, in the order of the request file."""
        work = self._work
        before = len(work.envelope.before)
        prefix = work.row_prefix.encode()
        lines = request_lines(work.requests, work.framing)
        while (block := await asyncio.to_thread(next, lines, None)) is not None:
            for line in block:
                end = line.index(b'"', before)
                name = line[before:end]
                slot = int(name.removeprefix(prefix)) - work.first_row
                state = self._journal.state(slot)
                if state == State.UNSENT or (state == State.DOUBTFUL and self._patience.pay_again):
                    start = end + len(work.envelope.between)
                    body = line[start : len(line) - len(work.envelope.after)]
                    if work.envelope.inside:
                        # The id stood in the body's own object, and is no part of what is asked.
                        body = b"{" + body
                    yield _Row(slot, name.decode(), body)

    # ------------------------------------------------------------ one row

    async def _row(self, row: _Row) -> None:
        """Call a row until it is settled, or left."""
        load = self._work.load(row.body)
        faults = waits = 0
        while True:
            try:
                ticket = await self._gate.enter(load, self._patience.give_up)
            except Refused as far_off:
                self._halt(far_off)
                return
            task = cast("asyncio.Task[None]", asyncio.current_task())
            self._calling.add(task)
            try:
                again = await self._call(row, ticket)
            finally:
                self._calling.discard(task)
                self._gate.ended()
            if again is None:
                return
            faults += not again.load
            waits += again.load
            if faults >= self._patience.tries or waits >= self._patience.waits:
                self._write_off(row, again)
                return
            if self._ending:
                return
            if not again.load:
                await self._clock.sleep(max(again.wait, self._backoff(faults)))

    def _backoff(self, faults: int) -> float:
        longest = self._patience.backoff_first * 2.0**faults
        return min(self._patience.backoff_most, longest) * (0.5 + self._draw())

    async def _call(self, row: _Row, ticket: Ticket) -> "_Again | None":
        """One call; why and when there has to be another, or None if the row is done with."""
        pacer, journal, work = self._gate.pacer, self._journal, self._work
        if self._ending:
            pacer.returned(ticket)
            return None
        call = Call(
            endpoint=work.endpoint,
            model=work.model,
            params=work.params,
            options=work.options,
            row_id=row.name,
            body=row.body,
            tier=work.tier,
            in_time=self._in_time,
        )
        try:
            journal.sending(row.slot)
            self._counts["calls"] += 1
            reply = await self._adapter.call(call)
        except CallRefused as refusal:
            self._counts["refused"] += 1
            return self._refused(row, ticket, refusal)
        except Refused as refusal:
            # Nothing left this machine.
            self._counts["calls"] -= 1
            pacer.returned(ticket)
            journal.refused(row.slot)
            return self._unsent(refusal)
        except OutcomeUnknown as lost:
            pacer.failed(ticket, self._clock.now())
            journal.lost(row.slot)
            self._give_up_if_silent(lost)
            return _Again() if self._patience.pay_again else None
        except BaseException:
            # Whatever it was, the place is free. A call that was cancelled leaves its row in doubt.
            pacer.returned(ticket)
            raise
        pacer.answered(ticket, self._clock.now(), reply.windows)
        journal.add(row.slot, reply.line)
        self._counts["answered"] += 1
        self._tiers[reply.tier] += 1
        self._wrote.set()
        return None

    def _refused(self, row: _Row, ticket: Ticket, refusal: CallRefused) -> "_Again | None":
        pacer, now = self._gate.pacer, self._clock.now()
        match refusal.blame:
            case Blame.ROW:
                pacer.answered(ticket, now, refusal.windows)
                self._journal.add(row.slot, refusal.line)
                self._counts["failed"] += 1
                self._wrote.set()
                return None
            case Blame.TIER | Blame.ACCOUNT:
                pacer.returned(ticket)
                self._journal.refused(row.slot)
                self._halt(refusal)
                return None
            case Blame.LOAD:
                # The pacer has all calls wait for as long as was asked for.
                pacer.overloaded(ticket, now, refusal.windows, refusal.retry_after, self._draw())
            case Blame.FAULT:
                pacer.failed(ticket, now, refusal.windows)
        self._journal.refused(row.slot)
        self._give_up_if_silent(refusal)
        return _Again(refusal.blame == Blame.LOAD, refusal.retry_after or 0.0, refusal)

    def _write_off(self, row: _Row, last: "_Again") -> None:
        """A row has been tried often enough."""
        why = last.why
        if isinstance(why, CallRefused):
            self._journal.add(row.slot, why.line)
            self._counts["passing"] += 1
            self._wrote.set()
        elif why is not None:
            # No row is at fault for a network that is down.
            self._halt(why)

    def _unsent(self, refusal: Refused) -> "_Again | None":
        if refusal.code == HELD_UP or not refusal.passing:
            self._halt(refusal)
            return None
        return _Again(why=refusal)

    # ------------------------------------------------------------ the end of it

    def _give_up_if_silent(self, why: HalfrateError) -> None:
        """End the run if nothing has been answered for too long."""
        since = self._gate.pacer.refused_since
        if since is not None and self._clock.now() - since > self._patience.give_up:
            self._halt(why)

    def _halt(self, why: HalfrateError) -> None:
        self._halted = self._halted or why
        self._end()

    async def _commit(self, on_durable: Callable[[int], None]) -> None:
        """Sync what was written, a moment after it was, until the run is over."""
        journal = self._journal
        try:
            while True:
                await self._wrote.wait()
                self._wrote.clear()
                over = self._over
                if not over:
                    await self._clock.sleep(self._patience.commit)
                if journal.durable < journal.written:
                    on_durable(await asyncio.to_thread(journal.sync))
                if over:
                    return
        except StorageError:
            self._end()
            raise

    def _tally(self, seconds: float) -> Tally:
        journal = self._journal
        settled = journal.count(State.ANSWERED)
        in_doubt = journal.count(State.DOUBTFUL)
        return Tally(
            answered=self._counts["answered"],
            failed=self._counts["failed"],
            passing=self._counts["passing"],
            settled=settled,
            in_doubt=in_doubt,
            unsent=self._work.rows - settled - in_doubt,
            doubts=journal.doubts,
            calls=self._counts["calls"],
            refused=self._counts["refused"],
            tiers=dict(self._tiers),
            seconds=seconds,
            halted=self._halted,
        )

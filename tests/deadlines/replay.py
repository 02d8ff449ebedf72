"""A world played through in virtual time, with every decision taken by the ladder itself.

Batches, cancels, harvests and real time behave as the world says. What the plans are told is what an engine would
know: counts where the provider shows them, ends when they are looked at, rates as they were seen.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from halfrate.core.deadlines import Plan, Rescue, Send, plan
from halfrate.core.durations import BATCH, SETTLE, Durations, Span, learn, learn_harvest
from halfrate.core.finish import Finish, forecast
from halfrate.core.rates import Throughput, flex_rate, realtime_rate
from halfrate.core.situation import (
    MARGINS,
    Beliefs,
    JobView,
    Margins,
    ShardView,
    Stage,
    Tier,
    expected_starts,
)

from .curves import Curve
from .worlds import DAY, NEVER, TrueBatch, TrueJob, TrueShard, World

EPOCH = 1_800_000_000.0
"""Added to every moment that a plan hears of, so that spans and moments cannot be confused unseen."""
_LEARN_EVERY = 900.0
_NEIGHBOURS = 600.0
_LOOK = 30.0
"""Between two looks at a batch that is being cancelled: what the margins count with."""

Planner = Callable[[JobView, Beliefs, Margins], Plan]


@dataclass(slots=True)
class Shard:
    id: str
    truth: TrueShard
    rows: int
    """Of the present attempt, and without an answer."""
    stage: Stage = Stage.WAITING
    attempt: int = 0
    since: float = 0.0
    created: float = 0.0
    finished_at_cancel: int = 0
    counted: tuple[float, int] | None = None
    pace: float | None = None
    done: bool = False

    @property
    def batch(self) -> TrueBatch:
        return self.truth.attempts[min(self.attempt, len(self.truth.attempts) - 1)]


@dataclass(slots=True)
class Run:
    """A job as it goes."""

    number: int
    truth: TrueJob
    shards: list[Shard]
    planned: Plan | None = None
    dirty: bool = False
    review: float = NEVER
    queue: float = 0.0
    """Answers that real time still has to give, second tries included."""
    answered: float = 0.0
    """In real time, since it was last planned."""
    tier: str = "standard"
    live: int = 0
    created: int = 0
    """Shards that a batch was ever created for."""
    spent: float = 0.0
    """In prices of a row in a batch."""
    dear_rows: float = 0.0
    finish: float = NEVER
    busy: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """When it used all of the standard tier."""
    plans: int = 0
    outlook: Finish | None = None
    """What was forecast when the job was new."""

    @property
    def kept(self) -> bool:
        return self.finish <= self.truth.deadline


class Replay:
    def __init__(self, world: World, planner: Planner = plan, margins: Margins = MARGINS) -> None:
        self.world = world
        self.planner = planner
        self.margins = margins
        self.now = 0.0
        self.runs = [
            Run(n, job, [Shard(f"{n}-{k}", truth, truth.rows) for k, truth in enumerate(job.shards)])
            for n, job in enumerate(world.jobs)
        ]
        self.order = sorted(self.runs, key=lambda run: run.truth.deadline)
        self.curves: dict[str, Curve] = {"standard": world.standard}
        if world.flex is not None:
            self.curves["flex"] = world.flex
        self.seen: dict[str, list[Throughput]] = {"standard": list(world.rates_seen), "flex": []}
        self.limit = world.limit
        self.batches_seen = list(world.batches_seen)
        self.settles_seen = list(world.settles_seen)
        self.harvests_seen = list(world.harvests_seen)
        self.learned: tuple[float, Durations, Durations, Durations] | None = None
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.ticket = itertools.count()

    # ------------------------------------------------------------ time

    def run(self) -> list[Run]:
        for run in self.runs:
            run.live = len(run.shards)
            self._at(run.truth.start, lambda run=run: self._touch(run))
            for moment in sorted(set(run.truth.openings)):
                self._at(moment, lambda run=run: self._opening(run))
        while any(run.finish == NEVER for run in self.runs):
            moment = min(self._next_event(), self._next_drained(), *(run.review for run in self.runs))
            if moment == NEVER or moment > 10 * DAY:
                raise AssertionError(f"{self.world.family} {self.world.seed}: nothing goes on at {self.now}")
            self._serve(moment)
            self.now = moment
            while self.events and self.events[0][0] <= moment:
                heapq.heappop(self.events)[2]()
            for run in self.order:
                if run.finish == NEVER and (run.dirty or run.review <= moment):
                    self._plan(run)
        return self.runs

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.events, (moment, next(self.ticket), act))

    def _next_event(self) -> float:
        return self.events[0][0] if self.events else NEVER

    def _head(self, tier: str) -> Run | None:
        """Whose rows a tier answers now: of those that wait, the one with the earliest deadline."""
        return next((run for run in self.order if run.queue > 0.0 and run.tier == tier), None)

    def _next_drained(self) -> float:
        moment = NEVER
        for tier, curve in self.curves.items():
            head = self._head(tier)
            if head is not None:
                moment = min(moment, curve.when(curve(self.now) + head.queue))
        return max(moment, self.now)

    def _serve(self, until: float) -> None:
        for tier, curve in self.curves.items():
            head = self._head(tier)
            if head is None or until <= self.now:
                continue
            done = min(curve(until) - curve(self.now), head.queue)
            head.queue -= done
            head.answered += done
            answered = done / (1.0 + self.world.failing)
            price = 1.0 if tier == "flex" else 2.0
            head.spent += answered * price
            head.dear_rows += answered * (price - 1.0)
            self._saw(tier, answered, until - self.now)
            if tier == "standard":
                head.busy.append((self.now, until))
            if head.queue < 1e-6 or until >= curve.when(curve(self.now) + head.queue + done):
                self._drained(head, until)

    def _saw(self, tier: str, rows: float, seconds: float) -> None:
        seen = self.seen[tier]
        if seen and seen[-1].seconds + seconds <= 60.0:
            last = seen.pop()
            rows, seconds = rows + last.rows, seconds + last.seconds
        seen.append(Throughput(rows, seconds))

    def _drained(self, run: Run, moment: float) -> None:
        run.queue = 0.0
        for shard in run.shards:
            if shard.stage is Stage.REALTIME and not shard.done:
                self._finish(run, shard, moment)
        self._touch(run)

    # ------------------------------------------------------------ what happens to shards

    def _touch(self, run: Run) -> None:
        run.dirty = True

    def _told(self, run: Run) -> None:
        """The first replies in real time said what is allowed."""
        self.limit = self.world.hidden_limit
        self._touch(run)

    def _opening(self, run: Run) -> None:
        """From now on the provider takes one more."""
        if any(shard.stage is Stage.WAITING for shard in run.shards):
            self._touch(run)

    def _create(self, run: Run, shard: Shard) -> None:
        if not shard.attempt:
            run.created += 1
        shard.stage, shard.since, shard.created = Stage.RUNNING, self.now, self.now
        shard.counted, shard.pace = None, None
        batch, attempt = shard.batch, shard.attempt
        age = min(batch.seconds(self.now), DAY)
        seen = self.now + age + batch.lag * min(60.0, max(2.0, age / 10))
        self._at(seen, lambda: self._ended(run, shard, attempt))

    def _ended(self, run: Run, shard: Shard, attempt: int) -> None:
        if shard.stage is not Stage.RUNNING or shard.attempt != attempt:
            return
        batch = shard.batch
        seconds = batch.seconds(shard.created)
        age = min(seconds, DAY)
        self.batches_seen.append(Span(age, over=seconds < NEVER, rows=shard.rows))
        shard.finished_at_cancel = int(shard.rows * batch.finished(shard.created, shard.created + age))
        shard.stage, shard.since = Stage.COLLECTING, self.now
        self._at(self.now + batch.harvest, lambda: self._collected(run, shard, rescued=False))

    def _cancel(self, run: Run, shard: Shard) -> None:
        batch = shard.batch
        finished = int(shard.rows * batch.finished(shard.created, self.now))
        shard.stage, shard.since, shard.finished_at_cancel = Stage.CANCELLING, self.now, finished
        self.batches_seen.append(Span(self.now - shard.created, over=False, rows=shard.rows))
        wait = batch.settle + batch.lag * _LOOK
        self._at(self.now + wait, lambda: self._settled(run, shard))

    def _settled(self, run: Run, shard: Shard) -> None:
        self.settles_seen.append(Span(self.now - shard.since))
        shard.stage, shard.since = Stage.COLLECTING, self.now
        self._at(self.now + shard.batch.harvest, lambda: self._collected(run, shard, rescued=True))
        self._touch(run)

    def _collected(self, run: Run, shard: Shard, *, rescued: bool) -> None:
        finished = shard.finished_at_cancel
        self.harvests_seen.append(Span(shard.batch.harvest, rows=shard.rows))
        answered = finished - int(finished * self.world.failing)
        run.spent += answered
        shard.rows -= answered
        if shard.rows <= 0:
            self._finish(run, shard, self.now)
            return
        shard.attempt += 1
        shard.stage = Stage.WAITING
        if rescued:
            self._send(run, shard)
        self._touch(run)

    def _send(self, run: Run, shard: Shard) -> None:
        shard.stage = Stage.REALTIME
        run.queue += shard.rows * (1.0 + self.world.failing)
        if self.limit is None and self.world.hidden_limit is not None:
            self._at(self.now + 5.0, lambda: self._told(run))

    def _finish(self, run: Run, shard: Shard, moment: float) -> None:
        shard.done = True
        run.live -= 1
        if run.live == 0:
            run.finish = moment + (run.truth.last_row if run.busy else 1.0)
            run.review = NEVER

    # ------------------------------------------------------------ plans

    def _plan(self, run: Run) -> None:
        run.dirty = False
        view = self.view(run)
        if not run.plans:
            run.outlook = forecast(view, self.beliefs(), self.margins)
        planned = run.planned = self.planner(view, self.beliefs(), self.margins)
        run.plans += 1
        run.answered = 0.0
        run.review = NEVER if planned.review_at is None else max(planned.review_at - EPOCH, self.now + 1.0)
        if len(self.runs) > 1:
            # Others count with what this one will need, which grows as its batches grow old.
            run.review = min(run.review, self.now + _NEIGHBOURS)
        for shard in run.shards:
            if shard.done:
                continue
            step = planned.steps[shard.id]
            if isinstance(step, Send):
                run.tier = step.tier
                if shard.stage is Stage.WAITING:
                    self._send(run, shard)
            elif isinstance(step, Rescue):
                self._cancel(run, shard)
            elif shard.stage is Stage.WAITING and self._taken(run, shard):
                self._create(run, shard)

    def _taken(self, run: Run, shard: Shard) -> bool:
        """Whether the provider takes it now. What is left over from an attempt is small, and always taken."""
        return shard.attempt > 0 or run.truth.openings[run.created] <= self.now

    def view(self, run: Run) -> JobView:
        waiting = sum(shard.rows for shard in run.shards if shard.stage is Stage.REALTIME and not shard.done)
        left = run.queue / (1.0 + self.world.failing) / waiting if waiting else 0.0
        views = [self._shard_view(shard, left) for shard in run.shards if not shard.done]
        views = self._with_starts(run, views)
        return JobView(
            now=EPOCH + self.now,
            deadline=EPOCH + run.truth.deadline,
            shards=tuple(views),
            rows=run.truth.rows,
            ahead=sum(
                max(0.0, other.planned.demand - other.answered)
                for other in self.order
                if other is not run
                and other.planned is not None
                and other.finish == NEVER
                and other.truth.deadline <= run.truth.deadline
            ),
        )

    def _with_starts(self, run: Run, views: list[ShardView]) -> list[ShardView]:
        """Shards that the provider did not take yet are expected at the pace at which it took the others."""
        fresh = {s.id for s in run.shards if s.stage is Stage.WAITING and not s.attempt}
        blocked = [v for v in views if v.id in fresh]
        if not blocked or run.created == 0:
            return views
        since = EPOCH + run.truth.start
        moments = expected_starts(EPOCH + self.now, since, run.created, len(blocked))
        starts = dict(zip((v.id for v in blocked), moments, strict=True))
        return [msgspec.structs.replace(v, starts=starts[v.id]) if v.id in starts else v for v in views]

    def _shard_view(self, shard: Shard, left: float) -> ShardView:
        rows, finished = shard.rows, 0
        match shard.stage:
            case Stage.REALTIME:
                rows = max(1, round(rows * left))
            case Stage.RUNNING:
                if self.world.counts:
                    finished = self._count(shard)
            case Stage.CANCELLING | Stage.COLLECTING:
                counted = shard.stage is Stage.COLLECTING or self.world.counts
                finished = shard.finished_at_cancel if counted else 0
            case Stage.WAITING:
                pass
        return ShardView(
            id=shard.id,
            stage=shard.stage,
            rows=rows,
            finished=finished,
            since=EPOCH + shard.since,
            pace=shard.pace if shard.stage is Stage.RUNNING else None,
        )

    def _count(self, shard: Shard) -> int:
        """What the provider's counter shows now, and how fast it moved since a look at least a minute ago."""
        finished = int(shard.rows * shard.batch.finished(shard.created, self.now))
        if shard.counted is None:
            shard.counted = (self.now, finished)
        elif self.now - shard.counted[0] >= 60.0:
            shard.pace = (finished - shard.counted[1]) / (self.now - shard.counted[0])
            shard.counted = (self.now, finished)
        return finished

    def beliefs(self) -> Beliefs:
        if self.learned is None or self.now - self.learned[0] >= _LEARN_EVERY:
            running = [
                Span(self.now - shard.created, over=False, rows=shard.rows)
                for run in self.runs
                for shard in run.shards
                if shard.stage is Stage.RUNNING and self.now > shard.created
            ]
            rows = self.runs[0].truth.shards[0].rows
            self.learned = (
                self.now,
                learn((*self.batches_seen[-300:], *running), BATCH, rows),
                learn(self.settles_seen[-300:], SETTLE),
                learn_harvest(self.harvests_seen[-300:]),
            )
        standard = realtime_rate(self.seen["standard"], self.limit)
        tiers = [Tier("standard", 2.0, standard)]
        if self.world.flex is not None:
            tiers.append(Tier("flex", 1.0, flex_rate(self.seen["flex"], standard)))
        _, batches, settle, harvest = self.learned
        return Beliefs(batches=batches, settle=settle, harvest=harvest, tiers=tuple(tiers))

"""What is true in a replay, and hidden from the plans: how long batches take, how cancels settle, what real time does.

A world is an account with one to three jobs on it. Families of worlds differ in how batches behave. Margins and
priors were chosen by looking at `TUNING`; `HELD_OUT` has other shapes, and is what is reported.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from halfrate.core.durations import Span, harvest_scale
from halfrate.core.rates import USED, Throughput

from .curves import Curve

HOUR = 3600.0
DAY = 86400.0
NEVER = math.inf
MOST_ROWS = 50_000


@dataclass(slots=True)
class TrueBatch:
    """One submission of a shard, as it will go."""

    work: float
    """Seconds from create to end with all rows, if nothing stands still. NEVER: it expires."""
    closed: tuple[float, float]
    """Moments between which nothing moves."""
    idle: float
    """Share of the work before the first row is finished."""
    early: float
    """Share of the rows that is finished steadily in the `early_time` of the rest; the others at the very end."""
    early_time: float
    settle: float
    harvest: float
    lag: float
    """Share of the time between two looks that passes before an end is seen."""

    def seconds(self, created: float) -> float:
        """From create to end with all rows; NEVER where the provider's window closes before."""
        begins, ends = self.closed
        seconds = self.work
        if created < ends and created + seconds > begins:
            seconds += ends - max(begins, created)
        return seconds if seconds < DAY else NEVER

    def finished(self, created: float, moment: float) -> float:
        """Share of the rows that is finished at a moment."""
        if moment >= created + self.seconds(created):
            return 1.0
        begins, ends = self.closed
        stood = max(0.0, min(moment, ends) - max(created, begins))
        worked = moment - created - stood
        whole = self.work if self.work < NEVER else 1.2 * DAY
        start = self.idle * whole
        span = self.early_time * (whole - start)
        return 0.0 if worked <= start else self.early * min(1.0, (worked - start) / max(span, 1.0))


@dataclass(slots=True)
class TrueShard:
    rows: int
    attempts: tuple[TrueBatch, ...]


@dataclass(slots=True)
class TrueJob:
    start: float
    deadline: float
    shards: tuple[TrueShard, ...]
    openings: tuple[float, ...]
    """Moments from which on the provider takes one more of them, in order."""
    last_row: float

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


@dataclass(slots=True)
class World:
    family: str
    seed: int
    jobs: tuple[TrueJob, ...]
    standard: Curve
    flex: Curve | None
    failing: float
    counts: bool
    """Whether the provider shows how many rows are finished."""
    load: float
    """Work of the first job, as a share of what real time could do from its start to its deadline."""
    limit: float | None
    """What the account is known to be allowed, in rows a second."""
    hidden_limit: float | None
    """What replies in real time show of it."""
    batches_seen: list[Span] = field(default_factory=list[Span])
    settles_seen: list[Span] = field(default_factory=list[Span])
    harvests_seen: list[Span] = field(default_factory=list[Span])
    rates_seen: list[Throughput] = field(default_factory=list[Throughput])


Day = tuple[Callable[[], float], tuple[float, float]]
"""What draws a batch's work on that day, and when the provider stands still on it."""
Draw = Callable[[random.Random], Day]
_OPEN = (0.0, 0.0)


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


# ---------------------------------------------------------------- how long batches take


def _fast(rng: random.Random) -> Day:
    median = rng.lognormvariate(math.log(240.0), 0.4)
    return lambda: rng.lognormvariate(math.log(median), 0.4), _OPEN


def _typical(rng: random.Random) -> Day:
    median = log_uniform(rng, 900.0, 5400.0)
    return lambda: min(max(rng.lognormvariate(math.log(median), 0.5), 600.0), 3 * HOUR), _OPEN


def _heavy(rng: random.Random) -> Day:
    def work() -> float:
        kind = rng.random()
        if kind < 0.05:
            return NEVER
        return rng.lognormvariate(math.log(5 * HOUR if kind < 0.25 else 2700.0), 0.8)

    return work, _OPEN


def _bad_day(rng: random.Random) -> Day:
    normal, _ = _typical(rng)
    return lambda: NEVER if rng.random() < 0.15 else normal(), (0.0, rng.uniform(2 * HOUR, 14 * HOUR))


def _weibull(rng: random.Random) -> Day:
    scale = log_uniform(rng, 1200.0, 3 * HOUR)
    return lambda: 60.0 + rng.weibullvariate(scale, 0.7), _OPEN


def _two_humps(rng: random.Random) -> Day:
    slow = rng.uniform(0.1, 0.6)
    return (
        lambda: rng.uniform(3 * HOUR, 9 * HOUR) if rng.random() < slow else rng.uniform(240.0, 900.0)
    ), _OPEN


def _pareto(rng: random.Random) -> Day:
    least = log_uniform(rng, 120.0, 1200.0)
    return lambda: least * rng.paretovariate(0.9), _OPEN


def _slow(rng: random.Random) -> Day:
    middle = rng.uniform(5 * HOUR, 18 * HOUR)
    return lambda: max(HOUR, rng.gauss(middle, 1.5 * HOUR)), _OPEN


def _halts(rng: random.Random) -> Day:
    """A normal day on which everything stands still for some hours in the middle."""
    begins = rng.uniform(0.2 * HOUR, 3 * HOUR)
    normal, _ = _weibull(rng) if rng.random() < 0.5 else _fast(rng)
    return normal, (begins, begins + rng.uniform(1 * HOUR, 10 * HOUR))


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    today: Draw
    usually: Draw
    """What the account's history is drawn from: a bad day is not announced by the days before it."""
    stalls: float = 0.0
    """Share of batches that come to a halt with nearly everything finished."""
    settle: Callable[[random.Random], Callable[[], float]] | None = None
    drift: float = 0.0
    """How much real time can slow down in the course of the day."""


def _settle(rng: random.Random) -> Callable[[], float]:
    median = log_uniform(rng, 15.0, 450.0)
    return lambda: min(max(rng.lognormvariate(math.log(median), 0.5), 10.0), 600.0)


def _settle_two_ways(rng: random.Random) -> Callable[[], float]:
    quick = rng.uniform(0.3, 0.95)
    return lambda: rng.uniform(10.0, 40.0) if rng.random() < quick else rng.uniform(240.0, 600.0)


TUNING = (
    Family("fast: minutes", _fast, _fast),
    Family("typical: 10 min to 3 h", _typical, _typical, drift=0.25),
    Family("heavy tail, 5 % expire", _heavy, _heavy),
    Family("bad day: queue stuck", _bad_day, _typical, drift=0.25),
    Family("stalls at 98 %", _heavy, _typical, stalls=0.5),
)
HELD_OUT = (
    Family("fast: minutes", _fast, _fast, settle=_settle_two_ways, drift=0.3),
    Family("stretched: Weibull", _weibull, _weibull, settle=_settle_two_ways),
    Family("two humps: minutes or 3-9 h", _two_humps, _two_humps, drift=0.3),
    Family("heavy tail: Pareto, expiries", _pareto, _pareto, stalls=0.2),
    Family("slow: 5 to 18 h", _slow, _weibull, settle=_settle_two_ways, drift=0.3),
    Family("halts for hours", _halts, _weibull, stalls=0.2, drift=0.3),
)


# ---------------------------------------------------------------- drawing a world


def draw(family: Family, seed: int, *, beyond: bool = False) -> World:
    """A world. `beyond`: with more work than real time could do, from the job's start to its deadline."""
    rng = random.Random(f"{family.name} {seed}")
    base = log_uniform(rng, 1.0, 200.0)
    known = rng.random()
    if known >= 0.9:
        base = log_uniform(rng, 2.0, 100.0)
    bumpy = rng.random() < 0.6
    standard = _rate(rng, base, bumpy=bumpy, drift=family.drift)
    flex = _flex(rng, base) if rng.random() < 0.3 else None
    failing = 0.0 if rng.random() < 0.5 else rng.uniform(0.001, 0.03)
    settle = (family.settle or _settle)(rng)
    deadline = log_uniform(rng, 0.5 * HOUR, DAY)
    load = log_uniform(rng, 0.9, 4.0) if beyond else log_uniform(rng, 0.002, 0.9)
    shape = _Shape(rng, family, settle)
    count = 1 if rng.random() < 0.8 else rng.randint(2, 3)
    limit = base * rng.uniform(0.9, 1.5) / USED
    jobs: list[TrueJob] = []
    for number in range(count):
        start = 0.0 if number == 0 else rng.uniform(0.0, deadline / 2)
        seconds = deadline if number == 0 else log_uniform(rng, 0.5 * HOUR, DAY)
        rows = max(1, round(load / count * seconds * base))
        jobs.append(_job(rng, rows, start, seconds, shape))
    world = World(
        family=family.name,
        seed=seed,
        jobs=tuple(jobs),
        standard=standard,
        flex=flex,
        failing=failing,
        counts=rng.random() < 0.5,
        load=load,
        limit=limit if known < 0.9 else None,
        hidden_limit=limit if known < 0.97 else None,
    )
    if known < 0.6:
        world.rates_seen = _seen(rng, base, bumpy=bumpy)
    _remember(rng, family, world, settle)
    return world


class _Shape:
    """How the batches of one account look from inside."""

    def __init__(
        self,
        rng: random.Random,
        family: Family,
        settle: Callable[[], float],
    ) -> None:
        self.rng = rng
        self.family = family
        self.work, self.closed = family.today(rng)
        self.settle = settle
        self.all_at_end = rng.random() < 0.2
        self.busy = rng.random() < 0.25
        """The provider's queue takes the shards one after the other."""
        self.line = log_uniform(rng, 200.0, 5000.0)

    def batch(self, rows: int) -> TrueBatch:
        rng = self.rng
        stalls = rng.random() < self.family.stalls
        early, early_time = (0.98, rng.uniform(0.05, 0.6)) if stalls else (1.0, 1.0)
        if self.all_at_end and not stalls:
            early, early_time = 0.0, 1.0
        return TrueBatch(
            work=self.work(),
            closed=self.closed,
            idle=rng.uniform(0.0, 0.5),
            early=early,
            early_time=early_time,
            settle=self.settle(),
            harvest=rng.uniform(2.0, 12.0) + rows / self.line,
            lag=rng.random(),
        )


def _job(rng: random.Random, rows: int, start: float, seconds: float, shape: _Shape) -> TrueJob:
    shards = min(round(log_uniform(rng, 1.0, 200.0)), rows)
    shards = min(max(shards, math.ceil(rows / MOST_ROWS)), 200)
    each = min(math.ceil(rows / shards), MOST_ROWS)
    gap = log_uniform(rng, 20.0, 1200.0) if shape.busy else 0.0
    made = [TrueShard(each, tuple(shape.batch(each) for _ in range(3))) for _ in range(shards)]
    openings = tuple(start + gap * max(0, number - 3) for number in range(shards))
    return TrueJob(start, start + seconds, tuple(made), openings, rng.uniform(2.0, 40.0))


def _rate(rng: random.Random, base: float, *, bumpy: bool, drift: float) -> Curve:
    slower = rng.uniform(0.0, drift)
    times, rates, at = list[float](), list[float](), 0.0
    while at < 3 * DAY:
        level = base * rng.uniform(0.85, 1.1) * (1.0 - slower * min(1.0, at / (6 * HOUR)))
        times.append(at)
        rates.append(level)
        at += rng.uniform(600.0, 3600.0)
        if bumpy and rng.random() < 0.6:
            times.append(at)
            rates.append(level * rng.uniform(0.1, 0.5))
            at += rng.uniform(60.0, 600.0)
    return Curve(times, rates)


def _flex(rng: random.Random, base: float) -> Curve:
    share = rng.uniform(0.15, 0.9)
    times, rates, at = list[float](), list[float](), 0.0
    while at < 3 * DAY:
        times.append(at)
        rates.append(base * share * rng.uniform(0.7, 1.1))
        at += rng.uniform(600.0, 7200.0)
        if rng.random() < 0.4:
            times.append(at)
            rates.append(base * share * rng.uniform(0.0, 0.2))
            at += rng.uniform(300.0, 3600.0)
    return Curve(times, rates)


def _seen(rng: random.Random, base: float, *, bumpy: bool) -> list[Throughput]:
    curve = _rate(rng, base, bumpy=bumpy, drift=0.0)
    at = rng.uniform(0.0, DAY)
    seen: list[Throughput] = []
    for _ in range(round(log_uniform(rng, 1.0, 30.0))):
        seen.append(Throughput(curve(at + 60.0) - curve(at), 60.0))
        at += 60.0
    return seen


def _remember(rng: random.Random, family: Family, world: World, settle: Callable[[], float]) -> None:
    rows = world.jobs[0].shards[0].rows
    for _ in range(rng.choice((0, 0, 3, 20, 60))):
        work, _ = family.usually(rng)
        for _ in range(rng.randint(1, 5)):
            seconds = work()
            size = max(1, round(rows * log_uniform(rng, 0.2, 5.0)))
            world.batches_seen.append(Span(min(seconds, DAY), over=seconds < DAY, rows=min(size, MOST_ROWS)))
    world.settles_seen = [Span(settle()) for _ in range(rng.choice((0, 0, 1, 5, 30)))]
    for _ in range(min(len(world.batches_seen), 20)):
        size = round(log_uniform(rng, 50.0, 50_000.0))
        world.harvests_seen.append(Span(15.0 * harvest_scale(size) * rng.uniform(0.5, 1.5), rows=size))

"""What somebody who knows everything beforehand would have paid, and whether they would have kept the deadline.

They know when each batch ends and how far it is at each moment, how long each cancel and harvest will take, and what
real time can do at every second (that other jobs with earlier deadlines leave). They cancel what will not end in
time, each as late as can be, and fill real time from the deadline backwards.

Which shard comes last is tried in a few orders, and the best is taken. So it is not proven to be the very least, and
a job that the ladder itself carried in time, or for less, counts as possible, or as the least.
"""

import math
from dataclasses import dataclass

from .curves import Curve
from .worlds import TrueJob, TrueShard, World

_GRID = 48


@dataclass(frozen=True, slots=True)
class Best:
    feasible: bool
    spent: float
    """In prices of a row in a batch. Infinite where it is not feasible."""


@dataclass(slots=True)
class _Item:
    """Rows that must go out in real time: a fixed number from a moment on, or what a batch has left when cancelled."""

    release: float
    rows: float
    shard: TrueShard | None = None
    created: float = 0.0
    speed: float = 0.0


def best(world: World, job: TrueJob, busy: list[tuple[float, float]]) -> Best:
    """`busy`: when jobs with earlier deadlines used all of the standard tier."""
    standard = world.standard.without(busy) if busy else world.standard
    curve = standard if world.flex is None else standard.or_better(world.flex)
    created = zip(job.shards, job.openings, strict=True)
    items = [item for shard, at in created if (item := _missing(world, job, shard, at)) is not None]
    orders = (
        sorted(items, key=lambda i: (i.shard is not None, -i.release, -i.speed)),
        sorted(items, key=lambda i: (i.shard is None, -i.speed, -i.release)),
        sorted(items, key=lambda i: (-i.speed, i.rows)),
        sorted(items, key=lambda i: i.rows),
    )
    found = [rows for order in orders if (rows := _fill(world, job, order, curve)) is not None]
    if not found:
        return Best(feasible=False, spent=math.inf)
    extra = min(found)
    if world.flex is not None:
        extra = max(0.0, extra - (world.flex(job.deadline) - world.flex(job.start)))
    return Best(feasible=True, spent=job.rows + extra)


def _missing(world: World, job: TrueJob, shard: TrueShard, created: float) -> _Item | None:
    """What of a shard batches will not have answered in time; None where they will."""
    end = job.deadline - 1.0
    at, rows = created, shard.rows
    for number, batch in enumerate(shard.attempts):
        ended = at + batch.seconds(at) + batch.harvest
        if ended > end:
            if number:
                return _Item(at, rows)
            speed = batch.finished(created, end) - batch.finished(created, end - 600.0)
            return _Item(created, rows, shard, created, speed)
        rows = int(rows * world.failing)
        if rows == 0:
            return None
        at = ended
    return _Item(at, rows)


def _fill(world: World, job: TrueJob, order: list[_Item], curve: Curve) -> float | None:
    """Rows bought in real time if the first of `order` is answered last. None: it cannot be done so."""
    end = job.deadline - job.last_row
    room = curve(end)
    more = 1.0 + world.failing
    bought = 0.0
    for item in order:
        rows = _rows_in(item, world, job, curve, room)
        if rows is None:
            return None
        bought += rows
        room -= rows * more
    return bought


def _rows_in(item: _Item, world: World, job: TrueJob, curve: Curve, room: float) -> float | None:
    more = 1.0 + world.failing
    if item.shard is None:
        return item.rows if curve(item.release) + item.rows * more <= room else None
    batch = item.shard.attempts[0]

    def left(cancelled: float) -> float:
        finished = int(item.shard.rows * batch.finished(item.created, cancelled)) if item.shard else 0
        return item.rows - finished + int(finished * world.failing)

    def fits(cancelled: float) -> bool:
        return curve(cancelled + batch.settle + batch.harvest) + left(cancelled) * more <= room

    latest = job.deadline - job.last_row - batch.settle - batch.harvest
    step = (latest - item.created) / _GRID
    for k in range(_GRID + 1):
        good = latest - k * step
        if step < 0.0:
            break
        if fits(good):
            bad = good + step
            for _ in range(14 if k else 0):
                middle = (good + bad) / 2
                good, bad = (middle, bad) if fits(middle) else (good, middle)
            return left(good)
    # Never sent to a batch at all.
    return item.rows if curve(job.start) + item.rows * more <= room else None

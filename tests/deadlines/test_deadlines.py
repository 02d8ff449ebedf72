"""A few hundred jobs with deadlines, carried by the ladder, against somebody who knows everything beforehand."""

import math

import pytest

from .curves import Curve
from .mistakes import MISTAKES
from .oracle import best
from .replay import Replay
from .report import Task, broken, many, sum_up, tasks_for
from .worlds import HELD_OUT, TUNING, TrueBatch, TrueJob, TrueShard, World, draw

JOBS = 340
FIRST = 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("families", [HELD_OUT, TUNING], ids=["held-out", "tuning"])
def test_deadlines_are_kept_and_little_more_is_paid(families: tuple[object, ...]) -> None:
    known = HELD_OUT if families is HELD_OUT else TUNING
    found = sum_up(many(tasks_for(known, JOBS, FIRST), 1))
    assert found.feasible > 0.9 * JOBS
    assert broken(found) == [], "replay them with: python -m tests.deadlines --show 9"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistakes_are_found(mistake: str) -> None:
    tasks = [Task(task.family, task.seed, mistake=mistake) for task in tasks_for(HELD_OUT, JOBS // 2, FIRST)]
    assert broken(sum_up(many(tasks, 1))) != []


def test_a_replay_goes_the_same_way_twice() -> None:
    once, again = (Replay(draw(TUNING[3], 4)).run() for _ in range(2))
    assert [(run.finish, run.spent, run.plans) for run in once] == [
        (run.finish, run.spent, run.plans) for run in again
    ]
    assert draw(TUNING[3], 4) != draw(TUNING[3], 5)


def test_every_row_is_answered_and_paid_for_once() -> None:
    for seed in range(12):
        world = draw(TUNING[seed % len(TUNING)], seed)
        for run in Replay(world).run():
            assert run.spent == pytest.approx(run.truth.rows + run.dear_rows, rel=1e-6)
            assert all(shard.done for shard in run.shards)


# ---------------------------------------------------------------- the oracle, by hand


def world(*batches: TrueBatch, rows: int = 1000, deadline: float = 3600.0, rate: float = 10.0) -> World:
    shards = tuple(TrueShard(rows, (batch,)) for batch in batches)
    job = TrueJob(0.0, deadline, shards, tuple(0.0 for _ in shards), last_row=0.0)
    return World(
        family="by hand",
        seed=0,
        jobs=(job,),
        standard=Curve([0.0], [rate]),
        flex=None,
        failing=0.0,
        counts=False,
        load=0.0,
        limit=rate,
        hidden_limit=rate,
    )


def batch(seconds: float, *, steady: bool = True, settle: float = 100.0) -> TrueBatch:
    early = 1.0 if steady else 0.0
    return TrueBatch(seconds, (0.0, 0.0), 0.0, early, 1.0, settle=settle, harvest=0.0, lag=0.0)


def least(given: World) -> float:
    found = best(given, given.jobs[0], [])
    return found.spent if found.feasible else math.inf


def test_the_oracle_pays_the_batch_price_where_that_is_enough() -> None:
    assert least(world(batch(3500.0), batch(60.0))) == 2000.0


def test_the_oracle_cancels_as_late_as_it_can() -> None:
    # A batch of 7,200 s is halfway at the deadline. The cancel takes 100 s, and 1,000 rows a hundred more:
    # cancelled at c it has finished c / 7.2 rows, and c + 100 + (1000 - c / 7.2) / 10 = 3600 says when.
    cancelled = (3600.0 - 100.0 - 100.0) / (1.0 - 1.0 / 72.0)
    assert least(world(batch(7200.0))) == pytest.approx(2000.0 - cancelled / 7.2, abs=2.0)


def test_the_oracle_shares_the_rate_among_shards() -> None:
    stuck = batch(90_000.0, steady=False)
    assert least(world(stuck, stuck, stuck, rate=1.0, rows=1000)) == 6000.0
    assert least(world(stuck, stuck, stuck, stuck, rate=1.0, rows=1000)) == math.inf


def test_the_oracle_never_begins_a_batch_that_could_not_be_cancelled_in_time() -> None:
    slow = batch(90_000.0, steady=False, settle=3590.0)
    assert least(world(slow, rate=0.5)) == 2000.0
    assert least(world(slow, rate=0.25)) == math.inf


def test_curves() -> None:
    curve = Curve([0.0, 10.0, 20.0], [1.0, 0.0, 2.0])
    assert [curve(t) for t in (0.0, 5.0, 10.0, 15.0, 20.0, 30.0)] == [0.0, 5.0, 10.0, 10.0, 10.0, 30.0]
    assert [curve.when(rows) for rows in (5.0, 10.0, 12.0)] == [5.0, 10.0, 21.0]
    assert curve.without([(2.0, 4.0), (25.0, 27.0)])(30.0) == 24.0
    assert curve.or_better(Curve([0.0], [1.0]))(20.0) == 20.0
    assert Curve([0.0], [0.0]).when(1.0) == math.inf

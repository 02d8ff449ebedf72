"""Many replays, and what they add up to."""

import math
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .mistakes import MISTAKES
from .oracle import best
from .replay import EPOCH, Replay, Run
from .worlds import HELD_OUT, TUNING, Family, World, draw

FAMILIES = {family.name: family for family in (*TUNING, *HELD_OUT)}
KEPT = 0.999
"""Of the deadlines that somebody who knows everything would have kept, this share is to be kept."""
COST = 1.05
"""And it is to cost no more than this, beside what they would have paid."""
_DEADLINES = ((1, "up to 1 h"), (4, "1 to 4 h"), (24, "4 to 24 h"))
_LOADS = ((0.1, "up to 10 %"), (0.5, "10 to 50 %"), (1.0, "50 to 100 %"), (math.inf, "more"))


@dataclass(frozen=True, slots=True)
class Result:
    """A job that was replayed."""

    family: str
    seed: int
    number: int
    rows: int
    hours: float
    load: float
    """Its work, as a share of what real time could do from its start to its deadline."""
    flex: bool
    feasible: bool
    kept: bool
    late: float
    spent: float
    least: float
    plans: int
    in_time: float
    """The forecast when it was new: the chance that the deadline is kept ..."""
    by_p50: bool
    """... and whether it was finished by the two moments named."""
    by_p90: bool


@dataclass(frozen=True, slots=True)
class Task:
    family: str
    seed: int
    beyond: bool = False
    mistake: str = ""


def replay(task: Task) -> list[Result]:
    """The jobs of one world."""
    world = draw(FAMILIES[task.family], task.seed, beyond=task.beyond)
    player = Replay(world, MISTAKES[task.mistake]) if task.mistake else Replay(world)
    runs = player.run()
    return [_result(world, run, runs) for run in runs]


def _result(world: World, run: Run, runs: Sequence[Run]) -> Result:
    job = run.truth
    ahead = [other for other in runs if other is not run and other.truth.deadline <= job.deadline]
    found = best(world, job, sorted(span for other in ahead for span in other.busy))
    # Nobody knows better than what was done: see the oracle's own words.
    least = min(found.spent, run.spent) if run.kept else found.spent
    outlook = run.outlook
    if outlook is None:
        raise AssertionError(f"{world.family} {world.seed}: a job was never planned")
    return Result(
        family=world.family,
        seed=world.seed,
        number=run.number,
        rows=job.rows,
        hours=(job.deadline - job.start) / 3600.0,
        load=job.rows
        * (1.0 + world.failing)
        / max(world.standard(job.deadline) - world.standard(job.start), 1.0),
        flex=world.flex is not None,
        feasible=found.feasible or run.kept,
        kept=run.kept,
        late=run.finish - job.deadline,
        spent=run.spent,
        least=least,
        plans=run.plans,
        in_time=outlook.in_time or 0.0,
        by_p50=EPOCH + run.finish <= outlook.p50,
        by_p90=EPOCH + run.finish <= outlook.p90,
    )


def many(tasks: Sequence[Task], processes: int) -> list[Result]:
    if processes == 1:
        return [result for task in tasks for result in replay(task)]
    with multiprocessing.Pool(processes) as pool:
        return [result for found in pool.imap(replay, tasks, chunksize=8) for result in found]


def tasks_for(families: Iterable[Family], jobs: int, first: int, *, beyond: bool = False) -> list[Task]:
    """Worlds with about so many jobs: 1.3 a world. `first`: the first seed."""
    names = [family.name for family in families]
    count = math.ceil(jobs / 1.3)
    return [Task(names[k % len(names)], first + k // len(names), beyond) for k in range(count)]


@dataclass(frozen=True, slots=True)
class Sum:
    jobs: int
    feasible: int
    kept: int
    by_job: float
    """Spent above the least, every job counting the same: 1.03 is three per cent above."""
    by_row: float
    """The same, every row counting the same."""

    @property
    def share(self) -> float:
        return self.kept / self.feasible if self.feasible else 1.0


def sum_up(results: Iterable[Result]) -> Sum:
    """Over all jobs for the count, over the feasible ones for the rest: kept or not, they were paid for."""
    everything = list(results)
    good = [result for result in everything if result.feasible]
    if not good:
        return Sum(len(everything), 0, 0, 1.0, 1.0)
    return Sum(
        jobs=len(everything),
        feasible=len(good),
        kept=sum(result.kept for result in good),
        by_job=sum(r.spent / r.rows for r in good) / sum(r.least / r.rows for r in good),
        by_row=sum(r.spent for r in good) / sum(r.least for r in good),
    )


def broken(found: Sum) -> list[str]:
    """What of the two bars is not cleared. Of a few hundred jobs one may be missed: no smaller share can be told."""
    failures: list[str] = []
    if found.feasible - found.kept > max(1.0, found.feasible * (1.0 - KEPT)):
        failures.append(
            f"{found.feasible - found.kept} of {found.feasible} deadlines that could be kept were not"
        )
    if max(found.by_job, found.by_row) > COST:
        failures.append(f"cost {found.by_job - 1:+.1%} by job, {found.by_row - 1:+.1%} by row")
    return failures


def table(
    title: str, results: Sequence[Result], group: Callable[[Result], str], names: Iterable[str]
) -> list[str]:
    """A Markdown table, one line for each group, and one for all."""
    lines = [
        f"| {title} | jobs | feasible | missed | kept | cost, by job | cost, by row |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [_line(name, sum_up(result for result in results if group(result) == name)) for name in names]
    return [*lines, _line("**all**", sum_up(results))]


def _line(name: str, found: Sum) -> str:
    missed = found.feasible - found.kept
    return (
        f"| {name} | {found.jobs:,} | {found.feasible:,} | {missed} | {found.share:.2%} "
        f"| {found.by_job - 1.0:+.1%} | {found.by_row - 1.0:+.1%} |"
    )


def by_deadline(result: Result) -> str:
    return next(name for most, name in _DEADLINES if result.hours <= most)


def by_load(result: Result) -> str:
    return next(name for most, name in _LOADS if result.load <= most)


DEADLINES = tuple(name for _, name in _DEADLINES)
LOADS = tuple(name for _, name in _LOADS)


def calibration(results: Sequence[Result]) -> list[str]:
    """How the forecasts made when the jobs were new came out."""
    lines = ["| forecast for the deadline | jobs | kept |", "| --- | ---: | ---: |"]
    bounds = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.01)
    for low, high in pairwise(bounds):
        group = [result for result in results if low <= result.in_time < high]
        if group:
            kept = sum(result.kept for result in group) / len(group)
            lines.append(f"| {low:.0%} to {min(high, 1.0):.0%} | {len(group):,} | {kept:.1%} |")
    by_p50 = sum(result.by_p50 for result in results) / len(results)
    by_p90 = sum(result.by_p90 for result in results) / len(results)
    lines += ["", f"Finished by the forecast's middle: {by_p50:.0%} of jobs; by its 90 % mark: {by_p90:.0%}."]
    return lines

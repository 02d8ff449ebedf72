"""python -m tests.deadlines: replays thousands of jobs with deadlines, and prints what became of them."""

import argparse
import multiprocessing
import sys
import time

from .mistakes import MISTAKES
from .report import (
    DEADLINES,
    LOADS,
    Result,
    Task,
    broken,
    by_deadline,
    by_load,
    calibration,
    many,
    sum_up,
    table,
    tasks_for,
)
from .worlds import HELD_OUT, TUNING


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deadlines")
    parser.add_argument("--jobs", type=int, default=20_000, help="how many, about")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--families", choices=("held-out", "tuning"), default="held-out")
    parser.add_argument("--mistake", choices=sorted(MISTAKES), help="with this mistake planted")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--show", type=int, default=0, metavar="N", help="name up to N jobs that were missed")
    given = parser.parse_args()
    families = HELD_OUT if given.families == "held-out" else TUNING
    started = time.monotonic()
    within = tasks_for(families, given.jobs, given.seed)
    beyond = tasks_for(families, given.jobs // 10, given.seed, beyond=True)
    if given.mistake:
        within = [Task(task.family, task.seed, mistake=given.mistake) for task in within]
        beyond = []
    results = many(within, given.processes)
    names = tuple(family.name for family in families)
    _print(results, names)
    for result in [result for result in results if result.feasible and not result.kept][: given.show]:
        print(f"missed: {result}")
    if beyond:
        print("Beyond what real time could do:\n")
        print(*table("batches", many(beyond, given.processes), lambda r: r.family, names), sep="\n")
    minutes = (time.monotonic() - started) / 60
    print(f"\n{len(within) + len(beyond):,} worlds in {minutes:.1f} minutes")
    failures = broken(sum_up(results))
    print(*failures, sep="\n", end="\n" if failures else "")
    return int(bool(failures))


def _print(results: list[Result], names: tuple[str, ...]) -> None:
    print(*table("batches", results, lambda r: r.family, names), sep="\n", end="\n\n")
    print(*table("deadline", results, by_deadline, DEADLINES), sep="\n", end="\n\n")
    print(*table("work", results, by_load, LOADS), sep="\n", end="\n\n")
    print(*calibration(results), sep="\n", end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())

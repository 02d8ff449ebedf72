"""python -m tests.simulation: many runs, or one of them step for step."""

import argparse
import functools
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

from .scenario import Outcome, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--replay", type=int, metavar="SEED", help="one run, with every step")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the tenth broken promise")
    parser.add_argument("--others", action="store_true", help="at providers other than OpenAI and Anthropic")
    parser.add_argument("--money", action="store_true", help="under a budget, and with prompts in caches")
    given = parser.parse_args()
    carry = functools.partial(run, others=given.others, money=given.money)
    if given.replay is not None:
        outcome = carry(given.replay)
        print(*outcome.trace, sep="\n")
        print(f"faults: {', '.join(outcome.faults) or 'none'}")
        print(f"seed {outcome.seed}: {outcome.broken or 'all promises kept'}", flush=True)
        os._exit(int(outcome.broken is not None))  # what killed processes left is not to be tidied up now
    seeds = range(given.first, given.first + given.seeds)
    return _many(carry, seeds, given.processes, endless=given.keep_going)


def _many(carry: Callable[[int], Outcome], seeds: range, processes: int, *, endless: bool) -> int:
    started = time.monotonic()
    broken: list[Outcome] = []
    crashes: Counter[str] = Counter()
    points: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    rows = done = 0
    virtual = 0.0
    with multiprocessing.Pool(processes, _leave_interrupts, maxtasksperchild=100) as pool:
        try:
            for outcome in pool.imap_unordered(carry, seeds, chunksize=4):
                done += 1
                rows += outcome.rows
                virtual += outcome.virtual_seconds
                crashes += outcome.crashes
                points += outcome.points
                faults.update(fault.partition(":")[0] for fault in outcome.faults)
                if outcome.broken is not None:
                    broken.append(outcome)
                    print(f"seed {outcome.seed}: {outcome.broken}", flush=True)
                    if len(broken) >= 10 and not endless:
                        break
                if done % 500 == 0:
                    print(f"{done:,} runs, {len(broken)} broken", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            _leave_interrupts()
            print("left early")
    minutes = (time.monotonic() - started) / 60
    print(
        f"{done:,} runs, {rows:,} rows, {virtual / 86_400:,.0f} virtual days, {crashes.total():,} kills at "
        f"{len(crashes)} of {len(points)} kinds of place ({points.total():,} passed), "
        f"{faults.total():,} faults of {len(faults)} kinds; {done / minutes:,.0f} runs a minute"
    )
    if broken:
        print(f"{len(broken)} runs broke a promise. Replay one with: make replay SEED={broken[0].seed}")
    return int(bool(broken))


def _leave_interrupts() -> None:
    """Ctrl-C is the parent's affair, and one is enough."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.kill`: many rounds, and a table of what they came to."""

import argparse
import multiprocessing
import random
import sys
import time

from .rounds import KINDS, Tally
from .shares import carry


def table(tallies: dict[str, Tally]) -> str:
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    lines = [["kind", "rounds", "seconds", "rows lost", "billed twice", "broken", "strikes"]]
    for kind, tally in (*tallies.items(), ("all", total)):
        strikes = ", ".join(f"{what} {count:,}" for what, count in sorted(tally.strikes.items()))
        numbers = (tally.rounds, round(tally.seconds), tally.lost, tally.billed_again, tally.failed)
        lines.append([kind, *(f"{number:,}" for number in numbers), strikes])
    widths = [max(len(line[at]) for line in lines) for at in range(6)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:6], widths[1:], strict=True)),
                line[6],
            ]
        )
        for line in lines
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=70, help="how many, of all kinds in turn")
    parser.add_argument("--seed", default=None, help="drawn where it is not given")
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="only these")
    parser.add_argument("--processes", type=int, default=1, help="how many to share the rounds among")
    words = parser.parse_args()
    seed = words.seed or str(random.SystemRandom().randrange(10**6))
    kinds = [kind for kind in KINDS if words.kind is None or kind in words.kind]
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    last = words.first + words.rounds
    shares = [range(words.first + n, last, words.processes) for n in range(words.processes)]
    if words.processes == 1:
        tallies = carry(seed, kinds, shares[0])
    else:
        tallies = {kind: Tally() for kind in kinds}
        with multiprocessing.get_context("spawn").Pool(words.processes) as pool:
            for share in pool.starmap(carry, [(seed, kinds, share) for share in shares], chunksize=1):
                for kind, tally in share.items():
                    tallies[kind].add(tally)
    print(table(tallies))
    print(f"{time.monotonic() - started:,.0f} s")
    return any(tally.broken for tally in tallies.values())


if __name__ == "__main__":
    sys.exit(main())

"""python -m bench: run the clients, print the ratios, say which bars are cleared."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import clients, harness, report

_HERE = Path(__file__).resolve().parent
_DEFAULT_SIZES = (10_000, 100_000)
_FULL_SIZES = (*_DEFAULT_SIZES, 1_000_000)
_HUGE = 10_000_000
# One run is long enough from here on.
_ROUNDS_UNTIL = 100_000


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure halfrate beside a floor and rivals."
    )
    parser.add_argument(
        "--rows", type=int, nargs="+", metavar="N", help="sizes to run (default: 10000 100000)"
    )
    parser.add_argument("--full", action="store_true", help="10,000, 100,000 and 1,000,000 rows")
    parser.add_argument(
        "--huge", action="store_true", help="10,000,000 rows as well, without the naive clients"
    )
    parser.add_argument("--path", choices=clients.PATHS, nargs="+", default=clients.PATHS)
    parser.add_argument("--only", choices=clients.CLIENTS, nargs="+", default=clients.CLIENTS)
    parser.add_argument("--skip", choices=clients.CLIENTS, nargs="+", default=())
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of each client up to 100,000 rows (default: 3)"
    )
    parser.add_argument("--work", type=Path, default=_HERE / ".work", help="where to keep the files of a run")
    parser.add_argument("--record", action="store_true", help="add a section to bench/results.md")
    return parser.parse_args(given)


def _plans(arguments: argparse.Namespace) -> list[harness.Plan]:
    chosen = [name for name in clients.CLIENTS if name in arguments.only and name not in arguments.skip]
    if "halfrate" in chosen and (why := clients.halfrate_missing()):
        print(f"halfrate is left out, there is no `halfrate run` yet: {why}")
        chosen.remove("halfrate")
    sizes: list[int] = arguments.rows or list(_FULL_SIZES if arguments.full else _DEFAULT_SIZES)
    if arguments.huge and _HUGE not in sizes:
        sizes.append(_HUGE)
    plans: list[harness.Plan] = []
    for rows in sizes:
        rounds = arguments.rounds if rows <= _ROUNDS_UNTIL else 1
        fit = [name for name in chosen if name != "naive" or rows < _HUGE]
        plans.append(harness.Plan(rows, arguments.path, fit, rounds))
    return plans


def _say(line: str) -> None:
    print(line, flush=True)


def main(given: Sequence[str]) -> int:
    """0 when all is right and every bar is cleared, 1 when not, 2 when the machine has no room."""
    arguments = _arguments(given)
    results: list[harness.Result] = []
    try:
        for plan in _plans(arguments):
            results += harness.run(plan, arguments.work.resolve(), _say)
    except harness.CannotRun as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    results.sort(key=lambda result: clients.PATHS.index(result.path))
    judged = report.bars(results)
    print("", report.table(results), "", *report.bar_lines(judged), sep="\n")
    if arguments.record:
        report.record(results, _HERE / "results.md")
    return int(any(result.wrong for result in results) or not all(cleared for cleared, _ in judged))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m bench.audit: what `halfrate audit` costs on a log of 30 days, beside merely reading the same file.

The log is the one that the tests judge (tests/usage/workloads.py), at ten times its size for 1,000,000 calls. Bars: 20
seconds of CPU for 1,000,000 calls, and anonymous memory that is the same within 20 % for a tenth of them.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from . import measure

_HERE: Final = Path(__file__).resolve().parent
_ROOT: Final = _HERE.parent
_SECONDS: Final = 20.0
_ROWS: Final = 1_000_000
_ALIKE: Final = 1.2
_LIMIT: Final = 900.0

_JSON: Final = "import json, sys\nfor line in open(sys.argv[1], 'rb'): json.loads(line)"
_CSV: Final = "import csv, sys\nfor row in csv.reader(open(sys.argv[1], newline='')): pass"
_MAKE: Final = (
    "import sys, pathlib\nfrom tests.usage import workloads\nname, scale, path = sys.argv[1:]\n"
    "workloads.WRITERS[name](workloads.events(7, float(scale)), pathlib.Path(path))"
)
_AUDIT: Final = (
    "import gc, sys\nfrom halfrate.cli.audit import audit as command\n"
    "gc.set_threshold(100_000, 20, 20)\nsys.exit(command.main(sys.argv[1:], standalone_mode=False))"
)
_FLOORS: Final = {
    "gateway": _JSON,
    "plain": _CSV,
    "litellm": _CSV,
    "langfuse": _JSON,
    "helicone": _JSON,
    "otel": _JSON,
}


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description="Measure halfrate audit.")
    parser.add_argument(
        "--rows", type=int, default=_ROWS, help="calls in the log; a tenth of them is run as well"
    )
    parser.add_argument("--format", choices=list(_FLOORS), nargs="+", default=["gateway", "plain"])
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the least CPU counts")
    parser.add_argument("--work", type=Path, default=_HERE / ".work", help="where to keep the logs")
    return parser.parse_args(given)


def _run(program: str, words: Sequence[str], folder: Path) -> measure.Cost:
    command = [sys.executable, "-c", program, *words]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT / "src"), "HALFRATE_HOME": str(folder / "home")}
    cost = measure.run(command, environment, _ROOT, folder, _LIMIT)
    if cost.exit_code:
        said = (folder / "stderr").read_text(errors="replace").strip().splitlines()
        raise SystemExit(f"bench: exit code {cost.exit_code}: {said[-1] if said else 'no message'}")
    return cost


def _best(run: Callable[[], measure.Cost], rounds: int) -> tuple[float, int]:
    """The least CPU and the most memory."""
    costs = [run() for _ in range(rounds)]
    return min(cost.cpu for cost in costs), max(cost.anonymous for cost in costs)


def main(given: Sequence[str]) -> int:
    """0 when every bar is cleared, 1 when not."""
    arguments = _arguments(given)
    folder: Path = arguments.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bars: list[tuple[bool, str]] = []
    print("| log | calls | MB | audit, CPU s | floor, CPU s | x floor | us a call | anon MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in arguments.format:
        memory: dict[int, int] = {}
        for rows in (arguments.rows // 10, arguments.rows):
            path = folder / f"audit-{name}"
            _run(_MAKE, [name, str(rows / 100_000), str(path)], folder)
            try:
                size = path.stat().st_size
                words = [str(path), "--by", "job", "--json", "-o", str(folder / "audit.json")]
                cpu, memory[rows] = _best(lambda words=words: _run(_AUDIT, words, folder), arguments.rounds)
                floor, _ = _best(
                    lambda floor=_FLOORS[name], path=str(path): _run(floor, [path], folder), arguments.rounds
                )
            finally:
                path.unlink()
            print(
                f"| {name} | {rows:,} | {size / 1e6:,.0f} | {cpu:.2f} | {floor:.2f} | {cpu / floor:.2f} | "
                f"{cpu * 1e6 / rows:.1f} | {memory[rows] / 1e6:.1f} |",
                flush=True,
            )
            if rows == arguments.rows:
                allowed = _SECONDS * rows / _ROWS
                bars.append(
                    (cpu <= allowed, f"{name}: {cpu:.1f} s CPU for {rows:,} calls (at most {allowed:.0f})")
                )
        small, large = memory[arguments.rows // 10], memory[arguments.rows]
        alike = max(small, large) <= _ALIKE * min(small, large)
        bars.append((alike, f"{name}: {small / 1e6:.1f} and {large / 1e6:.1f} MB (the same within 20 %)"))
    print()
    for cleared, what in bars:
        print(f"{'PASS' if cleared else 'FAIL'}  {what}")
    return int(not all(cleared for cleared, _ in bars))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

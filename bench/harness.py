"""Runs every client on the same rows and keeps what each cost.

A client is run several times in rounds, so that what else the machine does strikes all alike; the least CPU counts
and the most memory. Each run has a provider of its own, and leaves nothing behind.
"""

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from . import check, clients, measure
from .rows import Input, generate

# Bytes a row may take at one moment: the input, an upload or the results on the provider's side, a client's own
# files, the output.
DISK_PER_ROW = 6_000
# What the naive clients hold in memory for a row.
NAIVE_MEMORY_PER_ROW = 10_000
_LIMIT_SECONDS, _LIMIT_PER_ROW = 120.0, 0.003


class CannotRun(Exception):
    """The machine has not the room that a run needs."""


@dataclass(frozen=True)
class Result:
    """The best of a client's runs on so many rows. `wrong` says why it has no figure."""

    path: str
    rows: int
    client: str
    cost: measure.Cost
    output_bytes: int
    wrong: str | None

    @property
    def micros(self) -> float:
        return self.cost.cpu * 1e6 / self.rows


@dataclass(frozen=True)
class Plan:
    """What to run on how many rows."""

    rows: int
    paths: Sequence[str]
    clients: Sequence[str]
    rounds: int


@contextmanager
def _provider(folder: Path) -> Generator[int]:
    """The fake, in a process of its own; gives its port."""
    folder.mkdir()
    fake = subprocess.Popen(
        [sys.executable, "-m", "bench.fake", str(folder)],
        cwd=clients.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with fake:
        assert fake.stdout is not None
        # Leaving closes its standard input, which is how it is told to end.
        yield int(fake.stdout.readline())


def _run_once(client: str, path: str, source: Input, work: Path) -> Result:
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        return _measured(client, path, source, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured(client: str, path: str, source: Input, folder: Path) -> Result:
    output = folder / "output.jsonl"
    command = clients.command(client, path, source, output)
    limit = _LIMIT_SECONDS + _LIMIT_PER_ROW * source.count
    with _provider(folder / "provider") as port:
        environment = clients.environment(port, folder / "home")
        cost = measure.run(command, environment, clients.ROOT, folder, limit)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/meter") as response:
            meter = json.load(response)
    wrong = None
    if cost.exit_code:
        said = (folder / "stderr").read_text(errors="replace").strip().splitlines()
        wrong = f"exit code {cost.exit_code}: {said[-1] if said else 'no message'}"
    wrong = wrong or check.wrong_output(output, source) or check.wrong_meter(meter, source)
    wrong = wrong or check.wrong_totals(folder / "stdout", meter)
    size = output.stat().st_size if output.exists() else 0
    return Result(path, source.count, client, cost, size, wrong)


def _better(one: Result | None, other: Result) -> Result:
    """The least CPU and the most memory of two; a wrong run stays wrong."""
    if one is None or other.wrong:
        return other
    if one.wrong:
        return one
    least = min(one.cost, other.cost, key=lambda cost: cost.cpu)
    anonymous = max(one.cost.anonymous, other.cost.anonymous)
    resident = max(one.cost.resident, other.cost.resident)
    return replace(one, cost=replace(least, anonymous=anonymous, resident=resident))


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def run(plan: Plan, work: Path, say: Callable[[str], None]) -> list[Result]:
    """Carry out one plan, in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    needed, free = plan.rows * DISK_PER_ROW, shutil.disk_usage(work).free
    if free < needed:
        raise CannotRun(
            f"{plan.rows:,} rows need {needed / 1e9:.1f} GB in {work}; {free / 1e9:.1f} GB are free"
        )
    chosen = list(plan.clients)
    if "naive" in chosen and _free_memory() < plan.rows * NAIVE_MEMORY_PER_ROW:
        say(f"naive is left out at {plan.rows:,} rows: it would need more memory than is free")
        chosen.remove("naive")
    say(f"making {plan.rows:,} rows")
    source = generate(plan.rows, work)
    best: dict[tuple[str, str], Result] = {}
    try:
        for number in range(1, plan.rounds + 1):
            for path in plan.paths:
                for client in chosen:
                    result = _run_once(client, path, source, work)
                    cost = result.wrong or f"{result.cost.cpu:.2f} s CPU, {result.micros:.1f} us a row"
                    say(f"  round {number} of {plan.rounds}, {path}, {client}: {cost}")
                    best[path, client] = _better(best.get((path, client)), result)
    finally:
        source.rows.unlink()
        source.tokens.unlink()
    return [best[path, client] for path in plan.paths for client in chosen]

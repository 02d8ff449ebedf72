"""python -m bench.providers: what the same job costs this machine on every provider, beside OpenAI's path.

The providers are those of the emulator, in a process of its own that answers at once; its work is not counted. The job
is `halfrate run` over rows of about 1.2 kB, from a file to a file, with empty state. CPU is user plus system time of
the client's process tree; of several rounds, in which the providers take turns, the least counts. A run counts only if
every row is there, in order, answered, and the total that the client prints is that of the emulator's meter.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from halfrate.emulator import Emulator
from halfrate.providers.registry import adapter_class

from . import clients, measure
from .rows import Input, generate

_BAR = 1.5
_SERVER = """
import asyncio, sys
from halfrate.emulator import Emulator, Pace, run_server
with Emulator(pace=Pace.instant()) as emulator:
    def ready(url):
        import json
        print(json.dumps([url, emulator.environment(url)]), flush=True)
    asyncio.run(run_server(emulator, "127.0.0.1", 0, ready=ready))
"""
_USUAL = "openai"
_VECTORS = "openai/text-embedding-3-small"


@contextmanager
def _served() -> Generator[tuple[str, dict[str, str]]]:
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url, found = json.loads(server.stdout.readline())
        yield url, {name: value for variables in found.values() for name, value in variables.items()}
    finally:
        server.kill()
        server.wait()


def _meter(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/meter") as reply:  # noqa: S310 - our own server
        return json.load(reply)


def _wrong(folder: Path, source: Input, logs: Path, meter: Mapping[str, Any], before: int) -> str | None:
    with (folder / "output.jsonl").open("rb") as answers, source.rows.open("rb") as rows:
        for number, (answer, row) in enumerate(zip(answers, rows, strict=True)):
            found = json.loads(answer)
            if found["status"] != "succeeded" or not found["answer"]:
                return f"row {number} is {found['status']}: {found['error']}"
            if {key: found[key] for key in json.loads(row)} != json.loads(row):
                return f"row {number} is another"
    cost = json.loads((logs / "stdout").read_text())["cost_usd"]
    billed = Decimal(meter["picodollars"] - before) / 10**12
    if cost is not None and Decimal(cost) != billed:
        return f"the client says {cost}, the meter {billed}"
    return None


def _run(model: str, source: Input, work: Path) -> float:
    """CPU seconds of one run."""
    with tempfile.TemporaryDirectory(dir=work) as name, _served() as (url, variables):
        folder = Path(name)
        command = clients.command("halfrate", "openai", source, folder / "output.jsonl")
        command[command.index("openai/gpt-4.1-mini")] = model
        environment = {**clients.environment(1, folder / "home"), **variables}
        before = _meter(url)["picodollars"]
        cost = measure.run(command, environment, folder, folder, 600)
        if cost.exit_code:
            raise SystemExit(f"{model}: {(folder / 'stderr').read_text().strip()[-300:]}")
        wrong = _wrong(folder, source, folder, _meter(url), before)
        if wrong is not None:
            raise SystemExit(f"{model}: {wrong}")
        return cost.cpu


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.providers", description="The same job on every provider."
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="PROVIDER")
    parser.add_argument("--work", type=Path, default=Path(__file__).resolve().parent / ".work")
    given = parser.parse_args()
    models = {name: found[0] for name, found in Emulator.models().items()}
    wanted = [name for name in given.only or models if name != _USUAL]
    jobs = {name: f"{name}/{models[name]}" for name in (_USUAL, *wanted)}
    # A vector is ten times as long as an answer: those who give nothing else are compared with OpenAI's vectors.
    vectors = {name for name in wanted if adapter_class(name).capabilities.endpoints == ("embeddings",)}
    if vectors:
        jobs[_VECTORS] = _VECTORS
    given.work.mkdir(parents=True, exist_ok=True)
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        source = generate(given.rows, Path(folder))
        for _ in range(given.rounds):
            for name, model in jobs.items():
                cpu = _run(model, source, given.work)
                best[name] = min(cpu, best.get(name, cpu))
    ratios = {name: cpu / best[_VECTORS if name in vectors else _USUAL] for name, cpu in best.items()}
    ratios.pop(_VECTORS, None)
    print(f"{given.rows:,} rows, {given.rounds} rounds\n")
    print("| Provider | CPU s | x openai | |")
    print("| --- | ---: | ---: | --- |")
    for name, ratio in sorted(ratios.items(), key=lambda item: item[1]):
        print(f"| {name} | {best[name]:.2f} | {ratio:.2f} | {'PASS' if ratio <= _BAR else 'FAIL'} |")
    return 0 if all(ratio <= _BAR for ratio in ratios.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""A home, an emulator and the service between them: whole jobs in a few hundred milliseconds."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from halfrate.core.job import Job
from halfrate.emulator import CacheModel, Emulator, Limits, Pace
from halfrate.rows.collect import Check
from halfrate.service.drafts import Ask
from halfrate.service.home import Home, Timing
from halfrate.service.jobs import Service
from halfrate.service.report import Report

from .providers import MODELS, VARIABLES, let_few_rows_be_a_batch, write_settings

QUICK = Timing(settle=1.0, poll_first=0.02, poll_most=0.1, backoff_first=0.02, quota_wait=0.05)


class Office:
    """Runs jobs of one provider against an emulator with faults."""

    def __init__(
        self, folder: Path, emulator: Emulator, url: str, provider: str, timing: Timing = QUICK
    ) -> None:
        self.folder = folder
        self.emulator = emulator
        self.emulator_url = url
        self.provider = provider
        self.home = Home(root=folder / "home", timing=timing)

    def table(self, rows: int, name: str = "rows.jsonl") -> Path:
        path = self.folder / name
        path.write_text(
            "".join(json.dumps({"n": n, "q": f"What is {n} plus {n}?"}) + "\n" for n in range(rows))
        )
        return path

    def ask(self, rows: int = 40, **options: Any) -> Ask:
        options.setdefault("model", MODELS[self.provider])
        options.setdefault("prompt", "{q}")
        if "input" not in options:
            options["input"] = self.table(rows)
        return Ask(**options)

    def submit(self, ask: Ask) -> Job:
        with Service(self.home) as service:
            return service.submit(service.draft(ask))

    def work(self, job: Job, check: Check | None = None) -> Report:
        """Carry a job to its end, as a face does."""
        with Service(self.home) as service:
            asyncio.run(service.run(job.id, check=check))
            service.conclude(job.id)
            return service.report(job.id)

    def run(self, ask: Ask) -> Report:
        return self.work(self.submit(ask))

    def output(self, job: Job) -> list[dict[str, Any]]:
        with Service(self.home) as service:
            path = service.deliver(job.id, self.folder / "out.jsonl", "jsonl")
        return [json.loads(line) for line in path.read_text().split("\n") if line]

    def meter(self) -> dict[str, Any]:
        return self.emulator.meter.snapshot(ids=True)

    def assert_sound(self, report: Report, *, answered: int | None = None) -> list[dict[str, Any]]:
        """What must hold after every run: each row has one outcome, in order; nothing was paid twice; the
        ledger equals the meter; nothing is left at the provider. Returns the output's rows."""
        meter = self.meter()
        rows = self.output(report.job)
        assert [row["n"] for row in rows] == list(range(report.job.rows))
        succeeded = [row for row in rows if row["status"] == "succeeded"]
        assert len(succeeded) == report.succeeded
        assert report.succeeded == (report.job.rows if answered is None else answered)
        assert all(row["answer"] for row in succeeded)
        assert meter["fingerprints_billed_again"] == 0
        assert report.cost == meter["picodollars"]
        assert report.usage.total_input == sum(
            meter["tokens"][kind] for kind in ("input", "cached", "write_5m", "write_1h")
        )
        assert report.usage.output == meter["tokens"]["output"]
        assert meter["files_stored"] == 0
        return rows


def open_office(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    emulator: Emulator,
    provider: str,
    timing: Timing = QUICK,
) -> Office:
    if emulator.limits.bedrock_least_rows == 1:
        let_few_rows_be_a_batch(monkeypatch)
    for variables in (*emulator.environment(url).values(), VARIABLES):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("HALFRATE_SETTINGS", str(write_settings(folder)))
    return Office(folder, emulator, url, provider, timing)


def new_emulator(
    faults: Sequence[str] = (),
    *,
    seed: int = 1,
    limits: Limits | None = None,
    cache: CacheModel | None = None,
) -> Emulator:
    """A quick one. Few rows are a batch everywhere, unless `limits` say otherwise."""
    limits = limits or Limits(bedrock_least_rows=1)
    return Emulator(seed=seed, faults=list(faults), pace=Pace.instant(), limits=limits, cache=cache)

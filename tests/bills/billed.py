"""Days of work at several providers, in the emulator's time: jobs by the real service, and what they are billed."""

import asyncio
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest

from halfrate.core.job import Job
from halfrate.emulator import Emulator, Limits, Pace, ScaledClock
from halfrate.service.drafts import Ask
from halfrate.service.home import Home, Timing
from halfrate.service.jobs import Service

from ..service.providers import VARIABLES, let_few_rows_be_a_batch

START = 1_790_000_000 // 86_400 * 86_400
"""2026-09-21, midnight."""
DAYS = 6
NOON, EVENING = 12 * 3600, 23 * 3600 + 3000
KEY, EU_KEY = "sk-marked-3f9a6c1e77d24b58", "sk-other-0b1c2d3e4f5a6b7c"
QUICK = Timing(settle=1.0, poll_first=0.02, poll_most=0.1, backoff_first=0.02, quota_wait=0.05)
SETTINGS = """
[accounts.eu]
provider = "openai"
key_variable = "OPENAI_EU_KEY"
base_url = "{base}"
"""
PLAN: dict[str, tuple[tuple[str, str, range], ...]] = {
    "openai": (
        ("openai/gpt-4.1-mini", "batch", range(DAYS)),
        ("openai/gpt-4.1-nano", "batch", range(DAYS)),
        ("eu/gpt-4.1-nano", "batch", range(2, DAYS)),
        ("openai/gpt-5-mini", "flex", range(0, DAYS, 3)),
        ("openai/gpt-4.1-mini", "standard", range(1, 4)),
        ("openai/text-embedding-3-small", "batch", range(2, 4)),
    ),
    "anthropic": (
        ("anthropic/claude-haiku-4-5", "batch", range(DAYS)),
        ("anthropic/claude-sonnet-4-5", "batch", range(0, DAYS, 2)),
        ("anthropic/claude-sonnet-5-5", "batch", range(1, DAYS, 2)),
        ("anthropic/claude-opus-4-5", "batch", range(0, DAYS, 2)),
        ("anthropic/claude-haiku-4-5", "standard", range(2, 4)),
    ),
    "bedrock": (
        ("bedrock/global.anthropic.claude-haiku-4-5-20251001-v1:0", "batch", range(DAYS)),
        ("bedrock/amazon.nova-lite-v1:0", "batch", range(DAYS)),
    ),
    "gemini": (
        ("gemini/gemini-2.5-flash", "batch", range(DAYS)),
        ("gemini/gemini-3.1-flash-lite", "batch", range(0, DAYS, 2)),
    ),
    "vertex": (
        ("vertex/gemini-2.5-flash", "batch", range(DAYS)),
        ("vertex/gemini-2.5-flash-lite", "batch", range(0, DAYS, 2)),
    ),
    "azure": (
        ("azure/gpt-4.1-mini", "batch", range(DAYS)),
        ("azure/gpt-4o-mini", "batch", range(0, DAYS, 2)),
        ("azure/gpt-4o-mini", "standard", range(DAYS)),
    ),
}
"""Provider -> what is run there: model, tier, days."""


class BillClock:
    """The emulator's time, as halfrate's clock."""

    def __init__(self, clock: ScaledClock) -> None:
        self.emulated = clock

    def now(self) -> float:
        return self.emulated.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def go_to(self, at: float) -> None:
        self.emulated.advance(max(0.0, at - self.emulated.now()))


class World:
    """A home, an emulator and its bills."""

    def __init__(self, folder: Path, emulator: Emulator, clock: BillClock, url: str) -> None:
        self.folder = folder
        self.emulator = emulator
        self.clock = clock
        self.url = url
        self.home = Home(root=folder / "home", timing=QUICK)
        self.env = dict(os.environ)

    def submit(self, model: str, tier: str, number: int) -> Job:
        path = self.folder / "rows.jsonl"
        # No two days are of a size: what is the same by chance is not what is tried here.
        count = 5 + number * 5 % 13
        rows = [{"n": n, "q": f"{model} {tier} {number}: what is {n} plus {number}?"} for n in range(count)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        endpoint = "embeddings" if "embedding" in model else None
        ask = Ask(input=path, model=model, prompt="{q}", tier=tier, endpoint=endpoint, rescue=False)
        with Service(self.home, self.clock) as service:
            job = service.submit(service.draft(ask))
            asyncio.run(service.run(job.id, until_submitted=True))
        return job

    def collect(self, job: Job) -> None:
        with Service(self.home, self.clock) as service:
            asyncio.run(service.run(job.id))
            service.conclude(job.id)
            report = service.report(job.id)
        assert report.succeeded == job.rows, report

    def carry(self, providers: tuple[str, ...]) -> None:
        """All days of the plan of these providers. On two evenings a batch of each runs that is collected tomorrow."""
        for day in range(DAYS):
            self.clock.go_to(START + day * 86_400 + NOON)
            for provider in providers:
                for model, tier, days in PLAN[provider]:
                    if day in days:
                        self.collect(self.submit(model, tier, day))
            if day in {0, 3}:
                self.clock.go_to(START + day * 86_400 + EVENING)
                late = [self.submit(PLAN[provider][0][0], "batch", 100 + day) for provider in providers]
                self.ask("GET", "/meter")
                self.clock.go_to(self.clock.now() + 2 * 3600)
                for job in late:
                    self.collect(job)

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        request = Request(f"{self.url}{path}", data, method=method)  # noqa: S310 - the emulator's URL
        with urlopen(request) as response:  # noqa: S310
            return response.read()

    def plant(self, *specs: str) -> list[dict[str, Any]]:
        raw = self.ask("POST", "/emulator/exports/discrepancies", {"plant": list(specs)})
        return msgspec.json.decode(raw)["planted"]

    def clear(self) -> None:
        self.ask("DELETE", "/emulator/exports/discrepancies")

    def export(self, name: str) -> Path:
        path = self.folder / name
        path.write_bytes(self.ask("GET", f"/emulator/exports/{name}"))
        return path


@contextmanager
def open_world(folder: Path, patch: pytest.MonkeyPatch, seed: int = 1) -> Generator[World]:
    scaled = ScaledClock(start=START)
    limits = Limits(bedrock_least_rows=1)
    with (
        Emulator(seed=seed, clock=scaled, pace=Pace.instant(), limits=limits) as emulator,
        emulator.running() as url,
    ):
        let_few_rows_be_a_batch(patch)
        for variables in (*emulator.environment(url).values(), VARIABLES):
            for name, value in variables.items():
                patch.setenv(name, value)
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("OPENAI_EU_KEY", EU_KEY)
        settings = folder / "settings.toml"
        settings.write_text(SETTINGS.format(base=emulator.openai_base_url(url)))
        patch.setenv("HALFRATE_SETTINGS", str(settings))
        patch.setenv("HALFRATE_HOME", str(folder / "home"))
        yield World(folder, emulator, BillClock(scaled), url)

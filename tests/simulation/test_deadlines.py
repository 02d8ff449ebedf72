"""Deadlines kept by the real engine, in virtual time: judged by the clock and by the provider's own meter."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from halfrate.emulator import Limits, Pace
from halfrate.service.drafts import Ask
from halfrate.service.jobs import Service
from halfrate.service.report import Report

from .machine import EPOCH, Process
from .scenario import BASE, Plan, Run

HOUR = 3600.0
MODELS = ("openai/gpt-4.1-mini", "anthropic/claude-haiku-4-5")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="halfrate-deadlines-", dir=BASE)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield stack


def plan(hours_a_batch: float, rows: int) -> Plan:
    """A quiet day at a provider that takes so many hours for a batch of `rows`."""
    quiet = Plan(0)
    quiet.faults = ()
    quiet.crashes = 0
    quiet.lossy = quiet.doubled = 0
    quiet.outages = []
    quiet.pace = Pace(
        validate=5, queue=60, per_1000_rows=hours_a_batch * HOUR * 1000 / rows, finalize=30, cancel=200
    )
    quiet.shard_rows = rows
    quiet.breaker_rows = 50
    quiet.nap = 60.0
    quiet.poll_most = 60.0
    quiet.jobs = []
    return quiet


class Kept:
    """A job carried to its end, and what the provider's meter says of it."""

    def __init__(
        self, stack: ExitStack, given: Plan, rows: int, model: str, *, rpm: int | None = None, **terms: Any
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="halfrate-deadlines-", dir=BASE))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.run = Run(given, 0, folder, stack)
        table = folder / "rows.jsonl"
        table.write_text("".join(json.dumps({"q": f"what is {n}?"}) + "\n" for n in range(rows)))
        with Service(self.run.home, Process(self.run.machine, "submit")) as service:
            ask = Ask(input=table, model=model, prompt="{q}", output=folder / "out.jsonl", **terms)
            if rpm is not None:
                service.set_quota(model, "rpm", rpm)
            self.job = service.submit(service.draft(ask))
        self.ended_at = 0.0
        self.run.loop.run_until_complete(self._carry())
        self.run.emulator.advance()
        self.meter = self.run.emulator.meter.snapshot(ids=True)
        with Service(self.run.home, Process(self.run.machine, "check")) as service:
            self.report: Report = service.report(self.job.id)
            self.limits = {(quota.kind, source): quota.most for quota, source in service.quotas()}
            self.tiers = {line.keys[0]: line.rows for line in service.costs(self.job.id, by=["tier"])}
            path = service.deliver(self.job.id, folder / "out.jsonl")
            self.rows = [json.loads(line) for line in path.read_text().split("\n") if line]

    async def _carry(self) -> None:
        process = self.run.machine.process()
        process._crash_at = process._freeze_at = process._jump_at = None

        async def work() -> None:
            with Service(self.run.home, process) as service:
                await service.run(self.job.id)

        await process.start(work)
        self.ended_at = self.run.loop.time()
        await asyncio.sleep(600)

    def check(self) -> None:
        """What holds of every job, whatever way its rows took."""
        assert self.report.succeeded == self.job.rows == len(self.rows)
        assert max(self.meter["billed_by_fingerprint"].values()) == 1
        assert self.report.cost == self.meter["picodollars"]
        assert self.report.doubts == 0
        assert self.meter["files_stored"] == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_that_is_too_slow_is_cancelled_harvested_and_finished_in_real_time(
    stack: ExitStack, model: str
) -> None:
    kept = Kept(stack, plan(20, 200), 200, model, deadline=EPOCH + 5 * HOUR)
    kept.check()
    assert kept.ended_at <= 5 * HOUR
    # It had until shortly before the deadline: about a quarter of the rows came at half the price.
    assert kept.ended_at >= 3 * HOUR
    assert kept.tiers["batch"] >= 20
    assert kept.tiers["standard"] == 200 - kept.tiers["batch"] == kept.report.rescued
    assert kept.meter["realtime_billed"] == kept.report.rescued


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_that_is_in_time_is_left_alone(stack: ExitStack, model: str) -> None:
    kept = Kept(stack, plan(1, 200), 200, model, deadline=EPOCH + 20 * HOUR)
    kept.check()
    assert kept.tiers == {"batch": 200}
    assert kept.ended_at < 2 * HOUR


def test_what_replies_say_is_allowed_is_remembered(stack: ExitStack) -> None:
    given = plan(1, 50)
    given.limits = Limits(openai_requests_per_minute=1200, openai_tokens_per_minute=500_000)
    kept = Kept(stack, given, 50, MODELS[0], deadline=EPOCH + 600)
    kept.check()
    assert kept.limits["rpm", "told"] == 1200
    assert kept.limits["tpm", "told"] == 500_000


def test_no_more_is_called_than_its_user_allows(stack: ExitStack) -> None:
    freely = Kept(stack, plan(1, 50), 50, MODELS[0], deadline=EPOCH + 300)
    held = Kept(stack, plan(1, 50), 50, MODELS[0], deadline=EPOCH + 300, rpm=60)
    for kept in (freely, held):
        kept.check()
        assert kept.tiers == {"standard": 50}
    assert freely.ended_at < 20
    assert 48 <= held.ended_at < 100
    assert held.limits["rpm", "set"] == 60


def test_a_deadline_too_near_for_a_batch_goes_to_real_time_at_once(stack: ExitStack) -> None:
    kept = Kept(stack, plan(1, 50), 50, MODELS[0], deadline=EPOCH + 600)
    kept.check()
    assert kept.ended_at < 600
    assert kept.tiers == {"standard": 50}
    assert kept.meter["batches_created"] == 0


def test_without_rescue_nothing_is_paid_for_time(stack: ExitStack) -> None:
    kept = Kept(stack, plan(8, 100), 100, MODELS[0], deadline=EPOCH + 3 * HOUR, rescue=False)
    kept.check()
    assert kept.tiers == {"batch": 100}
    assert kept.ended_at > 3 * HOUR


def test_without_a_deadline_nothing_is_paid_for_time(stack: ExitStack) -> None:
    kept = Kept(stack, plan(20, 100), 100, MODELS[0])
    kept.check()
    assert kept.tiers == {"batch": 100}


def test_several_batches_share_what_real_time_can_do(stack: ExitStack) -> None:
    given = plan(15, 60)
    kept = Kept(stack, given, 240, MODELS[0], deadline=EPOCH + 4 * HOUR)
    kept.check()
    assert kept.ended_at <= 4 * HOUR
    assert kept.tiers["standard"] + kept.tiers["batch"] == 240

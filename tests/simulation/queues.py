"""A hundred jobs at once against a queue that holds a few of their batches: who waits how long, and what is refused.

python -m tests.simulation.queues prints the figures that docs/reliability.md shows.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import msgspec

from halfrate.core.job import Job
from halfrate.emulator import Limits, Pace
from halfrate.service.drafts import Ask
from halfrate.service.jobs import Service

from .machine import EPOCH, Process
from .scenario import BASE, Plan, Run

MODEL = "openai/gpt-4.1-mini"
HOUR = 3600.0
JOBS = 100
ROWS = 9
SHARD_ROWS = 3


class Figures(msgspec.Struct):
    """What a run came to. Times in hours of virtual time; `refused`: batches that found the queue full."""

    batches: int
    refused: int
    hours: float
    floor_hours: float
    """How long the batches take if the queue is never empty and never over-full."""
    first_hours: dict[str, float]
    """When the first job of each team was done."""
    done_hours: dict[str, float]
    """When the last one was."""
    late: int
    """Jobs that ended after their deadline, of those that had one."""
    billed_twice: int
    open_rows: int


def _plan(limit: int | None) -> Plan:
    plan = Plan(0)
    plan.faults = ()
    plan.crashes = 0
    plan.lossy = plan.doubled = 0
    plan.outages = []
    # Ten minutes for a batch of any size.
    plan.pace = Pace(validate=60, queue=0, per_1000_rows=540_000 / SHARD_ROWS, finalize=0, cancel=10)
    plan.shard_rows = SHARD_ROWS
    plan.limits = Limits(openai_enqueued_tokens=limit)
    plan.breaker_rows = 50
    plan.nap = 60.0
    plan.poll_most = 60.0
    # Whose batches are to be small.
    plan.jobs = [(MODEL, 0, 1)]
    return plan


def measure(knowledge: str, *, workers: int = 3, fit: int = 10) -> Figures:
    """Run it. `knowledge` of the limit: "set" by the user, "told" by refusals, or "learned" from refusals without a
    number. `fit`: how many batches the queue holds."""
    limit = fit * _batch_tokens()
    with _folder() as folder, ExitStack() as stack:
        run = Run(_plan(limit), 0, folder, stack)
        jobs = [_submit(run, number) for number in range(JOBS)]
        if knowledge == "set":
            with Service(run.home, Process(run.machine, "user")) as service:
                service.set_quota(MODEL, "tokens", limit)
        if knowledge == "learned":
            stack.enter_context(patch("halfrate.providers.openai_dialect.queue_limit", return_value=None))
        ends: dict[str, float] = {}
        run.loop.run_until_complete(_work(run, workers, ends))
        return _figures(run, jobs, ends, fit)


@contextmanager
def _folder() -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="halfrate-queues-", dir=BASE))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _batch_tokens() -> int:
    """What the provider counts for a batch of these jobs."""
    with _folder() as folder, ExitStack() as stack:
        run = Run(_plan(None), 0, folder, stack)
        _submit(run, 0)
        run.loop.run_until_complete(_work(run, 1, {}))
        meter = run.emulator.meter.snapshot()
        return meter["tokens"]["input"] * SHARD_ROWS // ROWS


def _submit(run: Run, number: int) -> Job:
    """Jobs of three teams: one submits ten times as many as the others, and the last to come has a deadline."""
    team = "large" if number % 12 else ("small" if number % 24 else "urgent")
    table = run.folder / f"rows-{number}.jsonl"
    table.write_text("".join(json.dumps({"q": f"{number:03}: what is {n:03}?"}) + "\n" for n in range(ROWS)))
    output = run.folder / f"out-{number}.jsonl"
    deadline = EPOCH + 4 * HOUR if team == "urgent" else None
    with Service(run.home, Process(run.machine, "submit")) as service:
        ask = Ask(
            input=table, model=MODEL, prompt="{q}", tags={"team": team}, deadline=deadline, output=output
        )
        return service.submit(service.draft(ask))


async def _work(run: Run, workers: int, ends: dict[str, float]) -> None:
    def ended(job: Job, _path: Path | None) -> None:
        ends.setdefault(job.id, run.loop.time())

    async def work(process: Process) -> None:
        with Service(run.home, process) as service:
            await service.work(drain=True, on_end=ended)

    started = [run.machine.process() for _ in range(workers)]
    await asyncio.gather(*(process.start(lambda p=process: work(p)) for process in started))


def _figures(run: Run, jobs: Iterable[Job], ends: dict[str, float], fit: int) -> Figures:
    run.emulator.advance()
    meter = run.emulator.meter.snapshot(ids=True)
    teams: dict[str, list[float]] = {}
    late = open_rows = 0
    with Service(run.home, Process(run.machine, "check")) as service:
        for job in jobs:
            open_rows += service.report(job.id).waiting
            end = ends[job.id]
            teams.setdefault(job.team, []).append(end / HOUR)
            late += job.deadline is not None and EPOCH + end > job.deadline
    batches = meter["batches_completed"]
    return Figures(
        batches=batches,
        refused=meter["batches_failed"],
        hours=max(ends.values()) / HOUR,
        floor_hours=batches / fit * 600 / HOUR,
        first_hours={team: min(times) for team, times in sorted(teams.items())},
        done_hours={team: max(times) for team, times in sorted(teams.items())},
        late=late,
        billed_twice=sum(count > 1 for count in meter["billed_by_fingerprint"].values()),
        open_rows=open_rows,
    )


def main() -> int:
    print("| limit | batches | refused | hours | floor | large done | small done | urgent done | late |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for knowledge in ("set", "told", "learned"):
        found = measure(knowledge)
        done = found.done_hours
        print(
            f"| {knowledge} | {found.batches} | {found.refused} | {found.hours:.1f} | {found.floor_hours:.1f} | "
            f"{done['large']:.1f} | {done['small']:.1f} | {done['urgent']:.1f} | {found.late} |",
            flush=True,
        )
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

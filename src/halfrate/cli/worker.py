"""`halfrate worker`: a process that works on every job of a home."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import click

from halfrate.base.errors import HalfrateError
from halfrate.base.memory import share_heap
from halfrate.cli.app import EXIT_DETACHED
from halfrate.cli.follow import signals
from halfrate.cli.text import shard_line
from halfrate.core.job import Job, JobState
from halfrate.core.lifecycle import Shard
from halfrate.engine.loop import Loop
from halfrate.service.home import Home
from halfrate.service.jobs import Service

_TIDY: Final = 3_600.0
"""Seconds between two looks at all jobs that a depot holds."""


@click.command(short_help="Work on all jobs, as long as it runs.")
@click.option("--drain", is_flag=True, help="End when no job has anything left to do.")
def worker(drain: bool) -> int:
    """Work on every job of this home, and write the output of each that ends.

    Jobs come from `halfrate run --detach` and from programs. Any number of workers may run at once; one that is
    killed loses nothing, and what it did is taken over by the others. Ctrl-C ends it after the steps under way.
    """
    share_heap()
    with Service(Home.from_environment()) as service:
        service.check_depot()
        return asyncio.run(_work(service, drain=drain))


async def _work(service: Service, *, drain: bool) -> int:
    said: dict[str, str] = {}
    loops: list[Loop] = []
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        for loop in loops:
            loop.stop()

    def step(shard: Shard) -> None:
        line = f"{shard.job_id} {shard_line(shard)}"
        # Progress alone is no news.
        news = f"{shard.attempt} {shard.state} {shard.status} {shard.trouble}"
        if said.get(shard.id) != news:
            said[shard.id] = news
            click.echo(line, err=True)

    def end(job: Job, path: Path | None) -> None:
        for shard_id in [name for name in said if name.startswith(f"{job.id}-")]:
            del said[shard_id]
        where = f": {path}" if path is not None else ""
        again = f" (halfrate resume {job.id})" if job.state is JobState.PAUSED else ""
        click.echo(f"{job.id} is {job.state}{where}{again}", err=True)

    def halt(error: HalfrateError) -> None:
        click.echo(f"halfrate: {error}", err=True)

    tidier = None if drain or not service.depot.afar else asyncio.create_task(_tidy(service))
    try:
        with signals(leave), contextlib.suppress(asyncio.CancelledError):
            await service.work(on_step=step, on_loop=loops.append, on_end=end, on_halt=halt, drain=drain)
    finally:
        if tidier is not None:
            tidier.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tidier
    return EXIT_DETACHED if left and drain else 0


async def _tidy(service: Service) -> None:
    """Let go of what is nobody's any more, now and then, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(service.tidy)
        except HalfrateError as error:
            click.echo(f"halfrate: not tidied: {error}", err=True)
        await asyncio.sleep(_TIDY)

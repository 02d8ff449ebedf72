"""What is seen while a job runs: a live table on a terminal, plain lines elsewhere, nothing with --json."""

import sys
import time
from typing import TYPE_CHECKING, Protocol, Self

import click

from halfrate.base.money import show_usd
from halfrate.cli.text import held_lines, shard_line, span
from halfrate.core.job import Job
from halfrate.core.lifecycle import Shard, State
from halfrate.service.jobs import Service

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_ROWS_SHOWN = 12


class Display(Protocol):
    """Hears every step of a job. Use as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def step(self, shard: Shard) -> None: ...

    def leaving(self) -> None: ...


def display_for(service: Service, job: Job, *, quiet: bool) -> Display:
    if quiet:
        return _Nothing()
    if sys.stderr.isatty():
        return _Live(service, job)
    return _Plain(service, job)


class _Nothing:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def step(self, shard: Shard) -> None: ...

    def leaving(self) -> None: ...


class _Plain:
    """A line for every change that says something new; at most one a second for progress alone."""

    def __init__(self, service: Service, job: Job) -> None:
        self._service = service
        self._job = job
        self._said: dict[str, tuple[object, ...]] = {}
        self._held = bool(service.held_by(job.id))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def step(self, shard: Shard) -> None:
        if shard.state in {State.UPLOADED, State.CLEANING, State.COLLECTING}:
            return
        progress = shard.rows_finished * 10 // max(1, shard.sending)
        news = (shard.state, shard.attempt, shard.status, progress, shard.trouble)
        if self._said.get(shard.id) == news:
            return
        self._said[shard.id] = news
        click.echo(shard_line(shard), err=True)
        if shard.state is State.DONE:
            # What was paid for it may have been the last that a budget allowed.
            held = held_lines(self._service.held_by(self._job.id), self._job)
            if held and not self._held:
                click.echo("\n".join(held), err=True)
            self._held = bool(held)

    def leaving(self) -> None:
        click.echo("Leaving after the steps under way ...", err=True)


class _Live:
    """A table of batches with totals above it, redrawn a few times a second."""

    def __init__(self, service: Service, job: Job) -> None:
        self._service = service
        self._job = job
        self._shards = {shard.id: shard for shard in service.shards(job.id)}
        self._started = time.monotonic()
        self._cost: int | None = 0
        self._expected: int | None = None
        self._held: list[str] = []
        self._leaving = False

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        self._count_cost()
        self._live = Live(
            console=Console(stderr=True), refresh_per_second=5, get_renderable=self._picture, transient=True
        )
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def step(self, shard: Shard) -> None:
        self._shards[shard.id] = shard
        if shard.state in {State.CLEANING, State.DONE}:
            self._count_cost()

    def leaving(self) -> None:
        self._leaving = True

    def _count_cost(self) -> None:
        lines = self._service.costs(self._job.id)
        self._cost = lines[0].cost if lines else 0
        self._expected = self._service.cost_forecast(self._job.id).cost
        self._held = held_lines(self._service.held_by(self._job.id), self._job)

    def _picture(self) -> "Group":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        shards = list(self._shards.values())
        done = sum(_rows_done(shard) for shard in shards)
        failed = sum(shard.counts.failed + shard.counts.expired for shard in shards)
        total = self._job.rows
        head = Text.assemble(
            (f"{done:,}", "bold"),
            f" of {total:,} rows",
            (f", {failed:,} failed so far" if failed else "", "yellow"),
            f"   {show_usd(self._cost)} of about {show_usd(self._expected)}",
            f"   {self._time(done, total)}",
        )
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("batch", justify="right")
        table.add_column("state")
        table.add_column("rows", justify="right")
        table.add_column("")
        shown = sorted(shards, key=lambda s: (s.state is State.DONE, s.number))[:_ROWS_SHOWN]
        for shard in sorted(shown, key=lambda s: s.number):
            table.add_row(*_row(shard))
        parts: list[RenderableType] = [
            head,
            ProgressBar(total=total, completed=done, width=60),
            Text(""),
            table,
        ]
        if len(shards) > len(shown):
            parts.append(Text(f"and {len(shards) - len(shown)} more batches", style="dim"))
        parts += [Text(line, style="yellow") for line in self._held]
        note = "Leaving after the steps under way ..." if self._leaving else "Ctrl-C leaves it running"
        parts.append(Text(note, style="dim"))
        return Group(*parts)

    def _time(self, done: int, total: int) -> str:
        passed = time.monotonic() - self._started
        if 0 < done < total and passed > 2:
            return f"{span(passed)}, about {span(passed * (total - done) / done)} left"
        return span(passed)


def _rows_done(shard: Shard) -> int:
    """Rows that are settled, or that the provider says it has finished."""
    if shard.state in {State.CLEANING, State.DONE}:
        return shard.rows - shard.unsettled
    return shard.rows - shard.rows_left + shard.rows_finished


def _row(shard: Shard) -> tuple[str, str, str, str]:
    state = shard.state.value if shard.state is State.DONE or not shard.status else shard.status
    note = shard.trouble.message if shard.trouble is not None else ""
    if not note and shard.leading:
        note = f"{shard.sending:,} rows warm the cache for the others"
    elif not note and shard.try_number > 1 and shard.state is not State.DONE:
        note = f"attempt {shard.try_number}, {shard.sending:,} rows"
    return (str(shard.number + 1), state, f"{_rows_done(shard):,} / {shard.rows:,}", note)

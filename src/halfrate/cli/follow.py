"""Going on with jobs: carry one to its end, write its output, try again, stop it."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path

import click

from halfrate.base.errors import HalfrateError, Refused, UsageError
from halfrate.base.memory import share_heap
from halfrate.cli.app import EXIT_DETACHED, EXIT_FAILED, EXIT_ROWS_FAILED, EXIT_WRONG
from halfrate.cli.display import Display, display_for
from halfrate.cli.text import echo_json, held_lines, money_line, next_steps, report_object, summary_lines
from halfrate.core.job import Job, JobState
from halfrate.core.lifecycle import COSTING
from halfrate.engine.loop import Loop
from halfrate.rows.output import output_format
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.outputs import check_target, output_path
from halfrate.service.report import Report

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
OUTPUT = click.option("-o", "--output", type=click.Path(path_type=Path), help=".jsonl, .csv or .parquet.")
_FEW_ROWS = 20_000
"""A job that small does not live long enough for what its threads hold to add up."""
_RAW = click.option("--raw", is_flag=True, help="Write the provider's own result objects.")


@click.command(short_help="Go on with a job, and wait for it.")
@click.argument("job")
@OUTPUT
@_RAW
@AS_JSON
def attach(job: str, output: Path | None, raw: bool, as_json: bool) -> int:
    """Go on with JOB where it is, wait for it, and write its output."""
    check_form(output, raw=raw)
    with Service(Home.from_environment()) as service:
        return carry(service, service.find(job), output=output, raw=raw, as_json=as_json)


@click.command(short_help="Write a job's output file.")
@click.argument("job")
@OUTPUT
@_RAW
@AS_JSON
def results(job: str, output: Path | None, raw: bool, as_json: bool) -> int:
    """Write what is known of JOB's rows now. Rows still to come say so in their status."""
    check_form(output, raw=raw)
    with Service(Home.from_environment()) as service:
        found = service.find(job)
        path = _deliver(service, found, output, raw=raw)
        report = service.report(found.id)
    if as_json:
        echo_json(report_object(report, str(path)))
    else:
        coming = f", {report.waiting:,} still to come" if report.waiting else ""
        click.echo(
            f"{report.succeeded:,} of {found.rows:,} rows answered{coming}. Written to {path}", err=True
        )
    return _exit_code(report)


@click.command(short_help="Send the rows again that did not succeed.")
@click.argument("job")
@OUTPUT
@AS_JSON
def retry(job: str, output: Path | None, as_json: bool) -> int:
    """Send the rows of JOB again that did not succeed, refused ones included, and wait for them."""
    check_form(output, raw=False)
    with Service(Home.from_environment()) as service:
        found = service.find(job)
        if not service.retry(found.id):
            report = service.report(found.id)
            why = "every row succeeded."
            if report.waiting:
                why = f"rows are still on their way. Wait for them with: halfrate attach {found.id}"
            click.echo(f"There is nothing to send again: {why}", err=True)
            if as_json:
                echo_json(report_object(report, None))
            return 0
        return carry(service, service.find(found.id), output=output, raw=False, as_json=as_json)


@click.command(short_help="Stop a job, and keep what is finished.")
@click.argument("job")
@OUTPUT
@AS_JSON
def cancel(job: str, output: Path | None, as_json: bool) -> int:
    """Stop JOB. Rows that are finished are paid for; they are waited for and written."""
    check_form(output, raw=False)
    with Service(Home.from_environment()) as service:
        found = service.find(job)
        if not service.cancel(found.id) and not service.report(found.id).waiting:
            click.echo(f"Job {found.id} has nothing that could be cancelled.", err=True)
            if as_json:
                echo_json(report_object(service.report(found.id), None))
            return 0
        if not as_json:
            click.echo("Asked the provider to stop; waiting for what it has finished.", err=True)
        return carry(service, found, output=output, raw=False, as_json=as_json)


def carry(
    service: Service,
    job: Job,
    *,
    output: Path | None,
    raw: bool,
    as_json: bool,
    until_submitted: bool = False,
) -> int:
    """Work on a job to its end with a display, write its output and say how it ended. The exit code."""
    started = time.monotonic()
    if output is not None:
        # Asked before anything is sent, not found out when the answers are there.
        check_target(output)
    if not as_json:
        click.echo(f"Job {job.id}", err=True)
        for line in held_lines(service.held_by(job.id), job):
            click.echo(line, err=True)
    if job.rows > _FEW_ROWS:
        share_heap()
    try:
        with display_for(service, job, quiet=as_json) as display:
            left = asyncio.run(_run(service, job, display, until_submitted=until_submitted))
        report = service.report(job.id)
        if report.waiting and report.paused and not left:
            service.conclude(job.id)
            return _held_back(service, job, as_json=as_json)
        if left or (until_submitted and report.waiting):
            _standing(service, job, as_json=as_json)
            return EXIT_DETACHED if left else 0
        path = _deliver(service, job, output, raw=raw)
        service.conclude(job.id)
    except HalfrateError as error:
        click.echo(f"halfrate: {error}", err=True)
        _standing(service, job, as_json=as_json)
        return EXIT_WRONG if isinstance(error, Refused | UsageError) else EXIT_FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        # Before the loop listens for signals, or while the output is written.
        _standing(service, job, as_json=as_json)
        return EXIT_DETACHED
    report = service.report(job.id)
    if as_json:
        echo_json(report_object(report, str(path)))
    else:
        for line in summary_lines(report, str(path), time.monotonic() - started):
            click.echo(line, err=True)
        for line in next_steps(report):
            click.echo(f"  {line}", err=True)
    return _exit_code(report)


def _held_back(service: Service, job: Job, *, as_json: bool) -> int:
    """Say why a job does not go on by itself, what it has cost, and what can be done."""
    report = service.report(job.id)
    if as_json:
        echo_json(report_object(report, None))
    why = f": {report.paused_because}" if report.paused_because else "."
    click.echo(f"Job {job.id} is paused{why}", err=True)
    click.echo(f"{report.waiting:,} rows are not sent. {money_line(report)}", err=True)
    click.echo(f"See what was answered:  halfrate results {job.id}", err=True)
    again = " --keep-going" if report.paused_because else ""
    click.echo(f"Go on with the rest:    halfrate resume {job.id}{again}", err=True)
    click.echo(f"Give up the rest:       halfrate cancel {job.id}", err=True)
    return EXIT_ROWS_FAILED if report.paused_because else EXIT_DETACHED


def _standing(service: Service, job: Job, *, as_json: bool = False) -> None:
    """What of a job that is not finished is kept, what still costs money, and how to come back."""
    report = service.report(job.id)
    shards = service.shards(job.id)
    at_work = sum(shard.state in COSTING for shard in shards)
    if as_json:
        echo_json(report_object(report, None))
    if at_work:
        batches = f"{at_work} batch{'es' if at_work != 1 else ''}"
        click.echo(f"{batches} of job {job.id} may be at work at the provider, and cost money.", err=True)
    else:
        click.echo(f"Nothing of job {job.id} is at work at the provider.", err=True)
    for line in held_lines(service.held_by(job.id), job):
        click.echo(line, err=True)
    click.echo(f"All that was done is kept. Come back with:  halfrate attach {job.id}", err=True)
    if report.waiting:
        click.echo(f"Stop it with:                               halfrate cancel {job.id}", err=True)


def check_form(output: Path | None, *, raw: bool) -> None:
    """Refuse an ending that says nothing, or something that `--raw` does not write."""
    if output is not None and output_format(output) != "jsonl" and raw:
        raise UsageError(f"{output}: --raw writes one JSON object a line; name a .jsonl file.")


def _deliver(service: Service, job: Job, output: Path | None, *, raw: bool) -> Path:
    if raw and not (job.raw and output is None):
        return service.deliver_raw(job.id, output or output_path(job).with_suffix(".raw.jsonl"))
    if output is None:
        return service.deliver_own(job.id)
    return service.deliver(job.id, output, output_format(output))


def _exit_code(report: Report) -> int:
    if report.job.state is JobState.STOPPED and not report.succeeded:
        return EXIT_WRONG
    return EXIT_ROWS_FAILED if report.unsuccessful else 0


async def _run(service: Service, job: Job, display: Display, *, until_submitted: bool) -> bool:
    """Run the job; whether it was left before its end."""
    left = False
    loops: list[Loop] = []

    def leave() -> None:
        nonlocal left
        left = True
        display.leaving()
        for loop in loops:
            loop.stop()

    with signals(leave):
        await service.run(job.id, on_step=display.step, on_loop=loops.append, until_submitted=until_submitted)
    return left


@contextlib.contextmanager
def signals(leave: Callable[[], None]) -> Generator[None]:
    """The first signal leaves in good order; a second one does not wait for the steps under way."""
    running = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def asked() -> None:
        for number in signals:
            running.remove_signal_handler(number)
            # What a sudden end leaves behind is what a killed process leaves: the next run sorts it out.
            signal.signal(number, signal.SIG_DFL)
        leave()

    for number in signals:
        running.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in signals:
            running.remove_signal_handler(number)

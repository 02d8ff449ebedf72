"""Looking at jobs and at what they cost, without touching a provider."""

import click

from halfrate.base.money import show_usd
from halfrate.cli.text import (
    clock,
    echo_json,
    echo_table,
    expected_lines,
    expected_object,
    held_lines,
    report_object,
    shard_line,
    summary_lines,
)
from halfrate.service.home import Home
from halfrate.service.jobs import Service

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command(short_help="List jobs.")
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, show_default=True)
@_AS_JSON
def jobs(limit: int, as_json: bool) -> int:
    """List jobs, the newest first."""
    with Service(Home.from_environment()) as service:
        reports = [service.report(job.id, reasons=False) for job in service.jobs(limit)]
    if as_json:
        echo_json([report_object(report, report.job.output) for report in reports])
        return 0
    if not reports:
        click.echo("No jobs yet. `halfrate demo` shows one; `halfrate run --help` says how to start one.")
        return 0
    echo_table(
        ("job", "started", "state", "rows", "answered", "paid", "model", "input"),
        [
            (
                report.job.id,
                clock(report.job.created_at),
                report.job.state.value,
                f"{report.job.rows:,}",
                f"{report.succeeded:,}",
                show_usd(report.cost),
                report.job.label,
                report.job.input_name,
            )
            for report in reports
        ],
        right=(3, 4, 5),
    )
    return 0


@click.command(short_help="Show how a job stands.")
@click.argument("job")
@_AS_JSON
def status(job: str, as_json: bool) -> int:
    """Show how JOB stands, as it was last seen. `halfrate attach` looks again."""
    with Service(Home.from_environment()) as service:
        found = service.find(job)
        report = service.report(found.id)
        shards = service.shards(found.id)
        finish = service.forecast(found.id)
        held = service.held_by(found.id)
    if as_json:
        body = report_object(report, found.output)
        body["deadline"] = found.deadline
        body["expected"] = None if finish is None else expected_object(finish)
        body["held_by_budgets"] = [one.budget.title for one in held]
        body["batches"] = [
            {
                "number": shard.number + 1,
                "state": shard.state,
                "status": shard.status,
                "attempt": shard.try_number,
                "rows": shard.rows,
                "batch_id": shard.refs.batch_id,
                "next_at": shard.next_at,
                "trouble": shard.trouble.message if shard.trouble is not None else None,
            }
            for shard in shards
        ]
        echo_json(body)
        return 0
    click.echo(f"Job {found.id}: {found.state.value}, started {clock(found.created_at)}")
    click.echo(f"{found.spec.provider}/{found.spec.model or '*'} over {found.input_name}")
    if finish is not None:
        for line in expected_lines(finish, found.deadline):
            click.echo(line)
    elif found.deadline is not None:
        click.echo(f"wanted by {clock(found.deadline)}")
    if found.tags:
        click.echo(", ".join(f"{key}={value}" for key, value in found.tags.items()))
    for line in (*held_lines(held, found), *summary_lines(report, None)):
        click.echo(line)
    for shard in shards:
        click.echo(f"  {shard_line(shard)}")
    return 0

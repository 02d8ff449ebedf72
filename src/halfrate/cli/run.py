"""`halfrate run`: from a file of rows to a file of answers."""

import datetime
import sys
from pathlib import Path
from typing import Any

import click

from halfrate.base.errors import UsageError
from halfrate.base.money import parse_usd, show_usd
from halfrate.cli import options
from halfrate.cli.asking import asked, asking
from halfrate.cli.follow import carry, check_form
from halfrate.cli.text import plan_lines, warning_lines
from halfrate.core.budgets import OnBudget, Standing
from halfrate.core.job import Job
from halfrate.core.lifecycle import SmallTails
from halfrate.service.deadlines import deadline_at
from halfrate.service.drafts import Ask, Draft
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.report import Prospect


@click.command(short_help="Run a prompt over every row of a file, at batch price.")
@asking
@click.option("--tag", multiple=True, metavar="K=V", help="For `halfrate cost --by`, as in team=search.")
@click.option("--deadline", metavar="WHEN", help="8h, 06:00 or an ISO time.")
@click.option("--no-rescue", is_flag=True, help="Never pay for real time, even if the deadline is missed.")
@click.option(
    "--priority", type=click.IntRange(-10, 10), default=0, help="One more: twice the share of a full queue."
)
@click.option("--keep-going", is_flag=True, help="Go on when most rows of a batch fail.")
@click.option(
    "--small-tails",
    type=click.Choice(["fail", "realtime"]),
    default="fail",
    help="Rows that no batch takes, too few or too large: left failed, or run in real time at its price.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help=".jsonl, .csv or .parquet.")
@click.option("--raw", is_flag=True, help="Write the provider's own result objects.")
@click.option("--max-cost", metavar="USD", help="Refuse to start if it could cost more.")
@click.option(
    "--over-budget",
    type=click.Choice(["refuse", "wait"]),
    default="refuse",
    help="A job that would cross a budget: refused, or sent as far as the budget allows.",
)
@click.option("--attempts", type=click.IntRange(1, 20), default=5, show_default=True)
@click.option("--new", is_flag=True, help="Start a new job, even if the same one is unfinished.")
@click.option("--detach", is_flag=True, help="Leave once everything is with the provider.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
def run(
    tag: tuple[str, ...],
    deadline: str | None,
    no_rescue: bool,
    priority: int,
    keep_going: bool,
    small_tails: SmallTails,
    output: Path | None,
    raw: bool,
    max_cost: str | None,
    over_budget: OnBudget,
    attempts: int,
    new: bool,
    detach: bool,
    yes: bool,
    as_json: bool,
    **what: Any,
) -> int:
    """Run a prompt over every row of INPUT and write one answer per row, in order, at batch price.

    INPUT is CSV, TSV, JSONL, Parquet, "-" for standard input, or a provider's own batch file, which is run as
    it is. Ctrl-C detaches and cancels nothing; the same command goes on where it was.

    \b
    Exit codes: 0 all rows succeeded; 3 some rows failed; 2 the request was wrong; 130 detached.
    """
    limit = _limit(max_cost)
    check_form(output, raw=raw)
    ask = Ask(
        **asked(**what),
        tags=options.pairs(tag, "--tag"),
        deadline=deadline_at(deadline, datetime.datetime.now(datetime.UTC)),
        rescue=not no_rescue,
        priority=priority,
        keep_going=keep_going,
        small_tails=small_tails,
        output=output,
        raw=raw,
        max_attempts=attempts,
    )
    # A process that was started without standard input has none.
    may_ask = not yes and sys.stdin is not None and sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]
    with Service(Home.from_environment()) as service:
        draft = service.draft(ask)
        job = None if new else _unfinished(service, draft, may_ask=may_ask, quiet=as_json)
        if job is None:
            prospect = None if as_json else service.prospect(draft)
            budgets = service.check_budgets(draft, on_budget=over_budget)
            _agree(draft, prospect, budgets, limit, may_ask=may_ask, quiet=as_json)
            job = service.submit(draft, on_budget=over_budget)
        else:
            draft.discard()
        return carry(service, job, output=output, raw=raw, as_json=as_json, until_submitted=detach)


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_usd(text)
    except ValueError as error:
        raise click.UsageError(f"--max-cost: {error}.") from None


def _unfinished(service: Service, draft: Draft, *, may_ask: bool, quiet: bool) -> Job | None:
    """The unfinished job that this command would repeat, if the user wants to go on with it."""
    job = service.unfinished_twin(draft)
    if job is None:
        return None
    if may_ask:
        since = datetime.datetime.fromtimestamp(job.created_at).strftime("%Y-%m-%d %H:%M")  # noqa: DTZ006
        again = click.confirm(
            f"The same job, {job.id}, was started {since} and is unfinished. Go on with it? "
            "(No starts a new one, and pays again.)",
            default=True,
            err=True,
        )
        return job if again else None
    if not quiet:
        click.echo(f"Going on with the unfinished job {job.id} (--new would start another).", err=True)
    return job


def _agree(
    draft: Draft,
    prospect: Prospect | None,
    budgets: list[Standing],
    limit: int | None,
    *,
    may_ask: bool,
    quiet: bool,
) -> None:
    """Show what it will cost, and stop here unless that is agreed to."""
    job = draft.job
    if not quiet:
        for line in (
            *plan_lines(job, len(draft.shards), prospect),
            *warning_lines(budgets, job.forecast.cost),
        ):
            click.echo(line, err=True)
    if limit is not None:
        # For a deadline's sake every row may come to be run in real time, and nearly all that are left of a batch.
        rescue = (job.deadline is not None and job.rescue) or job.small_tails == "realtime"
        most = draft.ceiling.realtime_cost if rescue else draft.ceiling.cost
        if most is None:
            draft.discard()
            raise UsageError(
                f"The price of {job.spec.model} is unknown, so --max-cost cannot be kept. Nothing was sent."
            )
        if most > limit:
            draft.discard()
            raise UsageError(
                f"This could cost up to {show_usd(most)}, more than the {show_usd(limit)} of --max-cost. "
                "Nothing was sent."
            )
        return
    if may_ask and not click.confirm("Send it?", default=True, err=True):
        draft.discard()
        raise click.exceptions.Abort

"""`halfrate budget`: limits on what is spent, and how they stand."""

from typing import Any

import click

from halfrate.base.errors import UsageError
from halfrate.base.money import show_usd
from halfrate.cli.amounts import Usd
from halfrate.cli.text import echo_json, echo_table, money
from halfrate.core.budgets import Budget, Period, Standing
from halfrate.service.home import Home
from halfrate.service.jobs import Service


@click.command(short_help="Show and set limits on what is spent.")
@click.argument("scope", required=False, metavar="[all | NAME=VALUE]")
@click.option("--stop", type=Usd(), default=None, help="Beyond this, nothing more is sent.")
@click.option("--warn", type=Usd(), default=None, help="From this on, `halfrate run` warns.")
@click.option(
    "--every",
    type=click.Choice(["day", "week", "month", "ever"]),
    default="month",
    show_default=True,
    help="In which time; UTC, as bills are.",
)
@click.option("--forget", is_flag=True, help="Have no such budget any more.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def budget(
    scope: str | None, stop: int | None, warn: int | None, every: Period, forget: bool, as_json: bool
) -> int:
    """Show budgets and how they stand, or set one: for all jobs, a tag's, an account's, or a model's.

    \b
    halfrate budget                                                     how they stand
    halfrate budget team=search --stop 500 --warn 400                   a month, for jobs with --tag team=search
    halfrate budget account=openai --stop 50 --every day
    halfrate budget all --warn 2000
    halfrate budget team=search --forget

    A job that would cross one is refused before anything is sent, or, with `halfrate run --over-budget wait`, sent as
    far as the budget allows. What is promised to open jobs counts as well as what was paid.
    """
    with Service(Home.from_environment()) as service:
        if scope is None:
            if stop is not None or warn is not None or forget:
                raise UsageError("Say whose budget: all, or NAME=VALUE as in team=search.")
        else:
            _set(service, _budget(scope, stop, warn, every), forget=forget)
        standings = service.budgets()
    if as_json:
        echo_json(list(map(_object, standings)))
        return 0
    if not standings:
        click.echo("There are no budgets. `halfrate budget team=search --stop 500` sets one, in USD a month.")
        return 0
    echo_table(
        ("budget", "every", "spent", "promised", "left", "warns from", "stops at", ""),
        list(map(_row, standings)),
        right=range(2, 7),
    )
    unknown = [one for one in standings if one.unknown]
    for one in unknown:
        click.echo(
            f"\n{one.budget.scope}: {one.unknown:,} payments or batches of unknown price are in no sum."
        )
    return 0


def _budget(scope: str, stop: int | None, warn: int | None, every: Period) -> Budget:
    name, _, value = scope.partition("=")
    if scope != "all" and not (name and value):
        raise UsageError(f"{scope!r} is nobody's budget; write all, or NAME=VALUE as in team=search.")
    if scope == "all":
        name = ""
    return Budget(name=name, value=value, period=every, warn=warn, stop=stop)


def _set(service: Service, asked: Budget, *, forget: bool) -> None:
    if not forget:
        service.set_budget(asked)
        return
    if asked.stop is not None or asked.warn is not None:
        raise UsageError("--forget takes no amount.")
    if not service.drop_budget(asked):
        raise UsageError(f"There is no budget for {asked.title}. Nothing was changed.")


def _row(one: Standing) -> tuple[str, ...]:
    held = one.budget
    used_up = held.stop is not None and one.taken >= held.stop
    state = "used up" if used_up else "warning" if one.warns() else ""
    return (
        held.scope,
        held.period,
        show_usd(one.spent),
        show_usd(one.promised),
        show_usd(one.left) if one.left is not None else "",
        show_usd(held.warn) if held.warn is not None else "",
        show_usd(held.stop) if held.stop is not None else "",
        state,
    )


def _object(one: Standing) -> dict[str, Any]:
    return {
        "budget": one.budget.scope,
        "every": one.budget.period,
        "spent_usd": money(one.spent),
        "promised_usd": money(one.promised),
        "left_usd": money(one.left),
        "warn_usd": money(one.budget.warn),
        "stop_usd": money(one.budget.stop),
        "unknown": one.unknown,
    }

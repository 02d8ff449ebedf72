"""`halfrate keys`: who may call the gateway."""

import datetime
import re
from typing import Any, Final, cast

import click

from halfrate.base.errors import UsageError
from halfrate.base.money import show_usd
from halfrate.cli.amounts import Usd
from halfrate.cli.options import pairs
from halfrate.cli.text import echo_json, echo_table, money
from halfrate.core.budgets import Budget, Period
from halfrate.core.keys import SURFACES, TAG, Key, Surface
from halfrate.service.home import Home
from halfrate.service.jobs import Service

_SPAN: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_ADDRESS: Final = "http://127.0.0.1:8080"
"""Where `halfrate serve` is unless told otherwise."""
# The official clients differ in whether /v1 is part of their base URL.
_VARIABLES: Final = {
    "openai": ("OPENAI_API_KEY", f"OPENAI_BASE_URL={_ADDRESS}/v1"),
    "anthropic": ("ANTHROPIC_API_KEY", f"ANTHROPIC_BASE_URL={_ADDRESS}"),
}


class _Span(click.ParamType[float]):
    """A length of time, as in 30d; seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = _SPAN.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no length of time; write it as 30d, 12h, 15m or 2w.", param, ctx)
        return float(int(found[1]) * _SECONDS[found[2]])


_AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group(short_help="Make, list and revoke keys of the gateway.")
def keys() -> None:
    """Make, list and revoke keys of the gateway: who may call it, for which models, and for how much.

    \b
    KEY=$(halfrate keys create nightly --team search)
    halfrate keys create reports --model 'openai/*' --budget 50 --expires 30d
    halfrate keys list
    halfrate keys revoke nightly

    Jobs of a key carry the tags team=TEAM and key=ID: `halfrate cost --by key` adds up what was paid, and
    `halfrate budget key=ID --stop 50` sets a limit.
    """


@keys.command(short_help="Make a key.")
@click.argument("name")
@click.option(
    "--team", default="default", show_default=True, metavar="TEAM", help="Whose files and batches it sees."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="PATTERN",
    help="What it may ask, as in 'openai/*'; all models unless told otherwise.",
)
@click.option(
    "--surface",
    "surfaces",
    multiple=True,
    type=click.Choice(SURFACES),
    help="Whose API it opens; both unless told otherwise. admin: what every team has spent.",
)
@click.option("--tag", multiple=True, metavar="K=V", help="For what is run with it, as in env=prod.")
@click.option("--budget", type=Usd(), default=None, help="Beyond this, nothing more is sent for it.")
@click.option(
    "--every",
    type=click.Choice(["day", "week", "month", "ever"]),
    default=None,
    help="In which time, for --budget; UTC. A month unless told otherwise.",
)
@click.option(
    "--requests-per-minute", type=click.IntRange(min=1), default=None, metavar="N", help="More are refused."
)
@click.option("--expires", type=_Span(), default=None, metavar="SPAN", help="When it ends, as in 30d.")
@_AS_JSON
def create(
    name: str,
    team: str,
    models: tuple[str, ...],
    surfaces: tuple[str, ...],
    tag: tuple[str, ...],
    budget: int | None,
    every: Period | None,
    requests_per_minute: int | None,
    expires: float | None,
    as_json: bool,
) -> int:
    """Make a key for NAME, and print it: alone on stdout, and never again."""
    if every is not None and budget is None:
        raise UsageError("--every says in which time --budget may be spent; give both. No key was made.")
    limit: Budget | None = None
    with Service(Home.from_environment()) as service:
        key, text = service.keys.create(
            name,
            team=team,
            models=models,
            # Checked by click.
            surfaces=cast("tuple[Surface, ...]", surfaces),
            tags=pairs(tag, "--tag"),
            requests_per_minute=requests_per_minute,
            expires=expires,
        )
        if budget is not None:
            # Before the key is shown: should this fail, nobody has a key that nothing limits.
            limit = Budget(name=TAG, value=key.id, period=every or "month", stop=budget)
            service.set_budget(limit)
    if as_json:
        shown = {"budget_usd": money(budget), "every": limit.period if limit is not None else None}
        echo_json({"key": text, **_object(key), **shown})
        return 0
    for line in _introduction(key, limit):
        click.echo(line, err=True)
    click.echo(text)
    return 0


@keys.command("list", short_help="List keys.")
@click.option("--all", "revoked", is_flag=True, help="Those that were revoked as well.")
@_AS_JSON
def list_(revoked: bool, as_json: bool) -> int:
    """List keys, the oldest first. What they are presented with is kept nowhere, and cannot be shown."""
    with Service(Home.from_environment()) as service:
        found, now = service.keys.all(), service.clock.now()
    listed = [key for key in found if revoked or key.revoked_at is None]
    if as_json:
        echo_json(list(map(_object, listed)))
    elif listed:
        head = ("key", "name", "team", "models", "surfaces", "tags", "a minute", "made", "expires", "")
        echo_table(head, [_row(key, now) for key in listed], right=(6,))
    elif found:
        click.echo("All keys were revoked; `halfrate keys list --all` shows them.")
    else:
        click.echo("There are no keys. `halfrate keys create NAME` makes one.")
    return 0


@keys.command(short_help="Revoke a key.")
@click.argument("key")
def revoke(key: str) -> int:
    """Close the gateway to KEY for good: its id, or its name where no other key has it.

    Batches that were made with it go on; `halfrate cancel` stops their jobs.
    """
    with Service(Home.from_environment()) as service:
        found = service.keys.revoke(key)
    click.echo(
        f"Key {found.id} ({found.name}) is revoked; a gateway that runs refuses it within a few seconds. Batches that "
        "were made with it go on.",
        err=True,
    )
    return 0


def _introduction(key: Key, limit: Budget | None) -> list[str]:
    lines = [
        f"Key {key.id} ({key.name}) of team {key.team}. It is shown only now: keep it where secrets are kept."
    ]
    if limit is not None:
        lines.append(f"At most {show_usd(limit.stop)} ({limit.title}).")
    if key.expires_at is not None:
        lines.append(f"Good until {_minute(key.expires_at)} UTC.")
    for surface, (variable, address) in _VARIABLES.items():
        if surface in key.surfaces:
            lines.append(f"Use it as {variable}, with {address}")
    return lines


def _row(key: Key, now: float) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        key.team,
        ", ".join(key.models) or "all",
        ", ".join(key.surfaces),
        ", ".join(f"{name}={value}" for name, value in key.tags.items()),
        "" if key.requests_per_minute is None else f"{key.requests_per_minute:,}",
        _minute(key.created_at),
        "" if key.expires_at is None else _minute(key.expires_at),
        _state(key, now),
    )


def _object(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "team": key.team,
        "models": key.models,
        "surfaces": key.surfaces,
        "tags": key.tags,
        "requests_per_minute": key.requests_per_minute,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "" if key.valid(now) else "expired"


def _minute(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")

"""`halfrate price`: what models cost, what others would, and prices of one's own."""

import datetime
from typing import Any, Final

import click

from halfrate.base.money import a_million
from halfrate.base.types import Price, Rates
from halfrate.cli.text import echo_json, echo_table
from halfrate.service.prices import (
    TIERS,
    forget_price,
    named_model,
    price_book,
    set_price,
    stacks,
    tier_prices,
    today,
)

_HEADS: Final = {
    "input": "in",
    "cached": "cached",
    "write_5m": "write 5 min",
    "write_1h": "write 1 h",
    "output": "out",
    "audio_input": "audio in",
    "audio_cached": "audio cached",
    "audio_output": "audio out",
    "image_output": "images out",
}
_KINDS: Final = tuple(_HEADS)
_TEXT: Final = _KINDS[:5]
_STACKS: Final = {True: "yes", False: "no", None: "not said"}


class _Day(click.ParamType[str]):
    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return datetime.date.fromisoformat(str(value)).isoformat()
        except ValueError:
            self.fail(f"{value!r} is no date; write it as 2026-01-31.", param, ctx)


class _Group(click.Group):
    """`price MODEL` shows a model: what is no command's name is a model's."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # An option before the model, as in `price --json MODEL`, is the model's too.
        if args and args[0].startswith("--") and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_Group,
    short_help="Show what models cost, by tier.",
    subcommand_metavar="MODEL | compare | set | forget",
)
def price() -> None:
    """Show what a model costs: USD for a million tokens of each kind, by tier, with where that is known from.

    \b
    halfrate price openai/gpt-4.1-mini
    halfrate price claude-haiku-4-5 --at 2026-01-31
    halfrate price compare openai/gpt-4.1-mini claude-haiku-4-5
    halfrate price set openai/gpt-4.1-mini --tier batch --input 0.15 --output 0.60
    """


_AT = click.option("--at", "day", type=_Day(), default=today, metavar="DATE", help="As of that day; today.")
_REGION = click.option(
    "--region",
    default="",
    metavar="PLACE",
    help="Where requests are run in one place for certain, as us or eu.",
)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@price.command(hidden=True)
@click.argument("model")
@_AT
@_REGION
@_AS_JSON
def show(model: str, day: str, region: str, as_json: bool) -> int:
    """Show what MODEL costs."""
    book = price_book()
    provider, name = named_model(model, book)
    found = tier_prices(book, provider, name, day, region)
    if as_json:
        echo_json(
            {
                "model": f"{provider}/{next(iter(found.values())).model}",
                "at": day,
                "region": region or None,
                "tiers": {tier: _object(one) for tier, one in found.items()},
            }
        )
        return 0
    where = f", {region}" if region else ""
    click.echo(f"{provider}/{next(iter(found.values())).model}, USD for a million tokens, {day}{where}\n")
    rows = [line for tier, one in found.items() for line in _lines(tier, one)]
    kept = [i for i, _ in enumerate(_KINDS) if any(row[i + 1] for row in rows)]
    shown = [(row[0], *(row[i + 1] for i in kept), row[-1]) for row in rows]
    head = ("tier", *(_HEADS[_KINDS[i]] for i in kept), "since")
    echo_table(head, shown, right=range(1, len(kept) + 1))
    click.echo()
    for source, tiers in _sources(found).items():
        click.echo(f"{', '.join(tiers)}: {source}")
    return 0


def _lines(tier: str, one: Price) -> list[tuple[str, ...]]:
    steps = [(f"  above {step.above:,} in", *_cells(step.rates), "") for step in one.steps]
    return [(tier, *_cells(one.rates), one.since or ""), *steps]


def _cells(rates: Rates) -> tuple[str, ...]:
    return tuple(a_million(getattr(rates, kind)) for kind in _KINDS)


def _sources(found: dict[str, Price]) -> dict[str, list[str]]:
    sources: dict[str, list[str]] = {}
    for tier, one in found.items():
        sources.setdefault(one.source or "no source is named", []).append(tier)
    return sources


def _object(one: Price) -> dict[str, Any]:
    return {
        "usd_per_million": _rates_object(one.rates),
        "steps": [{"above": step.above, "usd_per_million": _rates_object(step.rates)} for step in one.steps],
        "since": one.since,
        "source": one.source,
    }


def _rates_object(rates: Rates) -> dict[str, str | None]:
    """What text costs, None where that is unknown, and what else has a price of its own."""
    found = {kind: a_million(getattr(rates, kind)) or None for kind in _KINDS}
    return {kind: value for kind, value in found.items() if value is not None or kind in _TEXT}


@price.command(short_help="Set models beside each other.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@_AT
@_REGION
@_AS_JSON
def compare(models: tuple[str, ...], day: str, region: str, as_json: bool) -> int:
    """Set models beside each other: input and output in real time and in a batch, and cached input in each.

    USD for a million tokens. Nothing stands where a price is unknown.
    """
    book = price_book()
    lines: list[dict[str, Any]] = []
    for model in models:
        provider, name = named_model(model, book)
        found = tier_prices(book, provider, name, day, region)
        standard, batch = (found[tier].rates if tier in found else Rates() for tier in ("standard", "batch"))
        lines.append(
            {
                "model": f"{provider}/{next(iter(found.values())).model}",
                "realtime_input": a_million(standard.input) or None,
                "batch_input": a_million(batch.input) or None,
                "cached_input": a_million(standard.cached) or None,
                "batch_cached_input": a_million(batch.cached) or None,
                "realtime_output": a_million(standard.output) or None,
                "batch_output": a_million(batch.output) or None,
                "cache_stacks": stacks(provider),
            }
        )
    if as_json:
        echo_json(lines)
        return 0
    head = ("model", "in", "in batch", "cached", "cached in batch", "out", "out in batch", "both discounts")
    rows = [
        (*(value or "" for value in list(line.values())[:-1]), _STACKS[line["cache_stacks"]])
        for line in lines
    ]
    echo_table(head, rows, right=range(1, 7))
    click.echo(f"\nUSD for a million tokens, {day}{f', {region}' if region else ''}.")
    return 0


_RATE: Final = "USD for a million tokens."


@price.command("set", short_help="Note a price of your own.")
@click.argument("model")
@click.option("--tier", type=click.Choice(TIERS), default="standard", show_default=True)
@click.option("--input", "input_", required=True, metavar="USD", help=_RATE)
@click.option("--output", metavar="USD", help=f"{_RATE} Unknown if left out; embeddings have none.")
@click.option("--cached", metavar="USD", help="For input that was read from a cache.")
@click.option("--write-5m", metavar="USD", help="For input that is written into a cache for five minutes.")
@click.option("--write-1h", metavar="USD", help="For an hour.")
@click.option(
    "--audio-input", metavar="USD", help="For sound that is read; as text, if it has no price of its own."
)
@click.option("--audio-cached", metavar="USD", help="For sound that was read from a cache.")
@click.option("--audio-output", metavar="USD", help="For sound that is made.")
@click.option("--image-output", metavar="USD", help="For pictures that are made.")
@click.option("--region", default="", metavar="PLACE", help="For requests that are run there alone.")
@click.option("--since", type=_Day(), default=None, metavar="DATE", help="From that day on; from ever.")
@click.option("--source", default="", metavar="TEXT", help="Where you have it from.")
def set_(
    model: str,
    tier: str,
    input_: str,
    output: str | None,
    cached: str | None,
    write_5m: str | None,
    write_1h: str | None,
    audio_input: str | None,
    audio_cached: str | None,
    audio_output: str | None,
    image_output: str | None,
    region: str,
    since: str | None,
    source: str,
) -> int:
    """Note what MODEL costs you, before what the price book says.

    Jobs that exist keep the prices that they were planned with.
    """
    given = {
        "input": input_,
        "output": output,
        "cached": cached,
        "write_5m": write_5m,
        "write_1h": write_1h,
        "audio_input": audio_input,
        "audio_cached": audio_cached,
        "audio_output": audio_output,
        "image_output": image_output,
    }
    rates = {kind: value.strip().removeprefix("$") for kind, value in given.items() if value is not None}
    provider, name = _own_name(model)
    path = set_price(provider, name, tier, rates, since=since, source=source, region=region)
    click.echo(f"Noted in {path}.")
    return 0


@price.command(short_help="Forget a price of your own.")
@click.argument("model")
@click.option("--tier", type=click.Choice(TIERS), default="standard", show_default=True)
@click.option(
    "--since", type=_Day(), default=None, metavar="DATE", help="The one that was set from that day on."
)
@click.option("--region", default="", metavar="PLACE", help="The one that was set for that place.")
def forget(model: str, tier: str, since: str | None, region: str) -> int:
    """Forget what was set for MODEL: the price book's own price holds again."""
    provider, name = _own_name(model)
    path = forget_price(provider, name, tier, since, region=region)
    click.echo(f"Gone from {path}.")
    return 0


def _own_name(model: str) -> tuple[str, str]:
    """A model whose price may be unknown so far needs its provider's name."""
    from halfrate.providers.registry import split_model

    _, provider, name = split_model(model)
    return provider, name

"""`halfrate savings`: what waiting would save, from figures that one knows by heart."""

from fractions import Fraction
from typing import Any

import click

from halfrate.base.money import a_million, per_million, show_usd, usd
from halfrate.base.results import Tokens
from halfrate.base.types import Price, Rates
from halfrate.cli.amounts import Count, Share, ShareRange, Usd
from halfrate.cli.text import echo_json, echo_table
from halfrate.core.savings import RUNS_A_YEAR, Saving, SpendSaving, of_rows, of_spend

_ROWS = ("rows", "input_tokens", "cached_tokens", "output_tokens", "model", "input_price", "output_price")


@click.command(short_help="Work out what waiting would save.")
@click.option("--rows", type=Count(), default=None, help="Requests in a run; 1 if only tokens are given.")
@click.option("--input-tokens", type=Count(), default=None, help="Tokens of one request.")
@click.option("--cached-tokens", type=Count(), default=None, help="Those of them that come from a cache.")
@click.option("--output-tokens", type=Count(), default=None, help="Tokens of one answer.")
@click.option("--model", default=None, help="Whose prices; or:")
@click.option("--input-price", default=None, metavar="USD", help="For a million tokens, in real time.")
@click.option("--output-price", default=None, metavar="USD", help="For a million tokens, in real time.")
@click.option("--discount", type=Share(), default=None, help="What a batch saves of such a price; 50%.")
@click.option("--every", type=click.Choice(list(RUNS_A_YEAR)), default=None, help="How often it is run.")
@click.option("--spend", type=Usd(), default=None, help="A month's bill, instead of rows.")
@click.option("--batch-share", type=Share(), default=None, help="The part of the bill that can wait.")
@click.option(
    "--rest-saving",
    type=ShareRange(),
    default=None,
    help="What the rest could save another way: an assumption.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def savings(as_json: bool, spend: int | None, **given: Any) -> int:
    """Work out what waiting would save.

    \b
    halfrate savings --rows 200k --input-tokens 300 --output-tokens 50 --model claude-sonnet-4-6 --every week
    halfrate savings --spend 10000 --batch-share 40% --rest-saving 40%..70%

    A year has 12 months, 52 weeks or 365 days; a month, of what is run daily, 30 days.
    """
    if spend is not None:
        _refuse(given, (*_ROWS, "every"), "--spend")
        return _of_bill(spend, given, as_json)
    _refuse(given, ("batch_share", "rest_saving"), "rows")
    return _of_rows(given, as_json)


def _refuse(given: dict[str, Any], names: tuple[str, ...], beside: str) -> None:
    for name in names:
        if given[name] is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} says nothing beside {beside}.")


# ---------------------------------------------------------------- rows


def _of_rows(given: dict[str, Any], as_json: bool) -> int:
    if given["input_tokens"] is None or (given["model"] is None) == (given["input_price"] is None):
        raise click.UsageError(
            "Say --input-tokens, --output-tokens, and --model or --input-price, or say --spend."
        )
    rows: int = 1 if given["rows"] is None else given["rows"]
    read, cached, out = (given[name] or 0 for name in ("input_tokens", "cached_tokens", "output_tokens"))
    if cached > read:
        raise click.UsageError("--cached-tokens are part of --input-tokens, and cannot be more.")
    name, standard, batch = _priced(given)
    saving = of_rows(rows, Tokens(read - cached, cached, output=out), standard, batch)
    if saving is None:
        raise click.UsageError(
            f"{name} has no price for some of these tokens: say --input-price and --output-price."
        )
    every: str | None = given["every"]
    spans = [("a run", 1), *_spans(every)]
    if as_json:
        echo_json(
            {
                "model": name,
                "rows": rows,
                "input_tokens": read,
                "cached_tokens": cached,
                "output_tokens": out,
                "every": every,
                "saves_share": float(saving.share),
                "spans": {label: _saving_object(saving.times(runs)) for label, runs in spans},
            }
        )
        return 0
    what = f"{read:,} tokens in and {out:,} out"
    often = f", every {every}" if every else ""
    click.echo(f"{rows:,} requests of {what}{often}, {name}" if rows != 1 else f"{what}{often}, {name}")
    for label, price in (("real time", standard), ("batch", batch)):
        click.echo(f"{label}: {_rates(price)} for a million tokens in and out")
    click.echo()
    lines = [(label, *map(show_usd, _figures(saving.times(runs)))) for label, runs in spans]
    echo_table(("", "in real time", "in batches", "saved"), lines, right=(1, 2, 3))
    click.echo(f"\nWaiting saves {float(saving.share):.0%}.")
    return 0


def _figures(saving: Saving) -> tuple[int, int, int]:
    return (saving.realtime, saving.batch, saving.saved)


def _spans(every: str | None) -> list[tuple[str, int]]:
    match every:
        case None | "year":
            return []
        case "hour" | "day":
            return [("30 days", 30 if every == "day" else 720), ("a year", RUNS_A_YEAR[every])]
        case _:
            return [("a year", RUNS_A_YEAR[every])]


def _priced(given: dict[str, Any]) -> tuple[str, Price, Price]:
    """What the model is called, and its prices in real time and in a batch."""
    if given["model"] is None:
        return _own_prices(given)
    _refuse(given, ("input_price", "output_price", "discount"), "--model")
    from halfrate.service.prices import named_model, price_book, tier_prices, today

    book = price_book()
    provider, model = named_model(given["model"], book)
    found = tier_prices(book, provider, model, today())
    if "standard" not in found or "batch" not in found:
        known = ", ".join(found)
        raise click.UsageError(
            f"The price book has {provider}/{model} in these tiers alone: {known}. Say --input-price, "
            "--output-price and --discount."
        )
    return f"{provider}/{model}", found["standard"], found["batch"]


def _own_prices(given: dict[str, Any]) -> tuple[str, Price, Price]:
    share: Fraction = 1 - (Fraction(1, 2) if given["discount"] is None else given["discount"])
    try:
        rates = {
            kind: per_million((given[f"{kind}_price"] or "0").strip().removeprefix("$"))
            for kind in ("input", "output")
        }
    except (ValueError, ArithmeticError):
        raise click.UsageError(
            "--input-price and --output-price take USD for a million tokens, as in 0.40."
        ) from None
    if min(rates.values()) < 0:
        raise click.UsageError("A price cannot be less than nothing.")
    # Cached tokens at the full price: what a cache saves is not known of a price that one made up.
    dear = Rates(input=rates["input"], cached=rates["input"], output=rates["output"])
    low = {kind: int(rate * share) for kind, rate in rates.items()}
    cheap = Rates(input=low["input"], cached=low["input"], output=low["output"])
    return (
        "prices as given",
        Price(model="", tier="standard", rates=dear),
        Price(model="", tier="batch", rates=cheap),
    )


def _rates(price: Price) -> str:
    return " and ".join(f"${a_million(rate)}" for rate in (price.rates.input, price.rates.output))


def _saving_object(saving: Saving) -> dict[str, str]:
    return {
        "realtime_usd": usd(saving.realtime),
        "batch_usd": usd(saving.batch),
        "saved_usd": usd(saving.saved),
    }


# ---------------------------------------------------------------- a bill


def _of_bill(spend: int, given: dict[str, Any], as_json: bool) -> int:
    if given["batch_share"] is None:
        raise click.UsageError("Which part of the bill can wait? Say --batch-share, as in 40%.")
    discount = Fraction(1, 2) if given["discount"] is None else given["discount"]
    found = of_spend(
        spend, given["batch_share"], discount, given["rest_saving"] or (Fraction(0), Fraction(0))
    )
    if as_json:
        echo_json(_bill_object(found))
        return 0
    moved = float(given["batch_share"])
    rows = [(f"batches for {moved:.0%} of it, {float(discount):.0%} off", show_usd(found.batch), "")]
    if given["rest_saving"] is not None:
        low, high = given["rest_saving"]
        rows.append((f"{_percent(low, high)} of the rest, if that is so", _range(found.rest), ""))
    rows.append(("in all", _range(found.total), _percent(*found.shares)))
    click.echo(f"A bill of {show_usd(spend)} a month\n")
    echo_table(("saved", "a month", "of the bill"), rows, right=(1, 2))
    return 0


def _range(amounts: tuple[int, int]) -> str:
    low, high = amounts
    return show_usd(low) if low == high else f"{show_usd(low)} to {show_usd(high)}"


def _percent(low: Fraction, high: Fraction) -> str:
    return f"{float(low):.0%}" if low == high else f"{float(low):.0%} to {float(high):.0%}"


def _bill_object(found: SpendSaving) -> dict[str, Any]:
    return {
        "spend_usd": usd(found.spend),
        "batch_saved_usd": usd(found.batch),
        "rest_saved_usd": list(map(usd, found.rest)),
        "saved_usd": list(map(usd, found.total)),
        "saves_share": list(map(float, found.shares)),
    }

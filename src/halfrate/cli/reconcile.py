"""`halfrate reconcile`: the providers' bills against the ledger."""

import csv
import datetime
import io
import math
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from halfrate.base.money import added, show_usd
from halfrate.cli.amounts import Share
from halfrate.cli.reports import period, put
from halfrate.cli.text import echo_table, money
from halfrate.core.reconcile import Finding
from halfrate.core.sides import VERDICTS, Tokens4
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.live_bills import PROVIDERS
from halfrate.service.reconcile import Ask, Outcome, Source, compare, totals

EXIT_DISAGREES: Final = 3
"""Finished, and not all is as it should be: what 3 means of a job's rows as well."""
_EPOCH: Final = datetime.date(1970, 1, 1)
_SHOWN: Final = 40
"""Findings of one kind that a table shows."""
_MEANS: Final = {
    "unknown to us": "billed, and not in the ledger",
    "billed twice": "billed more often than it was done",
    "discount missing": "done in a batch, billed at the price of real time",
    "differs": "on the bill and in the ledger, and not the same",
    "fee": "billed for what is counted by no token meter",
    "not billed": "in the ledger, and on no bill",
    "agreed": "on the bill and in the ledger, the same",
}


@click.command(short_help="Compare the providers' bills with the ledger.")
@click.argument("invoices", nargs=-1, metavar="[INVOICE]...", type=click.Path(path_type=Path))
@click.option("--live", multiple=True, type=click.Choice(PROVIDERS), help="Ask a provider's admin API.")
@click.option("--tokens", is_flag=True, help="With --live: ask for usage in tokens instead of costs.")
@period
@click.option(
    "--tolerance", type=Share(), default="0.5%", show_default=True, help="What an amount may be off by."
)
@click.option(
    "--days-slack",
    type=click.IntRange(0, 7),
    default=1,
    show_default=True,
    help="Days by which a batch's bill may precede its collection.",
)
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="NAME[=PROJECT]",
    help="One account alone, and what stands for it on the bill; repeatable.",
)
@click.option("--all", "show_all", is_flag=True, help="Show what agrees, too.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json"]),
    default=None,
    help="A table unless told otherwise.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="Write a file.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def reconcile(
    invoices: tuple[Path, ...],
    live: tuple[str, ...],
    tokens: bool,
    since: float,
    until: float,
    tolerance: Fraction,
    days_slack: int,
    accounts: tuple[str, ...],
    show_all: bool,
    format_: str | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Compare what providers billed with what the ledger says was paid: by day, model, tier and account.

    \b
    halfrate reconcile openai-costs.csv --since 2026-11-01 --until 2026-12-01
    halfrate reconcile --live openai --live anthropic --since 30d
    halfrate reconcile cur.parquet google.jsonl azure.csv

    INVOICE is an export of costs or usage: of OpenAI or Anthropic (JSON or CSV), an AWS cost and usage report, Google's
    billing export, an Azure cost export. What a file is, is told by what is in it. The exit code is 0 if all agrees.
    """
    if not invoices and not live:
        raise click.UsageError("Name an export, or ask a provider with --live.")
    if tokens and not live:
        raise click.UsageError("--tokens goes with --live: a file is what it is.")
    ask = Ask(
        invoices=invoices,
        live=tuple(dict.fromkeys(live)),
        basis="usage" if tokens else "cost",
        since=since if math.isfinite(since) else None,
        until=until if math.isfinite(until) else None,
        tolerance=tolerance,
        days_slack=days_slack,
        accounts=_accounts(accounts),
    )
    with Service(Home.from_environment()) as service:
        outcome = compare(service, ask, time.time())
    chosen = format_ or ("json" if as_json else _by_ending(output))
    match chosen:
        case "json":
            data = msgspec.json.encode(_object(outcome)) + b"\n"
        case "csv":
            data = _csv(outcome.findings)
        case _:
            data = _table(outcome, show_all=show_all)
    put(data, output, "Nothing was changed anywhere.")
    if output is not None:
        click.echo(_closing(outcome))
    return 0 if outcome.agrees else EXIT_DISAGREES


def _accounts(given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, _, hint = text.partition("=")
        if not name.strip() or name.strip() in found:
            raise click.UsageError(f"--account takes NAME or NAME=PROJECT, each name once, not {text!r}.")
        found[name.strip()] = hint.strip()
    return found


def _by_ending(output: Path | None) -> str:
    ending = output.suffix.removeprefix(".") if output is not None else ""
    return ending if ending in {"csv", "json"} else "table"


def _date(day: int) -> str:
    return (_EPOCH + datetime.timedelta(days=day)).isoformat()


# ---------------------------------------------------------------- a table


def _table(outcome: Outcome, *, show_all: bool) -> bytes:
    with io.StringIO() as out:
        for source in outcome.sources:
            click.echo(_source_line(source), file=out)
        terms = outcome.terms
        slack = terms.days_slack
        click.echo(
            f"Compared: {_date(terms.first)} to {_date(terms.end - 1)} (UTC), amounts within "
            f"{_percent(terms.tolerance)}, at most {slack} {'day' if slack == 1 else 'days'} apart.",
            file=out,
        )
        for verdict in VERDICTS:
            found = [one for one in outcome.findings if one.verdict == verdict]
            if found and (show_all or verdict != "agreed"):
                click.echo(f"\n{verdict}: {_MEANS[verdict]}", file=out)
                _findings_table(found, out)
        click.echo("", file=out)
        _sums(outcome, out)
        for line in _notes(outcome):
            click.echo(line, file=out)
        click.echo(_closing(outcome), file=out)
        return out.getvalue().encode()


def _source_line(source: Source) -> str:
    lines = "1 line" if source.lines == 1 else f"{source.lines:,} lines"
    told = f"{source.name}: {source.title}, {lines}"
    if source.others:
        told += f" (and {source.others:,} of other services)"
    return told


def _findings_table(found: list[Finding], out: io.StringIO) -> None:
    found = sorted(found, key=lambda one: (-abs(one.off or one.billed or 0), one.first, one.model))
    shown = found[:_SHOWN]
    rows = [
        (
            _days(one),
            _what(one),
            one.tier,
            _count(one),
            _amount(one),
            show_usd(one.ours),
            _signed(one.off),
            _because(one),
        )
        for one in shown
    ]
    head = (
        "day",
        "what",
        "tier",
        "number" if found[0].fee else "tokens billed",
        "billed",
        "ours",
        "off by",
        "",
    )
    # What nobody has only takes room.
    kept = [i for i in range(len(head)) if i in {4, 5} or any(row[i] for row in rows)]
    right = tuple(place for place, i in enumerate(kept) if i in {3, 4, 5, 6})
    echo_table(
        tuple(head[i] for i in kept), [tuple(row[i] for i in kept) for row in rows], right=right, file=out
    )
    if len(found) > len(shown):
        click.echo(f"and {len(found) - len(shown):,} more, which --format csv has", file=out)


def _days(one: Finding) -> str:
    if one.first == one.last:
        return _date(one.first)
    return f"{_date(one.first)}..{_date(one.last)[8:]}"


def _what(one: Finding) -> str:
    where = one.scope or one.provider
    if one.fee:
        return f"{where}: {one.fee}"
    return f"{where}/{one.model}"


def _count(one: Finding) -> str:
    if one.fee:
        return f"{one.quantity:,}" if one.quantity is not None else ""
    return f"{sum(one.billed_tokens):,}" if one.billed_tokens is not None else ""


def _amount(one: Finding) -> str:
    if one.basis == "usage" and one.fee:
        return "not said"
    return f"{'about ' if one.estimated and one.verdict != 'agreed' else ''}{show_usd(one.billed)}"


def _signed(pico: int | None) -> str:
    if pico is None:
        return ""
    return f"-{show_usd(-pico)}" if pico < 0 else f"+{show_usd(pico)}" if pico else show_usd(0)


def _because(one: Finding) -> str:
    names = ", ".join(one.names[:2])
    if len(one.names) > 2:
        names += f" and {len(one.names) - 2} more"
    return "; ".join(part for part in (one.why, names if one.verdict != "agreed" else "") if part)


def _sums(outcome: Outcome, out: io.StringIO) -> None:
    sums = totals(outcome.findings)
    if not sums:
        return
    rows = [
        (verdict, f"{number:,}", show_usd(billed), show_usd(ours), _signed(_off(billed, ours)))
        for verdict in VERDICTS
        if verdict in sums
        for number, billed, ours in [sums[verdict]]
    ]
    if len(rows) > 1:
        billed = added(amount for _, amount, _ in sums.values())
        ours = added(amount for _, _, amount in sums.values())
        count = sum(number for number, _, _ in sums.values())
        rows.append(("all", f"{count:,}", show_usd(billed), show_usd(ours), _signed(_off(billed, ours))))
    echo_table(("", "amounts", "billed", "ours", "off by"), rows, right=(1, 2, 3, 4), file=out)
    click.echo("", file=out)


def _off(billed: int | None, ours: int | None) -> int | None:
    return None if billed is None or ours is None else billed - ours


def _notes(outcome: Outcome) -> list[str]:
    notes: list[str] = []
    aside: dict[str, tuple[int, int | None]] = {}
    for source in outcome.sources:
        for name, (lines, amount) in source.aside.items():
            had_lines, had = aside.get(name, (0, 0))
            aside[name] = (had_lines + lines, added((had, amount)))
    for name, (_, amount) in sorted(aside.items()):
        notes.append(f"Left out, for it is no use of a model: {name}, {show_usd(amount)}.")
    currencies = sorted({currency for source in outcome.sources for currency in source.currencies})
    if currencies:
        notes.append(
            f"Amounts in {', '.join(currencies)} were not compared, for the ledger is in USD; tokens were, where they "
            "are counted."
        )
    if outcome.elsewhere:
        notes.append(f"{outcome.elsewhere:,} lines of other projects were passed over.")
    if outcome.unread:
        names = ", ".join(outcome.unread)
        notes.append(f"The ledger has payments of that time at {names} too, and no bill of theirs was given.")
    return notes


def _closing(outcome: Outcome) -> str:
    wrong = [one for one in outcome.findings if one.verdict != "agreed"]
    right = [one for one in outcome.findings if one.verdict == "agreed"]
    within = f"within {_percent(outcome.terms.tolerance)}"
    if not outcome.findings:
        return "Nothing was billed in that time, and nothing is in the ledger."
    if not wrong:
        billed = added(one.billed for one in right)
        return f"All agrees, {within}: {_many(len(right))}, {show_usd(billed)}."
    more = [one for one in wrong if (one.off or 0) > 0]
    less = [one for one in wrong if (one.off or 0) < 0]
    parts: list[str] = []
    if more:
        parts.append(f"{show_usd(sum(one.off or 0 for one in more))} more than the ledger has was billed")
    if less:
        parts.append(f"{show_usd(-sum(one.off or 0 for one in less))} less")
    verb = "does" if len(wrong) == 1 else "do"
    sums = f": {', and '.join(parts)}" if parts else ""
    return (
        f"{_many(len(wrong))} {verb} not agree, {len(right):,} {'does' if len(right) == 1 else 'do'}{sums}."
    )


def _many(number: int) -> str:
    return "1 amount" if number == 1 else f"{number:,} amounts"


def _percent(share: Fraction) -> str:
    return f"{float(share) * 100:.6g}%"


# ---------------------------------------------------------------- for programs


def _object(outcome: Outcome) -> dict[str, Any]:
    sums = totals(outcome.findings)
    return {
        "agrees": outcome.agrees,
        "since": _date(outcome.terms.first),
        "until": _date(outcome.terms.end),
        "tolerance": float(outcome.terms.tolerance),
        "days_slack": outcome.terms.days_slack,
        "sources": [
            {
                "name": source.name,
                "form": source.title,
                "basis": source.basis,
                "lines": source.lines,
                "lines_of_other_services": source.others,
                "left_out": [
                    {"what": name, "lines": lines, "usd": money(amount)}
                    for name, (lines, amount) in source.aside.items()
                ],
                "currencies_not_compared": list(source.currencies),
            }
            for source in outcome.sources
        ],
        "lines_of_other_projects": outcome.elsewhere,
        "providers_without_a_bill": list(outcome.unread),
        "sums": {
            verdict: {"amounts": number, "billed_usd": money(billed), "ledger_usd": money(ours)}
            for verdict, (number, billed, ours) in sums.items()
        },
        "findings": [dict(zip(_COLUMNS, _cells(one), strict=True)) for one in outcome.findings],
    }


_COLUMNS: Final = (
    "verdict",
    "basis",
    "provider",
    "account",
    "model",
    "tier",
    "fee",
    "first_day",
    "last_day",
    "billed_tokens",
    "ledger_tokens",
    "quantity",
    "billed_usd",
    "billed_estimated",
    "ledger_usd",
    "off_usd",
    "why",
    "names",
)


def _cells(one: Finding) -> tuple[Any, ...]:
    """Values of _COLUMNS. Money in USD as exact decimal text, None where unknown."""
    return (
        one.verdict,
        one.basis,
        one.provider,
        one.scope,
        one.model,
        one.tier,
        one.fee,
        _date(one.first),
        _date(one.last),
        _total(one.billed_tokens),
        _total(one.our_tokens),
        one.quantity,
        money(one.billed),
        one.estimated,
        money(one.ours),
        money(one.off),
        one.why,
        list(one.names),
    )


def _total(tokens: Tokens4 | None) -> int | None:
    return None if tokens is None else sum(tokens)


def _csv(findings: Iterable[Finding]) -> bytes:
    with io.StringIO(newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for one in findings:
            cells = list(_cells(one))
            cells[-1] = " ".join(one.names)
            writer.writerow(cells)
        return out.getvalue().encode()

"""`halfrate cost`: what was paid, and what for, without touching a provider."""

import csv
import io
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from halfrate.base.money import show_usd
from halfrate.cli.forecast import LEARNED
from halfrate.cli.reports import period, put
from halfrate.cli.text import echo_json, echo_table, money, money_line
from halfrate.service.costs import CostLine, total
from halfrate.service.home import Home
from halfrate.service.jobs import Service

_KEPT: Final = "The ledger is untouched."


@click.command(short_help="Show what was paid, and what for.")
@click.argument("job", required=False)
@click.option(
    "--by",
    multiple=True,
    metavar="NAME",
    help="job, model, account, provider, tier, day, month, kind, or a tag; several with commas between them.",
)
@period
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default=None,
    help="A table unless told otherwise.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="Write a file.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--forecasts", is_flag=True, help="What was forecast, and how far that was off.")
def cost(
    job: str | None,
    by: tuple[str, ...],
    since: float,
    until: float,
    format_: str | None,
    output: Path | None,
    as_json: bool,
    forecasts: bool,
) -> int:
    """Show what was paid for JOB, or for all jobs, from the ledger."""
    since = max(since, 0.0)
    if forecasts:
        others = job is not None or by or output is not None or until != math.inf
        if others or format_ not in {None, "json", "table"}:
            raise click.UsageError("--forecasts goes with --since and --json alone.")
        return _forecasts(since, as_json=as_json or format_ == "json")
    named = tuple(filter(None, (name.strip() for names in by for name in names.split(","))))
    names = named or (("model",) if job is not None else ("job",))
    with Service(Home.from_environment()) as service:
        found = service.find(job).id if job is not None else None
        lines = service.costs(found, by=names, since=since, until=until)
        whole = found is not None and since == 0 and until == math.inf
        closing = money_line(service.report(found)) if found is not None and whole else None
    chosen = format_ or ("json" if as_json else _by_ending(output))
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing for a terminal: name a file with -o.")
    if chosen != "table":
        put(_FORMATS[chosen](lines, names), output, _KEPT)
        return 0
    if not lines:
        click.echo("Nothing was paid yet." if since == 0 else "Nothing was paid in that time.")
        return 0
    put(_table(lines, names, closing), output, _KEPT)
    return 0


def _forecasts(since: float, *, as_json: bool) -> int:
    with Service(Home.from_environment()) as service:
        found = service.forecast_scores(since)
    if as_json:
        echo_json(
            [
                {
                    "job": one.job,
                    "model": one.model,
                    "basis": one.basis,
                    "forecast_usd": money(one.forecast),
                    "low_usd": money(one.low),
                    "high_usd": money(one.high),
                    "paid_usd": money(one.paid),
                    "off": one.off,
                    "held": one.held,
                }
                for one in found
            ]
        )
        return 0
    if not found:
        click.echo("No job has ended for which a cost was forecast.")
        return 0
    rows = [
        (
            one.job,
            one.model,
            one.basis,
            show_usd(one.forecast),
            f"{show_usd(one.low)} to {show_usd(one.high)}",
            show_usd(one.paid),
            f"{one.off:+.1%}",
            "held" if one.held else "did not hold",
        )
        for one in found
    ]
    head = ("job", "model", "learned from", "forecast", "range", "paid", "off by", "the range")
    echo_table(head, rows, right=(3, 4, 5, 6))
    click.echo()
    for basis in ("prompt", "model", "nothing"):
        of_basis = [one for one in found if one.basis == basis]
        if of_basis:
            middle = statistics.median(abs(one.off) for one in of_basis)
            held = sum(one.held for one in of_basis)
            click.echo(
                f"learned from {LEARNED[basis]}: off by {middle:.1%} in the middle, "
                f"{held} of {len(of_basis)} ranges held"
            )
    return 0


def _by_ending(output: Path | None) -> str:
    ending = output.suffix.removeprefix(".") if output is not None else ""
    return ending if ending in _FORMATS else "table"


# ---------------------------------------------------------------- a table


def _table(lines: list[CostLine], names: tuple[str, ...], closing: str | None) -> bytes:
    shown = [*lines, total(lines, "all", len(names))] if len(lines) > 1 else lines
    columns: list[tuple[str, Callable[[CostLine], str]]] = [
        ("rows", lambda line: f"{line.rows:,}"),
        ("tokens in", lambda line: f"{line.usage.total_input:,}"),
        ("cached", lambda line: f"{line.usage.cached:,}"),
        ("out", lambda line: f"{line.usage.output:,}"),
        ("paid", lambda line: show_usd(line.cost)),
        ("in real time", lambda line: show_usd(line.realtime_cost)),
        ("saved", lambda line: show_usd(line.saved)),
    ]
    # What is zero for everybody only takes room.
    if any(line.cache_saved != 0 for line in lines):
        columns.append(("by caching", lambda line: show_usd(line.cache_saved)))
    if any(line.waste != 0 for line in lines):
        columns.append(("wasted", lambda line: show_usd(line.waste)))
    if any(line.rescue != 0 for line in lines):
        columns.append(("for real time", lambda line: show_usd(line.rescue)))
    if any(line.doubts for line in lines):
        columns.append(("in doubt", lambda line: f"{line.doubts:,}"))
    head = (*names, *(name for name, _ in columns))
    rows = [(*line.keys, *(cell(line) for _, cell in columns)) for line in shown]
    with io.StringIO() as out:
        echo_table(head, rows, right=range(len(names), len(head)), file=out)
        if closing is not None:
            click.echo(closing, file=out)
        return out.getvalue().encode()


# ---------------------------------------------------------------- for programs

_FIGURES: Final = (
    "rows",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "cost_usd",
    "realtime_cost_usd",
    "saved_usd",
    "cache_saved_usd",
    "waste_usd",
    "rescue_usd",
    "calls_in_doubt",
)


def _figures(line: CostLine) -> tuple[int | str | None, ...]:
    """Values of _FIGURES. Money in USD as exact decimal text, None where unknown."""
    usage = line.usage
    counts = (line.rows, usage.total_input, usage.cached, usage.write_5m + usage.write_1h, usage.output)
    parts = (
        usage.reasoning,
        usage.audio_input + usage.audio_cached,
        usage.audio_output,
        usage.image_output,
    )
    saved = (line.saved, line.cache_saved)
    amounts = (line.cost, line.realtime_cost, *saved, line.waste, line.rescue)
    return (*counts, *parts, *map(money, amounts), line.doubts)


def _json(lines: list[CostLine], names: tuple[str, ...]) -> bytes:
    objects = [
        {
            "by": dict(zip(names, line.keys, strict=True)),
            **dict(zip(_FIGURES, _figures(line), strict=True)),
        }
        for line in lines
    ]
    return msgspec.json.encode(objects) + b"\n"


def _csv(lines: list[CostLine], names: tuple[str, ...]) -> bytes:
    with io.StringIO(newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow((*names, *_FIGURES))
        writer.writerows((*line.keys, *_figures(line)) for line in lines)
        return out.getvalue().encode()


def _parquet(lines: list[CostLine], names: tuple[str, ...]) -> bytes:
    from halfrate.rows.arrow import need_pyarrow

    need_pyarrow("Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    exact = pa.decimal128(38, 12)
    keys = {name: [line.keys[i] for line in lines] for i, name in enumerate(names)}
    columns: dict[str, Any] = {name: pa.array(values, pa.string()) for name, values in keys.items()}
    for i, name in enumerate(_FIGURES):
        values = [_figures(line)[i] for line in lines]
        if name.endswith("_usd"):
            columns[name] = pa.array(values, pa.string()).cast(exact)
        else:
            columns[name] = pa.array(values, pa.int64())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)  # pyright: ignore[reportUnknownMemberType]
    return sink.getvalue().to_pybytes()


_FORMATS: Final[dict[str, Callable[[list[CostLine], tuple[str, ...]], bytes]]] = {
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
}

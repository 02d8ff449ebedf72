"""`halfrate audit`: which part of a log of usage could have waited, and what that would have saved."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

import click

from halfrate.cli.amounts import Count, ShareRange
from halfrate.cli.reports import period, put
from halfrate.service.audit import Report

_ENDINGS: Final = {"md": "markdown", "markdown": "markdown", "html": "html", "htm": "html", "json": "json"}


@click.command(short_help="Find what could wait in a log of usage.")
@click.argument(
    "usage", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True), metavar="USAGE..."
)
@click.option(
    "--by",
    multiple=True,
    metavar="NAME",
    help="job, endpoint, team, key, model, provider, tier, user, or a tag; repeatable. Chosen by what the log has.",
)
@period
@click.option(
    "--rest-saving",
    type=ShareRange(),
    default=None,
    help="What the rest could save another way, as in 40%..70%: an assumption.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "html", "json"]),
    default=None,
    help="A table unless told otherwise.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="Write a file.")
@click.option("--top", type=Count(), default=None, metavar="N", help="The N groups that cost most.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def audit(
    usage: tuple[Path, ...],
    by: tuple[str, ...],
    since: float,
    until: float,
    rest_saving: tuple[Fraction, Fraction] | None,
    format_: str | None,
    output: Path | None,
    top: int | None,
    as_json: bool,
) -> int:
    """Read logs of usage, judge what could wait for a batch, and price the move.

    \b
    halfrate audit spend_logs.csv
    halfrate audit langfuse/*.jsonl.gz --by team --rest-saving 40%..70% -o audit.html

    USAGE is an export of OpenAI or Anthropic, a spend log of LiteLLM, an export of Langfuse or Helicone, OpenTelemetry
    spans as OTLP JSON, halfrate's gateway log, or a table of calls; packed with gzip or not. Nothing is sent anywhere.
    """
    from halfrate.service.audit import audit as examined

    if top == 0:
        raise click.UsageError("--top 0 would show nothing.")
    report = examined(usage, by=by, since=since, until=until, rest_saving=rest_saving)
    chosen = format_ or ("json" if as_json else _by_ending(output))
    put(_form(chosen)(report, top).encode(errors="replace"), output, "The logs are untouched.")
    if output is not None:
        click.echo(f"Written to {output}", err=True)
    return 0


def _by_ending(output: Path | None) -> str:
    ending = output.suffix.removeprefix(".").lower() if output is not None else ""
    return _ENDINGS.get(ending, "table")


def _form(name: str) -> Callable[[Report, int | None], str]:
    match name:
        case "markdown":
            from halfrate.cli.audit_markdown import markdown

            return markdown
        case "html":
            from halfrate.cli.audit_html import page

            return page
        case "json":
            from halfrate.cli.audit_words import as_json

            return as_json
        case _:
            from halfrate.cli.audit_table import table

            return table

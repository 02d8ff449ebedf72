"""`halfrate demo`: the whole of it in half a minute, against the emulator, with the tickets that ship with it."""

import asyncio
import contextlib
import csv
import io
import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Generator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from halfrate.base.errors import HalfrateError, SettingsError
from halfrate.base.money import show_usd
from halfrate.cli.app import EXIT_DETACHED
from halfrate.cli.display import display_for
from halfrate.cli.text import plan_lines, summary_lines
from halfrate.core.job import Job
from halfrate.core.lifecycle import Shard
from halfrate.service.drafts import Ask
from halfrate.service.home import Home, Timing
from halfrate.service.jobs import Service
from halfrate.service.report import Report

SYSTEM: Final = "You sort the support tickets of an outdoor shop."
PROMPT: Final = "{subject}: {message}"

_MODELS: Final = (
    ("OpenAI", "openai", "gpt-4.1-mini", ""),
    (
        "Anthropic",
        "anthropic",
        "claude-haiku-4-5",
        "Anthropic gives no count of finished rows before the end.",
    ),
)
# Two kinds of trouble, both asked for: rows that a second attempt cures, and rows that no attempt does.
_FAULTS: Final = ("row-error:rate=0.03,status=429", "row-error:rate=0.015,status=400,sticky=true")
_SEED: Final = 3
# Slow enough to see every state, fast enough not to be waited for.
_VALIDATE, _QUEUE, _PER_1000_ROWS, _FINALIZE = 0.5, 0.4, 8.0, 0.6
_TIMING: Final = Timing(settle=5.0, poll_first=0.2, poll_most=0.3, backoff_first=0.2, quota_wait=1.0)
# Files of examples/ and their copies inside the package: a wheel has no examples folder.
_SHIPPED: Final = {
    "support_tickets.csv": "demo_tickets.csv",
    "ticket.schema.json": "demo_ticket.schema.json",
}
_MADE: Final = "made-by-halfrate-demo"
_SHOWN: Final = 6
_INTRO: Final = """\
{rows} support tickets go through the batch APIs of OpenAI and Anthropic, and come back sorted.

Both providers are played by an emulator inside this process: no key, no network, no cost. Its answers are
made up; files, batches, states, tokens and prices are as the providers'. On purpose it lets about 3% of
the rows fail for the moment (429), which halfrate sends again, and refuses 1 to 2% for good (400); those
stay failed."""


class _Run(NamedTuple):
    """One provider's part of the demonstration. `billed`: what the emulator's meter says, in picodollars."""

    title: str
    job: Job
    report: Report
    output: Path
    billed: int


@click.command(short_help="Show it all in a minute: no key, no network, no cost.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where the tickets and the answers go.",
)
def demo(folder: Path) -> int:
    """Run 300 support tickets through both providers' batch APIs, as an emulator on this machine plays them."""
    tickets = _prepare(folder)
    rows = list(csv.DictReader(io.StringIO(tickets.read_text(encoding="utf-8"))))
    _heading("halfrate demo")
    width = min(shutil.get_terminal_size().columns, 100)
    paragraphs = _INTRO.format(rows=len(rows)).split("\n\n")
    click.echo("\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs))
    try:
        runs, meter = _carry_out(folder, tickets)
    except KeyboardInterrupt:
        click.echo(f"\nStopped. Nothing was sent anywhere; {folder} can be removed.", err=True)
        return EXIT_DETACHED
    _show_answers(runs[0], rows)
    equal = _show_money(runs, meter)
    _show_next(runs, folder, tickets)
    if not equal:
        raise HalfrateError(
            "The ledger and the emulator's meter differ. This is a defect of halfrate: report it."
        )
    return 0


# ---------------------------------------------------------------- before


def _prepare(folder: Path) -> Path:
    """Make the folder, with a copy of the tickets and of their schema. Gives the path of the tickets."""
    home = folder / "home"
    try:
        # The jobs of an earlier demonstration belong to an emulator that is gone.
        if (home / _MADE).exists():
            shutil.rmtree(home)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / _MADE).touch()
        for name, shipped in _SHIPPED.items():
            (folder / name).write_bytes(files("halfrate.cli").joinpath(shipped).read_bytes())
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be used ({error.strerror}). Name another folder with --folder."
        ) from error
    return folder / "support_tickets.csv"


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Generator[None]:
    """Environment variables for the time being."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# ---------------------------------------------------------------- the run


def _carry_out(folder: Path, tickets: Path) -> tuple[list[_Run], dict[str, Any]]:
    from halfrate.emulator import Emulator, Pace

    pace = Pace(validate=_VALIDATE, queue=_QUEUE, per_1000_rows=_PER_1000_ROWS, finalize=_FINALIZE)
    runs: list[_Run] = []
    with Emulator(seed=_SEED, pace=pace, faults=_FAULTS) as emulator, emulator.running() as url:
        settings = {
            "OPENAI_BASE_URL": emulator.openai_base_url(url),
            "OPENAI_API_KEY": "emulator",
            "ANTHROPIC_BASE_URL": emulator.anthropic_base_url(url),
            "ANTHROPIC_API_KEY": "emulator",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        home = Home(root=(folder / "home").absolute(), timing=_TIMING)
        with _environment(settings), Service(home) as service:
            for number, (title, provider, model, note) in enumerate(_MODELS, start=1):
                _heading(f"{number}. {title}, {model}")
                if note:
                    click.secho(note, dim=True)
                job, report = _run(service, tickets, folder, f"{provider}/{model}")
                output = service.deliver(job.id, folder / f"{provider}.csv", "csv")
                service.conclude(job.id)
                billed = emulator.meter.snapshot()["picodollars_by_provider"][provider]
                runs.append(_Run(title, job, report, output, billed))
        return runs, emulator.meter.snapshot()


def _run(service: Service, tickets: Path, folder: Path, model: str) -> tuple[Job, Report]:
    """Carry the tickets through one provider; the job, and how it ended."""
    schema = json.loads((folder / "ticket.schema.json").read_bytes())
    ask = Ask(input=tickets, model=model, prompt=PROMPT, system=SYSTEM, max_tokens=80, schema=schema)
    draft = service.draft(ask)
    for line in plan_lines(draft.job, len(draft.shards)):
        click.echo(line)
    job = service.submit(draft)
    again: dict[tuple[str, int], int] = {}
    with display_for(service, job, quiet=False) as display:

        def step(shard: Shard) -> None:
            if shard.try_number > 1 and shard.rows_left:
                again[shard.id, shard.attempt] = shard.rows_left
            display.step(shard)

        asyncio.run(service.run(job.id, on_step=step))
    report = service.report(job.id)
    if again:
        click.echo(f"{sum(again.values())} rows failed for the moment and were sent again.")
    for line in summary_lines(report, None):
        click.echo(line)
    return job, report


# ---------------------------------------------------------------- after


def _show_answers(run: _Run, tickets: list[dict[str, str]]) -> None:
    """A few rows as they stand in the output file: one of each sort, and one that failed."""
    _heading("Some of the answers, made up by the emulator")
    with run.output.open(newline="", encoding="utf-8") as file:
        outputs = list(csv.DictReader(file))
    answers: list[dict[str, Any]] = [json.loads(output["answer"] or "{}") for output in outputs]
    table = _Table(("ticket", "subject", "category", "urgency", "status"))
    for row in _telling([str(answer.get("category", "")) for answer in answers]):
        output, answer = outputs[row], answers[row]
        table.add(
            tickets[row]["id"],
            _short(tickets[row]["subject"], 26),
            str(answer.get("category", "")),
            str(answer.get("urgency", "")),
            _short(f"failed, {output['error']}", 24) if output["error"] else output["status"],
        )
    table.show()


def _telling(categories: list[str]) -> list[int]:
    """The first rows of different categories, and the first without one: it failed."""
    first = {category: row for row, category in reversed(list(enumerate(categories)))}
    failed = first.pop("", None)
    shown = sorted(first.values())[:_SHOWN]
    return sorted([*shown, failed] if failed is not None else shown)


def _show_money(runs: list[_Run], meter: dict[str, Any]) -> bool:
    """The ledger beside the emulator's meter; whether they agree to the picodollar."""
    _heading("The money: halfrate's ledger, and what the emulator's meter would bill")
    table = _Table(("", "answered", "paid", "in real time", "saved", "would bill"), right=True)
    equal = True
    for run in runs:
        report = run.report
        same = report.cost == run.billed
        equal = equal and same
        table.add(
            run.title,
            f"{report.succeeded} of {run.job.rows}",
            show_usd(report.cost),
            show_usd(report.realtime_cost),
            show_usd(report.saved),
            f"{show_usd(run.billed)}, {'equal' if same else 'NOT equal'}",
        )
    table.show()
    twice = meter["fingerprints_billed_again"]
    click.echo(
        f"Compared in picodollars. Rows billed: {meter['rows_billed']:,}; billed twice: {twice}; "
        f"batches: {meter['batches_created']}."
    )
    return equal and twice == 0


def _show_next(runs: list[_Run], folder: Path, tickets: Path) -> None:
    _heading("Files")
    notes = [(run.output, f"every ticket with the answer by way of {run.title}") for run in runs]
    notes.append((folder / "home", "what halfrate keeps: database, requests, results"))
    width = max(len(str(path)) for path, _ in notes)
    for path, note in notes:
        click.echo(f"  {str(path).ljust(width)}  {note}")
    _heading("Try next")
    command = _command()
    for line in (
        "# where the money went, from the ledger",
        f"HALFRATE_HOME={shlex.quote(str(folder / 'home'))} {command} cost --by model",
        "# the emulator by itself; leave it running, and go on in a second terminal",
        f"{command} emulate",
        "# a prompt of your own (without its first line: to OpenAI, with your key)",
        "OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=emulator \\",
        f"  {command} run {shlex.quote(str(tickets))} \\",
        "  --model openai/gpt-4.1-mini --prompt 'Answer politely: {message}' \\",
        f"  -o {shlex.quote(str(folder / 'answers.csv'))}",
    ):
        click.secho(f"  {line}", dim=line.startswith("#"))


def _command() -> str:
    """How this command can be called again from this folder, as a shell reads it."""
    if shutil.which("halfrate") is not None:
        return "halfrate"
    script = Path(sys.argv[0])
    if script.name != "halfrate":
        return shlex.join([sys.executable, "-m", "halfrate"])
    with contextlib.suppress(ValueError):
        script = script.absolute().relative_to(Path.cwd())
    return shlex.quote(str(script))


# ---------------------------------------------------------------- words on the screen


def _heading(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


def _short(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


class _Table:
    """A table: drawn by rich on a terminal, plain columns elsewhere."""

    def __init__(self, head: tuple[str, ...], *, right: bool = False) -> None:
        self._head = head
        self._right = right
        self._rows: list[tuple[str, ...]] = []

    def add(self, *cells: str) -> None:
        self._rows.append(cells)

    def show(self) -> None:
        if sys.stdout.isatty():
            self._draw()
        else:
            self._print()

    def _draw(self) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
        for number, name in enumerate(self._head):
            table.add_column(name, justify="right" if self._right and number else "left", no_wrap=True)
        for row in self._rows:
            style = "yellow" if row[-1].startswith("failed") else ""
            table.add_row(*(Text(cell, style=style) for cell in row))
        Console().print(table)

    def _print(self) -> None:
        widths = [max(len(row[i]) for row in (self._head, *self._rows)) for i in range(len(self._head))]
        for row in (self._head, *self._rows):
            cells = [
                cell.rjust(width) if self._right and number else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            click.echo(f"  {'  '.join(cells)}".rstrip())

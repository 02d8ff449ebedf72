"""An audit on a terminal: groups by spend, each with its verdict, and the reasons under it."""

import shutil
import sys
import textwrap
from typing import Final

from rich.cells import cell_len, set_cell_size

from halfrate.cli import audit_words as words
from halfrate.service.audit import Report

_WIDTH: Final = 110
_INDENT: Final = "    "
_NAME: Final = 44
"""Columns that a name may take."""


def table(report: Report, top: int | None) -> str:
    """Columns as wide as they need; reasons are broken at the width of the terminal."""
    width = min(_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _WIDTH
    lines = words.shown(report, top)
    head = [*report.by, "calls", "a month" if report.days is not None else "spend", "verdict", "batch saves"]
    head.append("with its cache")
    numbers = {len(report.by) + place for place in (0, 1, 3, 4)}
    if report.rest_saving is not None:
        numbers.add(len(head))
        head.append("routing, if so")
    rows = [
        [
            *(_short(key) for key in line.keys),
            words.calls(line),
            words.spend(line),
            line.verdict.value,
            words.saved(line),
            words.saved_cached(line),
            *([words.routed(line, report)] if report.rest_saving is not None else []),
        ]
        for line in lines
    ]
    common = words.unsaid(report)
    out = [*_wrapped(words.heading(report), width), words.scale(report), ""]
    drawn = _columns([head, *rows], numbers)
    out.append(drawn[0])
    for line, text in zip(lines, drawn[1:], strict=True):
        out.append(text)
        out += _wrapped(words.sentence(line.judgement.reasons), width, _INDENT)
        missing = words.missing(line, common)
        if missing is not None:
            out += _wrapped(missing, width, _INDENT)
    hidden = words.hidden(report, top)
    if hidden is not None:
        out += ["", hidden]
    out += ["", *_sums(report), ""]
    for text in words.conclusion(report):
        out += _wrapped(text, width)
    for text in words.beside(report):
        out += ["", *_wrapped(text, width)]
    return "\n".join(out) + "\n"


def _sums(report: Report) -> list[str]:
    rows = [
        [
            "",
            words.kinds(report),
            "calls",
            "a month" if report.days is not None else "spend",
            "batch saves",
            "with its cache",
        ]
    ]
    rows += map(words.sum_cells, words.sums(report))
    return _columns(rows, {1, 2, 3, 4, 5})


def _columns(rows: list[list[str]], right: set[int]) -> list[str]:
    widths = [max(cell_len(row[place]) for row in rows) for place in range(len(rows[0]))]
    drawn: list[str] = []
    for row in rows:
        cells: list[str] = []
        for place, (text, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(text))
            cells.append(f"{space}{text}" if place in right else f"{text}{space}")
        drawn.append("  ".join(cells).rstrip())
    return drawn


def _short(name: str) -> str:
    """As much of a name as there is room for: letters of some scripts take two columns."""
    return name if cell_len(name) <= _NAME else set_cell_size(name, _NAME - 1).rstrip() + "\u2026"


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )

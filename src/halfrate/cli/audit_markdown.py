"""An audit as Markdown, for a ticket or a wiki. What comes from the log can be no markup in it."""

import re
from typing import Final

from halfrate.cli import audit_words as words
from halfrate.service.audit import Report

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]#!|<>~&@$]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""Marks, mentions and addresses, which some readers turn into links by themselves."""


def markdown(report: Report, top: int | None) -> str:
    """Tables of GitHub's kind."""
    lines = words.shown(report, top)
    routing = report.rest_saving is not None
    head = [*report.by, "calls", "a month" if report.days is not None else "spend", "verdict", "batch saves"]
    head += ["with its cache", *(["routing, if so"] if routing else [])]
    numbers = {len(report.by) + place for place in (0, 1, 3, 4, 5)}
    rows = [
        [
            *map(_plain, line.keys),
            words.calls(line),
            words.spend(line).replace("*", "\\*"),
            f"**{line.verdict.value}**",
            words.saved(line),
            words.saved_cached(line),
            *([words.routed(line, report)] if routing else []),
        ]
        for line in lines
    ]
    common = words.unsaid(report)
    out = ["# Usage audit", "", _plain(words.heading(report)), "", words.scale(report), ""]
    out += _table(head, rows, numbers)
    hidden = words.hidden(report, top)
    if hidden is not None:
        out += ["", hidden]
    out += ["", "## What it comes to", "", *_sums(report), ""]
    out += [f"- {text}" for text in words.conclusion(report)]
    out += ["", "## Why", ""]
    for line in lines:
        missing = words.missing(line, common)
        reasons = words.sentence(line.judgement.reasons) + (f" {missing}" if missing is not None else "")
        out.append(f"- **{_plain(', '.join(line.keys))}**: {line.verdict.value}. {_plain(reasons)}")
    notes = words.beside(report)
    if notes:
        out += ["", "## What to know beside that", "", *(f"- {_plain(text)}" for text in notes)]
    return "\n".join(out) + "\n"


def _sums(report: Report) -> list[str]:
    rows = list(map(words.sum_cells, words.sums(report)))
    spend = "a month" if report.days is not None else "spend"
    return _table(
        ["", words.kinds(report), "calls", spend, "batch saves", "with its cache"], rows, {1, 2, 3, 4, 5}
    )


def _table(head: list[str], rows: list[list[str]], right: set[int]) -> list[str]:
    rule = ["---:" if place in right else "---" for place in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in (list(map(_plain, head)), rule, *rows)]


def _plain(text: str) -> str:
    """Text that no reader of Markdown takes for more."""
    return _MARKUP.sub(r"\\\1", text)

"""An audit as one page: its style and its charts are in it, it asks for nothing from anywhere, and it runs nothing.

What comes from the log is escaped wherever it stands. The page's own policy allows its one style sheet, by its hash,
and nothing else.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from halfrate.base.money import show_usd
from halfrate.cli import audit_words as words
from halfrate.core.audit_judge import Verdict
from halfrate.service.audit import Line, Report

_CLASS: Final = {Verdict.BATCH: "batch", Verdict.ASK: "ask", Verdict.KEEP: "keep", Verdict.DONE: "done"}
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SHOWN: Final = 200
"""Groups in the table, unless told otherwise. `--top` tells otherwise."""
_CHARTED: Final = 15
_NAME: Final = 220
_BAR: Final = 560
_VALUE: Final = 120


def page(report: Report, top: int | None) -> str:
    """The whole document."""
    style = Path(__file__).with_name("audit.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    top = _SHOWN if top is None else top
    body = [
        "<h1>Usage audit</h1>",
        f'<p class="soft">{escape(words.heading(report))}</p>',
        f'<p class="soft">{escape(words.scale(report))}</p>',
        _figures(report),
        *_bars(report),
        *_bill(report),
        *_groups(report, top),
        *_heat(report),
        "<h2>What it comes to</h2>",
        _list(words.conclusion(report)),
    ]
    notes = words.beside(report)
    if notes:
        body += ["<h2>What to know beside that</h2>", _list(notes)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="referrer" content="no-referrer">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<title>Usage audit</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _list(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _figures(report: Report) -> str:
    month = " a month" if report.days is not None else ""
    figures = [
        (show_usd(report.whole.spend), f"spent{month}"),
        (words.amount(report.moved.best or 0), f"saved{month} by what can wait now"),
        (words.amount(report.asked.best or 0), f"more{month}, if the owners agree"),
    ]
    if report.rest is not None:
        figures.append((words.between(report.rest.rest), f"more{month} if the rest saves what is assumed"))
    cells = "".join(
        f'<div class="figure"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in figures
    )
    return f'<div class="figures">{cells}</div>'


def _legend() -> str:
    marks = "".join(
        f'<span><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" '
        f'class="{_CLASS[verdict]}"/></svg>{verdict.value}</span>'
        for verdict in words.ORDER
    )
    return f'<div class="legend">{marks}</div>'


def _svg(height: int, label: str, inside: Sequence[str], width: int = _NAME + _BAR + _VALUE) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(label)}">'
        + "".join(inside)
        + "</svg>"
    )


def _name(line: Line) -> str:
    return ", ".join(line.keys)


def _short(name: str, letters: int = 30) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "\u2026"


# ---------------------------------------------------------------- charts


def _bars(report: Report) -> list[str]:
    """Spend by group, each with the parts that can move."""
    lines = [line for line in report.lines[:_CHARTED] if line.monthly.spend]
    if not lines:
        return []
    most = max(line.monthly.spend or 0 for line in lines)
    drawn: list[str] = []
    for row, line in enumerate(lines):
        top = row * 28
        drawn.append(
            f'<text x="{_NAME - 10}" y="{top + 16}" text-anchor="end">{escape(_short(_name(line)))}'
            f"<title>{escape(_name(line))}</title></text>"
        )
        left = float(_NAME)
        for verdict in words.ORDER:
            spend = sum(part.monthly.spend or 0 for part in line.parts if part.verdict is verdict)
            if not spend:
                continue
            width = max(1.0, _BAR * spend / most)
            drawn.append(
                f'<rect x="{left:.1f}" y="{top + 4}" width="{width:.1f}" height="17" class="{_CLASS[verdict]}">'
                f"<title>{escape(_name(line))}: {show_usd(spend)}, {verdict.value}</title></rect>"
            )
            left += width
        drawn.append(
            f'<text x="{left + 6:.1f}" y="{top + 17}" class="soft">{escape(words.spend(line))}</text>'
        )
    return [
        "<h2>Spend by group, and what of it can wait</h2>",
        _legend(),
        f'<div class="wide">{_svg(len(lines) * 28 + 4, "Spend by group", drawn)}</div>',
    ]


def _bill(report: Report) -> list[str]:
    """The bill as it is, and what would be left of it."""
    whole = report.whole.spend
    if not whole:
        return []
    now, later = max(report.moved.best or 0, 0), max(report.asked.best or 0, 0)
    steps: list[tuple[str, int, int]] = [
        ("as it is", whole, whole),
        ("with batches now", whole - now, whole - now),
    ]
    if later:
        steps.append(("if the owners agree", whole - now - later, whole - now - later))
    if report.rest is not None:
        least, most = report.rest.total
        steps.append(("with the rest, if so", whole - most, whole - least))
    drawn: list[str] = []
    for row, (name, low, high) in enumerate(steps):
        top = row * 30
        drawn.append(f'<text x="{_NAME - 10}" y="{top + 17}" text-anchor="end">{escape(name)}</text>')
        left, right = (_BAR * max(amount, 0) / whole for amount in (low, high))
        kind = "keep" if row == 0 else "batch" if row == 1 else "ask"
        drawn.append(f'<rect x="{_NAME}" y="{top + 4}" width="{left:.1f}" height="19" class="{kind}"/>')
        if high > low:
            drawn.append(
                f'<rect x="{_NAME + left:.1f}" y="{top + 4}" width="{right - left:.1f}" height="19" class="range"/>'
            )
        said = words.between([low, high])
        drawn.append(f'<text x="{_NAME + right + 6:.1f}" y="{top + 18}" class="soft">{escape(said)}</text>')
    return [
        "<h2>The bill, and what would be left of it</h2>",
        f'<div class="wide">{_svg(len(steps) * 30 + 4, "The bill", drawn, _NAME + _BAR + 180)}</div>',
    ]


def _heat(report: Report) -> list[str]:
    """When calls come, by hour of the week."""
    lines = [line for line in report.lines[:_CHARTED] if line.week]
    if not lines:
        return []
    maps = "".join(
        f'<div class="map"><h3>{escape(_name(line))} <span class="pill {_CLASS[line.verdict]}">{line.verdict.value}'
        f"</span></h3>{_map(line)}</div>"
        for line in lines
    )
    return [
        "<h2>When it comes</h2>",
        '<p class="soft">Calls by day of the week and hour of the day, in UTC. Each group has a scale of its own.</p>',
        f'<div class="maps">{maps}</div>',
    ]


def _map(line: Line) -> str:
    most = max(max(day) for day in line.week)
    drawn = [f'<text x="{34 + hour * 14}" y="9" class="small">{hour:02d}</text>' for hour in range(0, 24, 6)]
    for row, (name, day) in enumerate(zip(_DAYS, line.week, strict=True)):
        drawn.append(f'<text x="0" y="{row * 14 + 24}" class="small">{name}</text>')
        for hour, calls in enumerate(day):
            place = f'x="{34 + hour * 14}" y="{row * 14 + 14}" width="12" height="12" rx="2"'
            title = f"<title>{name} {hour:02d}:00: {calls:,}</title>"
            if calls:
                # The root brings out the hours that are neither empty nor the busiest.
                drawn.append(
                    f'<rect {place} class="heat" fill-opacity="{0.12 + 0.88 * (calls / most) ** 0.5:.2f}">'
                )
            else:
                drawn.append(f'<rect {place} class="none" fill-opacity="0.55">')
            drawn.append(f"{title}</rect>")
    return _svg(114, f"Calls of {_name(line)} by hour of the week", drawn, 372)


# ---------------------------------------------------------------- the table


def _groups(report: Report, top: int) -> list[str]:
    common = words.unsaid(report)
    routing = report.rest_saving is not None
    spend = "a month" if report.days is not None else "spend"
    numbers = ["calls", spend, "batch saves", "with its cache", *(["routing, if so"] if routing else [])]
    head = (
        "".join(f"<th>{escape(name)}</th>" for name in report.by)
        + "".join(f'<th class="number">{name}</th>' for name in numbers)
        + "<th>verdict</th>"
    )
    columns = len(report.by) + len(numbers) + 1
    rows: list[str] = []
    for line in words.shown(report, top):
        missing = words.missing(line, common)
        why = words.sentence(line.judgement.reasons) + (f" {missing}" if missing is not None else "")
        cells = [words.calls(line), words.spend(line), words.saved(line), words.saved_cached(line)]
        if routing:
            cells.append(words.routed(line, report))
        rows.append(
            "<tr>"
            + "".join(f'<td class="name">{escape(key)}</td>' for key in line.keys)
            + "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
            + f'<td><span class="pill {_CLASS[line.verdict]}">{line.verdict.value}</span></td></tr>'
            + f'<tr><td class="why" colspan="{columns}">{escape(why)}</td></tr>'
        )
    hidden = words.hidden(report, top)
    return [
        "<h2>Groups</h2>",
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>',
        *([f'<p class="soft">{escape(hidden)}</p>'] if hidden is not None else []),
    ]

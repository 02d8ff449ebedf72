"""Figures as tables, and the bars that halfrate must clear."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .harness import Result

# CPU: at most so many times the floor, where the start of the interpreter no longer counts, and at most this part
# of the naive script, everywhere. Memory: less than this, whatever the number of rows.
FLOOR_RATIO = 1.75
FLOOR_FROM_ROWS = 100_000
NAIVE_RATIO = 1 / 3
MEMORY_BYTES = 100_000_000
MEMORY_SPREAD = 0.20

_PACKAGES = ("halfrate", "msgspec", "aiohttp", "openai", "anthropic")
_HEADINGS = (
    "path", "rows", "client", "CPU s", "us/row", "x floor", "x naive", "anon MB", "RSS MB", "wall s", "out B/row",
)  # fmt: skip
_LEFT_ALIGNED = 3


def _ratio(result: Result, base: Result | None) -> float | None:
    if base is None or base.wrong or result.wrong:
        return None
    return result.cost.cpu / base.cost.cpu


def _find(results: Iterable[Result], path: str, rows: int, client: str) -> Result | None:
    return next((r for r in results if (r.path, r.rows, r.client) == (path, rows, client)), None)


def _cells(result: Result, results: Sequence[Result]) -> tuple[str, ...]:
    name = (result.path, f"{result.rows:,}", result.client)
    if result.wrong:
        return (*name, "WRONG", *[""] * (len(_HEADINGS) - 4))
    ratios = (
        _ratio(result, _find(results, result.path, result.rows, "floor")),
        _ratio(result, _find(results, result.path, result.rows, "naive")),
    )
    cost = result.cost
    return (
        *name,
        f"{cost.cpu:.2f}",
        f"{result.micros:.1f}",
        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        f"{cost.anonymous / 1e6:.0f}",
        f"{cost.resident / 1e6:.0f}",
        f"{cost.wall:.1f}",
        f"{result.output_bytes / result.rows:.0f}",
    )


def table(results: Sequence[Result]) -> str:
    """A Markdown table that can be read as it stands; under it, what was wrong."""
    lines = [_HEADINGS, *(_cells(result, results) for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < _LEFT_ALIGNED and column != 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if column < _LEFT_ALIGNED and column != 1 else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    wrong = [f"WRONG: {r.path}, {r.rows:,} rows, {r.client}: {r.wrong}" for r in results if r.wrong]
    return "\n".join([row(lines[0]), row(rule), *map(row, lines[1:]), *(["", *wrong] if wrong else [])])


def _bars_of(result: Result, results: Sequence[Result]) -> list[tuple[bool, str]]:
    """The bars for one of halfrate's results."""
    where = f"{result.path}, {result.rows:,} rows"
    if result.wrong:
        return [(False, f"{where}: the output is right")]
    memory = result.cost.anonymous
    bars = [
        (memory < MEMORY_BYTES, f"{where}: peak memory {memory / 1e6:.0f} MB < {MEMORY_BYTES / 1e6:.0f} MB")
    ]
    floor = _ratio(result, _find(results, result.path, result.rows, "floor"))
    if floor is not None and result.rows >= FLOOR_FROM_ROWS:
        bars.append((floor <= FLOOR_RATIO, f"{where}: {floor:.2f} x floor <= {FLOOR_RATIO}"))
    naive = _ratio(result, _find(results, result.path, result.rows, "naive"))
    if naive is not None:
        bars.append((naive <= NAIVE_RATIO, f"{where}: {naive:.2f} x naive <= {NAIVE_RATIO:.2f}"))
    return bars


def bars(results: Sequence[Result]) -> list[tuple[bool, str]]:
    """Each bar that these results can judge: was it cleared, and what it was."""
    ours = [result for result in results if result.client == "halfrate"]
    judged = [bar for result in ours for bar in _bars_of(result, results)]
    for path in dict.fromkeys(result.path for result in ours):
        # A smaller size holds no full batch, and so less.
        full = [result for result in ours if result.path == path and result.rows >= FLOOR_FROM_ROWS]
        peaks = [result.cost.anonymous for result in full if not result.wrong]
        if len(peaks) > 1:
            spread = max(peaks) / min(peaks) - 1
            sizes = f"from {FLOOR_FROM_ROWS:,} rows on"
            text = f"{path}: peak memory differs by {spread:.0%} <= {MEMORY_SPREAD:.0%} {sizes}"
            judged.append((spread <= MEMORY_SPREAD, text))
    return judged


def bar_lines(judged: Iterable[tuple[bool, str]]) -> list[str]:
    return [f"{'PASS' if cleared else 'FAIL'}  {text}" for cleared, text in judged]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def record(results: Sequence[Result], target: Path) -> None:
    """Add a dated section to the file of results."""
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    judged = bar_lines(bars(results))
    section = [
        f"\n## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n",
        f"{os.cpu_count()} cores, {_processor()}; Python {platform.python_version()}; {versions}\n",
        table(results),
    ]
    if judged:
        section += ["", *(f"- {line}" for line in judged)]
    with target.open("a", encoding="utf-8") as out:
        if not out.tell():
            out.write(
                "# Benchmark results\n\nHow to read them: README.md. Made by `python -m bench --record`.\n"
            )
        out.write("\n".join(section) + "\n")

"""Is an output right? Every row is looked at: a fast client that joins wrongly has no figure."""

import json
from array import array
from pathlib import Path
from typing import Any

from .rows import TOKEN_DIGITS, TOKEN_MARK, Input

_BLOCK = 10_000


def wrong_output(output: Path, source: Input) -> str | None:
    """What is wrong with the output, or None. A row is right when its line holds the token of its own prompt."""
    if not output.exists():
        return "there is no output"
    row = 0
    expected = array("I")
    with output.open("rb") as lines, source.tokens.open("rb") as tokens:
        for line in lines:
            if row % _BLOCK == 0:
                expected = array("I")
                expected.frombytes(tokens.read(_BLOCK * expected.itemsize))
            at = line.find(TOKEN_MARK) + len(TOKEN_MARK)
            found = line[at : at + TOKEN_DIGITS]
            if row >= source.count or at < len(TOKEN_MARK) or found != b"%08x" % expected[row % _BLOCK]:
                return f"line {row + 1} does not hold the answer of row {row}"
            row += 1
    return None if row == source.count else f"{row} lines for {source.count} rows"


def wrong_meter(meter: dict[str, Any], source: Input) -> str | None:
    """What is wrong with what the provider received, or None: each row must be paid for once."""
    return None if meter["rows"] == source.count else f"{meter['rows']} rows were sent for {source.count}"


def wrong_totals(stdout: Path, meter: dict[str, Any]) -> str | None:
    """What is wrong with the totals that a client printed as its last line, or None."""
    try:
        printed: dict[str, Any] = json.loads(stdout.read_text().splitlines()[-1])
    except (IndexError, ValueError):
        return "it printed no totals"
    for name in ("rows", "input_tokens", "output_tokens"):
        if printed.get(name) != meter[name]:
            return f"{name}: it says {printed.get(name)}, the provider {meter[name]}"
    return None

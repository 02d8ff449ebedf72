"""The input of a Mistral job: one or several files, or requests inline, made into one file of lines."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.emulator._jobs import Input
from halfrate.emulator._wire import as_document

_MOST_PROBLEMS: Final = 100


class InputRow(msgspec.Struct):
    """A line: the id may be missing; the body stays as it was sent until the row runs."""

    custom_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


_row = msgspec.json.Decoder(InputRow)


def read_row(line: bytes) -> InputRow:
    return _row.decode(line)


def _lines(paths: Iterable[Path]) -> Iterator[tuple[int, bytes]]:
    for path in paths:
        with path.open("rb") as source:
            yield from enumerate(source, 1)


def check_files(paths: list[Path], target: Path) -> Input:
    """Copy every line that is not blank to `target`. Lines end at newlines only."""
    found = Input(target, array("Q"))
    position = 0
    with target.open("wb") as merged:
        for number, line in _lines(paths):
            if not line.strip():
                continue
            problem = _problem(line)
            if problem is not None and len(found.problems) < _MOST_PROBLEMS:
                found.problems.append(f"Line {number}: {problem}")
            found.offsets.append(position)
            position += merged.write(line if line.endswith(b"\n") else line + b"\n")
    if not found.offsets:
        found.problems.append("No requests found in the input files.")
    return found


def write_requests(requests: list[Any], target: Path) -> Input:
    """Write inline requests as lines."""
    found = Input(target, array("Q"))
    position = 0
    with target.open("wb") as merged:
        for request in requests:
            line = msgspec.json.encode(as_document(request) or {}) + b"\n"
            problem = _problem(line)
            if problem is not None:
                found.problems.append(problem)
            found.offsets.append(position)
            position += merged.write(line)
    return found


def _problem(line: bytes) -> str | None:
    try:
        row = _row.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "the request is not valid JSON, or its custom_id is not a string."
    if not bytes(row.body).lstrip().startswith(b"{"):
        return "the request has no body."
    return None

"""What Fireworks checks in a job's dataset: one bad row fails the whole job (batch guide, 2026)."""

from array import array
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.emulator._jobs import Input

_ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer", "function"})


class InputRow(msgspec.Struct):
    """A line: the body stays as it was sent until the row runs."""

    custom_id: Any = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    role: Any = None


class _Body(msgspec.Struct):
    messages: list[_Message]


_row = msgspec.json.Decoder(InputRow)
_body = msgspec.json.Decoder(_Body)


def read_row(line: bytes) -> InputRow:
    return _row.decode(line)


def check_dataset(sources: list[tuple[str, Path]], target: Path, done: AbstractSet[str]) -> Input:
    """Copy the rows of a dataset's files to `target`, without those that are done. Stops at the first bad one."""
    found, seen = Input(target, array("Q")), set[str]()
    position = 0
    with target.open("wb") as rows:
        for name, source in sources:
            with source.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.strip():
                        continue
                    problem, row_id = _problem(line, seen)
                    if problem is not None:
                        why = f"chat dataset validation failed on {name}:{number}: {problem}"
                        found.problems.append(f"Dataset has a syntax error: {why}")
                        return found
                    seen.add(row_id)
                    if row_id not in done:
                        found.offsets.append(position)
                        position += rows.write(line if line.endswith(b"\n") else line + b"\n")
    if not found.offsets:
        found.problems.append("Dataset has no rows to process")
    return found


def _problem(line: bytes, seen: set[str]) -> tuple[str | None, str]:
    """(what is wrong, the row's id)"""
    try:
        row = _row.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "invalid JSON", ""
    if not isinstance(row.custom_id, str) or not row.custom_id:
        return "missing custom_id", ""
    if row.custom_id in seen:
        return f"duplicate custom_id {row.custom_id}", ""
    try:
        body = _body.decode(row.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "missing messages", ""
    for number, message in enumerate(body.messages, 1):
        if not isinstance(message.role, str) or message.role not in _ROLES:
            return f"invalid role {message.role} in message {number}", ""
    return None, row.custom_id

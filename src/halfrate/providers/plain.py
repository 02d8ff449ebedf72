"""Reading many result lines at once: what both dialects' readers of usual lines have in common."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from halfrate.base.results import PlainRows, UnreadableLine

_L = TypeVar("_L")

_NULL: Final = msgspec.Raw(b"null")
_decode_numbers = msgspec.json.Decoder(list[int]).decode
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Columns(msgspec.Struct, gc=False):
    """What is taken from decoded lines, a column for each."""

    names: list[str]
    answers: list[msgspec.Raw]
    usages: list[msgspec.Raw]
    models: list[str]
    finishes: list[str]


def whole_reader(
    decode_lines: Callable[[bytes], list[_L]], columns: Callable[[list[_L]], Columns], row_prefix: str
) -> Callable[[bytes], PlainRows | None]:
    """A reader of many lines at once, if all are usual; see `plain_reader`.

    To make a text of each line first costs as much as a sixth of understanding it. Documents are told apart by where
    they end: blank lines are passed over, and of two on one line both count.
    """

    def read(data: bytes) -> PlainRows | None:
        try:
            return _rows(columns, row_prefix, decode_lines(data))
        except _FAULTS:
            return None

    return read


def plain_reader(
    decode: Callable[[bytes], _L], columns: Callable[[list[_L]], Columns], row_prefix: str
) -> Callable[[Sequence[bytes]], PlainRows]:
    """A reader of usual lines.

    Args:
        decode: one line; fails for those of another shape.
        columns: takes decoded lines apart. A null answer makes a line unusual, and so does an id of another batch.
        row_prefix: how this batch's own ids begin.
    """

    def read(lines: Sequence[bytes]) -> PlainRows:
        try:
            # Nearly always there is nothing else to do.
            plain = _rows(columns, row_prefix, list(map(decode, lines)), lines)
            if plain is not None:
                return plain
        except _FAULTS:
            pass
        found: list[_L] = []
        usual: list[bytes] = []
        rest: list[bytes] = []
        for line in lines:
            try:
                item = decode(line)
                if _rows(columns, row_prefix, [item]) is not None:
                    found.append(item)
                    usual.append(line)
                    continue
            except _FAULTS:
                pass
            rest.append(line)
        return _rows(columns, row_prefix, found, usual, rest) or PlainRows([], [], [], [], [], [], lines)

    return read


def _rows(
    columns: Callable[[list[_L]], Columns],
    row_prefix: str,
    found: list[_L],
    lines: Sequence[bytes] = (),
    rest: Sequence[bytes] = (),
) -> PlainRows | None:
    """Decoded lines as rows; None where one of them is not usual."""
    taken = columns(found)
    numbers = _row_numbers(taken.names, row_prefix)
    if numbers is None or _NULL in taken.answers:
        return None
    # NUL stands in no JSON. This copies them all in half the time that it takes to copy each.
    usages = b"\0".join(taken.usages).split(b"\0")
    if len(usages) != len(numbers):
        return None
    return PlainRows(numbers, taken.answers, usages, taken.models, taken.finishes, lines, rest)


def row_number(name: str, row_prefix: str) -> int:
    """The row that an id names. Raises UnreadableLine where it is none of this batch's."""
    digits = name[len(row_prefix) :]
    if not name.startswith(row_prefix) or not (digits.isascii() and digits.isdigit()):
        raise UnreadableLine(name)
    return int(digits)


def _row_numbers(names: Sequence[str], row_prefix: str) -> list[int] | None:
    """The rows that ids name, None where there are none, or any of them is none of this batch's."""
    # Texts are taken together, which costs half of what it costs to look at each.
    text = ",".join(names)
    digits = text.replace(row_prefix, "")
    if text.count(row_prefix) != len(names) or not digits.replace(",", "").isdecimal():
        return None
    try:
        numbers = _decode_numbers(f"[{digits}]")
    except msgspec.DecodeError:
        return None
    return numbers if len(numbers) == len(names) else None

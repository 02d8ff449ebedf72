"""Result lines that hold a chat completion as OpenAI has it, each provider in a wrapping of its own."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, ResultRow
from halfrate.base.types import Endpoint
from halfrate.providers.openai_results import READERS, Body, Fault, tokens_in
from halfrate.providers.plain import Columns, plain_reader, row_number

_L = TypeVar("_L")


class Unwrapped(NamedTuple):
    """What a line holds: whose row it is, and the completion or the fault. `kind`: what a fault means."""

    name: str
    body: Body | None
    fault: Fault | None = None
    kind: Kind = Kind.FAILED


def wrapped_reader(
    endpoint: Endpoint,
    row_prefix: str,
    unwrap: Callable[[bytes], Unwrapped],
    name_of: Callable[[bytes], str],
    answered: Callable[[bytes], _L],
    columns: Callable[[list[_L]], Columns],
) -> LineReader:
    """A reader of one batch's result lines.

    Args:
        unwrap: takes a line apart; msgspec.ValidationError where it is of no known shape.
        name_of: whose row such a line is.
        answered: decodes an answered chat of the usual shape, and fails for any other line.
        columns: takes those apart.
    """
    succeeded = READERS[endpoint]

    def read(line: bytes) -> ResultRow:
        try:
            found = unwrap(line)
        except msgspec.ValidationError:
            # Its result is there and makes no sense: it may be paid for.
            return ResultRow(row_number(name_of(line), row_prefix), Kind.FAILED, error=MAY_BE_PAID)
        row = row_number(found.name, row_prefix)
        if found.body is not None and found.fault is None:
            return succeeded(row, found.body)
        message = (found.fault and (found.fault.message or str(found.fault.code or ""))) or "no reason given"
        return ResultRow(row, found.kind, error=message)

    if endpoint != "chat":
        return LineReader(read)
    return LineReader(read, plain_reader(answered, columns, row_prefix), tokens_in)

"""Results of rows, understood: what adapters read, collectors account for, and the store records."""

import enum
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from halfrate.base.types import Counts, Usage


class Kind(enum.IntEnum):
    """How a row stands after an attempt. What is not final goes into the next attempt, if there is one."""

    UNKNOWN = 0
    SUCCEEDED = 1
    FAILED = 2
    """Refused for good: sending the same row again would be refused again."""
    FAILED_PASSING = 3
    """Failed in a way that another attempt may cure."""
    EXPIRED = 4
    CANCELLED = 5
    MISSING = 6
    """Sent, and in no result file."""


MAY_BE_PAID: Final = (
    "the result for this row cannot be read and may be paid for: only `halfrate retry` sends it again"
)
"""Why a row whose result is there and makes no sense is left failed: to send it again could pay for it twice."""

FINAL: Final = frozenset({Kind.SUCCEEDED, Kind.FAILED})

Tokens: TypeAlias = tuple[int, int, int, int, int, int]
"""Uncached input, cached, written for 5 minutes, written for 1 hour, output, reasoning (part of output)."""


class ResultRow(msgspec.Struct, frozen=True, gc=False):
    """One result line, understood. `answer` is JSON, still encoded; `error` is plain text."""

    row: int
    kind: int
    answer: bytes | msgspec.Raw = b"null"
    tokens: Tokens | None = None
    model: str = ""
    finish: str = ""
    error: str | None = None


class UnreadableLine(Exception):
    """A result line that names no row of ours: malformed, or an id that we never sent."""


PlainRow: TypeAlias = tuple[int, msgspec.Raw, int, int, int, int, int, str, str]
"""An answered row of the usual shape: row, answer, uncached input, cached, written for 5 minutes, output and
reasoning tokens, model, finish reason. A tuple, because one is made for every row of a job."""


class LineReader:
    """Understands result lines: any line one at a time, and those of the usual shape many at a time.

    Args:
        general: understands one line. Raises msgspec.DecodeError, UnicodeDecodeError or UnreadableLine where it
            cannot.
        plain: for each of some lines its row, or None where the line has to go the general way.
    """

    def __init__(
        self,
        general: Callable[[bytes], ResultRow],
        plain: Callable[[Sequence[bytes]], list[PlainRow | None]] | None = None,
    ) -> None:
        self.general = general
        self.plain = plain

    def __call__(self, line: bytes) -> ResultRow:
        if self.plain is not None:
            row = self.plain([line])[0]
            if row is not None:
                return result_of(row)
        return self.general(line)


def result_of(row: PlainRow) -> ResultRow:
    number, answer, fresh, cached, written, made, reasoning, model, finish = row
    return ResultRow(
        number, Kind.SUCCEEDED, answer, (fresh, cached, written, 0, made, reasoning), model, finish
    )


class Billed(msgspec.Struct, frozen=True):
    """Rows that were paid for, with one model: what the ledger records. Picodollars; None: price unknown."""

    model: str
    rows: int
    usage: Usage
    cost: int | None
    realtime_cost: int | None


class Collection(msgspec.Struct, frozen=True):
    """What one attempt gave.

    `duplicates`: lines for a row that had one already; `unknown`: lines with ids never sent; `malformed`:
    lines that are not JSON of the expected shape; `missing`: rows sent that no line names; `errors`: messages
    with the number of rows that have them, the commonest first.
    """

    counts: Counts
    unsettled: int
    billed: tuple[Billed, ...]
    wasted: tuple[Billed, ...]
    duplicates: int
    unknown: int
    malformed: int
    missing: int
    errors: tuple[tuple[str, int], ...]

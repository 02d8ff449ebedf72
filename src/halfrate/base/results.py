"""Results of rows, understood: what adapters read, collectors account for, and the store records."""

import enum
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

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

RESULTS_GONE: Final = (
    "the provider keeps this row's result no longer, and it may be paid for: only `halfrate retry` "
    "sends it again"
)
"""Why a row is left failed whose result was deleted at the provider, or was kept there no longer."""

COST_UNKNOWN: Final = frozenset({MAY_BE_PAID, RESULTS_GONE})
"""Errors of rows of which nobody can say here what they cost."""

FINAL: Final = frozenset({Kind.SUCCEEDED, Kind.FAILED})


class Tokens(NamedTuple):
    """What one request used. The first four are the input, and no token is in two of them."""

    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    """Part of `output`, as all of the following are that end in it; the others are part of `input` and `cached`."""
    audio_input: int = 0
    audio_cached: int = 0
    audio_output: int = 0
    image_output: int = 0
    region: str = ""
    """Where the provider says that it was run, if that is not where every request of the account is."""

    @property
    def read(self) -> int:
        """All of the input, whatever it cost."""
        return self.input + self.cached + self.write_5m + self.write_1h


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


class PlainRows(msgspec.Struct, gc=False):
    """Answered rows of the usual shape, in columns of equal length: what is done to a column at a time costs a
    fraction of what it costs row by row.

    `usages` are still JSON: the rows of a job use the same few figures again and again, and what they come to
    is worked out once for each. `lines` are the rows' own; `rest` those that have to go the general way.
    """

    numbers: list[int]
    answers: list[msgspec.Raw]
    usages: list[bytes]
    models: list[str]
    finishes: list[str]
    lines: Sequence[bytes]
    rest: Sequence[bytes]


class LineReader:
    """Understands result lines: any line one at a time, and those of the usual shape many at a time.

    Args:
        general: understands one line. Raises msgspec.DecodeError, UnicodeDecodeError or UnreadableLine where it
            cannot.
        plain: understands those lines that are of the usual shape, and gives back the rest.
        tokens: what one of the usages in `plain`'s rows means, None if nothing. Raises msgspec.DecodeError.
        whole: understands lines that stand one behind the other, each ending in a newline, if all of them are of the
            usual shape; gives no `lines`, and None where they are not.
    """

    def __init__(
        self,
        general: Callable[[bytes], ResultRow],
        plain: Callable[[Sequence[bytes]], PlainRows] | None = None,
        tokens: Callable[[bytes], Tokens | None] = lambda _: None,
        whole: Callable[[bytes], PlainRows | None] | None = None,
    ) -> None:
        self.general = general
        self.plain = plain
        self.tokens = tokens
        self.whole = whole


class Billed(msgspec.Struct, frozen=True):
    """Rows that were paid for, with one model: what the ledger records. Picodollars; None: price unknown."""

    model: str
    rows: int
    usage: Usage
    cost: int | None
    realtime_cost: int | None
    tier: str = "batch"
    uncached_cost: int | None = None
    """What they would have cost if nothing were cached."""


class Collection(msgspec.Struct, frozen=True):
    """What one attempt gave.

    `duplicates`: lines for a row that had one already; `unknown`: lines with ids never sent; `malformed`:
    lines that are not JSON of the expected shape; `missing`: rows sent that no line names; `errors`: messages
    with the number of rows that have them, the commonest first; `invalid`: answers that were paid for and are not
    what was asked for.
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
    invalid: int = 0

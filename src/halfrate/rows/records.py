"""A job's records in row order, whatever shards and attempts they lie in."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, cast

import msgspec

from halfrate.base.errors import StorageError
from halfrate.base.types import InputFormat, NativeForm
from halfrate.rows.collect import COLUMNS
from halfrate.rows.outcomes import ShardOutcomes


class ShardView(msgspec.Struct, frozen=True):
    """A shard as its outcomes lie on disk. `outcomes`: one file per attempt, oldest first; may be empty."""

    first_row: int
    rows: int
    outcomes: tuple[Path, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """The job's own copy of its input."""

    path: Path
    format: InputFormat
    native: NativeForm | None = None


class Records:
    """Gives the records of all rows in sequence, one shard open at a time.

    Args:
        shards: all shards of the job, in row order, without a gap.
        unknown: the record of a row that no attempt knows, with its newline.
    """

    def __init__(self, shards: Sequence[ShardView], unknown: bytes) -> None:
        self.rows = sum(shard.rows for shard in shards)
        self.row = 0
        self._shards = iter(shards)
        self._unknown = unknown
        self._open: ShardOutcomes | None = None
        self._slot = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._open is not None:
            self._open.__exit__()
            self._open = None

    def take(self, count: int) -> list[bytes | memoryview]:
        """The next records, each ending in a newline: `count` of them, or fewer where the job ends."""
        taken: list[bytes | memoryview] = []
        while len(taken) < count:
            shard = self._open
            if shard is None or self._slot == shard.rows:
                if not self._next():
                    break
                continue
            stop = min(shard.rows, self._slot + count - len(taken))
            taken += shard.records(self._slot, stop, self._unknown)
            self._slot = stop
        self.row += len(taken)
        return taken

    def take_all(self, count: int) -> list[bytes | memoryview]:
        """The next `count` records. Raises StorageError where there are fewer."""
        taken = self.take(count)
        if len(taken) < count:
            raise mismatch(self.row - len(taken) + count, self.rows)
        return taken

    def _next(self) -> bool:
        self.__exit__()
        shard = next(self._shards, None)
        if shard is None:
            return False
        self._open = ShardOutcomes(shard.outcomes, shard.rows)
        self._slot = 0
        return True


def mismatch(rows: int, expected: int) -> StorageError:
    """The snapshot and the shards disagree, which no run of halfrate can bring about."""
    return StorageError(
        f"the job's copy of its input has {rows:,} rows, and its shards have {expected:,}: "
        "a file of this job was changed"
    )


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record's values. The answer, and the cost with all its decimals, are still JSON."""

    answer: msgspec.Raw
    status: str
    error: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: msgspec.Raw
    model: str | None
    finish_reason: str | None


def record_decoder(names: dict[str, str]) -> Callable[[bytes | memoryview], Record]:
    """A function from a record, as it lies in an outcome file, to its values."""
    # A subclass may rename its parents' fields; instances are `Record`s.
    renamed = msgspec.defstruct(
        "RenamedRecord",
        [(column, Record.__annotations__[column]) for column in COLUMNS],
        bases=(Record,),
        rename={column: names.get(column, column) for column in COLUMNS},
        frozen=True,
        gc=False,
    )
    decode = cast("Callable[[bytes], Record]", msgspec.json.Decoder(renamed).decode)

    def read(record: bytes | memoryview) -> Record:
        return decode(b"{" + record)

    return read

"""The provider's own result objects, under the user's own ids and in input order."""

import array
import mmap
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, count, repeat
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.errors import StorageError
from halfrate.base.results import Kind, ResultRow, UnreadableLine
from halfrate.base.types import RawForm
from halfrate.rows.arrow import batches, column_of, column_values, open_parquet
from halfrate.rows.csv_table import read_csv_rows
from halfrate.rows.lines import BLOCK
from halfrate.rows.outcomes import OutcomeFile
from halfrate.rows.records import Snapshot, mismatch
from halfrate.rows.sources import DELIMITERS, jsonl_objects, native_ids
from halfrate.rows.target import TargetFile
from halfrate.rows.values import value_text

_FILE_BITS: Final = 48  # a place is `file << 48 | offset + 1`; 0 says that there is none
_OFFSET: Final = (1 << _FILE_BITS) - 1


class RawAttempt(msgspec.Struct, frozen=True):
    """One attempt at a shard: `read` understands its result lines, `files` holds them as they came."""

    read: Callable[[bytes], ResultRow]
    files: tuple[Path, ...]
    outcomes: Path | None


class RawShard(msgspec.Struct, frozen=True):
    """A shard and its attempts, oldest first."""

    first_row: int
    rows: int
    attempts: tuple[RawAttempt, ...]


def write_raw(
    snapshot: Snapshot,
    shards: Sequence[RawShard],
    target: Path,
    form: RawForm,
    *,
    id_column: str | None = None,
    render: Callable[[bytes, bytes, ResultRow, bytes], bytes] | None = None,
    requests: Iterator[bytes] | None = None,
) -> int:
    """Write one line a row, whole or not at all; return the number of rows.

    `render`: makes a line of another form from one of the provider's, the user's id, what the line says, and the row's
    own of `requests`, b"" without them.
    The id is the batch file's own, else what `id_column` holds, else the row's number from 0.
    """
    ids = _ids(snapshot, id_column)
    requests = repeat(b"") if requests is None else requests
    our_id = re.compile(rb'("%b"\s*:\s*)"hr-[0-9a-z]+-[0-9]+-[0-9]+-[0-9]+"' % form.id_field.encode())
    rows = 0
    with TargetFile(target) as file:
        for shard in shards:
            with ExitStack() as stack:
                files = _Files(shard, stack)
                places = files.places()
                block: list[bytes] = []
                size = 0
                for slot in range(shard.rows):
                    name = next(ids, None)
                    if name is None:
                        raise mismatch(rows + slot, sum(shard.rows for shard in shards))
                    request = next(requests, b"")
                    line = files.line(places[slot])
                    if line is None:
                        block.append(_not_run(name, form))
                    elif render is None:
                        block.append(
                            our_id.sub(lambda match, name=name: match.group(1) + name, line, count=1)
                        )
                    else:
                        block.append(render(line, name, files.meaning(places[slot], line), request))
                    size += len(block[-1])
                    if size > BLOCK:
                        file.write(b"".join(block))
                        block.clear()
                        size = 0
                file.write(b"".join(block))
            rows += shard.rows
        if next(ids, None) is not None and (snapshot.native or id_column):
            raise mismatch(rows + 1, rows)
        file.commit()
    return rows


def _not_run(name: bytes, form: RawForm) -> bytes:
    return b'{"%b":' % form.id_field.encode() + name + form.not_run


def _ids(snapshot: Snapshot, id_column: str | None) -> Iterator[bytes]:
    """The user's id of every row, as JSON strings."""
    if snapshot.native is not None:
        return chain.from_iterable(native_ids(snapshot.path))
    if id_column is None:
        return (b'"%d"' % row for row in count())
    if snapshot.format == "jsonl":
        return _jsonl_ids(snapshot.path, id_column)
    if snapshot.format == "parquet":
        return _parquet_ids(snapshot.path, id_column)
    header, blocks = read_csv_rows(snapshot.path, DELIMITERS[snapshot.format])
    place = header.index(id_column)
    return (msgspec.json.encode(row[place]) for rows in blocks for row in rows)


def _jsonl_ids(path: Path, column: str) -> Iterator[bytes]:
    for objects in jsonl_objects(path):
        for item in objects:
            value = bytes(item[column])
            yield value if value.startswith(b'"') else msgspec.json.encode(value.decode())


def _parquet_ids(path: Path, column: str) -> Iterator[bytes]:
    with open_parquet(path, path.name) as file:
        for batch in batches(file, [column]):
            for value in column_values(column_of(batch, column)):
                yield msgspec.json.encode(value_text(value))


class _Files:
    """The result files of one shard, mapped: pages belong to the files, not to the process."""

    def __init__(self, shard: RawShard, stack: ExitStack) -> None:
        self._shard = shard
        self._stack = stack
        self._maps: list[mmap.mmap] = []
        self._readers: list[Callable[[bytes], ResultRow]] = []

    def places(self) -> "array.array[int]":
        """Where the line that speaks for each row begins. Memory: 8 bytes a row."""
        shard = self._shard
        places = array.array("Q", bytes(8 * shard.rows))
        settled: set[int] | bytearray = bytearray(shard.rows)
        for attempt in shard.attempts:
            kinds = bytearray(shard.rows)
            for path in attempt.files:
                for slot, place, kind in self._scan(path, attempt.read):
                    # Within an attempt the first success speaks, as it did when the results were taken in.
                    if settled[slot] or (kinds[slot] and not (kind == Kind.SUCCEEDED != kinds[slot])):
                        continue
                    kinds[slot] = kind
                    places[slot] = place
            if attempt.outcomes is not None:
                with OutcomeFile(attempt.outcomes) as outcomes:
                    for slot in outcomes.slots_of(Kind.SUCCEEDED):
                        settled[slot] = 1
        return places

    def line(self, place: int) -> bytes | None:
        """The line at a place, with one newline."""
        if not place:
            return None
        data = self._maps[place >> _FILE_BITS]
        data.seek((place & _OFFSET) - 1)
        return data.readline().rstrip(b"\r\n") + b"\n"

    def meaning(self, place: int, line: bytes) -> ResultRow:
        """What the line at a place says."""
        return self._readers[place >> _FILE_BITS](line)

    def _scan(self, path: Path, read: Callable[[bytes], ResultRow]) -> Iterator[tuple[int, int, int]]:
        data = self._map(path)
        if data is None:
            return
        self._readers.append(read)
        number = len(self._maps) - 1 << _FILE_BITS
        first, rows = self._shard.first_row, self._shard.rows
        at = 0
        while line := data.readline():
            try:
                found = read(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnreadableLine):
                pass
            else:
                if 0 <= found.row - first < rows:
                    yield found.row - first, number | at + 1, found.kind
            at += len(line)

    def _map(self, path: Path) -> mmap.mmap | None:
        try:
            with path.open("rb") as file:
                if not path.stat().st_size:
                    return None
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be read ({error}): a file of this job was moved or removed"
            ) from error
        self._stack.callback(data.close)
        self._maps.append(data)
        return data

"""Outcome files: what became of every row of one attempt.

    records   one JSON fragment a line, in the order in which results arrived
    index     one unsigned 64-bit number a row of the shard, `offset << 27 | length << 3 | kind`, 0 where
              nothing is known; a length of 0 says that it did not fit, and the record ends at its newline
    footer    magic, number of rows, offset of the index

A record is the part of an output object that halfrate adds, without braces, so that joining it to its input
row is a copy. The file is written under a temporary name, synced and renamed; a later attempt adds another
file and never changes this one. The newest attempt that knows a row speaks for it.
"""

import array
import contextlib
import mmap
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from msgspec import Raw

from halfrate.base.disk import sync_folder
from halfrate.base.errors import StorageError
from halfrate.base.results import Kind

_MAGIC = b"hroutc01"
_FOOTER = struct.Struct("<8sQQ")
KIND = 3
"""Bits of a place that hold the row's kind."""
_LENGTH_BITS = 24
_KIND = (1 << KIND) - 1
_KIND_OF = bytes(byte & _KIND for byte in range(256))
LONGEST = (1 << _LENGTH_BITS) - 1
"""The longest record whose length a place can hold."""
PLACE = KIND + _LENGTH_BITS
"""Where in a place the offset begins."""


class OutcomeWriter:
    """Collects the records of one attempt. Memory: 8 bytes a row of the shard.

    Use as a context manager and call `commit`; leaving without it removes the temporary file.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self.index = array.array("Q", bytes(8 * rows))
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._file: BinaryIO = self._temporary.open("wb", buffering=0)
        self._size = 0
        self._position = 0
        self._waiting: list[bytes] = []
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._committed:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def add(self, slot: int, kind: int, record: bytes) -> None:
        """Append the record of a row, ending in a newline. `flush` writes what was added."""
        length = len(record)
        self.index[slot] = self._position << PLACE | (length if length <= LONGEST else 0) << KIND | kind
        self._position += length
        self._waiting.append(record)

    def add_all(
        self,
        slots: Sequence[int],
        kind: int,
        heads: Sequence[bytes | Raw],
        tails: Sequence[bytes],
        records: bytes,
    ) -> None:
        """The same for many rows of one kind, whose records stand one after another: each as long as its head and its
        tail together."""
        index = self.index
        fits = len(records) <= LONGEST
        # One sum carries the offset, in its place, and the kind.
        at = self._position << PLACE | kind
        for slot, head, tail in zip(slots, heads, tails, strict=False):
            length = len(head) + len(tail)
            index[slot] = at + (length << KIND) if fits or length <= LONGEST else at
            at += length << PLACE
        self._position += len(records)
        self._waiting.append(records)

    def flush(self) -> None:
        self._put(b"".join(self._waiting))
        self._waiting.clear()

    def kind(self, slot: int) -> int:
        return self.index[slot] & _KIND

    @property
    def known(self) -> int:
        """How many rows have a record."""
        return len(self.index) - self.index.count(0)

    def kinds(self) -> bytes:
        """The kind of every row, a byte for each; 0 where nothing is known."""
        return _kinds(self.index)

    def commit(self) -> None:
        """Make the file durable under its own name."""
        self.flush()
        at = self._size
        rows = len(self.index)
        if sys.byteorder == "big":
            self.index.byteswap()
        self._put(self.index.tobytes())
        self._put(_FOOTER.pack(_MAGIC, rows, at))
        os.fsync(self._file.fileno())
        self._file.close()
        self._committed = True
        self._temporary.replace(self._path)
        sync_folder(self._path.parent)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._size += len(data)


def _kinds(index: "array.array[int]") -> bytes:
    # The lowest byte of each place, and of that the bits that hold the kind.
    lowest = 0 if sys.byteorder == "little" else 7
    return memoryview(index).cast("B")[lowest::8].tobytes().translate(_KIND_OF)


class _LongRecordError(Exception):
    """A record whose length did not fit into the index."""


def _long() -> int:
    raise _LongRecordError


class OutcomeFile:
    """Reads one attempt's outcomes through a memory map: pages belong to the file, not to the process."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{path} cannot be read ({error}): a file of this job was moved or removed"
            ) from error
        footer = self._map[-_FOOTER.size :]
        magic, rows, at = _FOOTER.unpack(footer) if len(footer) == _FOOTER.size else (b"", 0, 0)
        if magic != _MAGIC or len(self._map) != at + 8 * rows + _FOOTER.size:
            self._map.close()
            raise StorageError(f"{path} is not an outcome file, or was cut short")
        self._view = memoryview(self._map)
        self.index = array.array("Q")
        self.index.frombytes(self._map[at : at + 8 * rows])
        if sys.byteorder == "big":
            self.index.byteswap()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._view.release()
        # Views that were given out keep the map open until the last of them is dropped.
        with contextlib.suppress(BufferError):
            self._map.close()

    def kind(self, slot: int) -> int:
        return self.index[slot] & _KIND

    def record(self, slot: int) -> bytes:
        """The row's record with its newline; the row must be known."""
        return bytes(self._part(self.index[slot]))

    def records(self, start: int, stop: int) -> list[memoryview] | None:
        """Views of the records of a range of slots, or None if any of them is unknown here."""
        part = self.index[start:stop]
        if 0 in part:
            return None
        view = self._view
        try:
            return [
                view[(at := place >> PLACE) : at + ((place >> KIND & LONGEST) or _long())] for place in part
            ]
        except _LongRecordError:
            return [self._part(place) for place in part]

    def _part(self, place: int) -> memoryview:
        at = place >> PLACE
        length = place >> KIND & LONGEST
        return self._view[at : at + length if length else self._map.find(b"\n", at) + 1]

    def slots_of(self, *kinds: Kind) -> Iterator[int]:
        """Slots with one of these kinds, ascending."""
        wanted = frozenset(int(kind) for kind in kinds)
        return (slot for slot, value in enumerate(self.index) if value & _KIND in wanted)


class ShardOutcomes:
    """All attempts of a shard seen as one: the newest attempt that knows a row speaks for it."""

    def __init__(self, paths: Sequence[Path], rows: int) -> None:
        self.rows = rows
        self._files = [OutcomeFile(path) for path in reversed(paths)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for file in self._files:
            file.__exit__()

    def records(self, start: int, stop: int, unknown: bytes) -> Sequence[bytes | memoryview]:
        """Records of a range of rows; `unknown` for a row that no attempt knows."""
        if len(self._files) == 1:
            quick = self._files[0].records(start, stop)
            if quick is not None:
                return quick
        return [self._record(slot) or unknown for slot in range(start, stop)]

    def kinds(self) -> "array.array[int]":
        """The kind of every row, one byte each."""
        kinds = array.array("B", bytes(self.rows))
        for file in reversed(self._files):
            for slot, value in enumerate(file.index):
                if value:
                    kinds[slot] = value & _KIND
        return kinds

    def turns(self) -> "array.array[int]":
        """The newest attempt that knows each row, counted from 1; 0 for none."""
        turns = array.array("L", bytes(self.rows * array.array("L").itemsize))
        for number, file in enumerate(reversed(self._files), 1):
            for slot, value in enumerate(file.index):
                if value:
                    turns[slot] = number
        return turns

    def _record(self, slot: int) -> bytes | None:
        for file in self._files:
            if file.index[slot]:
                return file.record(slot)
        return None

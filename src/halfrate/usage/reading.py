"""A log, read from its beginning to its end in blocks of calls, in memory that does not grow with it."""

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from halfrate.base.errors import InputError
from halfrate.core.audit_call import Call
from halfrate.usage.detect import SAMPLE, Found, recognised
from halfrate.usage.documents import NotJsonError, entries
from halfrate.usage.formats import Format, Meaning

_BLOCK: Final = 1 << 18
_ROWS: Final = 2000
_LONGEST: Final = 1 << 26
"""Bytes of a line, and letters of a cell: what is longer is passed over, or refused."""
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_SHOWN: Final = 3
_FAULTS: Final = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


class UsageLog:
    """A file, or standard input as `-`.

    Attributes:
        name: what to call it in messages.
        format: how it was recognised; None before it is read.
        rows: entries, lines of a table, or lines that were read.
        aside: rows that are no calls of a model: spans of tools, results of other kinds, answers from a cache.
        unreadable: rows that could not be understood, or how often the reading came to a sudden end.
        faults: what was wrong with the first few of them.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.format: Format | None = None
        self.rows = 0
        self.aside = 0
        self.unreadable = 0
        self.faults: list[str] = []
        self._path = path

    def blocks(self) -> Iterator[list[Call]]:
        """Calls, a few thousand at a time. Raises InputError for a file that is no log, or hardly any of one."""
        with self._opened() as file:
            stream, sample = _ahead(file)
            packed = sample.startswith(_GZIP)
            try:
                if packed:
                    stream, sample = _ahead(cast("BinaryIO", gzip.GzipFile(fileobj=stream)))
                found = recognised(self.name, sample)
                self.format = found.format
                yield from self._read(stream, found)
            except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
                if self.format is None:
                    raise InputError(f"{self.name} cannot be unpacked ({fault}).") from None
                self._fault(f"it cannot be unpacked to its end ({fault})")
        if self.unreadable > self.rows - self.unreadable:
            raise InputError(
                f"{self.name} looks like {self.format.title}, but {self.unreadable:,} of {self.rows:,} rows make no "
                f"sense: {'; '.join(self.faults)}."
            )

    def _opened(self) -> BinaryIO:
        if self.name == "-":
            return sys.stdin.buffer
        try:
            return self._path.open("rb", buffering=0)
        except IsADirectoryError:
            raise InputError(f"{self.name} is a folder. Name the files: {self.name}/*.") from None
        except OSError as error:
            raise InputError(f"{self.name} cannot be read ({error.strerror}).") from None

    def _read(self, stream: BinaryIO, found: Found) -> Iterator[list[Call]]:
        row = found.format.rows(found.names)
        if found.delimiter is not None:
            return self._table(stream, found, row)
        if found.lines:
            return self._lines(stream, found, row)
        return self._document(stream, found, row)

    def _fault(self, reason: str, line: int | None = None) -> None:
        self.unreadable += 1
        if len(self.faults) < _SHOWN:
            self.faults.append(f"line {line}: {reason}" if line is not None else reason)

    # ------------------------------------------------------------ JSON, a line each

    def _lines(self, stream: BinaryIO, found: Found, row: type[msgspec.Struct]) -> Iterator[list[Call]]:
        decode = msgspec.json.Decoder(row).decode
        read = found.format.read
        number = 0
        for lines in _line_blocks(stream):
            calls: list[Call] = []
            for line in lines:
                number += 1
                if not line or line.isspace():
                    continue
                self.rows += 1
                try:
                    meaning = read(decode(line))
                except _FAULTS as fault:
                    self._fault(_reason(line, fault), number)
                    continue
                self._put(meaning, calls)
            yield calls

    def _put(self, meaning: Meaning, calls: list[Call]) -> None:
        if type(meaning) is Call:
            calls.append(meaning)
        elif meaning:
            calls.extend(cast("list[Call]", meaning))
        else:
            self.aside += 1

    # ------------------------------------------------------------ JSON documents

    def _document(self, stream: BinaryIO, found: Found, row: type[msgspec.Struct]) -> Iterator[list[Call]]:
        calls: list[Call] = []
        try:
            for entry in entries(stream, found.format.inside):
                self.rows += 1
                try:
                    meaning = found.format.read(msgspec.convert(entry, row))
                except msgspec.ValidationError as fault:
                    self._fault(f"entry {self.rows:,}: {fault}")
                    continue
                self._put(meaning, calls)
                if len(calls) >= _ROWS:
                    yield calls
                    calls = []
        except NotJsonError as fault:
            self.rows += 1
            self._fault(f"after {self.rows - 1:,} entries {fault}")
        yield calls

    # ------------------------------------------------------------ tables

    def _table(self, stream: BinaryIO, found: Found, row: type[msgspec.Struct]) -> Iterator[list[Call]]:
        text = io.TextIOWrapper(
            cast("Any", io.BufferedReader(cast("Any", stream), _BLOCK)),
            encoding="utf-8-sig",
            errors="replace",
            newline="",
        )
        csv.field_size_limit(_LONGEST)
        reader = csv.reader(text, delimiter=found.delimiter or ",")
        try:
            header = [name.strip() for name in next(reader, list[str]())]
            build = _builder(header, row)
            read = found.format.read
            calls: list[Call] = []
            for cells in reader:
                if not cells:
                    continue
                self.rows += 1
                try:
                    meaning = read(build(cells))
                except IndexError:
                    self._fault(f"it has {len(cells)} cells, and the header {len(header)}", reader.line_num)
                    continue
                self._put(meaning, calls)
                if len(calls) >= _ROWS:
                    yield calls
                    calls = []
            yield calls
        except csv.Error as fault:
            raise InputError(
                f"{self.name}, line {reader.line_num}: {fault}. A quote may have been left open before it."
            ) from None


def _builder(header: list[str], row: type[msgspec.Struct]) -> Callable[[list[str]], Any]:
    """From the cells of a line to a row."""
    places = {name: place for place, name in enumerate(header)}
    fields = msgspec.structs.fields(row)
    width = len(header)
    # What the table does not have stands behind its cells: nothing, and "not even a column".
    wanted = [places.get(one.encode_name, width + (one.default is msgspec.UNSET)) for one in fields]
    pick = itemgetter(*wanted)
    least = max((place for place in wanted if place < width), default=0)
    absent: list[Any] = [None, msgspec.UNSET]

    def build(cells: list[Any]) -> Any:
        if len(cells) != width:
            if len(cells) <= least:
                raise IndexError
            cells = (cells + [None] * width)[:width]
        return row(*pick(cells + absent))

    return build


def _reason(line: bytes, fault: Exception) -> str:
    if isinstance(fault, RecursionError):
        return "it is nested too deeply to be read"
    return "it is cut off" if b"truncated" in str(fault).encode() and len(line) else str(fault)


class _Joined(io.RawIOBase):
    """What was looked at already, and what follows it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        data = self._head[:size] or self._rest.read(size) or b""
        self._head = self._head[size:] if self._head else b""
        buffer[: len(data)] = data
        return len(data)


def _ahead(stream: BinaryIO) -> tuple[BinaryIO, bytes]:
    """The same stream again from where it stood, and its next bytes."""
    pieces: list[bytes] = []
    size = 0
    while size < SAMPLE and (piece := stream.read(SAMPLE - size)):
        pieces.append(piece)
        size += len(piece)
    head = b"".join(pieces)
    return cast("BinaryIO", _Joined(head, stream)), head


def _line_blocks(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Lists of whole lines without their newlines. A line that is too long is given as an empty object cut off."""
    carried: list[bytes] = []
    held = 0
    first = True
    while block := stream.read(_BLOCK):
        if first:
            block, first = block.removeprefix(_BOM), False
        head, newline, rest = block.partition(b"\n")
        if held <= _LONGEST:
            carried.append(head)
        held += len(head)
        if not newline:
            continue
        lines = rest.split(b"\n")
        last = lines.pop()
        yield [b"{" if held > _LONGEST else b"".join(carried), *lines]
        carried, held = [last], len(last)
    if held:
        yield [b"{" if held > _LONGEST else b"".join(carried)]

"""A table in CSV or TSV, by the standard library's parser, in blocks."""

import csv
import io
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NoReturn

from halfrate.base.types import Template
from halfrate.rows import errors
from halfrate.rows.lines import BLOCK
from halfrate.rows.values import escaped

_BOM = b"\xef\xbb\xbf"
_FIELD_SIZE = 2**31 - 1  # the most that a C long holds everywhere
_ROWS = 2000

Rows = list[list[str]]


class CsvTable:
    """Reads a CSV or TSV table with a header, checks every row, and gives the prompt of each.

    The arguments are `JsonlTable`'s, and `delimiter`, which stands between two cells.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        name: str,
        template: Template,
        delimiter: str = ",",
        reserved: tuple[str, ...] = (),
        id_column: str | None = None,
        allow_empty: bool = False,
        lead: int | None = None,
        tee: Callable[[bytes], object] | None = None,
    ) -> None:
        self.taken: set[str] = set()
        self.ends: list[int] = []
        self._lead = lead
        self._name = name
        self._template = template
        self._reserved = reserved
        self._id_column = id_column
        self._allow_empty = allow_empty
        self._delimiter = delimiter
        self._source = _Source(stream, name, delimiter, tee)

    def prompts(self) -> Iterator[list[bytes]]:
        """Escaped prompts, in row order, a block at a time. Raises InputError at the first row at fault."""
        header = self._source.header()
        self._check_header(header)
        fill = self._filler(header)
        row = 0
        for rows in self._source.blocks(len(header)):
            yield fill(rows, row)
            row += len(rows)
        if row == 0:
            raise errors.no_rows(self._name)

    def _check_header(self, header: list[str]) -> None:
        wanted = dict.fromkeys(self._template.columns)
        if self._id_column is not None:
            wanted.setdefault(self._id_column)
        for column in wanted:
            if column not in header:
                fault = errors.missing_column(self._name, 1, 0, column, tuple(header))
                other = next((mark for mark in ";\t,|" if mark in header[0]), None)
                if len(header) == 1 and other is not None and other != self._delimiter:
                    raise errors.malformed(
                        self._name,
                        1,
                        0,
                        f"there is no column {column!r}: the cells seem to be separated by {other!r}, where "
                        f"{self._delimiter!r} is expected.",
                    )
                raise fault
        self.taken.update(name for name in self._reserved if name in header)

    def _filler(self, header: list[str]) -> Callable[[Rows, int], list[bytes]]:
        """A function from rows and the number of the first to escaped prompts."""
        literals = tuple(escaped(text) for text in self._template.literals)
        columns = self._template.columns
        places = [header.index(column) for column in columns]

        def fill(rows: Rows, first: int) -> list[bytes]:
            if not places:
                return [b'"%b"' % literals[0]] * len(rows)
            pieces: list[list[bytes]] = []
            for place, column in zip(places, columns, strict=True):
                cells = [row[place] for row in rows]
                if "" in cells and not self._allow_empty:
                    at = cells.index("")
                    line = self._source.line_of(at)
                    raise errors.empty_value(self._name, line, first + at, column)
                pieces.append([escaped(cell) for cell in cells])
            if self._lead is not None:
                lead = 1 + len(literals[0]) + self._lead
                self.ends = [lead + len(text) for text in pieces[0]]
            if len(pieces) == 1:
                before, after = literals
                return [b'"%b%b%b"' % (before, text, after) for text in pieces[0]]
            ends = literals[1:]
            return [
                b'"%b%b"' % (literals[0], b"".join(chain.from_iterable(zip(texts, ends, strict=True))))
                for texts in zip(*pieces, strict=True)
            ]

        return fill


def read_csv_rows(path: Path, delimiter: str) -> tuple[list[str], Iterator[Rows]]:
    """The header of a CSV file, and its rows in blocks. The file is closed when the last block is taken."""
    stream = path.open("rb", buffering=0)
    source = _Source(stream, path.name, delimiter, None)
    try:
        header = source.header()
    except BaseException:
        stream.close()
        raise

    def blocks() -> Iterator[Rows]:
        with stream:
            yield from source.blocks(len(header))

    return header, blocks()


class _Source:
    """Rows of cells with the same number of cells in each; anything else is refused by its line."""

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        delimiter: str,
        tee: Callable[[bytes], object] | None,
    ) -> None:
        # The limit is the process's own, so it is only ever raised.
        if csv.field_size_limit() < _FIELD_SIZE:
            csv.field_size_limit(_FIELD_SIZE)
        self._stream = stream
        self._name = name
        self._tee = tee
        self._row = 0
        self._block: Rows = []
        self._block_line = 1
        lines = chain.from_iterable(self._texts())
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)

    def header(self) -> list[str]:
        """The first row that is not blank. Raises InputError if a name stands in it twice."""
        while True:
            rows = self._read(1)
            if not rows:
                raise errors.no_rows(self._name)
            if rows[0]:
                break
            self._block_line = self._reader.line_num + 1
        header = rows[0]
        line = self._block_line
        self._block_line = self._reader.line_num + 1
        twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
        if twice is not None:
            raise errors.malformed(
                self._name, line, 0, f"the column name {twice!r} stands in the header twice."
            )
        return header

    def blocks(self, width: int) -> Iterator[Rows]:
        """The rows below the header, without blank lines."""
        while rows := self._read(_ROWS):
            self._block = rows
            widths = set(map(len, rows))
            if widths - {width, 0}:
                self._ragged(rows, width)
            filled = [row for row in rows if row] if 0 in widths else rows
            if filled:
                yield filled
            self._row += len(filled)
            self._block_line = self._reader.line_num + 1

    def line_of(self, index: int) -> int:
        """The line at which a row of the last block begins, counted among the rows that are not blank."""
        line = self._block_line
        for row in self._block:
            if row:
                if index == 0:
                    break
                index -= 1
            line += 1 + sum(cell.count("\n") for cell in row)
        return line

    def _read(self, count: int) -> Rows:
        try:
            return list(islice(self._reader, count))
        except csv.Error as error:
            line = self._reader.line_num
            reason = f"this cannot be read as CSV ({error})."
            if "unexpected end of data" in str(error):
                reason = "a quotation mark is opened here or before and never closed."
            raise errors.malformed(self._name, line, self._row, reason) from None

    def _ragged(self, rows: Rows, width: int) -> NoReturn:
        filled = [row for row in rows if row]
        at = next(i for i, row in enumerate(filled) if len(row) != width)
        cells = len(filled[at])
        raise errors.malformed(
            self._name,
            self.line_of(at),
            self._row + at,
            f"this row has {cells} cell{'s' if cells != 1 else ''}, and the header has {width}. "
            'Put a cell that contains the separator into "quotation marks".',
        )

    def _texts(self) -> Iterator[io.StringIO]:
        """The file as text in blocks of whole lines. Only `\\n` ends a line here; the parser sees to the rest."""
        line = 1
        rest: list[bytes] = []
        data = self._stream.read(BLOCK)
        if self._tee is not None and data:
            self._tee(data)
        first = data.removeprefix(_BOM)
        while data:
            head, newline, tail = (first if line == 1 and not rest else data).rpartition(b"\n")
            if newline:
                rest += (head, newline)
                block = b"".join(rest)
                yield io.StringIO(self._decode(block, line), newline="\n")
                line += block.count(b"\n")
                rest = [tail] if tail else []
            else:
                rest.append(tail)
            data = self._stream.read(BLOCK)
            if self._tee is not None and data:
                self._tee(data)
        if rest:
            yield io.StringIO(self._decode(b"".join(rest), line), newline="\n")

    def _decode(self, block: bytes, line: int) -> str:
        at = block.find(b"\0")
        if at >= 0:
            where = line + block.count(b"\n", 0, at)
            reason = "there is a NUL byte here, so this is not UTF-8 text. Save the file as UTF-8."
            raise errors.malformed(self._name, where, self._row, reason)
        try:
            return block.decode()
        except UnicodeDecodeError as fault:
            where = line + block.count(b"\n", 0, fault.start)
            column = fault.start - block.rfind(b"\n", 0, fault.start)
            reason = f"byte {column} is not UTF-8 ({fault.reason}). Save the file as UTF-8."
            raise errors.malformed(self._name, where, self._row, reason) from None

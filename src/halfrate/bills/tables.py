"""Tables as they are exported: CSV or TSV, compressed or not, and Parquet. Read in constant memory."""

import csv
import gzip
import importlib.util
import re
import zlib
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Final, cast

from halfrate.base.errors import InputError, SettingsError
from halfrate.bills.amounts import NOTHING_DONE, Place

GZIP: Final = b"\x1f\x8b"
_PLAIN: Final = re.compile(r"[^a-z0-9]")
_LONGEST_HEADER: Final = 1 << 20
_BATCH_ROWS: Final = 4096


def plain(name: str) -> str:
    """A column's name with small letters and digits alone: `lineItem/UsageType` and `line_item_usage_type` are one."""
    return _PLAIN.sub("", name.lower())


class Table:
    """Rows of text under names.

    Args:
        header: the columns' names.
        rows: (line of the file, cells); the line is None where the file has none.
    """

    def __init__(
        self, name: str, header: Sequence[str], rows: Iterator[tuple[int | None, Sequence[str]]]
    ) -> None:
        self.place = Place(name)
        self.columns: dict[str, int] = {}
        for index, column in enumerate(header):
            self.columns.setdefault(plain(column), index)
        self._width = len(header)
        self._rows = rows

    def has(self, *names: str) -> bool:
        return any(name in self.columns for name in names)

    def rows(self) -> "Iterator[Row]":
        """Each row. `place` says where it stands."""
        for line, cells in self._rows:
            self.place.line = line
            if not any(cells):
                continue
            if len(cells) != self._width:
                self.place.fail(
                    f"there are {len(cells)} cells under {self._width} columns. The file may be cut off, or changed by "
                    "a spreadsheet; export it anew."
                )
            yield Row(self.columns, cells)


class Row:
    """Cells by the plain names of their columns."""

    __slots__ = ("_cells", "_columns")

    def __init__(self, columns: dict[str, int], cells: Sequence[str]) -> None:
        self._columns = columns
        self._cells = cells

    def get(self, *names: str) -> str:
        """The first of these columns that has something; "" where none has."""
        for name in names:
            index = self._columns.get(name)
            if index is not None and self._cells[index]:
                return self._cells[index].strip()
        return ""


def open_csv(path: Path) -> tuple[Table, IO[str]]:
    """A table in a CSV or TSV file, and the file, to be closed. Raises InputError where there is no header."""
    stream: Any = None
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
        stream = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115 - the caller closes it
        text = TextIOWrapper(cast("IO[bytes]", stream), encoding="utf-8-sig", newline="")
        place = Place(path.name)
        first = text.readline(_LONGEST_HEADER)
        delimiter = max(",\t;", key=first.count)
        text.seek(0)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        rows = _csv_rows(reader, place)
        header = next((cells for _, cells in rows), [""])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        if stream is not None:
            stream.close()
        raise _unreadable(path.name, error) from error
    return Table(path.name, header, rows), text


def _csv_rows(reader: Any, place: Place) -> Iterator[tuple[int | None, list[str]]]:
    while True:
        try:
            row: list[str] = next(reader)
        except StopIteration:
            return
        except (csv.Error, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            place.line = max(1, int(reader.line_num))
            if isinstance(error, csv.Error):
                place.fail(f"this is no CSV: {error}.")
            place.line = int(reader.line_num) + 1
            raise _unreadable(f"{place.name}, line {place.line:,}", error) from error
        yield reader.line_num, row


def _unreadable(where: str, error: Exception) -> InputError:
    if isinstance(error, UnicodeDecodeError):
        why = "it is not UTF-8 text"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    else:
        why = str(error) or type(error).__name__
    return InputError(f"{where} cannot be read ({why}). {NOTHING_DONE}")


def open_parquet(path: Path) -> Table:
    """A table in a Parquet file, every value as text. Raises SettingsError where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise SettingsError("Parquet needs pyarrow: pip install 'halfrate[parquet]'")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path.name} cannot be read as Parquet: {error} {NOTHING_DONE}") from error
    names = [str(name) for name in file.schema_arrow.names]

    def rows() -> Iterator[tuple[int | None, list[str]]]:
        number = 0
        try:
            for batch in cast("Any", file).iter_batches(_BATCH_ROWS):
                columns: list[list[Any]] = [column.to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, [_text(cell) for cell in cells]
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{path.name}, row {number + 1:,}: cannot be read as Parquet: {error} {NOTHING_DONE}"
            ) from error

    return Table(path.name, names, rows())


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return repr(cell)
    return str(cell)

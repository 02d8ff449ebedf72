"""Rows from Python: an iterable of mappings, or a data frame, spooled as JSONL before anything is sent."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from halfrate.base.errors import InputError
from halfrate.rows import errors
from halfrate.rows.arrow import column_values, columns_of, need_pyarrow
from halfrate.rows.values import encode_value

_BLOCK: Final = 1 << 18
_ROWS: Final = 2000
_PANDAS_INDEX: Final = "__index_level_"


def spool_mappings(rows: Iterable[Mapping[str, Any]], write: Callable[[bytes], object]) -> int:
    """Write each mapping as one line of JSON, in blocks; return how many there were.

    Raises InputError at the first element that is no mapping or has no form in JSON.
    """
    count = 0
    lines: list[bytes] = []
    size = 0
    for row in rows:
        line = _encoded(row, count)
        lines += (line, b"\n")
        size += len(line)
        count += 1
        if size >= _BLOCK:
            write(b"".join(lines))
            lines.clear()
            size = 0
    if lines:
        write(b"".join(lines))
    return count


def is_arrow(rows: object) -> bool:
    """Whether an object can be read as an Arrow stream: a pandas, Polars, pyarrow or DuckDB table."""
    return hasattr(type(rows), "__arrow_c_stream__")


def spool_arrow(table: Any, write: Callable[[bytes], object]) -> int:
    """Write the rows of a data frame as JSONL, in blocks; return how many there were.

    An unnamed pandas index is left out; dates and times become ISO 8601 text.
    """
    need_pyarrow("A data frame")
    import pyarrow as pa

    reader = pa.RecordBatchReader.from_stream(table)
    names = [name for name in reader.schema.names if not name.startswith(_PANDAS_INDEX)]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"The table has two columns named {twice!r}. {errors.NOTHING_SENT}", column=twice)
    places = [reader.schema.names.index(name) for name in names]
    count = 0
    for batch in reader:
        for start in range(0, batch.num_rows, _ROWS):
            part = batch.slice(start, _ROWS)
            arrays = columns_of(part)
            columns = [column_values(arrays[place]) for place in places]
            rows = [
                dict(zip(names, (column[i] for column in columns), strict=True)) for i in range(part.num_rows)
            ]
            write(b"".join([_encoded(row, count + i) + b"\n" for i, row in enumerate(rows)]))
            count += part.num_rows
    return count


def _encoded(row: object, index: int) -> bytes:
    if not isinstance(row, Mapping):
        raise InputError(
            f"rows[{index}] is a {type(row).__name__}, not a mapping of column names to values. "
            f"Give each row as a dict, as in {{'text': ...}}. {errors.NOTHING_SENT}",
            row=index,
        )
    try:
        return encode_value(row)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            f"rows[{index}] cannot be written as JSON: {error}. {errors.NOTHING_SENT}", row=index
        ) from error

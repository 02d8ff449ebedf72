"""pyarrow, in one place: it is an extra, and its stubs leave types open that are closed here."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from halfrate.base.errors import InputError, SettingsError
from halfrate.rows import errors
from halfrate.rows.values import bytes_text

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Column: TypeAlias = "pa.Array[Any]"

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 4096


def need_pyarrow(what: str) -> None:
    """Raises SettingsError where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise SettingsError(f"{what} needs pyarrow: pip install 'halfrate[parquet]'")


def open_parquet(path: Path, name: str) -> "pq.ParquetFile":
    """Open for reading in constant memory. Raises InputError for what is not Parquet."""
    need_pyarrow("Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{name} cannot be read as Parquet: {error} {errors.NOTHING_SENT}") from None
    names = file.schema_arrow.names
    twice = next((column for i, column in enumerate(names) if column in names[:i]), None)
    if twice is not None:
        file.close()
        raise InputError(f"{name} has two columns named {twice!r}. {errors.NOTHING_SENT}", column=twice)
    return file


def batches(file: "pq.ParquetFile", wanted: list[str] | None = None) -> "Iterator[pa.RecordBatch]":
    """The file in batches of a few megabytes."""
    metadata = file.metadata
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    each = max(1, size // max(1, metadata.num_rows))
    rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // each))
    # Threads would hold several columns' pages at once to gain nothing: Python is the slow side.
    return cast("Any", file).iter_batches(batch_size=rows, columns=wanted, use_threads=False)


def columns_of(batch: "pa.RecordBatch") -> "list[Column]":
    return cast("Any", batch).columns


def column_of(batch: "pa.RecordBatch", name: str) -> "Column":
    return cast("Any", batch).column(batch.schema.names.index(name))


def type_of(schema: "pa.Schema", name: str) -> "pa.DataType":
    return cast("Any", schema).field(name).type


def is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def column_values(column: "Column") -> list[Any]:
    """The values of a column as Python's own, nothing of pandas' among them.

    Times finer than a microsecond are cut to it, which is what Python has; bytes become base64.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz), safe=False).to_pylist()
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return column.cast(pa.duration("us"), safe=False).to_pylist()
    values = column.to_pylist()
    if is_bytes(kind):
        return [None if value is None else bytes_text(value) for value in values]
    if pa.types.is_map(kind):
        return [None if value is None else dict(value) for value in values]
    return values

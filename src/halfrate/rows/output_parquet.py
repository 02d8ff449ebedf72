"""Results as Parquet: the input's own types where it has some, and ours."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from halfrate.rows.arrow import Column, batches, columns_of, need_pyarrow, open_parquet
from halfrate.rows.collect import COLUMNS
from halfrate.rows.csv_table import read_csv_rows
from halfrate.rows.records import Record, Records, Snapshot, record_decoder
from halfrate.rows.sources import (
    DELIMITERS,
    NATIVE_COLUMN,
    Object,
    decoded,
    jsonl_objects,
    native_ids,
    union_of_keys,
)
from halfrate.rows.target import TargetFile
from halfrate.rows.values import cell_text

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP_BYTES: Final = 32 << 20
_GROUP_ROWS: Final = 100_000
_INT64_DIGITS: Final = 18  # any integer of so many digits fits
_FLOAT_DIGITS: Final = 15  # any integer of so many digits is exact as a float
_JSON_FLOAT: Final = frozenset(b".eE")


def write_parquet(snapshot: Snapshot, records: Records, file: TargetFile, names: dict[str, str]) -> None:
    """Write all rows in row groups of bounded size."""
    need_pyarrow("Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, blocks = _source(snapshot)
    schema, types = _with_ours(source, names)
    decode = record_decoder(names)
    sink = pa.PythonFile(cast("Any", _Sink(file)), mode="w")
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []
        for count, columns in blocks:
            found = decoded(snapshot.path, records.take_all(count), decode)
            group.append(_batch([*columns, *_our_arrays(found, types)], schema))
            if sum(b.nbytes for b in group) >= _GROUP_BYTES or sum(b.num_rows for b in group) >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(group, schema))
                group.clear()
        if group:
            writer.write_table(pa.Table.from_batches(group, schema))


def _with_ours(schema: "pa.Schema", names: dict[str, str]) -> "tuple[pa.Schema, list[pa.DataType]]":
    """The schema with our columns added, and their types."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    types: list[Any] = [text, text, text, number, number, number, pa.decimal128(18, 12), text, text]
    for column, kind in zip(COLUMNS, types, strict=True):
        schema = cast("Any", schema).append(pa.field(names.get(column, column), kind))
    return schema, types


def _batch(columns: "list[Column]", schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    return cast("Any", pa.RecordBatch).from_arrays(columns, schema=schema)


def _our_arrays(found: list[Record], types: "list[pa.DataType]") -> "list[Column]":
    import pyarrow as pa

    values: list[list[Any]] = [
        [None if answer == b"null" else cell_text(answer) for answer in (bytes(r.answer) for r in found)],
        [r.status for r in found],
        [r.error for r in found],
        [r.input_tokens for r in found],
        [r.cached_tokens for r in found],
        [r.output_tokens for r in found],
        [None if cost == b"null" else Decimal(cost.decode()) for cost in (bytes(r.cost_usd) for r in found)],
        [r.model for r in found],
        [r.finish_reason for r in found],
    ]
    return [pa.array(column, type=kind) for column, kind in zip(values, types, strict=True)]


Block = tuple[int, "list[Column]"]


def _source(snapshot: Snapshot) -> "tuple[pa.Schema, Iterator[Block]]":
    """The input's schema, and its rows as arrays: (number of rows, columns) a block."""

    path = snapshot.path
    if snapshot.native is not None:
        return _texts([NATIVE_COLUMN], ([[cell_text(value)] for value in ids] for ids in native_ids(path)))
    if snapshot.format == "jsonl":
        return _jsonl(path)
    if snapshot.format == "parquet":
        with open_parquet(path, path.name) as file:
            schema = file.schema_arrow
        return schema, _parquet(path)
    return _texts(*read_csv_rows(path, DELIMITERS[snapshot.format]))


def _texts(columns: list[str], rows: Iterable[list[list[str]]]) -> "tuple[pa.Schema, Iterator[Block]]":
    import pyarrow as pa

    schema = pa.schema([(column, pa.string()) for column in columns])

    def blocks() -> Iterator[Block]:
        for block in rows:
            yield len(block), [pa.array(list(cells), pa.string()) for cells in zip(*block, strict=True)]

    return schema, blocks()


def _parquet(path: Path) -> "Iterator[Block]":
    with open_parquet(path, path.name) as file:
        for batch in batches(file):
            yield batch.num_rows, columns_of(batch)


def _jsonl(path: Path) -> "tuple[pa.Schema, Iterator[Block]]":
    import pyarrow as pa

    kinds = _kinds(path)
    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "text": pa.string()}
    schema = pa.schema([(column, types[kind]) for column, kind in kinds.items()])

    def blocks() -> Iterator[Block]:
        for objects in jsonl_objects(path):
            arrays = [_array(objects, column, kind, types[kind]) for column, kind in kinds.items()]
            yield len(objects), arrays

    return schema, blocks()


def _kinds(path: Path) -> dict[str, str]:
    """Each column's type: numbers and truth values where all its values are, else text."""
    seen: dict[str, set[str]] = {column: set() for column in union_of_keys(path)}
    for objects in jsonl_objects(path):
        for item in objects:
            for column, value in item.items():
                seen[column].add(_kind(bytes(value)))
    return {column: _common(found - {"null"}) for column, found in seen.items()}


def _kind(value: bytes) -> str:
    start = value[0]
    if start == 0x22:
        return "text"
    if start in b"-0123456789":
        if not _JSON_FLOAT.isdisjoint(value):
            return "float"
        digits = len(value.lstrip(b"-"))
        return "text" if digits > _INT64_DIGITS else "int" if digits <= _FLOAT_DIGITS else "long"
    return {b"null": "null", b"true": "bool", b"false": "bool"}.get(value, "text")


def _common(kinds: set[str]) -> str:
    if kinds and kinds <= {"int", "long"}:
        return "int"
    if kinds and kinds <= {"int", "float"}:
        return "float"
    return "bool" if kinds == {"bool"} else "text"


def _array(objects: list[Object], column: str, kind: str, to: "pa.DataType") -> "Column":
    import pyarrow as pa

    raw = [bytes(item[column]) if column in item else b"null" for item in objects]
    convert = {"int": int, "float": float, "bool": b"true".__eq__, "text": cell_text}[kind]
    return pa.array([None if value == b"null" else convert(value) for value in raw], type=to)


class _Sink:
    """What pyarrow asks of a file."""

    closed = False

    def __init__(self, file: TargetFile) -> None:
        self._file = file
        self._at = 0

    def write(self, data: "bytes | memoryview") -> int:
        size = self._file.write(data)
        self._at += size
        return size

    def tell(self) -> int:
        return self._at

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

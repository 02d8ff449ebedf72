"""The job's copy of its input, read again for the output: as JSON objects or as cells of text."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from halfrate.base.errors import StorageError, UsageError
from halfrate.rows.arrow import batches, column_values, columns_of, open_parquet
from halfrate.rows.csv_table import Rows, read_csv_rows
from halfrate.rows.lines import BLOCK, line_blocks
from halfrate.rows.records import Snapshot
from halfrate.rows.values import cell_text, encode_value, value_text

_BOM: Final = b"\xef\xbb\xbf"
_MOST_COLUMNS: Final = 10_000

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
NATIVE_COLUMN: Final = "custom_id"
"""The one column of a batch file that stands in its output: bodies are not repeated."""

Object = dict[str, msgspec.Raw]
_Line = TypeVar("_Line", bytes, bytes | memoryview)
_Value = TypeVar("_Value")


class _Named(msgspec.Struct, gc=False):
    """Whatever a line of a batch file may call its id."""

    custom_id: msgspec.Raw = msgspec.Raw(b"")
    key: msgspec.Raw = msgspec.Raw(b"")
    record_id: msgspec.Raw = msgspec.field(name="recordId", default=msgspec.Raw(b""))


class _Request(msgspec.Struct, gc=False):
    url: str
    body: msgspec.Raw


_named = msgspec.json.Decoder(_Named).decode
_request = msgspec.json.Decoder(_Request).decode
_object = msgspec.json.Decoder(Object).decode


def jsonl_lines(path: Path) -> Iterator[list[bytes]]:
    """The lines of a JSONL file that are rows: not blank, without byte order mark."""
    first = True
    with path.open("rb", buffering=BLOCK) as file:
        for lines in line_blocks(file):
            if first and lines[0].startswith(_BOM):
                lines[0] = lines[0][len(_BOM) :]
            first = False
            rows = [line for line in lines if not line.isspace()]
            if rows:
                yield rows


def native_ids(path: Path) -> Iterator[list[bytes]]:
    """The id of every line of a batch file, as JSON. Lines of a form without ids are numbered from 0."""
    row = 0
    for lines in jsonl_lines(path):
        found = decoded(path, lines, _named)
        ids = [bytes(line.custom_id) or bytes(line.key) or bytes(line.record_id) for line in found]
        yield [name or b'"%d"' % (row + n) for n, name in enumerate(ids)]
        row += len(ids)


def asked_url(path: Path) -> str:
    """The endpoint that a batch file in OpenAI's form asks."""
    for lines in jsonl_lines(path):
        return decoded(path, lines[:1], _request)[0].url
    return ""


def native_bodies(path: Path) -> Iterator[bytes]:
    """The requests of a batch file in OpenAI's form."""
    for lines in jsonl_lines(path):
        yield from (bytes(line.body) for line in decoded(path, lines, _request))


def jsonl_objects(path: Path) -> Iterator[list[Object]]:
    """The rows of a JSONL table, their values still encoded."""
    for lines in jsonl_lines(path):
        yield decoded(path, lines, _object)


def decoded(path: Path, lines: Sequence[_Line], decode: Callable[[_Line], _Value]) -> list[_Value]:
    """Decode lines that were valid once. Raises StorageError where they are not any more."""
    try:
        return [decode(line) for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read ({error}): a file of this job was changed") from error


def open_heads(snapshot: Snapshot) -> Iterator[list[bytes]]:
    """Rows as JSON objects that lack their closing brace, for all but plain JSONL tables."""
    path = snapshot.path
    if snapshot.native is not None:
        key = b'{"%b":' % NATIVE_COLUMN.encode()
        for ids in native_ids(path):
            yield [key + value for value in ids]
    elif snapshot.format == "parquet":
        with open_parquet(path, path.name) as file:
            names = file.schema_arrow.names
            for batch in batches(file):
                columns = [column_values(column) for column in columns_of(batch)]
                rows = zip(*columns, strict=True) if columns else iter([()] * batch.num_rows)
                yield [encode_value(dict(zip(names, row, strict=True)))[:-1] for row in rows]
    else:
        header, blocks = read_csv_rows(path, DELIMITERS[snapshot.format])
        for block in blocks:
            yield [msgspec.json.encode(dict(zip(header, row, strict=True)))[:-1] for row in block]


def text_table(snapshot: Snapshot) -> tuple[list[str], Iterator[Rows]]:
    """The columns, and the rows as cells of text."""
    path = snapshot.path
    if snapshot.native is not None:
        return [NATIVE_COLUMN], ([[cell_text(value)] for value in ids] for ids in native_ids(path))
    if snapshot.format == "jsonl":
        return _jsonl_texts(path)
    if snapshot.format == "parquet":
        return _parquet_texts(path)
    return read_csv_rows(path, DELIMITERS[snapshot.format])


def union_of_keys(path: Path) -> list[str]:
    """Every key of a JSONL table in order of first appearance."""
    known: dict[str, None] = {}
    for objects in jsonl_objects(path):
        for item in objects:
            if not item.keys() <= known.keys():
                known.update(dict.fromkeys(item))
        if len(known) > _MOST_COLUMNS:
            raise UsageError(
                f"The input's rows have more than {_MOST_COLUMNS:,} different keys between them, which no "
                "table can hold. Write the results as .jsonl."
            )
    return list(known)


def _jsonl_texts(path: Path) -> tuple[list[str], Iterator[Rows]]:
    columns = union_of_keys(path)

    def blocks() -> Iterator[Rows]:
        for objects in jsonl_objects(path):
            yield [
                [cell_text(bytes(item[column])) if column in item else "" for column in columns]
                for item in objects
            ]

    return columns, blocks()


def _parquet_texts(path: Path) -> tuple[list[str], Iterator[Rows]]:
    with open_parquet(path, path.name) as file:
        names = list(file.schema_arrow.names)

    def blocks() -> Iterator[Rows]:
        with open_parquet(path, path.name) as file:
            for batch in batches(file):
                columns = [
                    [value_text(value) for value in column_values(column)] for column in columns_of(batch)
                ]
                yield [list(row) for row in zip(*columns, strict=True)] if columns else [[]] * batch.num_rows

    return names, blocks()

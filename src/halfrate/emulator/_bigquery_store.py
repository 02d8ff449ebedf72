"""Tables on disk: what the BigQuery API shows, and what Vertex AI reads from and writes to.

A row is a line of JSON. A dataset is there as soon as a table is. Columns that rows bring along are added to the
schema, as a load with autodetection and ALLOW_FIELD_ADDITION would.
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.emulator._spool import Spool
from halfrate.emulator._wire import ApiError, Document, as_document, documents

_URI: Final = re.compile(r"bq://([^.:]+)[.:]([^.]+)(?:\.([^.]+))?")


class Table(msgspec.Struct):
    """One table: its columns, its rows on disk, and where each of them starts."""

    name: tuple[str, str, str]
    path: Path
    created_at: float
    fields: list[Document] = []
    offsets: "array[int]" = msgspec.field(default_factory=lambda: array("Q"))
    size: int = 0

    @property
    def uri(self) -> str:
        return "bq://" + ".".join(self.name)

    def rows(self, start: int = 0) -> Iterator[Document]:
        """The rows, from one on."""
        if start >= len(self.offsets):
            return
        with self.path.open("rb") as source:
            source.seek(self.offsets[start])
            for line in source:
                yield msgspec.json.decode(line)

    def add(self, rows: Iterable[Document]) -> int:
        """Append rows; returns how many. Columns that are new go to the end of the schema."""
        known, count = {field["name"] for field in self.fields}, 0
        with self.path.open("ab") as target:
            for row in rows:
                for name, value in row.items():
                    if name not in known:
                        known.add(name)
                        self.fields.append({"name": name, "type": _type_of(value), "mode": "NULLABLE"})
                self.offsets.append(self.size)
                self.size += target.write(msgspec.json.encode(row) + b"\n")
                count += 1
        return count


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "INTEGER"
    if isinstance(value, float):
        return "FLOAT"
    return "JSON" if isinstance(value, dict | list) else "STRING"


class Tables:
    """Every table of every project."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._tables: dict[tuple[str, str, str], Table] = {}

    def get(self, name: tuple[str, str, str]) -> Table | None:
        return self._tables.get(name)

    def make(self, name: tuple[str, str, str], at: float, fields: list[Document] | None = None) -> Table:
        """A new, empty table. ApiError 409 when there is one of that name."""
        if name in self._tables:
            raise ApiError(409, f"Already Exists: Table {_shown(name)}")
        path = self._spool.new()
        path.touch()
        table = self._tables[name] = Table(name, path, at, list(fields or []))
        return table

    def delete(self, name: tuple[str, str, str]) -> None:
        table = self._tables.pop(name, None)
        if table is None:
            raise missing(name)
        self._spool.drop(table.path)

    def of(self, project: str, dataset: str) -> list[Table]:
        return [table for name, table in sorted(self._tables.items()) if name[:2] == (project, dataset)]


def _shown(name: tuple[str, str, str]) -> str:
    return f"{name[0]}:{name[1]}.{name[2]}"


def missing(name: tuple[str, str, str]) -> ApiError:
    return ApiError(404, f"Not found: Table {_shown(name)}")


def read_fields(body: Document) -> list[Document]:
    """The columns that a `schema` names. ApiError 400 for one without a name."""
    fields = list(documents((as_document(body.get("schema")) or {}).get("fields")))
    for number, field in enumerate(fields):
        if not isinstance(field.get("name"), str) or not field["name"]:
            raise ApiError(400, f"Field {number} of the schema has no name.")
    return fields


def read_uri(uri: str, default_table: str = "") -> tuple[str, str, str]:
    """(project, dataset, table) of `bq://project.dataset.table`. ApiError 400 for anything else."""
    match = _URI.fullmatch(uri)
    table = default_table if match is None else match[3] or default_table
    if match is None or not table:
        raise ApiError(400, f"Invalid BigQuery URI: {uri}")
    return match[1], match[2], table


def read_lines(lines: Iterable[bytes]) -> Iterator[Document]:
    """Rows from newline-delimited JSON. ApiError 400 for a line that is none."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = as_document(msgspec.json.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            row = None
        if row is None:
            raise ApiError(400, f"Error while reading data, error message: line {number} is not a JSON row.")
        yield row

"""A table in Parquet. It is read by pyarrow, which is an extra: nothing else in halfrate needs it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from halfrate.base.errors import InputError
from halfrate.base.types import Template
from halfrate.rows import errors
from halfrate.rows.arrow import (
    batches,
    column_of,
    column_values,
    is_bytes,
    need_pyarrow,
    open_parquet,
    type_of,
)
from halfrate.rows.values import escaped, value_text

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class ParquetTable:
    """Reads a Parquet file, checks every row, and gives the prompt of each as escaped JSON text.

    The arguments are `JsonlTable`'s, with the path in place of a stream. Only the prompt's columns are read.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        template: Template,
        reserved: tuple[str, ...] = (),
        id_column: str | None = None,
        allow_empty: bool = False,
        lead: int | None = None,
    ) -> None:
        need_pyarrow("Parquet")
        self.taken: set[str] = set()
        self.ends: list[int] = []
        self._lead = lead
        self._path = path
        self._name = name
        self._template = template
        self._reserved = reserved
        self._id_column = id_column
        self._allow_empty = allow_empty

    def prompts(self) -> Iterator[list[bytes]]:
        """Escaped prompts, in row order, a block at a time. Raises InputError at the first row at fault."""
        with open_parquet(self._path, self._name) as file:
            self._check_columns(file)
            fill = self._filler()
            row = 0
            for batch in batches(file, list(dict.fromkeys(self._template.columns))):
                if batch.num_rows:
                    yield fill(batch, row)
                row += batch.num_rows
        if row == 0:
            raise errors.no_rows(self._name)

    def _check_columns(self, file: "pq.ParquetFile") -> None:
        schema = file.schema_arrow
        wanted = dict.fromkeys(self._template.columns)
        if self._id_column is not None:
            wanted.setdefault(self._id_column)
        for column in wanted:
            if column not in schema.names:
                raise errors.missing_column(self._name, None, 0, column, tuple(schema.names))
        for column in self._template.columns:
            if is_bytes(type_of(schema, column)):
                raise InputError(
                    f"{self._name}: column {column!r} holds bytes, not text. Write it as strings. "
                    f"{errors.NOTHING_SENT}",
                    column=column,
                )
        self.taken.update(name for name in self._reserved if name in schema.names)

    def _filler(self) -> "Callable[[pa.RecordBatch, int], list[bytes]]":
        """A function from a batch and the number of its first row to escaped prompts."""
        literals = tuple(escaped(text) for text in self._template.literals)
        columns = self._template.columns

        def fill(batch: "pa.RecordBatch", first: int) -> list[bytes]:
            prompts = [literals[0]] * batch.num_rows
            for place, (column, literal) in enumerate(zip(columns, literals[1:], strict=True)):
                texts = [escaped(value_text(value)) for value in column_values(column_of(batch, column))]
                if b"" in texts and not self._allow_empty:
                    raise errors.empty_value(self._name, None, first + texts.index(b""), column)
                if self._lead is not None and place == 0:
                    lead = 1 + len(literals[0]) + self._lead
                    self.ends = [lead + len(text) for text in texts]
                prompts = [
                    b"%b%b%b" % (have, text, literal) for have, text in zip(prompts, texts, strict=True)
                ]
            return [b'"%b"' % prompt for prompt in prompts]

        return fill

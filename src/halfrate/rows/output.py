"""The job's results beside its input: the input's columns, then ours, in input order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from halfrate.base.errors import UsageError
from halfrate.base.types import OutputFormat
from halfrate.rows.arrow import need_pyarrow
from halfrate.rows.collect import COLUMNS
from halfrate.rows.copying import copy_jsonl
from halfrate.rows.records import Record, Records, ShardView, Snapshot, mismatch, record_decoder
from halfrate.rows.target import TargetFile
from halfrate.rows.values import cell_text

__all__ = ["ShardView", "Snapshot", "output_format", "write_output"]

_ENDINGS: Final[dict[str, OutputFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def output_format(path: Path) -> OutputFormat:
    """The format that a file name's ending asks for."""
    form = _ENDINGS.get(path.suffix.lower())
    if form is None:
        raise UsageError(
            f"{path}: the ending says which format to write, and must be .jsonl, .csv or .parquet."
        )
    if form == "parquet":
        need_pyarrow("Parquet")
    return form


def write_output(
    snapshot: Snapshot,
    shards: Sequence[ShardView],
    target: Path,
    form: OutputFormat,
    names: dict[str, str],
    *,
    unknown_record: bytes,
) -> int:
    """Write the results, whole or not at all; return the number of rows.

    Args:
        snapshot: the job's own copy of the input.
        shards: all shards of the job, in row order.
        target: takes the place of whatever has this name.
        names: our column name -> the job's own, as the records were written.
        unknown_record: the record of a row that no attempt knows, with its newline.

    Raises StorageError where this machine cannot keep the file.
    """
    with TargetFile(target) as file, Records(shards, unknown_record) as records:
        if form == "parquet":
            from halfrate.rows.output_parquet import write_parquet

            write_parquet(snapshot, records, file, names)
        elif form == "csv":
            _write_csv(snapshot, records, file, names)
        elif snapshot.format == "jsonl" and snapshot.native is None:
            copy_jsonl(snapshot.path, records, file)
        else:
            _write_jsonl(snapshot, records, file)
        if records.row != records.rows:
            raise mismatch(records.row, records.rows)
        file.commit()
        return records.rows


def _write_jsonl(snapshot: Snapshot, records: Records, file: TargetFile) -> None:
    from halfrate.rows.sources import open_heads

    for heads in open_heads(snapshot):
        found = records.take_all(len(heads))
        file.write(
            b"".join(
                [
                    head + record if len(head) == 1 else b"%b,%b" % (head, record)
                    for head, record in zip(heads, found, strict=True)
                ]
            )
        )


def _write_csv(snapshot: Snapshot, records: Records, file: TargetFile, names: dict[str, str]) -> None:
    """Plain text answers are written as they read, anything else as JSON. Cells that a spreadsheet would take
    for formulas are left as they are: the file says what the provider said."""
    from halfrate.rows.sources import decoded, text_table

    columns, blocks = text_table(snapshot)
    decode = record_decoder(names)
    header = [*columns, *(names.get(column, column) for column in COLUMNS)]
    file.write(_csv_line(header).encode())
    for rows in blocks:
        found = decoded(snapshot.path, records.take_all(len(rows)), decode)
        lines = [_csv_line(row + _cells(record)) for row, record in zip(rows, found, strict=True)]
        file.write("".join(lines).encode())


def _cells(record: Record) -> list[str]:
    return [
        cell_text(bytes(record.answer)),
        record.status,
        record.error or "",
        "" if record.input_tokens is None else str(record.input_tokens),
        "" if record.cached_tokens is None else str(record.cached_tokens),
        "" if record.output_tokens is None else str(record.output_tokens),
        cell_text(bytes(record.cost_usd)),
        record.model or "",
        record.finish_reason or "",
    ]


def _csv_line(cells: list[str]) -> str:
    """One line of CSV. The standard library's writer looks at every character by itself: 20 times slower."""
    line = ",".join(cells)
    if line.count(",") == len(cells) - 1 and '"' not in line and "\n" not in line and "\r" not in line:
        return line + "\n"
    return ",".join(map(_quoted, cells)) + "\n"


def _quoted(cell: str) -> str:
    if '"' in cell:
        return '"' + cell.replace('"', '""') + '"'
    if "," in cell or "\n" in cell or "\r" in cell:
        return f'"{cell}"'
    return cell

"""From JSONL to JSONL: every input object is copied as it stands, and its record joined on.

The rows of a block are looked at all at once, by how they end; a row that is not simply an object, a brace and a line
break makes its block be done with care.
"""

from pathlib import Path
from typing import Final

from halfrate.base.errors import StorageError
from halfrate.rows.lines import file_line_blocks
from halfrate.rows.records import Records, mismatch
from halfrate.rows.target import TargetFile

_BLOCK: Final = 1 << 16
"""Bytes taken at a time. They are copied thrice, and should not leave the cache of the processor in between."""
_BOM: Final = b"\xef\xbb\xbf"
_END: Final = b"}\n"
_ODD: Final = frozenset(b"{ \t\r\n")
"""Bytes before a closing brace that call for care: an empty object, or white space."""


def copy_jsonl(path: Path, records: Records, target: TargetFile) -> None:
    """Write all rows. Raises StorageError where the snapshot and the records disagree."""
    join = _Join(records, target)
    with path.open("rb", buffering=0) as file:
        first = True
        for lines in file_line_blocks(file, block=_BLOCK):
            if first:
                lines[0] = lines[0].removeprefix(_BOM)
                first = False
            join.lines(lines)
    if records.row != records.rows:
        raise mismatch(records.row, records.rows)


class _Join:
    def __init__(self, records: Records, target: TargetFile) -> None:
        self._records = records
        self._target = target
        self._usual: set[bytes] = set()
        """Ends of rows that call for no care, as far as they were seen."""

    def lines(self, lines: list[bytes]) -> None:
        """Write the rows on these lines."""
        usual = self._usual
        ends = {line[-3:] for line in lines}
        if not usual.issuperset(ends):
            usual.update(end for end in ends if end[1:] == _END and end[0] not in _ODD)
        if usual.issuperset(ends):
            count = len(lines)
            parts: list[bytes | memoryview] = [b","] * (3 * count)
            parts[0::3] = [line[:-2] for line in lines]
            parts[2::3] = self._records.take_all(count)
        else:
            parts = self._carefully([row for line in lines if (row := line.strip())])
        self._target.write(b"".join(parts))

    def _carefully(self, rows: list[bytes]) -> list[bytes | memoryview]:
        """Join rows of any kind: after blank lines, CRLF, with white space around braces, empty objects."""
        parts: list[bytes | memoryview] = []
        for row, record in zip(rows, self._records.take_all(len(rows)), strict=True):
            if not (row.startswith(b"{") and row.endswith(b"}")):
                raise StorageError(
                    "the job's copy of its input cannot be read: a file of this job was changed"
                )
            head = row[:-1].rstrip()
            parts += (head, record) if head == b"{" else (head, b",", record)
        return parts

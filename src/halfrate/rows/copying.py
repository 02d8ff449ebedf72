"""From JSONL to JSONL: every input object is copied as it stands, and its record joined on.

The bytes of a row are touched three times in all: read into one buffer that is used again and again, joined
with its record, written. Rows are never objects of their own: a view on the buffer is enough.
"""

from pathlib import Path
from typing import Final

from halfrate.base.errors import StorageError
from halfrate.base.pages import Trail
from halfrate.rows.records import Records, mismatch
from halfrate.rows.target import TargetFile

_BUFFER: Final = 1 << 18  # stays in the processor's cache
_RECORDS: Final = 256
_BOM: Final = b"\xef\xbb\xbf"
_COMMA: Final = ord(",")
_CLOSE: Final = ord("}")
_ODD: Final = frozenset(b"{ \t\r\n\0")
"""Bytes before a closing brace that call for care: an empty object, or white space."""


def copy_jsonl(path: Path, records: Records, target: TargetFile) -> None:
    """Write all rows. Raises StorageError where the snapshot and the records disagree."""
    join = _Join(records, target)
    buffer = bytearray(_BUFFER)
    kept = 0
    first = True
    with path.open("rb", buffering=0) as file:
        trail = Trail(file.fileno())
        while True:
            if kept >= len(buffer) - 1:
                buffer += bytes(len(buffer))
            with memoryview(buffer) as view:
                # The last byte is never read into: a last line may lack its newline, and what stands before
                # the first byte (index -1) must not look like the end of a row.
                got = file.readinto(view[kept : len(buffer) - 1])
                end = kept + got
                at = len(_BOM) if first and buffer.startswith(_BOM) else 0
                if not got and end > at:
                    buffer[end] = ord("\n")
                    end += 1
                cut = buffer.rfind(b"\n", kept, end) + 1
                if cut:
                    join.lines(buffer, view, at, cut)
                    first = False
                    kept = end - cut
                    view[:kept] = bytes(view[cut:end])
                else:
                    kept = end
            if not got:
                break
            trail.add(got)
    join.finish()


class _Join:
    def __init__(self, records: Records, target: TargetFile) -> None:
        self._records = records
        self._target = target
        self._ready: list[bytes | memoryview] = []

    def lines(self, buffer: bytearray, view: memoryview, at: int, end: int) -> None:
        """Write the rows in a span of whole lines."""
        parts: list[bytes | memoryview] = []
        index = buffer.index
        odd = _ODD
        while at < end:
            ready = self._ready or self._records.take(_RECORDS)
            before = len(parts)
            plain = bool(ready)
            try:
                for record in ready:
                    stop = index(b"\n", at, end) - 1
                    if buffer[stop] != _CLOSE or buffer[stop - 1] in odd:
                        plain = False
                        break
                    buffer[stop] = _COMMA
                    stop += 1
                    parts += (view[at:stop], record)
                    at = stop + 1
            except ValueError:
                at = end
            self._ready = ready[(len(parts) - before) // 2 :]
            if not plain:
                self._carefully(bytes(view[at:end]), parts)
                at = end
        self._target.write(b"".join(parts))

    def finish(self) -> None:
        """All of the input was read: no record may be left."""
        if self._ready or self._records.row != self._records.rows:
            raise mismatch(self._records.row - len(self._ready), self._records.rows)

    def _carefully(self, data: bytes, parts: list[bytes | memoryview]) -> None:
        """Join lines of any kind: blank ones, CRLF, white space around braces, empty objects."""
        rows = [line for line in map(bytes.strip, data.split(b"\n")) if line]
        short = len(rows) - len(self._ready)
        if short > 0:
            self._ready += self._records.take(short)
            if len(self._ready) < len(rows):
                raise mismatch(self._records.row + len(rows) - len(self._ready), self._records.rows)
        for row, record in zip(rows, self._ready, strict=False):
            if not (row.startswith(b"{") and row.endswith(b"}")):
                raise StorageError(
                    "the job's copy of its input cannot be read: a file of this job was changed"
                )
            head = row[:-1].rstrip()
            parts += (head, record) if head == b"{" else (head, b",", record)
        self._ready = self._ready[len(rows) :]

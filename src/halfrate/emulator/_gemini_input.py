"""The rows of a Gemini batch, from a file or from the body of the create call (batch guide).

A line of a file is `{"key", "request"}`, an inline request `{"request", "metadata": {"key"}}`. Keys are the client's
affair: nobody checks that they are there, or that they differ. What is not JSON fails the batch once it is looked at.
"""

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._gemini_embeddings import embed_tokens
from halfrate.emulator._gemini_models import count_tokens
from halfrate.emulator._wire import ApiError, Document, as_document


class InputRow(msgspec.Struct):
    """One row; the request stays as it was sent until the row runs."""

    request: msgspec.Raw = msgspec.Raw(b"")
    key: Any = None
    metadata: Any = None

    @property
    def id(self) -> str:
        """The row's key, wherever it stands; "" for a row without."""
        key = self.key
        if key is None:
            key = (as_document(self.metadata) or {}).get("key")
        return "" if key is None else str(key)


class Read(msgspec.Struct):
    """The rows of a batch on disk, what is wrong with them, and how much they ask."""

    path: Path
    offsets: "array[int]"
    error: str | None = None
    tokens: int = 0


_row = msgspec.json.Decoder(InputRow)


def read_row(line: bytes) -> InputRow:
    return _row.decode(line)


def request_of(row: InputRow) -> Document:
    """What a row asks. ApiError 400 for anything but an object."""
    try:
        found = as_document(msgspec.json.decode(bytes(row.request) or b"null"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if found is None:
        raise ApiError(400, "The request of this row is not an object.")
    return found


def read_lines(context: Context, source: Iterable[bytes], *, embeds: bool, counts: bool) -> Read:
    """Copy rows to a file of their own, one a line; `counts` adds up their prompt tokens."""
    found = Read(context.spool.new(), array("Q"))
    position = 0
    with found.path.open("wb") as target:
        for number, given in enumerate(source, 1):
            if not given.strip():
                continue
            line = given if given.endswith(b"\n") else given + b"\n"
            found.offsets.append(position)
            position += target.write(line)
            try:
                row = _row.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                found.error = found.error or f"Line {number} of the input file is not valid JSON."
                continue
            if counts:
                found.tokens += _tokens(row, embeds=embeds)
    if not found.offsets:
        found.error = "The input file has no requests."
    return found


def _tokens(row: InputRow, *, embeds: bool) -> int:
    try:
        body = request_of(row)
        return embed_tokens(body) if embeds else count_tokens(body)
    except ApiError:
        return 0

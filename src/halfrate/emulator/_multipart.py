"""A multipart/form-data reader that keeps small fields in memory and streams the file to disk (RFC 7578)."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from halfrate.emulator._spool import Spool
from halfrate.emulator._wire import ApiError, Request, body_chunks

FIELD_BYTES = 64 * 1024
_NAME = re.compile(r'[;\s]name="((?:[^"\\]|\\.)*)"')
_FILENAME = re.compile(r'[;\s]filename="((?:[^"\\]|\\.)*)"')


class Form(msgspec.Struct):
    """A form that has been read: its fields, and where its file part lies."""

    fields: dict[str, str] = {}
    filename: str = ""
    path: Path | None = None
    size: int = 0


async def read_form(request: Request, file_field: str, spool: Spool, limit: int) -> Form:
    """Read a form. Nothing stays on the disk of one that is refused, or whose client goes away in mid-upload."""
    made: list[Path] = []

    def new_path() -> Path:
        made.append(spool.new())
        return made[-1]

    done = False
    try:
        reader = FormReader(request.header("content-type"), file_field, new_path, limit)
        form = await reader.read(body_chunks(request))
        done = True
    finally:
        if not done:
            for path in made:
                spool.drop(path)
    return form


class FormReader:
    """Feeds on chunks; `read` returns the form. `file_field` names the part that goes to disk."""

    def __init__(self, content_type: str, file_field: str, new_path: Callable[[], Path], limit: int) -> None:
        found = re.search(r'boundary="?([^";,]+)"?', content_type)
        if not content_type.startswith("multipart/form-data") or found is None:
            raise ApiError(400, "Expected a multipart/form-data body with a boundary.")
        self._mark = b"\r\n--" + found.group(1).encode()
        self._file_field = file_field
        self._new_path = new_path
        self._limit = limit
        # The first boundary may stand at the very start: a line break in front makes it like the others.
        self._buffer = b"\r\n"
        self._form = Form()

    async def read(self, chunks: AsyncIterator[bytes]) -> Form:
        """Read the whole body. ApiError 400 when it is broken, 413 when the file is too big."""
        await self._until_mark(chunks, None)
        while True:
            await self._more(chunks, 2)
            if self._buffer.startswith(b"--"):
                async for _ in chunks:  # what follows the last boundary has no meaning
                    pass
                return self._form
            await self._part(chunks)

    async def _part(self, chunks: AsyncIterator[bytes]) -> None:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > FIELD_BYTES or not await self._fill(chunks):
                raise ApiError(400, "Could not parse multipart form: a part's headers do not end.")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        headers = head.decode(errors="replace")
        name = _NAME.search(headers)
        if name is None:
            raise ApiError(400, "Could not parse multipart form: a part has no name.")
        if name.group(1) == self._file_field:
            filename = _FILENAME.search(headers)
            self._form.filename = filename.group(1).replace('\\"', '"') if filename else ""
            self._form.path = self._new_path()
            with self._form.path.open("wb") as target:
                self._form.size = await self._until_mark(chunks, target.write)
        else:
            pieces: list[bytes] = []
            await self._until_mark(chunks, pieces.append)
            self._form.fields[name.group(1)] = b"".join(pieces).decode(errors="replace")

    async def _until_mark(self, chunks: AsyncIterator[bytes], write: Callable[[bytes], object] | None) -> int:
        """Pass everything before the next boundary on; returns how many bytes that was."""
        total = 0
        while True:
            at = self._buffer.find(self._mark)
            # A boundary may be split between two chunks: keep back what could be the start of one.
            ready = at if at >= 0 else max(0, len(self._buffer) - len(self._mark))
            total += ready
            if total > self._limit:
                raise ApiError(413, f"File is too large: the limit is {self._limit} bytes.", param="file")
            if write is not None and ready:
                write(self._buffer[:ready])
            if at >= 0:
                self._buffer = self._buffer[at + len(self._mark) :]
                return total
            self._buffer = self._buffer[ready:]
            if not await self._fill(chunks):
                raise ApiError(400, "Could not parse multipart form: the body ends before its last boundary.")

    async def _more(self, chunks: AsyncIterator[bytes], size: int) -> None:
        while len(self._buffer) < size:
            if not await self._fill(chunks):
                raise ApiError(400, "Could not parse multipart form: the body ends before its last boundary.")

    async def _fill(self, chunks: AsyncIterator[bytes]) -> bool:
        piece = await anext(chunks, None)
        if piece is None:
            return False
        self._buffer += piece
        return True

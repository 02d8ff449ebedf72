"""Forms with a file in them (multipart/form-data, RFC 7578), read as they arrive: the file goes to disk in blocks.

Small fields are kept in memory, within caps. Whatever ends a form early, nothing of it stays on the disk.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from halfrate.blobs.shelves import Incoming
from halfrate.gateway.calls import too_large
from halfrate.gateway.errors import ApiError, invalid
from halfrate.gateway.threads import in_thread

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD_BYTES: Final = 64 << 10
"""The most that a field holds, other than the file."""
MOST_FIELDS: Final = 32
LONGEST_NAME: Final = 255
"""Characters of a file's name."""
_NAMELESS: Final = "upload"
_BLOCK: Final = 1 << 20
_HEADERS: Final = 16
"""The most headers of one part."""
_HEADER_BYTES: Final = 4 << 10
_AROUND: Final = 8 << 20
"""Bytes of a body beside its file: all fields and headers at their most, and some."""

# It warns of forms that are malformed, on the error output where nobody takes it, in the words of whoever sent them.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


class Form(msgspec.Struct):
    """A form that was read. `incoming`: its file, None where it had none; `filename` is fit to be shown, as data.

    Whoever has read it closes it, whatever became of the file.
    """

    fields: dict[str, str]
    filename: str
    incoming: Incoming | None

    async def close(self) -> None:
        """Let go of the file; it is gone unless it was kept."""
        if self.incoming is not None:
            await in_thread(self.incoming.close)


async def read_form(
    request: Request, file_field: str, make_incoming: Callable[[], Incoming], limit: int
) -> Form:
    """Read a form whose field `file_field` holds a file of at most `limit` bytes.

    Raises ApiError 413 for a file or a body that is too large, before the rest of it is read, and 400 for what is no
    such form or ends before its end; ClientDisconnect; StorageError. Then nothing is kept.
    """
    parts = _Parts(_boundary(request), file_field, limit)
    most = limit + _AROUND
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > most:
        raise too_large(limit)
    form = Form(parts.fields, "", None)
    done = False
    try:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise too_large(limit)
            parts.feed(chunk)
            if parts.filename is not None and form.incoming is None:
                form.incoming = await in_thread(make_incoming)
            if form.incoming is not None and len(parts.arrived) >= _BLOCK:
                await in_thread(form.incoming.write, parts.taken())
        if not parts.ended:
            raise _malformed("it ends before its last boundary")
        if form.incoming is not None:
            await in_thread(form.incoming.write, parts.taken())
            form.filename = clean_name(parts.filename or "")
        done = True
    finally:
        if not done:
            await form.close()
    return form


def clean_name(name: str) -> str:
    """A file's name as it came from outside, without folders and what cannot be seen. Never use it as a path."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(one for one in last if one.isprintable()).strip()[:LONGEST_NAME]
    return shown if shown.strip(". ") else _NAMELESS


class _Parts:
    """What the parser calls as it comes to the parts of a form.

    `arrived`: bytes of the file that nobody has taken yet. `filename`: None until the file begins. `ended`: the last
    boundary has come.
    """

    def __init__(self, boundary: bytes, file_field: str, limit: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.arrived = bytearray()
        self.ended = False
        self._file_field = file_field
        self._limit = limit
        self._file_bytes = 0
        self._begun = 0
        self._in_file = False
        self._name = ""
        self._value = bytearray()
        self._header = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_name_data,
            "on_header_value": self._header_value_data,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(
                boundary, callbacks, max_header_count=_HEADERS, max_header_size=_HEADER_BYTES
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def feed(self, chunk: bytes) -> None:
        """The next of the body. Raises ApiError."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def taken(self) -> bytearray:
        """What has arrived of the file since the last time."""
        taken, self.arrived = self.arrived, bytearray()
        return taken

    def _part_begin(self) -> None:
        self._begun += 1
        if self._begun > MOST_FIELDS + 1:
            raise _malformed(f"it has more than {MOST_FIELDS} fields")
        self._disposition = b""
        self._value.clear()

    def _header_name_data(self, data: bytes, start: int, end: int) -> None:
        self._header += memoryview(data)[start:end]

    def _header_value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += memoryview(data)[start:end]

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header.clear()
        self._header_value.clear()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition.decode("latin-1"))
        name = options.get(b"name")
        if kind != b"form-data" or not name:
            raise _malformed("a part of it has no name")
        self._name = name.decode(errors="replace")
        self._in_file = self._name == self._file_field
        if self._in_file:
            if self.filename is not None:
                raise invalid(f"The form has more than one '{self._file_field}'.", self._file_field)
            self.filename = options.get(b"filename", b"").decode(errors="replace")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file_bytes += end - start
            if self._file_bytes > self._limit:
                raise too_large(self._limit)
            self.arrived += memoryview(data)[start:end]
            return
        if len(self._value) + end - start > FIELD_BYTES:
            shown = clean_name(self._name)
            message = f"The field '{shown}' is larger than {FIELD_BYTES:,} bytes."
            raise invalid(f"{message} A file goes into '{self._file_field}'.", shown)
        self._value += memoryview(data)[start:end]

    def _part_end(self) -> None:
        if self._in_file:
            self._in_file = False
            return
        try:
            self.fields[self._name] = self._value.decode()
        except UnicodeDecodeError:
            shown = clean_name(self._name)
            raise invalid(f"The field '{shown}' is not UTF-8.", shown) from None

    def _end(self) -> None:
        self.ended = True


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data":
        raise invalid("The body has to be a form: multipart/form-data.", code="invalid_content_type")
    if not boundary:
        message = "The content type of the form names no boundary."
        raise invalid(message, code="invalid_content_type")
    return boundary


def _malformed(why: str) -> ApiError:
    return invalid(f"The form is malformed: {why}.", code="invalid_form")

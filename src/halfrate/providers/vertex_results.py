"""Rows and result lines of Vertex AI's batches: `{"request"}` out, `{"status", "request", "response"}` back.

Facts are from the batch prediction pages of cloud.google.com and googleapis/python-aiplatform #1166, as of 2026-11. No
id of a row is known there, and results come in any order: what comes back is the request itself. So a row's id stands
in the request's labels, which take small letters, digits, `_` and `-`, at most 63 of them.
"""

from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec

from halfrate.base.results import LineReader
from halfrate.base.types import Envelope
from halfrate.providers.calls import quoted
from halfrate.providers.gemini_results import (
    Fault,
    PlainResponse,
    Response,
    Unwrapped,
    columns_of,
    general_reader,
    tokens_in,
)
from halfrate.providers.plain import Columns, plain_reader

ENVELOPE: Final = Envelope(b'{"request":{"labels":{"hr_row":"', b'"},', b"}", inside="labels")
LABEL: Final = "hr_row"
_HEAD: Final = len(b'{"request":')
_UNKNOWN: Final = 2
_NAMES: Final = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""google.rpc.Code."""
_STATUSES: Final = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    408: 4,
    409: 10,
    412: 9,
    429: 8,
    499: 1,
    501: 12,
    503: 14,
    504: 4,
}
_PHRASES: Final = {status.phrase.upper().replace(" ", "_"): status.value for status in HTTPStatus}


class _Labels(msgspec.Struct, gc=False):
    hr_row: str


class _Request(msgspec.Struct, gc=False):
    labels: _Labels


class _Line(msgspec.Struct, gc=False):
    request: _Request
    status: str | None = None
    response: Response | None = None


class _Named(msgspec.Struct, gc=False):
    request: _Request
    response: Any = None


class _Answered(msgspec.Struct, gc=False):
    request: _Request
    response: PlainResponse
    status: Literal[""] = ""


class _Told(msgspec.Struct, gc=False):
    error: Fault


_decode = msgspec.json.Decoder(_Line).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_decode_answered = msgspec.json.Decoder(_Answered).decode


def line_reader(row_prefix: str) -> LineReader:
    """A reader of one batch's result lines."""
    general = general_reader(row_prefix, _unwrap, _seems_good)
    return LineReader(general, plain_reader(_decode_answered, _columns, row_prefix), tokens_in)


def fault_in(status: str) -> Fault:
    """What the status of a failed row says: words, and mostly an error object of Google's behind them."""
    words, brace, document = status.partition("{")
    fault = Fault()
    # Else the words are all that there is.
    with suppress(msgspec.DecodeError, RecursionError):
        fault = msgspec.json.decode(f"{brace}{document}", type=_Told).error
    return Fault(code=_code(fault, words.strip(" :")), message=fault.message or status.strip())


def _code(fault: Fault, words: str) -> int:
    """The code of google.rpc that an error comes down to; unknown, and so passing, where nothing says it."""
    name = words.partition(":")[0].strip().upper().replace(" ", "_")
    code = fault.code or 0
    if fault.status in _NAMES:
        return _NAMES[fault.status]
    if 0 < code < 100:
        return code
    if not code and name in _NAMES:
        return _NAMES[name]
    code = code or _PHRASES.get(name, 0)
    return _STATUSES.get(code, 13 if code >= 500 else 3) if code else _UNKNOWN


def result_line(name: bytes, status: bytes, response: bytes) -> bytes:
    """A result line without what was asked. All three are JSON: a text, a text, an object."""
    return b'{"status":%b,"request":{"labels":{"%b":%b}},"response":%b}' % (
        status,
        LABEL.encode(),
        name,
        response,
    )


def realtime_line(row_id: str, response: bytes | None, status: bytes) -> bytes:
    """A realtime reply as a line of a batch's results. `status`: of google.rpc, where there is no response."""
    if response is not None:
        return result_line(quoted(row_id), b'""', response) + b"\n"
    told = quoted('Error: {"error":' + status.decode() + "}")
    return result_line(quoted(row_id), told, b"{}") + b"\n"


def as_table_row(line: bytes) -> bytes:
    """A line of a request file as a row of a table: its id, and the request as text."""
    line = line.rstrip(b"\r\n")
    start = len(ENVELOPE.before)
    row_id = line[start : line.index(b'"', start)]
    return b'{"row_id":"%b","request":%b}\n' % (row_id, quoted(line[_HEAD:-1].decode()))


def _unwrap(line: bytes) -> Unwrapped:
    found = _decode(line)
    name, response = found.request.labels.hr_row, found.response
    answered = response is not None and bool(response.candidates or response.prompt_feedback)
    if found.status and not answered:
        return Unwrapped(name, None, fault_in(found.status))
    # An answer that is there is paid for, whatever is said beside it.
    return Unwrapped(name, response)


def _seems_good(line: bytes) -> tuple[str, bool]:
    found = _decode_named(line)
    return found.request.labels.hr_row, bool(found.response)


def _columns(answered: list[_Answered]) -> Columns:
    return columns_of([line.request.labels.hr_row for line in answered], [line.response for line in answered])

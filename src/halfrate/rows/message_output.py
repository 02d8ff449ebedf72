"""Results of an Anthropic message batch, as its caller gets them: one line for every request, each in Anthropic's form
(API reference, "Retrieve Message Batch results"):

    {"custom_id": "...", "result": {"type": "succeeded", "message": {...}}}
    {"custom_id": "...", "result": {"type": "errored", "error": {"type": "error", "error": {type, message}, ...}}}
    {"custom_id": "...", "result": {"type": "canceled"}}, and the same with "expired"
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.rows.lines import BLOCK, line_blocks
from halfrate.rows.message_input import Request, kept_requests
from halfrate.rows.target import TargetFile

CANCELED: Final = b'{"type":"canceled"}'


class Tally(msgspec.Struct):
    """How many requests ended how."""

    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class _Fault(msgspec.Struct, gc=False):
    type: str
    message: str


class _Error(msgspec.Struct, gc=False):
    error: _Fault


class _Result(msgspec.Struct, gc=False):
    type: Any = None
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct, gc=False):
    custom_id: msgspec.Raw
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Kind(msgspec.Struct, gc=False):
    type: str


_result = msgspec.json.Decoder(_Result).decode
_line = msgspec.json.Decoder(_Line).decode
_error = msgspec.json.Decoder(_Error).decode
_kind = msgspec.json.Decoder(_Kind).decode


def errored(message: str, kind: str = "invalid_request_error") -> bytes:
    """What is said of a request that was refused here."""
    fault = {"type": kind, "message": message}
    error = {"type": "error", "error": fault, "request_id": None}
    return msgspec.json.encode({"type": "errored", "error": error})


def gather_results(
    results: Iterable[tuple[Path, bytes]],
    source: Path,
    unasked: Callable[[Request], bytes | None],
    target: Path,
) -> Tally:
    """Write all results of a batch into one file, whole or not at all.

    `results`: files of result lines, and what is said of the rows in each that were not run. `source`: the requests;
    `unasked`: what is said of one that is in none of those files, None for those that are.
    """
    tally = Tally()
    with TargetFile(target) as file:
        for path, not_run in results:
            with path.open("rb") as stream:
                for lines in line_blocks(stream, block=BLOCK):
                    file.write(b"".join(_counted(tally, *_told(line, not_run)) for line in lines))
        block: list[bytes] = []
        for request in kept_requests(source):
            said = unasked(request)
            if said is not None:
                line = b'{"custom_id":%b,"result":%b}\n' % (request.custom_id, said)
                block.append(_counted(tally, _kind(said).type, line))
            if len(block) >= 1_000:
                file.write(b"".join(block))
                block.clear()
        file.write(b"".join(block))
        file.commit()
    return tally


def _counted(tally: Tally, kind: str, line: bytes) -> bytes:
    setattr(tally, kind, getattr(tally, kind) + 1)
    return line


def _told(line: bytes, not_run: bytes) -> tuple[str, bytes]:
    """How a row ended, and its line as callers get it: in Anthropic's form, whatever came from the provider."""
    found = _line(line)
    try:
        result = _result(found.result)
    except msgspec.DecodeError:
        result = _Result()
    match result.type:
        case "succeeded" if bytes(result.message).startswith(b"{"):
            return "succeeded", line
        case "succeeded":
            said = errored("The provider says that this request succeeded, and gave no answer.", "api_error")
        case "expired":
            return "expired", line
        case "canceled":
            said = not_run
        case "errored" if _is_error(result.error):
            return "errored", line
        case _:
            said = errored("The provider gave no answer to this request, and no reason.", "api_error")
    return _kind(said).type, b'{"custom_id":%b,"result":%b}\n' % (bytes(found.custom_id), said)


def _is_error(error: msgspec.Raw) -> bool:
    try:
        _error(error)
    except msgspec.DecodeError:
        return False
    return True

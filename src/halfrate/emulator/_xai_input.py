"""What becomes a row of an xAI batch: a line of a file (OpenAI's form), or an item of a call that adds requests."""

from array import array
from pathlib import Path
from typing import Any

import msgspec

from halfrate.emulator._jobs import Input
from halfrate.emulator._models import find_model
from halfrate.emulator._openai_models import CHAT
from halfrate.emulator._xai_prices import NOT_IN_BATCHES


class XaiRow(msgspec.Struct):
    """A row as it is kept: the id, and the body as it was sent."""

    id: str
    body: msgspec.Raw


class _Line(msgspec.Struct):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _Request(msgspec.Struct):
    chat_get_completion: msgspec.Raw = msgspec.Raw(b"")


class _Item(msgspec.Struct):
    batch_request: _Request
    batch_request_id: str | None = None


class _Added(msgspec.Struct):
    batch_requests: list[_Item]


class _Head(msgspec.Struct):
    model: Any = None


class InputError(Exception):
    """A request that cannot be a row; the message says why."""


class XaiInput(Input):
    """Rows on disk, and which model each of them asks."""

    models: dict[str, str] = msgspec.field(default_factory=dict)


_row = msgspec.json.Decoder(XaiRow)
_line = msgspec.json.Decoder(_Line)
_head = msgspec.json.Decoder(_Head)
_added = msgspec.json.Decoder(_Added)


def read_row(line: bytes) -> XaiRow:
    return _row.decode(line)


def model_of(body: bytes) -> str:
    """The model that a body asks; InputError where none can serve it in a batch."""
    try:
        name = _head.decode(body).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InputError("the request has no body.") from None
    model = find_model(name, "xai")
    if model is None:
        raise InputError(f"Model {name} does not exist.")
    if model.name in NOT_IN_BATCHES:
        raise InputError(f"Model {name} is not supported for batch processing.")
    return model.name


def read_file(source: Path, target: Path, most: int) -> XaiInput:
    """Read a file's lines. The first one that is invalid is the batch's problem."""
    found = XaiInput(target, array("Q"))
    position = 0
    with source.open("rb") as lines, target.open("wb") as rows:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = _line_row(line, found.models)
            except InputError as error:
                found.problems.append(f"JSONL file validation failed: line {number}: {error}")
                return found
            found.offsets.append(position)
            position += rows.write(msgspec.json.encode(row) + b"\n")
    if not found.offsets:
        found.problems.append("JSONL file validation failed: the file is empty.")
    elif len(found.offsets) > most:
        found.problems.append(f"JSONL file validation failed: more than {most} requests.")
    return found


def _line_row(line: bytes, seen: dict[str, str]) -> XaiRow:
    try:
        given = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InputError("invalid JSON.") from None
    if not isinstance(given.custom_id, str) or not given.custom_id:
        raise InputError("custom_id is missing.")
    if given.custom_id in seen:
        raise InputError(f"duplicate custom_id {given.custom_id}.")
    if given.url != CHAT:
        raise InputError(f"url {given.url} is not supported.")
    seen[given.custom_id] = model_of(bytes(given.body))
    return XaiRow(given.custom_id, msgspec.Raw(_one_line(bytes(given.body))))


def read_added(body: bytes, known: dict[str, Any], target: Path, next_id: int) -> XaiInput:
    """Read the items of a call. InputError when one of them is wrong: then none is added."""
    try:
        items = _added.decode(body).batch_requests
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is not as expected: {error}") from None
    if not items:
        raise InputError("batch_requests is empty.")
    found = XaiInput(target, array("Q"))
    position = 0
    with target.open("wb") as rows:
        for number, item in enumerate(items):
            row_id = item.batch_request_id or f"req-{next_id + number}"
            if row_id in known or row_id in found.models:
                raise InputError(f"duplicate batch_request_id {row_id}.")
            asked = bytes(item.batch_request.chat_get_completion)
            found.models[row_id] = model_of(asked)
            found.offsets.append(position)
            row = XaiRow(row_id, msgspec.Raw(_one_line(asked)))
            position += rows.write(msgspec.json.encode(row) + b"\n")
    return found


def _one_line(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=-1) if b"\n" in body else body

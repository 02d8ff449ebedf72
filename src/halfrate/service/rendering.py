"""Result lines in the form that a batch file came in, whichever provider ran its rows."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from halfrate.base.results import Kind, ResultRow
from halfrate.base.types import NativeForm, RawForm
from halfrate.providers.base import Adapter

Render: TypeAlias = Callable[[bytes, bytes, ResultRow], bytes]
"""A line of another form from a provider's own, the user's id as JSON, and what the line says."""

_OPENAI: Final = RawForm()
_NO_REASON: Final = "the provider gave no answer and no reason"
_CANCELLED: Final = b',"result":{"type":"canceled"}}\n'


def rendering(asked: NativeForm | None, adapter: Adapter, created: int) -> tuple[RawForm, Render | None]:
    """How results are written for whoever gave a batch file of the form `asked`; no rendering where the provider's own
    lines are of that form."""
    facts = adapter.capabilities
    # xAI takes OpenAI's lines, and gives results of its own form.
    theirs = facts.native_form == "openai" and facts.raw.id_field == _OPENAI.id_field
    if asked == "openai" and not theirs:
        return _OPENAI, lambda line, name, row: _as_openai(adapter, created, line, name, row)
    if asked == "anthropic" and facts.native_form != "anthropic":
        form = RawForm("custom_id", _CANCELLED)
        return form, lambda line, name, row: _as_anthropic(adapter, created, line, name, row)
    return facts.raw, None


def _as_openai(adapter: Adapter, created: int, line: bytes, name: bytes, row: ResultRow) -> bytes:
    """A line of an OpenAI batch's results."""
    answer = adapter.to_openai(line, created)
    if answer is not None:
        return _response(name, 200, answer)
    message = row.error or _NO_REASON
    match row.kind:
        case Kind.EXPIRED | Kind.CANCELLED:
            code = "batch_expired" if row.kind == Kind.EXPIRED else "batch_cancelled"
            fault = msgspec.json.encode({"code": code, "message": message})
            return b'{"custom_id":%b,"response":null,"error":%b}\n' % (name, fault)
        case Kind.FAILED_PASSING:
            status, kind = 500, "server_error"
        case _:
            status, kind = 400, "invalid_request_error"
    return _response(name, status, {"error": {"message": message, "type": kind, "param": None, "code": None}})


def _response(name: bytes, status: int, body: Mapping[str, Any]) -> bytes:
    response = b'{"status_code":%d,"request_id":null,"body":%b}' % (status, msgspec.json.encode(body))
    return b'{"custom_id":%b,"response":%b,"error":null}\n' % (name, response)


def _as_anthropic(adapter: Adapter, created: int, line: bytes, name: bytes, row: ResultRow) -> bytes:
    """A line of an Anthropic batch's results."""
    from halfrate.providers.translation.messages import to_message

    answer = adapter.to_openai(line, created)
    if answer is not None:
        return _result(name, {"type": "succeeded", "message": to_message(answer)})
    match row.kind:
        case Kind.EXPIRED:
            return _result(name, {"type": "expired"})
        case Kind.CANCELLED:
            return _result(name, {"type": "canceled"})
        case _:
            kind = "api_error" if row.kind == Kind.FAILED_PASSING else "invalid_request_error"
            fault = {"type": kind, "message": row.error or _NO_REASON}
            error = {"type": "error", "error": fault, "request_id": None}
            return _result(name, {"type": "errored", "error": error})


def _result(name: bytes, result: Mapping[str, Any]) -> bytes:
    return b'{"custom_id":%b,"result":%b}\n' % (name, msgspec.json.encode(result))

"""Result lines in the form that a batch file came in, whichever provider ran its rows."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from halfrate.base.results import Kind, ResultRow
from halfrate.base.types import Endpoint, NativeForm, RawForm, Translated
from halfrate.providers.base import Adapter

Render: TypeAlias = Callable[[bytes, bytes, ResultRow, bytes], bytes]
"""A line of another form from a provider's own, the user's id as JSON, what the line says, and what the row asked."""

_OPENAI: Final = RawForm()
_NO_REASON: Final = "the provider gave no answer and no reason"
_CANCELLED: Final = b',"result":{"type":"canceled"}}\n'


def rendering(
    asked: NativeForm | None, adapter: Adapter, created: int, endpoint: Endpoint, ran: Endpoint
) -> tuple[RawForm, Render | None]:
    """How results are written for whoever gave a batch file of the form `asked`; no rendering where the provider's own
    lines are of that form.

    `endpoint`: what it asks for; `ran`: as what it was run.
    """
    facts = adapter.capabilities
    # xAI takes OpenAI's lines, and gives results of its own form.
    theirs = facts.native_form == "openai" and facts.raw.id_field == _OPENAI.id_field
    if asked == "openai" and endpoint == "responses" != ran:
        from halfrate.providers.translation.responses import to_response

        def as_asked(answer: dict[str, Any], request: bytes) -> dict[str, Any]:
            return to_response(answer, msgspec.json.decode(request))

        return _OPENAI, functools.partial(_as_openai, adapter, created, "chat", as_asked)
    if asked == "openai" and not theirs and endpoint == "embeddings":
        from halfrate.providers.translation import embeddings

        def as_listed(answer: dict[str, Any], request: bytes) -> dict[str, Any]:
            return embeddings.as_asked(answer, msgspec.json.decode(request))

        return _OPENAI, functools.partial(_as_openai, adapter, created, "embeddings", as_listed)
    if asked == "openai" and not theirs:
        return _OPENAI, functools.partial(_as_openai, adapter, created, "chat", lambda answer, _: answer)
    if asked == "anthropic" and facts.native_form != "anthropic":
        return RawForm("custom_id", _CANCELLED), functools.partial(_as_anthropic, adapter, created)
    return facts.raw, None


def _as_openai(
    adapter: Adapter,
    created: int,
    form: Translated,
    as_asked: Callable[[dict[str, Any], bytes], dict[str, Any]],
    line: bytes,
    name: bytes,
    row: ResultRow,
    request: bytes,
) -> bytes:
    """A line of an OpenAI batch's results."""
    answer = adapter.to_openai(line, created, form)
    if answer is not None:
        return _response(name, 200, as_asked(answer, request))
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


def _as_anthropic(
    adapter: Adapter, created: int, line: bytes, name: bytes, row: ResultRow, _request: bytes
) -> bytes:
    """A line of an Anthropic batch's results."""
    from halfrate.providers.translation.messages import to_message

    answer = adapter.to_openai(line, created, "chat")
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

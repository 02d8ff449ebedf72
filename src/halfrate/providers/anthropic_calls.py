"""Realtime calls in Anthropic's dialect: the reply as a result line, errors understood."""

from typing import Final

import msgspec

from halfrate.core.pacing import MINUTE, Kind, Window
from halfrate.providers.answers import Answer
from halfrate.providers.base import Blame, Call, Reply
from halfrate.providers.calls import (
    Fault,
    Refusal,
    blame_for,
    counted,
    fault_of,
    on_one_line,
    quoted,
    read,
    refuse,
)

_BUDGETS: Final[dict[Kind, str]] = {
    "requests": "requests",
    "input": "input-tokens",
    "output": "output-tokens",
}
KEEP: Final = tuple(
    f"anthropic-ratelimit-{name}-{what}" for name in _BUDGETS.values() for what in ("limit", "remaining")
)
"""The headers of an answer that say what remains of a budget. All budgets are by the minute (page on rate limits)."""

_TYPES: Final = {
    402: "billing_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
# What Anthropic says of an account without credit, with type invalid_request_error and status 400.
_NO_CREDIT: Final = "credit balance is too low"
_MONEY: Final = frozenset({"billing_error", "enforced_spend_limit_reached"})


class _Usage(msgspec.Struct):
    service_tier: str | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Result(msgspec.Struct):
    message: _Message | None = None


class _Line(msgspec.Struct):
    result: _Result


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Detailed(msgspec.Struct):
    details: _Details | None = None


class _DetailedBody(msgspec.Struct):
    error: _Detailed


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def tier_of(line: bytes) -> str:
    """The tier that a result line says its row was served in. Where it says none, it was the usual one."""
    try:
        return _tier(_decode_line(line).result.message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "standard"


def succeeded(row_id: str, body: bytes) -> bytes:
    """The result line of an answered row."""
    return b'{"custom_id":%b,"result":{"type":"succeeded","message":%b}}\n' % (
        quoted(row_id),
        on_one_line(body),
    )


def errored(row_id: str, body: bytes) -> bytes:
    """The result line of a refused row: the whole error body stands in it, so that `error` is there twice."""
    return b'{"custom_id":%b,"result":{"type":"errored","error":%b}}\n' % (quoted(row_id), on_one_line(body))


def understand(call: Call, answer: Answer) -> Reply:
    """The reply in an answer. Raises CallRefused for an error, OutcomeUnknown for what makes no sense."""
    windows = _windows(answer)
    if answer.status != 200:
        raise refuse("Anthropic", answer, windows, lambda fault: _refusal(call, answer, fault))
    message = read("Anthropic", _decode_message, answer.body)
    return Reply(line=succeeded(call.row_id, answer.body), tier=_tier(message), windows=windows)


def _tier(message: _Message | None) -> str:
    usage = message.usage if message is not None else None
    return (usage.service_tier if usage is not None else None) or "standard"


def _refusal(call: Call, answer: Answer, fault: Fault | None) -> Refusal:
    body = answer.body
    if fault_of(body) is None:
        text = answer.body[:200].decode("utf-8", "replace").strip() or answer.reason
        kind = _TYPES.get(answer.status, "api_error" if answer.status >= 500 else "invalid_request_error")
        body = b'{"type":"error","error":{"type":%b,"message":%b}}' % (quoted(kind), quoted(text))
    blame = blame_for(answer.status, fault)
    if fault is not None and (
        {fault.type, _error_code(body)} & _MONEY or _NO_CREDIT in (fault.message or "").lower()
    ):
        blame = Blame.ACCOUNT
    return Refusal(blame, errored(call.row_id, body))


def _error_code(body: bytes) -> str | None:
    try:
        details = msgspec.json.decode(body, type=_DetailedBody).error.details
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return details.error_code if details is not None else None


def _windows(answer: Answer) -> tuple[Window, ...]:
    found: list[Window] = []
    for kind, name in _BUDGETS.items():
        limit, remaining = (
            answer.headers.get(f"anthropic-ratelimit-{name}-{what}") for what in ("limit", "remaining")
        )
        window = counted(kind, limit, remaining, per=MINUTE)
        if window is not None:
            found.append(window)
    return tuple(found)

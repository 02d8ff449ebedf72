"""Calls in the background, as their callers see them: a call of halfrate's own, or a response of OpenAI's (API
reference, "Responses")."""

from typing import Any, Final

import msgspec

from halfrate.base.money import usd
from halfrate.core.deferral import Answer, Deferred

_CODES: Final = {429: "rate_limit_exceeded"}


def call_view(call: Deferred, body: bytes | None, *, sent: bool) -> bytes:
    """A call, with its answer if it has one. `sent`: whether somebody is at work on it."""
    answer = call.answer
    document: dict[str, Any] = {
        "id": call.id,
        "object": "halfrate.call",
        "status": status_of(call, sent=sent),
        "endpoint": call.endpoint,
        "model": call.model,
        "created_at": int(call.created_at),
        "deadline": None if call.deadline is None else int(call.deadline),
        "ended_at": None if call.ended_at is None else int(call.ended_at),
        "tier": None if answer is None else answer.tier,
        "cost_usd": None if answer is None or answer.cost is None else usd(answer.cost),
        "response": None,
    }
    if answer is not None and body is not None:
        document["response"] = {"status_code": answer.status, "body": msgspec.Raw(body)}
    return msgspec.json.encode(document)


def response_view(call: Deferred, body: bytes | None, *, sent: bool) -> bytes:
    """A call of OpenAI's responses, under the id that its caller knows."""
    answer = call.answer
    if answer is not None and body is not None and answer.status < 400:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        own = {"id": msgspec.Raw(msgspec.json.encode(call.id)), "background": msgspec.Raw(b"true")}
        return msgspec.json.encode({**fields, **own})
    document: dict[str, Any] = {
        **call.told,
        "id": call.id,
        "object": "response",
        "created_at": int(call.created_at),
        "status": status_of(call, sent=sent),
        "background": True,
        "model": call.asked,
        "output": [],
        "error": None if answer is None else _error(answer, body or b""),
        "incomplete_details": None,
    }
    return msgspec.json.encode(document)


def status_of(call: Deferred, *, sent: bool) -> str:
    """In the words of OpenAI's responses."""
    if call.cancelled:
        return "cancelled"
    if call.ended:
        return "failed" if call.failed else "completed"
    return "in_progress" if sent else "queued"


def _error(answer: Answer, body: bytes) -> dict[str, str]:
    try:
        message = msgspec.json.decode(body)["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        message = ""
    code = _CODES.get(answer.status, "server_error" if answer.status >= 500 else "invalid_prompt")
    return {"code": code, "message": str(message) or f"The call was answered with {answer.status}."}

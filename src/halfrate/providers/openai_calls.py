"""Realtime calls in OpenAI's dialect: the tier in the body, the reply as a result line, errors understood."""

from collections.abc import Callable
from typing import Final

import msgspec

from halfrate.base.types import Endpoint
from halfrate.core.pacing import Window
from halfrate.providers.answers import Answer
from halfrate.providers.base import Blame, Call, Reply, Tier
from halfrate.providers.bodies import with_field
from halfrate.providers.calls import (
    Fault,
    Refusal,
    blame_for,
    counted,
    fault_of,
    on_one_line,
    period,
    quoted,
    read,
    refuse,
    seconds_of,
)

KEEP: Final = tuple(
    f"x-ratelimit-{what}-{kind}"
    for what in ("limit", "remaining", "reset")
    for kind in ("requests", "tokens")
)
"""The headers of an answer that say what remains of a budget (guide to rate limits)."""

TIERS: Final[dict[Endpoint, tuple[Tier, ...]]] = {
    "chat": ("standard", "flex", "priority"),
    "responses": ("standard", "flex", "priority"),
    "embeddings": ("standard",),
}
_NAMES: Final = {"default": "standard", "auto": "standard"}

# Limits that no waiting lifts within the hour (guide to error codes: retrying these does not restore access).
_MONEY: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)


class _Asked(msgspec.Struct):
    service_tier: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Served(msgspec.Struct):
    service_tier: str | None = None


class _ServedResponse(msgspec.Struct):
    body: _Served | None = None


class _ServedLine(msgspec.Struct):
    response: _ServedResponse | None = None


_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_served = msgspec.json.Decoder(_Served).decode
_decode_line = msgspec.json.Decoder(_ServedLine).decode


def with_tier(body: bytes, tier: Tier) -> bytes:
    """A body that asks for a tier. Nothing else in it changes; one that names a tier already is left as it is."""
    if tier == "standard":
        return body
    try:
        if _decode_asked(body).service_tier is not msgspec.UNSET:
            return body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # No object at all, or a strange one: for the provider to refuse.
        return body
    return with_field(body, "service_tier", tier)


def tier_of(line: bytes) -> str:
    """The tier that a result line says its row was served in. Where it says none, it was the usual one."""
    try:
        found = _decode_line(line).response
        return _tier(found.body if found is not None else None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "standard"


def line_of(row_id: str, status: int, body: bytes, request_id: str | None = None) -> bytes:
    """A result line, as in the output and error files of a batch."""
    request = quoted(request_id) if request_id else b"null"
    return b'{"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n' % (
        quoted(row_id),
        status,
        request,
        on_one_line(body),
    )


class Wording(msgspec.Struct, frozen=True):
    """How a provider words what its realtime calls come to: as a result line of its batches (row id, status, body,
    request id), and its own errors in a body, None where a body holds none."""

    line: Callable[[str, int, bytes, str | None], bytes] = line_of
    fault: Callable[[bytes], Fault | None] = fault_of


def understand(title: str, call: Call, answer: Answer, wording: Wording | None = None) -> Reply:
    """The reply in an answer. Raises CallRefused for an error, OutcomeUnknown for what makes no sense."""
    wording = wording or Wording()
    windows = _windows(answer)
    if answer.status != 200:
        raise refuse(
            title, answer, windows, lambda fault: _refusal(call, answer, fault, wording), wording.fault
        )
    served = read(title, _decode_served, answer.body)
    line = wording.line(call.row_id, 200, answer.body, answer.request_id)
    return Reply(line=line, tier=_tier(served), windows=windows)


def _tier(served: _Served | None) -> str:
    return tier_named(served.service_tier if served is not None else None)


def tier_named(name: str | None) -> str:
    """The tier that an answer names; the usual one where it names none."""
    return _NAMES.get(name, name) if name else "standard"


def is_money(fault: Fault) -> bool:
    """Whether an error is about credit or a limit on money, which no waiting lifts within the hour."""
    return bool({str(fault.code), fault.type} & _MONEY)


def _refusal(call: Call, answer: Answer, fault: Fault | None, wording: Wording) -> Refusal:
    body = answer.body
    if fault is None:
        text = answer.body[:200].decode("utf-8", "replace").strip() or answer.reason
        body = b'{"error":{"message":%b,"type":"invalid_request_error","param":null,"code":null}}' % quoted(
            text
        )
    blame = blame_for(answer.status, fault)
    if fault is not None:
        if is_money(fault):
            blame = Blame.ACCOUNT
        elif answer.status == 400 and (
            fault.param == "service_tier" or "service_tier" in (fault.message or "")
        ):
            # "Invalid service_tier argument": not for this model, or not allowed in this project.
            blame = Blame.TIER
    return Refusal(blame, wording.line(call.row_id, answer.status, body, answer.request_id))


def _windows(answer: Answer) -> tuple[Window, ...]:
    found: list[Window] = []
    for kind in ("requests", "tokens"):
        limit, remaining, reset = (
            answer.headers.get(f"x-ratelimit-{what}-{kind}") for what in ("limit", "remaining", "reset")
        )
        window = counted(kind, limit, remaining)
        if window is not None:
            per = period(window.limit, window.remaining, seconds_of(reset))
            found.append(msgspec.structs.replace(window, per=per))
    return tuple(found)

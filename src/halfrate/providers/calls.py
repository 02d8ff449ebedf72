"""Realtime calls: what the dialects have in common in understanding what a provider answers.

Sources of what is said about the wire, beside each thing: OpenAI's guides to rate limits, error codes and flex
processing, and Anthropic's to rate limits and errors, as of 2026-10.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from halfrate.base.errors import OutcomeUnknown
from halfrate.core.pacing import Kind, Window
from halfrate.providers.answers import Answer
from halfrate.providers.base import Blame, Call, CallRefused

_T = TypeVar("_T")
DEFAULT_TIMEOUT: Final = 600.0
"""Seconds that the official SDKs wait for an answer."""
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_PERIODS: Final = (60.0, 3_600.0, 86_400.0)
_TELLING: Final = 5.0
"""Seconds from which on a time until a budget is full says what period it is for; less may be rounding."""


class Fault(msgspec.Struct):
    """An error object, as both dialects have it."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None

    @property
    def name(self) -> str:
        return str(self.code or self.type or "")


class _ErrorBody(msgspec.Struct):
    error: Fault


class _Head(msgspec.Struct):
    stream: bool | None = None


def fault_of(body: bytes) -> Fault | None:
    """The provider's own error in a body, or None where the body is of another form: something on the way to the
    provider answered then, and knows nothing of what became of the call."""
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def on_one_line(body: bytes) -> bytes:
    """A JSON body without line breaks. In JSON they stand between tokens only, where they mean nothing: OpenAI
    sends its realtime replies indented."""
    return body.replace(b"\n", b"").replace(b"\r", b"") if b"\n" in body or b"\r" in body else body


def asks_for_stream(body: bytes) -> bool:
    """Whether a body asks for its answer piece by piece, which a row of a batch cannot."""
    if b"stream" not in body:
        return False
    try:
        return bool(msgspec.json.decode(body, type=_Head).stream)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


class Refusal(msgspec.Struct, frozen=True):
    """What a dialect makes of an error: what it lies in, and the line for it."""

    blame: Blame
    line: bytes


def read(title: str, decode: Callable[[bytes], _T], body: bytes) -> _T:
    """A good answer, understood. One that makes no sense leaves open what it cost: OutcomeUnknown."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutcomeUnknown(
            f"{title} answered 200 with something that cannot be read ({error}). The row was run, most likely"
        ) from error


def refuse(
    title: str,
    answer: Answer,
    windows: tuple[Window, ...],
    judge: Callable[[Fault | None], Refusal],
    fault_in: Callable[[bytes], Fault | None] = fault_of,
) -> CallRefused:
    """The error to raise for a call that was answered with one. Raises OutcomeUnknown instead where the answer is
    not the provider's own: a gateway that gave up waiting does not stop what it waited for."""
    fault = fault_in(answer.body)
    status = answer.status
    if fault is None and (status >= 500 or status == 408 or status < 300):
        raise OutcomeUnknown(
            f"{title} did not answer itself: something on the way to it answered {status}. The row may have been "
            "run all the same"
        )
    refusal = judge(fault)
    message = (fault and fault.message) or answer.reason or "no reason given"
    where = f" (request {answer.request_id})" if answer.request_id else ""
    return CallRefused(
        f"{title} answered {status}: {message}{where}",
        line=refusal.line,
        blame=refusal.blame,
        status=status,
        code=fault.name if fault is not None else "",
        retry_after=answer.retry_after,
        windows=windows,
    )


def blame_for(status: int, fault: Fault | None) -> Blame:
    """What an error lies in, as far as its status tells."""
    if status in {401, 402, 403, 407} or status < 400:
        return Blame.ACCOUNT
    if status == 404 and fault is None:
        # Not the provider's own "no such model": there is no such API at this address.
        return Blame.ACCOUNT
    if status in {429, 503, 529}:
        return Blame.LOAD
    return Blame.FAULT if status in {408, 409, 425} or status >= 500 else Blame.ROW


def no_stream(title: str, call: Call, line: Callable[[int, bytes], bytes]) -> CallRefused:
    """The refusal of a row that asks for a stream. It is not sent: a batch would refuse it alike."""
    message = "Streaming is not supported in a batch; take `stream` out of the row."
    body = (
        b'{"type":"error","error":{"message":%b,"type":"invalid_request_error","param":"stream","code":null}}'
    )
    return CallRefused(
        f"{title} was not asked: {message}",
        line=line(400, body % quoted(message)),
        blame=Blame.ROW,
        status=400,
        code="invalid_request_error",
    )


def counted(kind: Kind, limit: str | None, remaining: str | None, per: float | None = None) -> Window | None:
    """A budget from two headers; None where they do not say anything (Azure sends -1 and 0 for that)."""
    most, left = _number(limit), _number(remaining)
    if most is None or left is None or most <= 0 or left < 0:
        return None
    return Window(kind=kind, limit=most, remaining=left, per=per)


def period(limit: int, remaining: int, reset: float | None) -> float | None:
    """The time that a budget is for, from how long it takes until it is full again: small accounts are limited by
    the day. None where that says too little."""
    gone = limit - remaining
    if reset is None or gone <= 0 or reset < _TELLING:
        return None
    whole = reset * limit / gone
    return min(_PERIODS, key=lambda span: abs(whole / span - 1) if whole > span else span / whole - 1)


def seconds_of(duration: str | None) -> float | None:
    """`6m0s`, `12ms`, `1.5s` as OpenAI writes them, or plain seconds as others do; None for anything else."""
    if not duration:
        return None
    text = duration.strip()
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return max(0.0, float(text))
    except ValueError:
        return None


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None

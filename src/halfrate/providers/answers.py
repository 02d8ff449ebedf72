"""Answers of providers: what their headers and errors say, alike in both dialects."""

import http.client
import math
from email.utils import parsedate_to_datetime

import msgspec

from halfrate.base.errors import Refused


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a realtime call was answered with, whatever the status. `headers`: those asked for, names in lower
    case; `retry_after`: seconds. In the body of an error our own key is masked, should it be repeated there."""

    status: int
    reason: str
    body: bytes
    headers: dict[str, str]
    retry_after: float | None = None
    request_id: str | None = None

    def refusal(self, title: str, *, wrong_key: str = "") -> Refused:
        """The answer as an error. `wrong_key`: as for `told_status`."""
        code, message = error_of(self.body)
        where = f" (request {self.request_id})" if self.request_id else ""
        return Refused(
            f"{title} answered {self.status}: {message or self.reason or 'no reason given'}{where}",
            status=told_status(self.status, message, wrong_key),
            code=code,
            retry_after=self.retry_after,
        )


class _Error(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


def told_status(status: int, message: str, wrong_key: str) -> int:
    """An answer's status, or 401 for one of 400 that says in these words that a key is not known."""
    return 401 if status == 400 and wrong_key and wrong_key in message else status


def request_id(response: http.client.HTTPResponse) -> str | None:
    return response.getheader("x-request-id") or response.getheader("request-id")


def retry_after(response: http.client.HTTPResponse) -> float | None:
    """Seconds that the answer asks to wait. Both providers may name milliseconds besides, which says it more
    exactly; a date is read by the answer's own clock."""
    exact = _seconds(response.getheader("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    text = response.getheader("Retry-After")
    plain = _seconds(text)
    if plain is not None or not text:
        return plain
    try:
        then, now = parsedate_to_datetime(text), parsedate_to_datetime(response.getheader("Date") or "")
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return None


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else None
    except ValueError:
        return None
    # `nan` and `inf` are numbers to Python, and no time to wait.
    return max(0.0, seconds) if seconds is not None and math.isfinite(seconds) else None


def error_of(raw: bytes) -> tuple[str, str]:
    """Code and message of an error body: `{"error": {"message", "code", "type"}}` in both dialects."""
    try:
        error = msgspec.json.decode(raw, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", raw[:200].decode("utf-8", "replace").strip()
    return str(error.code or error.type or ""), error.message or ""

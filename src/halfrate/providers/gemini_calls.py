"""Realtime calls in Google's dialect: the reply as a result line, errors understood."""

from collections.abc import Callable
from typing import Final

import msgspec

from halfrate.core.pacing import Window
from halfrate.providers.answers import Answer
from halfrate.providers.base import Blame, Call, Reply
from halfrate.providers.calls import Fault, Refusal, blame_for, fault_of, on_one_line, quoted, read, refuse

_RPC = {400: 3, 401: 16, 403: 7, 404: 5, 408: 4, 409: 10, 429: 8, 499: 1, 501: 12, 503: 14, 504: 4}
WRONG_KEY = "API key not valid"
"""How the Gemini API words, with a status of 400, that it does not know a key."""
STREAM: Final = "streamGenerateContent?alt=sse"
"""What is asked of a model whose answer is to come in events; without `alt` it comes as one array, bit by bit."""


class _Head(msgspec.Struct):
    candidates: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Head).decode


def understand(
    title: str, call: Call, answer: Answer, line: Callable[[str, bytes | None, bytes], bytes]
) -> Reply:
    """The reply in an answer. Raises CallRefused for an error, OutcomeUnknown for what makes no sense.

    `line`: a result line from a row's id, a response or None, and else a status of google.rpc.
    """
    if answer.status != 200:
        raise refuse(title, answer, _no_windows(), lambda fault: _refusal(call, answer, fault, line))
    read(title, _decode, answer.body)
    return Reply(line=line(call.row_id, on_one_line(answer.body), b""), tier="standard")


def status_of(status: int, message: str) -> bytes:
    """An HTTP status as a row of a batch has it: with the code of google.rpc."""
    return b'{"code":%d,"message":%b}' % (_RPC.get(status, 13 if status >= 500 else 3), quoted(message))


def _no_windows() -> tuple[Window, ...]:
    """Google's replies do not say what remains of a budget."""
    return ()


def _refusal(
    call: Call, answer: Answer, fault: Fault | None, line: Callable[[str, bytes | None, bytes], bytes]
) -> Refusal:
    text = (fault and fault.message) or answer.body[:200].decode("utf-8", "replace").strip() or answer.reason
    blame = blame_for(answer.status, fault)
    if answer.status == 400 and WRONG_KEY in text:
        blame = Blame.ACCOUNT
    return Refusal(blame, line(call.row_id, None, status_of(answer.status, text)))


__all__ = ["STREAM", "WRONG_KEY", "fault_of", "status_of", "understand"]

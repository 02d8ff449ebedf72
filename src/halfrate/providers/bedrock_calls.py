"""Realtime calls of Bedrock's models: the reply as a result line of a job, errors understood."""

from typing import Final

import msgspec

from halfrate.providers.answers import Answer
from halfrate.providers.base import Blame, Call, Reply
from halfrate.providers.bedrock_wire import ERROR_TYPE, TITLE, fault_in, status_of
from halfrate.providers.calls import Fault, Refusal, blame_for, on_one_line, quoted, read, refuse

KEEP: Final = (ERROR_TYPE,)
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def answered(row_id: str, body: bytes) -> bytes:
    """The result line of an answered row."""
    return b'{"recordId":%b,"modelOutput":%b}\n' % (quoted(row_id), on_one_line(body))


def errored(row_id: str, status: int, message: str) -> bytes:
    """The result line of a refused row."""
    return b'{"recordId":%b,"error":{"errorCode":%d,"errorMessage":%b}}\n' % (
        quoted(row_id),
        status,
        quoted(message),
    )


def understand(call: Call, answer: Answer) -> Reply:
    """The reply in an answer. Raises CallRefused for an error, OutcomeUnknown for what makes no sense."""
    if answer.status != 200:
        raise refuse(
            TITLE,
            answer,
            (),
            lambda fault: _refusal(call, answer, fault),
            lambda body: fault_in(body, answer.headers.get(ERROR_TYPE)),
        )
    read(TITLE, _decode, answer.body)
    return Reply(line=answered(call.row_id, answer.body), tier="standard")


def _refusal(call: Call, answer: Answer, fault: Fault | None) -> Refusal:
    status = status_of(answer.status, fault)
    text = (fault and fault.message) or answer.body[:200].decode("utf-8", "replace").strip() or answer.reason
    blame = blame_for(status, fault)
    if fault is not None and fault.name in _BLAMES:
        blame = _BLAMES[fault.name]
    return Refusal(blame, errored(call.row_id, status, text))


_BLAMES: Final = {
    # A model that failed, or was not ready, says nothing about the row (API reference of InvokeModel).
    "ModelErrorException": Blame.FAULT,
    "ModelNotReadyException": Blame.LOAD,
    "ServiceQuotaExceededException": Blame.LOAD,
}

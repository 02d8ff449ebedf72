"""Result lines of Anthropic's message batches: every request has exactly one once the batch has ended."""

from collections.abc import Callable
from typing import Any, Final, Literal, cast

import msgspec

from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, ResultRow, Tokens
from halfrate.providers.bodies import joined_texts
from halfrate.providers.plain import Columns, plain_reader, row_number, whole_reader

_PASSING: Final = frozenset(
    {"rate_limit_error", "timeout_error", "api_error", "overloaded_error", "conflict_error"}
)


class _Written(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _Written | None = None
    inference_geo: str | None = None


_ANYWHERE: Final = frozenset({"global", "not_available"})
"""What a message says of where it was run where that made it no dearer; older models cannot be told."""


class _Block(msgspec.Struct, gc=False):
    type: str
    text: msgspec.Raw = msgspec.Raw(b"null")
    input: msgspec.Raw = msgspec.Raw(b"null")


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]
    model: str = ""
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Fault(msgspec.Struct, gc=False):
    type: str = ""
    message: str = ""


class _Error(msgspec.Struct, gc=False):
    """Nested twice: `result.error.error.type`."""

    error: _Fault | None = None


class _Result(msgspec.Struct, gc=False):
    type: str
    message: _Message | None = None
    error: _Error | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    result: _Result


class _TextBlock(msgspec.Struct, gc=False):
    type: Literal["text"]
    text: msgspec.Raw


class _TextMessage(msgspec.Struct, gc=False):
    content: tuple[_TextBlock]
    model: str
    stop_reason: str
    usage: msgspec.Raw


class _TextResult(msgspec.Struct, gc=False):
    message: _TextMessage


class _Answered(msgspec.Struct, gc=False):
    """An answer of one text: strict, and so quick. Only succeeded results have a message."""

    custom_id: str
    result: _TextResult


class _Named(msgspec.Struct, gc=False):
    custom_id: str
    result: Any = None


_answered = msgspec.json.Decoder(_Answered)
_decode_usage = msgspec.json.Decoder(_Usage | None).decode
_decode = msgspec.json.Decoder(_Line).decode
_decode_loosely = msgspec.json.Decoder(_Named).decode


def id_of(line: bytes) -> str | None:
    """The id in a result line, or None where it has none."""
    try:
        return _decode_loosely(line).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def line_reader(row_prefix: str) -> LineReader:
    """A reader of one batch's result lines."""
    plain = plain_reader(_answered.decode, _columns, row_prefix)
    whole = whole_reader(_answered.decode_lines, _columns, row_prefix)
    return LineReader(_general_reader(row_prefix), plain, tokens_in, whole)


def _columns(answered: list[_Answered]) -> Columns:
    messages = [line.result.message for line in answered]
    return Columns(
        [line.custom_id for line in answered],
        [message.content[0].text for message in messages],
        [message.usage for message in messages],
        [message.model for message in messages],
        [message.stop_reason for message in messages],
    )


def _general_reader(row_prefix: str) -> Callable[[bytes], ResultRow]:
    def read(line: bytes) -> ResultRow:
        try:
            parsed = _decode(line)
        except msgspec.ValidationError:
            named = _decode_loosely(line)
            row = row_number(named.custom_id, row_prefix)
            if (
                isinstance(named.result, dict)
                and cast("dict[str, Any]", named.result).get("type") == "succeeded"
            ):
                return ResultRow(row, Kind.FAILED, error=MAY_BE_PAID)
            return ResultRow(row, Kind.FAILED_PASSING, error="the result has a form that is not understood")
        row = row_number(parsed.custom_id, row_prefix)
        result = parsed.result
        if result.type == "succeeded" and result.message is not None:
            return _succeeded(row, result.message)
        return _failed(row, result)

    return read


def _succeeded(row: int, message: _Message) -> ResultRow:
    texts = [bytes(block.text) for block in message.content if block.type == "text"]
    texts = [text for text in texts if text != b"null"]
    if texts:
        answer = joined_texts(texts)
    else:
        # An answer made of a tool call alone: its input is the answer.
        calls = [bytes(block.input) for block in message.content if block.type == "tool_use"]
        answer = calls[0] if len(calls) == 1 else b"[" + b",".join(calls) + b"]" if calls else b"null"
    usage = message.usage
    tokens = _tokens(usage) if usage is not None else None
    return ResultRow(row, Kind.SUCCEEDED, answer, tokens, message.model, message.stop_reason or "")


def _tokens(usage: _Usage) -> Tokens:
    """Anthropic's `input_tokens` leaves cached ones out, unlike OpenAI's."""
    written = usage.cache_creation_input_tokens or 0
    hour = usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation is not None else 0
    return Tokens(
        input=usage.input_tokens,
        cached=usage.cache_read_input_tokens or 0,
        write_5m=max(0, written - hour),
        write_1h=hour,
        output=usage.output_tokens,
        region=geo if (geo := usage.inference_geo or "") not in _ANYWHERE else "",
    )


def tokens_in(usage: bytes) -> Tokens | None:
    """What a usage object means; None where there is none. Raises msgspec.DecodeError."""
    found = _decode_usage(usage)
    return _tokens(found) if found is not None else None


def _failed(row: int, result: _Result) -> ResultRow:
    if result.type == "expired":
        return ResultRow(row, Kind.EXPIRED, error="the batch's window ended before this row was run")
    if result.type == "canceled":
        return ResultRow(row, Kind.CANCELLED, error="the batch was cancelled before this row was run")
    if result.type == "succeeded":
        return ResultRow(row, Kind.FAILED, error=MAY_BE_PAID)
    fault = result.error.error if result.error is not None and result.error.error is not None else _Fault()
    text = (
        ": ".join(part for part in (fault.type, fault.message) if part) or f"result of type {result.type!r}"
    )
    kind = Kind.FAILED_PASSING if fault.type in _PASSING or not fault.type else Kind.FAILED
    return ResultRow(row, kind, error=text)

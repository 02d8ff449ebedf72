"""Result lines of the OpenAI dialect.

A line is judged by itself, whichever file it stands in: `error` may be null beside a 4xx status, a status may
be 0 with an empty body, and successful rows have been seen in error files.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, cast

import msgspec

from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, ResultRow, Tokens
from halfrate.base.types import Endpoint
from halfrate.providers.bodies import joined_texts
from halfrate.providers.plain import Columns, plain_reader, row_number, whole_reader

_PASSING: Final = frozenset({0, 408, 409, 425, 429})
_EXPIRED: Final = frozenset({"batch_expired"})
_CANCELLED: Final = frozenset({"batch_cancelled", "batch_canceled", "request_cancelled"})


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    cached_tokens_details: "_Details | None" = None


_NO_DETAILS: Final = _Details()


class _Usage(msgspec.Struct, gc=False):
    """Chat and embeddings say prompt/completion, responses say input/output, Voyage the total alone."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = msgspec.Raw(b"null")
    refusal: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"null")


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None


class _Embedding(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    index: int = 0


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Part(msgspec.Struct, gc=False):
    type: str
    text: msgspec.Raw = msgspec.Raw(b"null")
    refusal: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str
    content: list[_Part] | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"null")


class Fault(msgspec.Struct, gc=False):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None


class Body(msgspec.Struct, gc=False):
    """The union of what the three endpoints and an error answer with; only what is used is decoded."""

    model: str = ""
    choices: list[_Choice] | None = None
    data: list[_Embedding] | None = None
    output: list[_Item] | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None
    error: Fault | str | None = None
    message: str | None = None
    """Of an error that is the body itself, as at Mistral."""
    detail: Any = None
    """Of a body that was refused before any model saw it, as frameworks word it."""

    @property
    def fault(self) -> Fault | None:
        """The error that the body holds, or is."""
        if isinstance(self.error, str):
            return Fault(message=self.error)
        if self.error is None and (self.message is not None or self.detail is not None):
            return Fault(message=self.message or msgspec.json.encode(self.detail).decode())
        return self.error


class _Response(msgspec.Struct, gc=False):
    status_code: int = 0
    body: Body | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    response: _Response | None = None
    error: Fault | None = None


class _ChatMessage(msgspec.Struct, gc=False):
    content: msgspec.Raw


class _ChatChoice(msgspec.Struct, gc=False):
    message: _ChatMessage
    finish_reason: str


class ChatBody(msgspec.Struct, gc=False):
    model: str
    choices: tuple[_ChatChoice]
    usage: msgspec.Raw


class _ChatResponse(msgspec.Struct, gc=False):
    status_code: Literal[200]
    body: ChatBody


class _Answered(msgspec.Struct, gc=False):
    """An answered chat of the usual shape: strict, and so quick."""

    custom_id: str
    response: _ChatResponse


class _LooseResponse(msgspec.Struct, gc=False):
    status_code: int | None = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _LooseLine(msgspec.Struct, gc=False):
    custom_id: str
    response: _LooseResponse | None = None
    error: Any = None


_answered = msgspec.json.Decoder(_Answered)
_decode_usage = msgspec.json.Decoder(_Usage | None).decode
_decode = msgspec.json.Decoder(_Line).decode
_decode_loosely = msgspec.json.Decoder(_LooseLine).decode


class _WholeResponse(msgspec.Struct):
    status_code: int = 0
    body: Any = None


class _WholeLine(msgspec.Struct):
    response: _WholeResponse | None = None


def completion_in(line: bytes) -> dict[str, Any] | None:
    """What a good line answers, whole."""
    response = msgspec.json.decode(line, type=_WholeLine).response
    good = response is not None and response.status_code == 200 and isinstance(response.body, dict)
    return cast("dict[str, Any]", response.body) if response is not None and good else None


def line_reader(endpoint: Endpoint, row_prefix: str) -> LineReader:
    """A reader of one batch's result lines: both files, any order, any mixture."""
    general = _general_reader(endpoint, row_prefix)
    if endpoint != "chat":
        return LineReader(general)
    plain = plain_reader(_answered.decode, _columns, row_prefix)
    whole = whole_reader(_answered.decode_lines, _columns, row_prefix)
    return LineReader(general, plain, tokens_in, whole)


def _columns(answered: list[_Answered]) -> Columns:
    bodies = [line.response.body for line in answered]
    choices = [body.choices[0] for body in bodies]
    return Columns(
        [line.custom_id for line in answered],
        [choice.message.content for choice in choices],
        [body.usage for body in bodies],
        [body.model for body in bodies],
        [choice.finish_reason for choice in choices],
    )


def _general_reader(endpoint: Endpoint, row_prefix: str) -> Callable[[bytes], ResultRow]:
    succeeded = READERS[endpoint]

    def read(line: bytes) -> ResultRow:
        try:
            result = _decode(line)
        except msgspec.ValidationError:
            return _odd(line, row_prefix)
        row = row_number(result.custom_id, row_prefix)
        response = result.response
        if response is not None and response.status_code == 200 and response.body is not None:
            body = response.body
            if body.fault is None:
                return succeeded(row, body)
        return _failed(row, result)

    return read


def _chat(row: int, body: Body) -> ResultRow:
    if not body.choices:
        return ResultRow(row, Kind.FAILED_PASSING, error="the provider answered 200 without a choice")
    choice = body.choices[0]
    message = choice.message
    answer = bytes(message.content)
    finish = choice.finish_reason or ""
    if answer == b"null":
        if message.refusal is not None:
            answer = msgspec.json.encode(message.refusal)
            finish = "refusal"
        else:
            answer = bytes(message.tool_calls)
    return ResultRow(row, Kind.SUCCEEDED, answer, _tokens(body.usage), body.model, finish)


def _responses(row: int, body: Body) -> ResultRow:
    if body.status == "failed" or body.output is None:
        return ResultRow(row, Kind.FAILED_PASSING, error="the response failed without saying why")
    texts: list[bytes] = []
    finish = body.status or ""
    if body.incomplete_details is not None and body.incomplete_details.reason:
        finish = body.incomplete_details.reason
    for item in body.output:
        for part in item.content or () if item.type == "message" else ():
            if part.refusal is not None:
                texts.append(msgspec.json.encode(part.refusal))
                finish = "refusal"
            elif part.type == "output_text" and bytes(part.text) != b"null":
                texts.append(bytes(part.text))
    if not texts:
        texts = [bytes(item.arguments) for item in body.output if item.type == "function_call"]
    # Several output texts of one answer are one text.
    answer = joined_texts(texts)
    return ResultRow(
        row, Kind.SUCCEEDED, answer if texts else b"null", _tokens(body.usage), body.model, finish
    )


def _embeddings(row: int, body: Body) -> ResultRow:
    if not body.data:
        return ResultRow(row, Kind.FAILED_PASSING, error="the provider answered 200 without an embedding")
    vectors = [bytes(item.embedding) for item in sorted(body.data, key=lambda item: item.index)]
    answer = vectors[0] if len(vectors) == 1 else b"[" + b",".join(vectors) + b"]"
    return ResultRow(row, Kind.SUCCEEDED, answer, _tokens(body.usage), body.model, "stop")


READERS: Final[dict[Endpoint, Callable[[int, Body], ResultRow]]] = {
    "chat": _chat,
    "responses": _responses,
    "embeddings": _embeddings,
}


def _tokens(usage: _Usage | None) -> Tokens | None:
    """OpenAI counts cached and cache-written tokens as part of the prompt: they are taken out of it here."""
    if usage is None:
        return None
    read = usage.prompt_tokens_details or usage.input_tokens_details or _NO_DETAILS
    made = usage.completion_tokens_details or usage.output_tokens_details or _NO_DETAILS
    cached = read.cached_tokens or 0
    written = read.cache_write_tokens or 0
    output = usage.completion_tokens + usage.output_tokens
    again = min(cached, (read.cached_tokens_details or _NO_DETAILS).audio_tokens or 0)
    plain = max(
        0, (usage.prompt_tokens + usage.input_tokens or usage.total_tokens - output) - cached - written
    )
    return Tokens(
        input=plain,
        cached=cached,
        write_5m=written,
        output=output,
        reasoning=made.reasoning_tokens or 0,
        audio_input=min(plain, max(0, (read.audio_tokens or 0) - again)),
        audio_cached=again,
        audio_output=min(output, made.audio_tokens or 0),
    )


def tokens_in(usage: bytes) -> Tokens | None:
    return _tokens(_decode_usage(usage))


def _failed(row: int, line: _Line) -> ResultRow:
    status = line.response.status_code if line.response is not None else 0
    fault = line.error
    if fault is None and line.response is not None and line.response.body is not None:
        fault = line.response.body.fault
    code = str((fault and (fault.code or fault.type)) or "")
    message = (fault and fault.message) or code or "no reason given"
    return ResultRow(row, kind_of(status, code), error=f"{status}: {message}" if status else message)


def kind_of(status: int, code: str) -> Kind:
    if code in _EXPIRED:
        return Kind.EXPIRED
    if code in _CANCELLED:
        return Kind.CANCELLED
    return Kind.FAILED_PASSING if status in _PASSING or status >= 500 else Kind.FAILED


def _odd(line: bytes, row_prefix: str) -> ResultRow:
    """A line whose id can be read and whose rest is of no known shape."""
    result = _decode_loosely(line)
    row = row_number(result.custom_id, row_prefix)
    status = (result.response.status_code if result.response is not None else 0) or 0
    if status == 200:
        return ResultRow(row, Kind.FAILED, error=MAY_BE_PAID)
    return ResultRow(
        row, kind_of(status, ""), error=f"{status}: the result has a form that is not understood"
    )

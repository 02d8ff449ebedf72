"""Result lines of Bedrock's jobs: `{"recordId", "modelInput", "modelOutput"}`, or an `error` instead of an output.

What was asked is repeated in every line, and read by nobody here. What was answered has the shape of its family, or
that of Converse; Nova's own is the same as that.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, PlainRows, ResultRow, Tokens
from halfrate.providers.bodies import joined_texts
from halfrate.providers.plain import Columns, plain_reader, row_number
from halfrate.providers.translation import answer_from
from halfrate.providers.translation.embeddings import listed

_FIRST: Final = 3
_NULL: Final = msgspec.Raw(b"null")
_PASSING: Final = frozenset({0, 408, 409, 424, 425, 429})
_PASSING_NAMES: Final = frozenset(
    {
        "InternalServerException",
        "ModelErrorException",
        "ModelNotReadyException",
        "ModelTimeoutException",
        "ServiceUnavailableException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


class _Written(msgspec.Struct, gc=False):
    hour: int = msgspec.field(name="ephemeral_1h_input_tokens", default=0)


class _Usage(msgspec.Struct, gc=False):
    """Anthropic writes it in snake case, Converse in camel case. Neither counts cached tokens as input."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Written | None = None
    input: int = msgspec.field(name="inputTokens", default=0)
    output: int = msgspec.field(name="outputTokens", default=0)
    cache_read: int | None = msgspec.field(name="cacheReadInputTokens", default=None)
    cache_write: int | None = msgspec.field(name="cacheWriteInputTokens", default=None)


class _Tool(msgspec.Struct, gc=False):
    input: msgspec.Raw = _NULL


class _Block(msgspec.Struct, gc=False):
    """A part of what Anthropic answers (`type`), or Converse."""

    type: str = "text"
    text: msgspec.Raw = _NULL
    input: msgspec.Raw = _NULL
    tool: _Tool | None = msgspec.field(name="toolUse", default=None)


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]


class _Converse(msgspec.Struct, gc=False):
    message: _Message


class _Text(msgspec.Struct, gc=False):
    """One of Mistral's `outputs`, or of the `results` of Titan's text models."""

    text: msgspec.Raw = _NULL
    stop_reason: str | None = None
    output_text: msgspec.Raw = msgspec.field(name="outputText", default=_NULL)
    completion_reason: str | None = msgspec.field(name="completionReason", default=None)
    token_count: int = msgspec.field(name="tokenCount", default=0)


class _Output(msgspec.Struct, gc=False):
    """The union of what the families answer."""

    # Anthropic
    content: list[_Block] | None = None
    model: str = ""
    stop_reason: str | None = None
    usage: _Usage | None = None
    # Converse, Nova
    output: _Converse | None = None
    stop: str | None = msgspec.field(name="stopReason", default=None)
    # Llama
    generation: msgspec.Raw = _NULL
    prompt_token_count: int | None = None
    generation_token_count: int | None = None
    # Mistral; Titan's text models
    outputs: list[_Text] | None = None
    results: list[_Text] | None = None
    # Titan's and Cohere's embeddings
    embedding: msgspec.Raw = _NULL
    by_type: msgspec.Raw = msgspec.field(name="embeddingsByType", default=_NULL)
    embeddings: list[msgspec.Raw] | dict[str, list[msgspec.Raw]] | None = None
    input_count: int | None = msgspec.field(name="inputTextTokenCount", default=None)


class _Fault(msgspec.Struct, gc=False):
    code: int | str | None = msgspec.field(name="errorCode", default=None)
    message: str | None = msgspec.field(name="errorMessage", default=None)


class _Line(msgspec.Struct, gc=False):
    record_id: str = msgspec.field(name="recordId")
    output: _Output | None = msgspec.field(name="modelOutput", default=None)
    error: _Fault | None = None


class _Named(msgspec.Struct, gc=False):
    record_id: str = msgspec.field(name="recordId")
    output: msgspec.Raw = msgspec.field(name="modelOutput", default=msgspec.Raw())
    error: msgspec.Raw = _NULL


class _Whole(msgspec.Struct):
    record_id: str = msgspec.field(name="recordId")
    output: dict[str, Any] | None = msgspec.field(name="modelOutput", default=None)


class _TextBlock(msgspec.Struct, gc=False):
    type: Literal["text"]
    text: msgspec.Raw


class _TextMessage(msgspec.Struct, gc=False):
    content: tuple[_TextBlock]
    model: str
    stop_reason: str
    usage: msgspec.Raw


class _Answered(msgspec.Struct, gc=False):
    """An answer of Anthropic's, of one text: strict, and so quick."""

    record_id: str = msgspec.field(name="recordId")
    output: _TextMessage = msgspec.field(name="modelOutput")
    error: None = None


class _SaidBlock(msgspec.Struct, gc=False):
    text: msgspec.Raw


class _SaidMessage(msgspec.Struct, gc=False):
    content: tuple[_SaidBlock]


class _SaidOutput(msgspec.Struct, gc=False):
    message: _SaidMessage


class _Conversed(msgspec.Struct, gc=False):
    output: _SaidOutput
    stop: str = msgspec.field(name="stopReason")
    usage: msgspec.Raw


class _Said(msgspec.Struct, gc=False):
    """The same of Converse's, which does not name its model."""

    record_id: str = msgspec.field(name="recordId")
    output: _Conversed = msgspec.field(name="modelOutput")
    error: None = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_loosely = msgspec.json.Decoder(_Named).decode
_decode_answered = msgspec.json.Decoder(_Answered).decode
_decode_said = msgspec.json.Decoder(_Said).decode
_decode_usage = msgspec.json.Decoder(_Usage | None).decode


def line_reader(row_prefix: str) -> LineReader:
    """A reader of one job's result lines, whichever family answered."""

    def read(line: bytes) -> ResultRow:
        try:
            found = _decode(line)
        except msgspec.ValidationError:
            return _odd(line, row_prefix)
        row = row_number(found.record_id, row_prefix)
        if found.error is not None:
            return _failed(row, found.error)
        if found.output is None:
            return _odd(line, row_prefix)
        return _succeeded(row, found.output)

    return LineReader(read, _plain(row_prefix), _tokens_in)


def _plain(row_prefix: str) -> Callable[[Sequence[bytes]], PlainRows]:
    """The lines of a job are of one shape, nearly all: whichever some of its first lines have."""
    claude = plain_reader(_decode_answered, _columns, row_prefix)
    converse = plain_reader(_decode_said, _said_columns, row_prefix)

    def read(lines: Sequence[bytes]) -> PlainRows:
        return (converse if converse(lines[:_FIRST]).numbers else claude)(lines)

    return read


def completion_in(line: bytes, created: int) -> dict[str, Any] | None:
    """The answer of a good line as a chat completion of OpenAI's; what Llama, Mistral and Titan write themselves is
    nobody's answer to such a request."""
    found = msgspec.json.decode(line, type=_Whole)
    output = found.output
    if not output or not ("output" in output or "content" in output):
        return None
    family = "converse" if "output" in output else "anthropic"
    model = str(output.get("model", ""))
    return answer_from(family, output, model=model, created=created, answer_id=found.record_id)


def list_in(line: bytes) -> dict[str, Any] | None:
    """The vectors of a good line as a list of OpenAI's; None where there are none that are numbers."""
    output = msgspec.json.decode(line, type=_Whole).output or {}
    vectors: Any = [output["embedding"]] if "embedding" in output else output.get("embeddings")
    if isinstance(vectors, dict):
        vectors = cast("dict[str, Any]", vectors).get("float")
    return listed(vectors, "", output.get("inputTextTokenCount")) if vectors else None


def _columns(answered: list[_Answered]) -> Columns:
    messages = [line.output for line in answered]
    return Columns(
        [line.record_id for line in answered],
        [message.content[0].text for message in messages],
        [message.usage for message in messages],
        [message.model for message in messages],
        [message.stop_reason for message in messages],
    )


def _said_columns(said: list[_Said]) -> Columns:
    outputs = [line.output for line in said]
    return Columns(
        [line.record_id for line in said],
        [output.output.message.content[0].text for output in outputs],
        [output.usage for output in outputs],
        [""] * len(said),
        [output.stop for output in outputs],
    )


def _odd(line: bytes, row_prefix: str) -> ResultRow:
    """A line whose id can be read, and whose rest is of no known shape."""
    found = _decode_loosely(line)
    row = row_number(found.record_id, row_prefix)
    if bytes(found.output) and found.error == _NULL:
        # There is an output, if only an empty one.
        return ResultRow(row, Kind.FAILED, error=MAY_BE_PAID)
    why = "no reason given" if found.error == _NULL else "the result has a form that is not understood"
    return ResultRow(row, Kind.FAILED_PASSING, error=why)


def _failed(row: int, fault: _Fault) -> ResultRow:
    code = str(fault.code or "")
    status = int(code) if code.isdecimal() else None if code else 0
    passing = code in _PASSING_NAMES if status is None else status in _PASSING or status >= 500
    text = ": ".join(filter(None, (code, fault.message))) or "no reason given"
    return ResultRow(row, Kind.FAILED_PASSING if passing else Kind.FAILED, error=text)


def _succeeded(row: int, output: _Output) -> ResultRow:
    found = next((answer for read in _READERS if (answer := read(output)) is not None), None)
    if found is None:
        return ResultRow(row, Kind.FAILED, error=MAY_BE_PAID)
    answer, finish, tokens = found
    return ResultRow(row, Kind.SUCCEEDED, answer, tokens, output.model, finish or "")


_Found = tuple[bytes, str | None, Tokens | None]


def _messages(output: _Output) -> _Found | None:
    if output.content is None:
        return None
    return _said(output.content), output.stop_reason, _tokens(output.usage)


def _converse(output: _Output) -> _Found | None:
    if output.output is None:
        return None
    return _said(output.output.message.content), output.stop, _tokens(output.usage)


def _said(blocks: list[_Block]) -> bytes:
    """The texts of an answer as one; the input of a tool where there is no text. Reasoning is no part of it."""
    texts = [bytes(block.text) for block in blocks if block.type == "text" and block.text != _NULL]
    if texts:
        return joined_texts(texts)
    calls = [bytes(block.tool.input if block.tool is not None else block.input) for block in blocks]
    calls = [call for call in calls if call != b"null"]
    return calls[0] if len(calls) == 1 else b"[" + b",".join(calls) + b"]" if calls else b"null"


def _llama(output: _Output) -> _Found | None:
    if output.generation == _NULL:
        return None
    tokens = None
    if output.prompt_token_count is not None:
        tokens = Tokens(output.prompt_token_count, output=output.generation_token_count or 0)
    return bytes(output.generation), output.stop_reason, tokens


def _mistral(output: _Output) -> _Found | None:
    """Mistral's text completion does not say how many tokens it took."""
    if not output.outputs or output.outputs[0].text == _NULL:
        return None
    return bytes(output.outputs[0].text), output.outputs[0].stop_reason, None


def _titan(output: _Output) -> _Found | None:
    if not output.results or output.results[0].output_text == _NULL:
        return None
    first = output.results[0]
    tokens = Tokens(output.input_count, output=first.token_count) if output.input_count is not None else None
    return bytes(first.output_text), first.completion_reason, tokens


def _embedding(output: _Output) -> _Found | None:
    answer = output.embedding if output.embedding != _NULL else output.by_type
    if answer != _NULL:
        tokens = Tokens(output.input_count) if output.input_count is not None else None
        return bytes(answer), "stop", tokens
    if not output.embeddings:
        return None
    # Cohere's do not say how many tokens they took. Several types of vectors are given by name.
    if isinstance(output.embeddings, list):
        return _vectors(output.embeddings), "stop", None
    if len(output.embeddings) == 1:
        return _vectors(next(iter(output.embeddings.values()))), "stop", None
    named = {name: msgspec.Raw(_vectors(vectors)) for name, vectors in output.embeddings.items()}
    return msgspec.json.encode(named), "stop", None


def _vectors(vectors: list[msgspec.Raw]) -> bytes:
    return bytes(vectors[0]) if len(vectors) == 1 else b"[" + b",".join(map(bytes, vectors)) + b"]"


_READERS: Final[tuple[Callable[[_Output], _Found | None], ...]] = (
    _messages,
    _converse,
    _llama,
    _mistral,
    _titan,
    _embedding,
)


def _tokens(usage: _Usage | None) -> Tokens | None:
    if usage is None:
        return None
    written = usage.cache_creation_input_tokens or usage.cache_write or 0
    hour = min(written, usage.cache_creation.hour if usage.cache_creation is not None else 0)
    return Tokens(
        input=usage.input_tokens + usage.input,
        cached=usage.cache_read_input_tokens or usage.cache_read or 0,
        write_5m=written - hour,
        write_1h=hour,
        output=usage.output_tokens + usage.output,
    )


def _tokens_in(usage: bytes) -> Tokens | None:
    return _tokens(_decode_usage(usage))

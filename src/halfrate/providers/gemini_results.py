"""Result lines of Gemini's generateContent and embedContent, on the Gemini API and on Vertex AI alike.

Facts are from Google's guides to batch mode and the reference of GenerateContentResponse, as of 2026-11. A good row
may hold no candidate at all: the prompt was blocked, which is a refusal of the model's, and no lost row.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, ResultRow, Tokens
from halfrate.base.types import Endpoint
from halfrate.providers.bodies import joined_texts
from halfrate.providers.plain import Columns, plain_reader, row_number, whole_reader
from halfrate.providers.translation import answer_from
from halfrate.providers.translation.embeddings import listed

_KINDS: Final = {1: Kind.CANCELLED, **dict.fromkeys((0, 2, 4, 8, 10, 13, 14, 15), Kind.FAILED_PASSING)}
"""What codes of google.rpc mean that are not final."""


class Part(msgspec.Struct, gc=False, rename="camel"):
    text: msgspec.Raw = msgspec.Raw(b"null")
    thought: bool = False
    function_call: msgspec.Raw = msgspec.Raw(b"null")


class Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: Content | None = None
    finish_reason: str | None = None


class Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class Vector(msgspec.Struct, gc=False):
    values: msgspec.Raw = msgspec.Raw(b"null")


class _Modality(msgspec.Struct, gc=False, rename="camel"):
    """How many of the tokens were text, images, audio or video."""

    modality: str = ""
    token_count: int = 0


class Usage(msgspec.Struct, gc=False, rename="camel"):
    """Prompt tokens count cached ones in; thoughts stand beside the answer, and cost the same."""

    prompt_token_count: int = 0
    cached_content_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    prompt_tokens_details: list[_Modality] | None = None
    cache_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None


class Response(msgspec.Struct, gc=False, rename="camel"):
    """What both methods answer with; only what is used is decoded."""

    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: Usage | None = None
    model_version: str = ""
    embedding: Vector | None = None
    embeddings: list[Vector] | None = None
    token_count: int | str | None = None


class Fault(msgspec.Struct, gc=False):
    """A status of google.rpc, or the HTTP form of one."""

    code: int | None = None
    message: str | None = None
    status: str | None = None


class _Text(msgspec.Struct, gc=False):
    text: msgspec.Raw


class _OnePart(msgspec.Struct, gc=False):
    parts: tuple[_Text]


class _OneCandidate(msgspec.Struct, gc=False, rename="camel"):
    content: _OnePart
    finish_reason: Literal["STOP", "MAX_TOKENS"]


class PlainResponse(msgspec.Struct, gc=False, rename="camel"):
    """One text, and nothing out of the ordinary: strict, and so quick."""

    candidates: tuple[_OneCandidate]
    usage_metadata: msgspec.Raw
    model_version: str


class Unwrapped(NamedTuple):
    """What a line holds: whose row it is, and the response or the fault."""

    name: str
    response: Response | None
    fault: Fault | None = None


_decode_usage = msgspec.json.Decoder(Usage | None).decode


def tokens_of(usage: Usage | None) -> Tokens | None:
    if usage is None:
        return None
    cached = usage.cached_content_token_count
    read = usage.prompt_token_count + usage.tool_use_prompt_token_count
    made = usage.candidates_token_count + usage.thoughts_token_count
    again = min(cached, _of("AUDIO", usage.cache_tokens_details))
    plain = max(0, read - cached)
    return Tokens(
        input=plain,
        cached=cached,
        output=made,
        reasoning=usage.thoughts_token_count,
        audio_input=min(plain, max(0, _of("AUDIO", usage.prompt_tokens_details) - again)),
        audio_cached=again,
        audio_output=_of("AUDIO", usage.candidates_tokens_details),
        image_output=_of("IMAGE", usage.candidates_tokens_details),
    )


def _of(modality: str, details: list[_Modality] | None) -> int:
    return sum(one.token_count for one in details or () if one.modality == modality)


def tokens_in(usage: bytes) -> Tokens | None:
    return tokens_of(_decode_usage(usage))


def result_of(row: int, response: Response) -> ResultRow:
    """An answered row."""
    tokens = tokens_of(response.usage_metadata)
    if response.embedding is not None:
        if tokens is None and response.token_count is not None:
            tokens = Tokens(int(response.token_count))
        vector = bytes(response.embedding.values)
        return ResultRow(row, Kind.SUCCEEDED, vector, tokens, response.model_version, "stop")
    if response.embeddings:
        vectors = b"[" + b",".join(bytes(one.values) for one in response.embeddings) + b"]"
        return ResultRow(row, Kind.SUCCEEDED, vectors, tokens, response.model_version, "stop")
    if not response.candidates:
        reason = response.prompt_feedback.block_reason if response.prompt_feedback is not None else None
        if reason is None:
            return ResultRow(row, Kind.FAILED_PASSING, error="the provider answered without a candidate")
        return ResultRow(row, Kind.SUCCEEDED, b"null", tokens, response.model_version, reason.lower())
    candidate = response.candidates[0]
    parts = (candidate.content.parts if candidate.content is not None else None) or []
    texts = [bytes(part.text) for part in parts if not part.thought and bytes(part.text) != b"null"]
    if texts:
        answer = joined_texts(texts)
    else:
        calls = [bytes(part.function_call) for part in parts if bytes(part.function_call) != b"null"]
        answer = b"[" + b",".join(calls) + b"]" if calls else b"null"
    finish = (candidate.finish_reason or "").lower()
    return ResultRow(row, Kind.SUCCEEDED, answer, tokens, response.model_version, finish)


def fault_of(row: int, fault: Fault) -> ResultRow:
    code = fault.code or 0
    message = fault.message or fault.status or "no reason given"
    return ResultRow(row, _KINDS.get(code, Kind.FAILED), error=f"{code}: {message}")


def columns_of(names: list[str], responses: list[PlainResponse]) -> Columns:
    candidates = [response.candidates[0] for response in responses]
    return Columns(
        names,
        [candidate.content.parts[0].text for candidate in candidates],
        [response.usage_metadata for response in responses],
        [response.model_version for response in responses],
        [candidate.finish_reason.lower() for candidate in candidates],
    )


# ---------------------------------------------------------------- lines of the Gemini API


class _Line(msgspec.Struct, gc=False):
    key: str
    response: Response | None = None
    error: Fault | None = None
    status: Fault | str | None = None


class _Named(msgspec.Struct, gc=False):
    key: str
    response: Any = None


class _Answered(msgspec.Struct, gc=False):
    key: str
    response: PlainResponse


_decode = msgspec.json.Decoder(_Line).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_answered = msgspec.json.Decoder(_Answered)


def line_reader(endpoint: Endpoint, row_prefix: str) -> LineReader:
    """A reader of `{"key", "response" | "error" | "status"}`."""
    general = general_reader(row_prefix, _unwrap, _seems_good)
    if endpoint == "embeddings":
        return LineReader(general)
    plain = plain_reader(_answered.decode, _columns, row_prefix)
    whole = whole_reader(_answered.decode_lines, _columns, row_prefix)
    return LineReader(general, plain, tokens_in, whole)


class _Whole(msgspec.Struct):
    response: dict[str, Any] | None = None


def completion_in(line: bytes, created: int) -> dict[str, Any] | None:
    """The answer of a good line as a chat completion of OpenAI's."""
    response = msgspec.json.decode(line, type=_Whole).response
    if not response:
        return None
    model, name = str(response.get("modelVersion", "")), str(response.get("responseId", ""))
    return answer_from("gemini", response, model=model, created=created, answer_id=name)


def list_in(line: bytes) -> dict[str, Any] | None:
    """The vectors of a good line as a list of OpenAI's."""
    response = _decode(line).response
    if response is None:
        return None
    vectors = response.embeddings or ([response.embedding] if response.embedding is not None else [])
    if not vectors:
        return None
    tokens = result_of(0, response).tokens
    numbers = [msgspec.json.decode(one.values) for one in vectors]
    return listed(numbers, response.model_version, tokens.input if tokens is not None else None)


def general_reader(
    row_prefix: str, unwrap: Callable[[bytes], Unwrapped], seems_good: Callable[[bytes], tuple[str, bool]]
) -> Callable[[bytes], ResultRow]:
    """A reader of any line.

    Args:
        unwrap: takes a line apart; msgspec.ValidationError where it is of no known shape.
        seems_good: of such a line: whose row it is, and whether it seems to hold an answer.
    """

    def read(line: bytes) -> ResultRow:
        try:
            found = unwrap(line)
        except msgspec.ValidationError:
            name, good = seems_good(line)
            row = row_number(name, row_prefix)
            error = MAY_BE_PAID if good else "the result has a form that is not understood"
            return ResultRow(row, Kind.FAILED if good else Kind.FAILED_PASSING, error=error)
        row = row_number(found.name, row_prefix)
        if found.fault is not None:
            return fault_of(row, found.fault)
        return result_of(row, found.response or Response())

    return read


def _unwrap(line: bytes) -> Unwrapped:
    found = _decode(line)
    status = found.status if isinstance(found.status, Fault) else None
    return Unwrapped(found.key, found.response, found.error or (status if found.response is None else None))


def _seems_good(line: bytes) -> tuple[str, bool]:
    found = _decode_named(line)
    return found.key, bool(found.response)


def _columns(answered: list[_Answered]) -> Columns:
    return columns_of([line.key for line in answered], [line.response for line in answered])

"""A chat completion of OpenAI's as it comes, whole or in chunks, from whoever answers in that form.

Chats are the form by which all others are reached, so both of them are read here for whatever they are made into.
Fields that nothing is made of are passed over.
"""

from typing import Annotated, Any

import msgspec


class Function(msgspec.Struct):
    """What is to be called. OpenAI's arguments are a string; Mistral's may be the object itself."""

    name: str
    arguments: str | dict[str, Any] | None = None


class Call(msgspec.Struct):
    function: Function
    id: str | None = None


class Said(msgspec.Struct):
    """OpenAI's content is a string; Mistral's may be a list of parts, among them what the model thought."""

    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None


class Choice(msgspec.Struct):
    message: Said
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class Completion(msgspec.Struct):
    id: str
    model: str
    choices: Annotated[list[Choice], msgspec.Meta(min_length=1)]
    created: int | float | None = None
    usage: Usage | None = None


class PartialFunction(msgspec.Struct):
    """Some of what is to be called."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class PartialCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: PartialFunction | None = None


class Delta(msgspec.Struct):
    """What a chunk adds, in the forms of `Said`."""

    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[PartialCall] | None = None


class PartialChoice(msgspec.Struct):
    index: int | None = None
    delta: Delta | None = None
    finish_reason: str | None = None


class CompletionChunk(msgspec.Struct):
    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[PartialChoice] | None = None
    usage: Usage | None = None


class _Text(msgspec.Struct):
    text: str


def texts_in(content: str | list[dict[str, Any]] | None) -> list[str]:
    """The texts of a chat's content, without what the model thought. Raises msgspec.ValidationError."""
    if isinstance(content, list):
        return [msgspec.convert(part, _Text).text for part in content if part.get("type") == "text"]
    return [content] if content else []

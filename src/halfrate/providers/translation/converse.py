"""Amazon Bedrock's Converse API, both ways, as far as batch inference takes it.

Facts are from botocore 1.44.5's model of the service and Bedrock's user guide of 2026. Records of a Converse batch that
define tools fail; so do conversations with calls in them, which Bedrock takes only beside the tools.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from halfrate.providers.translation.completion import Counted, Finish, choice, completion, tool_call
from halfrate.providers.translation.conversation import (
    Conversation,
    Image,
    Part,
    Text,
    ToolCall,
    ToolResult,
    conversation,
)
from halfrate.providers.translation.fields import Fields, Untranslatable
from halfrate.providers.translation.options import json_form, max_tokens, opened, stop, tools

_TITLE: Final = "Bedrock's Converse in a batch"

_IMAGES: Final = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}

_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
"""OpenAI's efforts by Converse's names. Its lowest is `low`. What is above `high` needs thinking to be turned on, and
what turns it on or off differs from model to model."""

_FINISHES: Final[dict[str, Finish]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""All others mean that the answer was withheld or came out wrong: guardrail_intervened, content_filtered,
malformed_model_output, malformed_tool_use."""


def request(body: Mapping[str, Any]) -> dict[str, Any]:
    fields = opened(body, _TITLE)
    if tools(fields).functions:
        raise fields.refusal("tools", f"has no equivalent with {_TITLE}")
    if json_form(fields) is not None:
        raise fields.refusal("response_format", f"has no equivalent with {_TITLE}")
    talk = conversation(fields)
    out: dict[str, Any] = {}
    if talk.system:
        out["system"] = [_block(text) for text in talk.system]
    out["messages"] = _messages(talk)
    config = _config(fields)
    if config:
        out["inferenceConfig"] = config
    effort = fields.text("reasoning_effort")
    if effort is not None:
        if effort not in _EFFORTS:
            raise fields.refusal("reasoning_effort", f"is {effort!r}, which has no equivalent with {_TITLE}")
        out["outputConfig"] = {"effort": _EFFORTS[effort]}
    fields.finish()
    return out


def _messages(talk: Conversation) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": [_block(part) for part in turn.parts]} for turn in talk.turns]


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return _text(part.text, part.path)
        case Image():
            return {"image": _image(part)}
        case ToolCall() | ToolResult():
            raise Untranslatable(part.path, f"is a tool's, and has no equivalent with {_TITLE}")


def _text(text: str, path: str) -> dict[str, Any]:
    if not text.strip():
        raise Untranslatable(path, f"holds blank text, which {_TITLE} refuses")
    return {"text": text}


def _image(image: Image) -> dict[str, Any]:
    """An image. Bytes are base64 in JSON."""
    if image.url:
        raise Untranslatable(image.path, f"is a link, and {_TITLE} takes images only as data URLs")
    if image.media_type not in _IMAGES:
        raise Untranslatable(image.path, f"is of type {image.media_type}, which {_TITLE} does not take")
    return {"format": _IMAGES[image.media_type], "source": {"bytes": image.data}}


def _config(fields: Fields) -> dict[str, Any]:
    given = {
        "maxTokens": max_tokens(fields),
        "temperature": fields.number("temperature", 0, 1),
        "topP": fields.number("top_p", 0, 1),
        "stopSequences": stop(fields) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


class _Usage(msgspec.Struct, rename="camel"):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str
    name: str
    input: Any = None


class _Block(msgspec.Struct, rename="camel"):
    """One of its fields is there; what a model thought is in another, which is not read."""

    text: str | None = None
    tool_use: _ToolUse | None = None


class _Message(msgspec.Struct):
    content: list[_Block]


class _Output(msgspec.Struct):
    message: _Message


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output
    stop_reason: str = ""
    usage: _Usage | None = None


def answer(body: Mapping[str, Any], model: str, created: int, answer_id: str) -> dict[str, Any]:
    read = msgspec.convert(body, _Answer)
    blocks = read.output.message.content
    texts = [block.text for block in blocks if block.text is not None]
    uses = [block.tool_use for block in blocks if block.tool_use is not None]
    calls = [tool_call(use.tool_use_id, use.name, use.input or {}) for use in uses]
    reason = read.stop_reason or ("tool_use" if calls else "end_turn")
    finish = _FINISHES.get(reason, "content_filter")
    refusal = f"Bedrock gave no whole answer: {reason}." if finish == "content_filter" else None
    made = choice(0, texts, calls, finish, refusal=refusal)
    return completion(answer_id, created, model, [made], _counted(read.usage))


def _counted(usage: _Usage | None) -> Counted | None:
    """Converse's `inputTokens` are neither those read from the cache nor those written to it."""
    if usage is None:
        return None
    cached = usage.cache_read_input_tokens or 0
    written = usage.cache_write_input_tokens or 0
    return Counted(
        prompt=usage.input_tokens + cached + written,
        completion=usage.output_tokens,
        cached=cached,
        written=written,
    )

"""Anthropic's Messages API (version 2023-06-01, which still takes sampling parameters), both ways.

Facts are from the types of Anthropic's SDK 2.11.0 and the API's pages on effort, adaptive thinking and stop reasons as
of 2026-10.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from halfrate.providers.bodies import strict_schema
from halfrate.providers.translation.completion import Counted, Finish, choice, completion, tool_call
from halfrate.providers.translation.conversation import (
    Conversation,
    Image,
    Part,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    conversation,
)
from halfrate.providers.translation.fields import Fields, Untranslatable
from halfrate.providers.translation.options import Tool, Tools, json_form, max_tokens, opened, stop, tools

_TITLE: Final = "Anthropic"
_DEFAULT_MAX_TOKENS: Final = 4096
"""The API has no limit of its own and demands one."""

IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")

EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
"""OpenAI's efforts by Anthropic's names. Anthropic's lowest is `low`; OpenAI's `none` is thinking turned off."""

_LEAST_TOP_P: Final = 0.95
"""What top_p has to be at least while Claude thinks."""

_FINISHES: Final[dict[str, Finish]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    # A long turn that was interrupted: there would be more to come.
    "pause_turn": "length",
    "refusal": "content_filter",
}


def request(body: Mapping[str, Any]) -> dict[str, Any]:
    fields = opened(body, _TITLE)
    talk = conversation(fields)
    kit = tools(fields)
    out: dict[str, Any] = {"max_tokens": max_tokens(fields) or _DEFAULT_MAX_TOKENS}
    if talk.system:
        out["system"] = short([_block(text) for text in talk.system])
    out["messages"] = _messages(talk)
    if kit.functions:
        out["tools"] = [_tool(tool) for tool in kit.functions]
        out |= _tool_choice(kit)
    config = _effort(fields, kit, out) | _format(fields)
    if config:
        out["output_config"] = config
    stops = stop(fields)
    if stops:
        if not all(text.strip() for text in stops):
            raise fields.refusal("stop", f"holds blank text, which {_TITLE} refuses")
        out["stop_sequences"] = stops
    out |= _sampling(fields, thinks=config.get("effort") is not None) | _user(fields)
    fields.finish()
    return out


def _messages(talk: Conversation) -> list[dict[str, Any]]:
    """The turns. Results of tools stand first in the user's message, where the user goes on speaking."""
    messages: list[dict[str, Any]] = []
    seen: set[str] = set()
    for turn in talk.turns:
        blocks = [_block(part) for part in turn.parts]
        _check_ids(turn, seen)
        role = "assistant" if turn.role == "assistant" else "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    for message in messages:
        message["content"] = short(message["content"])
    return messages


def _check_ids(turn: Turn, seen: set[str]) -> None:
    for part in turn.parts:
        if isinstance(part, ToolCall):
            if not _CALL_ID.fullmatch(part.id):
                raise Untranslatable(
                    f"{part.path}.id", f"is {part.id!r}: {_TITLE} takes letters, digits, _ and -"
                )
            if part.id in seen:
                raise Untranslatable(f"{part.path}.id", f"is used a second time, which {_TITLE} refuses")
            seen.add(part.id)


def short(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One text by itself may stand as a string."""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return _text(part.text, part.path)
        case Image():
            return {"type": "image", "source": _source(part)}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
        case ToolResult():
            return _result(part)


def _text(text: str, path: str) -> dict[str, Any]:
    if not text.strip():
        raise Untranslatable(path, f"holds blank text, which {_TITLE} refuses")
    return {"type": "text", "text": text}


def _source(image: Image) -> dict[str, str]:
    if not image.url:
        if image.media_type not in IMAGES:
            raise Untranslatable(image.path, f"is of type {image.media_type}, which {_TITLE} does not take")
        return {"type": "base64", "media_type": image.media_type, "data": image.data}
    if not image.url.lower().startswith("https://"):
        raise Untranslatable(
            image.path, f"is neither a data URL nor an https one, and {_TITLE} takes no other"
        )
    return {"type": "url", "url": image.url}


def _result(result: ToolResult) -> dict[str, Any]:
    """A tool's answer; tools may have nothing to say."""
    if len(result.texts) == 1:
        content: Any = result.texts[0]
    else:
        content = [_text(text, result.path) for text in result.texts]
    out: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.call.id}
    return {**out, "content": content} if content else out


def _tool(tool: Tool) -> dict[str, Any]:
    if not _TOOL_NAME.fullmatch(tool.name):
        raise Untranslatable(
            f"{tool.path}.name", f"is {tool.name!r}: {_TITLE} takes letters, digits, _ and -"
        )
    # Every tool has a schema here, and it has to say that it is one of an object.
    schema: dict[str, Any] = {"type": "object", **(tool.parameters or {"properties": {}})}
    if schema["type"] != "object":
        raise Untranslatable(f"{tool.path}.parameters.type", "is not 'object'")
    out: dict[str, Any] = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    out["input_schema"] = schema
    if tool.strict:
        out["strict"] = True
    return out


def _tool_choice(kit: Tools) -> dict[str, Any]:
    kinds = {"auto": "auto", "none": "none", "required": "any", "named": "tool"}
    out: dict[str, Any] = {"type": kinds[kit.choice]}
    if kit.choice == "named":
        out["name"] = kit.named
    if not kit.parallel and kit.choice != "none":
        out["disable_parallel_tool_use"] = True
    return {"tool_choice": out} if out != {"type": "auto"} else {}


def _effort(fields: Fields, kit: Tools, out: dict[str, Any]) -> dict[str, Any]:
    """How much Claude thinks. Effort alone would leave thinking off with the models that have it off by default."""
    effort = fields.text("reasoning_effort")
    if effort is None:
        return {}
    if effort == "none":
        out["thinking"] = {"type": "disabled"}
        return {}
    if effort not in EFFORTS:
        raise fields.refusal("reasoning_effort", f"is {effort!r}, which has no equivalent with {_TITLE}")
    if kit.choice in {"required", "named"}:
        raise fields.refusal(
            "tool_choice", "forces a call, which Claude cannot be made to do while it thinks"
        )
    out["thinking"] = {"type": "adaptive"}
    return {"effort": EFFORTS[effort]}


def _format(fields: Fields) -> dict[str, Any]:
    form = json_form(fields)
    if form is None:
        return {}
    if form.schema is None:
        raise fields.refusal("response_format", f"asks for JSON without a schema, which {_TITLE} does not do")
    # Claude demands closed objects. An answer of the closed form is one of the open form as well.
    schema = form.schema if form.strict else strict_schema(form.schema)
    return {"format": {"type": "json_schema", "schema": schema}}


def _sampling(fields: Fields, *, thinks: bool) -> dict[str, Any]:
    """Temperature, top_p, top_k. What is the default anyway is left out: newer models refuse to be told it."""
    out: dict[str, Any] = {}
    temperature = fields.number("temperature", 0, 1)
    if temperature is not None and temperature != 1:
        out["temperature"] = temperature
    top_p = fields.number("top_p", 0, 1)
    if top_p is not None and top_p != 1:
        # Since Opus 4.1 the two together are an error.
        if out:
            raise fields.refusal("top_p", f"stands beside temperature, and {_TITLE} takes one of the two")
        out["top_p"] = top_p
    top_k = fields.whole("top_k", 1, 2**31 - 1)
    if top_k is not None:
        out["top_k"] = top_k
    if thinks:
        for name, value in out.items():
            if name != "top_p" or value < _LEAST_TOP_P:
                raise fields.refusal(
                    name, "is something that Claude does not take while it thinks (reasoning_effort)"
                )
    return out


def _user(fields: Fields) -> dict[str, Any]:
    """Who the request is made for, under either of OpenAI's names for it."""
    older = fields.text("user")
    newer = fields.text("safety_identifier")
    if older and newer and older != newer:
        raise fields.refusal("user", "differs from safety_identifier")
    user = newer or older
    return {"metadata": {"user_id": user}} if user else {}


class _Thought(msgspec.Struct):
    thinking_tokens: int | None = None


class Usage(msgspec.Struct):
    """What a message says that it used. Its `input_tokens` are neither those read from the cache nor those written to
    it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _Thought | None = None


class _Text(msgspec.Struct):
    text: str


class _ToolUse(msgspec.Struct):
    id: str
    name: str
    input: dict[str, Any]


class Details(msgspec.Struct):
    """Why an answer was refused."""

    category: str | None = None
    explanation: str | None = None


class _Message(msgspec.Struct):
    """Blocks are looked into where their type is known: others may be of any form."""

    content: list[dict[str, Any]]
    stop_reason: str | None = None
    stop_details: Details | None = None
    usage: Usage | None = None


def answer(body: Mapping[str, Any], model: str, created: int, answer_id: str) -> dict[str, Any]:
    message = msgspec.convert(body, _Message)
    texts = [msgspec.convert(block, _Text).text for block in message.content if block.get("type") == "text"]
    uses = [msgspec.convert(block, _ToolUse) for block in message.content if block.get("type") == "tool_use"]
    calls = [tool_call(use.id, use.name, use.input) for use in uses]
    finish, refusal = ending(message.stop_reason, message.stop_details, calls=bool(calls))
    made = choice(0, texts, calls, finish, refusal=refusal)
    return completion(answer_id, created, model, [made], counted(message.usage))


def ending(stop_reason: str | None, details: Details | None, *, calls: bool) -> tuple[Finish, str | None]:
    """Why an answer ended, and what is said of it where it was refused. `calls`: whether there are any in it."""
    reason = stop_reason or ("tool_use" if calls else "end_turn")
    # A reason that nobody knows yet: the answer is not called whole.
    finish = _FINISHES.get(reason, "content_filter")
    return finish, _refusal(details or Details(), reason) if finish == "content_filter" else None


def _refusal(details: Details, reason: str) -> str:
    if details.explanation:
        return details.explanation
    because = f"{reason} ({details.category})" if details.category else reason
    return f"{_TITLE} gave no whole answer: {because}."


def counted(usage: Usage | None) -> Counted | None:
    """OpenAI's prompt includes what was read from the cache and written to it."""
    if usage is None:
        return None
    cached = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    thought = usage.output_tokens_details or _Thought()
    return Counted(
        prompt=(usage.input_tokens or 0) + cached + written,
        completion=usage.output_tokens or 0,
        cached=cached,
        written=written,
        reasoning=thought.thinking_tokens or 0,
    )

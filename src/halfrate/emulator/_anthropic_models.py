"""Anthropic's models: one Messages request, in realtime or as a row of a batch.

Shapes follow the Messages API reference as the official SDK's types have it. `input_tokens` counts uncached
tokens only; cache reads and writes stand beside it (prompt caching guide).
"""

from typing import Any

import msgspec

from halfrate.emulator._answers import write_document, write_text
from halfrate.emulator._context import Context
from halfrate.emulator._models import find_model
from halfrate.emulator._prices import Model, Tokens
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._tokens import (
    IMAGE_TOKENS,
    REQUEST_OVERHEAD,
    content_text,
    cut,
    encoded_size,
    images,
    text_tokens,
)
from halfrate.emulator._wire import ApiError, Document, as_document, as_list, documents

PROVIDER = "anthropic"
STRICT_VERSION = "2026-10-21"
VERSIONS = ("2023-06-01", STRICT_VERSION)
_TTLS = {"5m": 300.0, "1h": 3_600.0}
_SAMPLING = ("temperature", "top_p", "top_k")


def check(params: Document, version: str, *, batch: bool) -> Model:
    """What the Messages API checks before it answers. Raises ApiError with the status it would give."""
    for key in ("model", "messages", "max_tokens"):
        if params.get(key) is None:
            raise ApiError(400, f"{key}: Field required")
    limit = params["max_tokens"]
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise ApiError(400, "max_tokens: Input should be a valid integer")
    if limit < 1:
        raise ApiError(400, "max_tokens: Input should be greater than or equal to 1")
    for key in _refused_keys(params, version, batch=batch):
        raise ApiError(400, f"{key}: Extra inputs are not permitted")
    _check_messages(params["messages"])
    model = find_model(params["model"], PROVIDER)
    if model is None:
        raise ApiError(404, f"model: {params['model']}")
    geo = params.get("inference_geo")
    if geo is not None and not model.sited:
        raise ApiError(400, f"inference_geo: {model.name} does not support this parameter")
    if geo not in (None, "global", "us"):
        raise ApiError(400, "inference_geo: Input should be 'global' or 'us'")
    return model


def _refused_keys(params: Document, version: str, *, batch: bool) -> list[str]:
    """Batches know no streaming and no speed; the newer API version no sampling, even at default values."""
    refused: list[str] = [*_SAMPLING] if version == STRICT_VERSION else []
    if batch:
        refused.append("speed")
        refused += ["stream"] if params.get("stream") else []
    return [key for key in refused if key in params]


def _check_messages(given: object) -> None:
    messages = as_list(given)
    if messages is None:
        raise ApiError(400, "messages: Input should be a valid list")
    if not messages:
        raise ApiError(400, "messages: at least one message is required")
    for number, item in enumerate(messages):
        message = as_document(item)
        if message is None or message.get("role") not in ("user", "assistant", "system"):
            raise ApiError(400, f"messages.{number}.role: Input should be 'user' or 'assistant'")
        if not isinstance(message.get("content"), str | list):
            raise ApiError(400, f"messages.{number}.content: Field required")


def _blocks(params: Document) -> list[tuple[int, str, Document]]:
    """The prompt as (bytes, text, block) in the order caching sees it: tools, system, messages."""
    tools = documents(params.get("tools"))
    found = [(encoded_size(tool), msgspec.json.encode(tool).decode(), tool) for tool in tools]
    contents = [
        params.get("system"),
        *(message.get("content") for message in documents(params.get("messages"))),
    ]
    for content in contents:
        for block in [content] if isinstance(content, str) else as_list(content) or []:
            text = content_text(block)
            size = len(text.encode(errors="replace"))
            picture = images([block]) * IMAGE_TOKENS * 4
            found.append((size + picture, text, as_document(block) or {}))
    return found


def count_tokens(params: Document) -> int:
    """Input tokens of a request, all kinds together."""
    size = sum(part[0] for part in _blocks(params)) + encoded_size(_schema(params))
    return text_tokens(size) + REQUEST_OVERHEAD


def _cached(context: Context, params: Document, model: Model, ask: Ask) -> dict[str, int]:
    """Cache tokens. The longest warm prefix is read, marked blocks that follow it are written."""
    counts = {"read": 0, "5m": 0, "1h": 0}
    settings = context.cache.model
    if settings is None:
        return counts
    texts: list[str] = []
    size = 0
    marks: list[tuple[int, bytes, str]] = []
    for block_size, text, block in _blocks(params):
        size += block_size
        texts.append(text)
        control = as_document(block.get("cache_control"))
        if control is not None and text_tokens(size) >= settings.anthropic_minimum:
            ttl = str(control.get("ttl") or "5m")
            marks.append((text_tokens(size), context.cache.key(ask.project, model.name, *texts), ttl))
    for tokens, key, _ in reversed(marks):
        if context.cache.hit(key, ask.now, ask.batch_id, ask.about):
            counts["read"] = tokens
            break
    have = counts["read"]
    for tokens, key, ttl in marks[:4]:
        context.cache.write(key, ask.now, _TTLS.get(ttl, _TTLS["5m"]), ask.batch_id)
        if tokens > have:
            counts["1h" if ttl == "1h" else "5m"] += tokens - have
            have = tokens
    return counts


def _schema(params: Document) -> Document | None:
    """The schema of structured output: `output_config.format`, or `output_format` of older clients."""
    holder = as_document((as_document(params.get("output_config")) or {}).get("format"))
    holder = holder or as_document(params.get("output_format"))
    if holder is None or holder.get("type") != "json_schema":
        return None
    schema = as_document(holder.get("schema"))
    if schema is None:
        raise ApiError(400, "output_config.format.schema: Field required")
    return schema


def _forced_tool(params: Document) -> Document | None:
    """The tool a request must use, by its name or because it may use any."""
    choice = as_document(params.get("tool_choice")) or {}
    if choice.get("type") not in ("tool", "any"):
        return None
    for tool in documents(params.get("tools")):
        if choice["type"] == "any" or tool.get("name") == choice.get("name"):
            return tool
    raise ApiError(400, f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")


def _question(params: Document) -> str:
    users = [message for message in documents(params["messages"]) if message.get("role") == "user"]
    return content_text(users[-1].get("content")) if users else ""


def _content(context: Context, params: Document, ask: Ask) -> tuple[list[Document], int, str]:
    """(content blocks, output tokens, stop reason)."""
    if ask.twist.refusal:
        return [], 1, "refusal"
    question, limit = _question(params), int(params["max_tokens"])
    tool, schema = _forced_tool(params), _schema(params)
    if tool is not None:
        made: Any = write_document(as_document(tool.get("input_schema")) or {"type": "object"}, question)
        block = {"type": "tool_use", "id": context.new_id("toolu_"), "name": tool.get("name"), "input": made}
        return [block], text_tokens(encoded_size(made)) + 1, "tool_use"
    if schema is not None:
        text = msgspec.json.encode(write_document(schema, question, ask.twist)).decode()
    else:
        text = write_text(question, ask.twist)
    tokens, stop = max(1, text_tokens(len(text.encode(errors="replace")))), "end_turn"
    if ask.twist.truncated:
        limit = min(limit, max(1, tokens // 2))
    if tokens > limit or ask.twist.truncated:
        text, tokens, stop = cut(text, limit), min(tokens, limit), "max_tokens"
    return [{"type": "text", "text": text, "citations": None}], tokens, stop


def answer(context: Context, params: Document, version: str, ask: Ask, tier: str) -> Answered:
    """What the service answers with status 200; any other status comes as ApiError."""
    model = check(params, version, batch=bool(ask.batch_id))
    content, output, stop = _content(context, params, ask)
    total = count_tokens(params)
    cached = _cached(context, params, model, ask)
    written = cached["5m"] + cached["1h"]
    geo = str(params.get("inference_geo") or "global") if model.sited else "not_available"
    tokens = Tokens(
        total - cached["read"] - written,
        cached["read"],
        cached["5m"],
        cached["1h"],
        output,
        at_home=geo == "us",
    )
    document = {
        "id": context.new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model.snapshot,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": tokens.input,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": tokens.cached,
            "cache_creation": {
                "ephemeral_5m_input_tokens": tokens.write_5m,
                "ephemeral_1h_input_tokens": tokens.write_1h,
            },
            "output_tokens": output,
            "service_tier": tier,
            "inference_geo": geo,
            "server_tool_use": None,
        },
    }
    return Answered(document, model, tokens)

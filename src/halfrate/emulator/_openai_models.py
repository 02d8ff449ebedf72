"""OpenAI's models: chat completions, responses, embeddings, as realtime calls and as rows of a batch.

Shapes follow the API reference as the official SDK's types have it; cached tokens are *included* in
prompt_tokens (prompt caching guide).
"""

import base64
import math
import struct
from array import array
from hashlib import shake_256
from typing import Any

import msgspec

from halfrate.emulator._answers import Twist, write_document, write_text
from halfrate.emulator._context import Context
from halfrate.emulator._dialect_prices import EMBEDDING_SIZES
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

PROVIDER = "openai"
CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
ENDPOINTS = (CHAT, RESPONSES, EMBEDDINGS)
_REFUSAL = "I'm sorry, I can't help with that."
_CACHE_STEP = 128
"""Cached prefixes grow in steps of 128 tokens (prompt caching guide)."""


class _Prompt(msgspec.Struct, frozen=True):
    """A request boiled down: its size in tokens, the shared prefix, the last question."""

    tokens: int
    prefix: str
    question: str


def resolve_model(body: Document, provider: str = PROVIDER) -> Model:
    """The model a body names; ApiError as the service words it."""
    name = body.get("model")
    if not name:
        raise ApiError(400, "you must provide a model parameter", param="model")
    model = find_model(name, provider)
    if model is None:
        raise ApiError(
            404,
            f"The model `{name}` does not exist or you do not have access to it.",
            code="model_not_found",
        )
    return model


def prompt_tokens(endpoint: str, body: Document) -> int:
    """Prompt tokens of a row, for the queue quota; 0 for a body the model would refuse."""
    try:
        if endpoint == EMBEDDINGS:
            return sum(_embedding_sizes(body))
        return (_chat_prompt(body) if endpoint == CHAT else _responses_prompt(body)).tokens
    except ApiError:
        return 0


def answer(context: Context, endpoint: str, body: Document, ask: Ask) -> Answered:
    """What the service answers with status 200; any other status comes as ApiError."""
    if ask.batch_id and body.get("stream"):
        raise ApiError(400, "Streaming is not supported in the Batch API.", param="stream")
    model = resolve_model(body, ask.provider)
    if (endpoint == EMBEDDINGS) != (model.kind == "embedding"):
        raise ApiError(400, f"The model `{model.name}` cannot be used with {endpoint}.", param="model")
    if endpoint == EMBEDDINGS:
        return _embeddings(body, model)
    if endpoint == CHAT:
        return _chat(context, body, model, ask)
    return _responses(context, body, model, ask)


def _missing(param: str) -> ApiError:
    message = f"Missing required parameter: '{param}'."
    return ApiError(400, message, code="missing_required_parameter", param=param)


def _extras(body: Document, *keys: str) -> int:
    return sum(encoded_size(body.get(key)) for key in keys)


def _message_text(message: Document) -> str:
    text = content_text(message.get("content"))
    calls = message.get("tool_calls")
    return f"{text}\n{msgspec.json.encode(calls).decode()}" if calls else text


def _boiled(texts: list[str], question: str, extra_bytes: int, pictures: int) -> _Prompt:
    size = sum(len(text.encode(errors="replace")) for text in texts) + extra_bytes
    tokens = text_tokens(size) + REQUEST_OVERHEAD + pictures * IMAGE_TOKENS
    return _Prompt(tokens, "\n".join(texts[:-1]), question)


def _chat_prompt(body: Document) -> _Prompt:
    messages = as_list(body.get("messages"))
    if messages is None:
        raise _missing("messages")
    found = list(documents(messages))
    if not found or len(found) != len(messages):
        message = "Invalid 'messages': expected a non-empty array of objects."
        raise ApiError(400, message, code="invalid_type", param="messages")
    for number, entry in enumerate(found):
        if not isinstance(entry.get("role"), str):
            raise _missing(f"messages[{number}].role")
    users = [entry for entry in found if entry["role"] == "user"] or found
    pictures = sum(images(entry.get("content")) for entry in found)
    extra = _extras(body, "tools", "response_format")
    return _boiled(
        [_message_text(entry) for entry in found], content_text(users[-1].get("content")), extra, pictures
    )


def _responses_prompt(body: Document) -> _Prompt:
    source = body.get("input")
    instructions = content_text(body.get("instructions"))
    extra = _extras(body, "tools", "text")
    if isinstance(source, str):
        return _boiled([instructions, source], source, extra, 0)
    items = list(documents(source))
    if not items:
        raise _missing("input")
    texts = [content_text(item) for item in items]
    users = [text for item, text in zip(items, texts, strict=True) if item.get("role") == "user"] or texts
    pictures = sum(images(item.get("content")) for item in items)
    return _boiled([instructions, *texts], users[-1], extra, pictures)


def _limit(body: Document, *keys: str) -> int | None:
    for key in keys:
        value = body.get(key)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ApiError(400, f"Invalid '{key}': expected an integer of at least 1.", param=key)
        return value
    return None


def _schema_of(holder: object) -> Document | None:
    """The schema in a `json_schema` format: chat nests it once more than the Responses API does."""
    form = as_document(holder)
    if form is None or form.get("type") != "json_schema":
        return None
    inner = as_document(form.get("json_schema"))
    schema = as_document((inner or form).get("schema"))
    if schema is None:
        message = "Missing required parameter: 'response_format.json_schema.schema'."
        raise ApiError(400, message, param="response_format")
    return schema


def _forced_tool(body: Document) -> tuple[str, Document] | None:
    """The function a request must call: (name, parameters schema)."""
    choice = body.get("tool_choice")
    tools = [as_document(tool.get("function")) or tool for tool in documents(body.get("tools"))]
    wanted = as_document(choice)
    name = None if wanted is None else (as_document(wanted.get("function")) or wanted).get("name")
    if choice != "required" and name is None:
        return None
    for tool in tools:
        if name in {None, tool.get("name")}:
            return str(tool.get("name")), as_document(tool.get("parameters")) or {"type": "object"}
    raise ApiError(400, f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")


def _written(form: object, prompt: _Prompt, limit: int | None, twist: Twist) -> tuple[str, int, bool]:
    """The answer's text, its tokens, and whether it was cut off."""
    schema = _schema_of(form)
    holder = as_document(form)
    if schema is not None:
        text = msgspec.json.encode(write_document(schema, prompt.question, twist)).decode()
    elif holder is not None and holder.get("type") == "json_object":
        text = msgspec.json.encode({"answer": write_text(prompt.question, twist)}).decode()
    else:
        text = write_text(prompt.question, twist)
    tokens = max(1, text_tokens(len(text.encode(errors="replace"))))
    if twist.truncated:
        limit = min(limit or tokens, max(1, tokens // 2))
    if limit is not None and tokens > limit:
        return cut(text, limit), limit, True
    return text, tokens, twist.truncated


def _cached(context: Context, body: Document, model: Model, prompt: _Prompt, ask: Ask) -> tuple[int, int]:
    """(tokens read from the cache, tokens written to it) for one prompt."""
    settings = context.cache.model
    size = text_tokens(len(prompt.prefix.encode(errors="replace")))
    if settings is None or size < settings.openai_minimum:
        return 0, 0
    size -= size % _CACHE_STEP
    key = context.cache.key(ask.project, model.name, str(body.get("prompt_cache_key", "")), prompt.prefix)
    hit = context.cache.hit(key, ask.now, ask.batch_id, ask.about)
    context.cache.write(key, ask.now, settings.openai_ttl, ask.batch_id)
    if hit:
        return size, 0
    return 0, size if model.standard.write_5m > model.standard.input else 0


def _counted(prompt: _Prompt, cached: tuple[int, int], output: int) -> Tokens:
    read, written = cached
    return Tokens(prompt.tokens - read - written, read, written, 0, output)


def _input_details(tokens: Tokens) -> dict[str, int]:
    details = {"cached_tokens": tokens.cached}
    return {**details, "cache_write_tokens": tokens.write_5m} if tokens.write_5m else details


def _chat(context: Context, body: Document, model: Model, ask: Ask) -> Answered:
    prompt = _chat_prompt(body)
    limit = _limit(body, "max_completion_tokens", "max_tokens")
    tool = _forced_tool(body)
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    finish = "stop"
    if ask.twist.refusal:
        message["refusal"], output = _REFUSAL, text_tokens(len(_REFUSAL))
    elif tool is not None:
        name, schema = tool
        arguments = msgspec.json.encode(write_document(schema, prompt.question)).decode()
        call = {"id": context.new_id("call_"), "type": "function"}
        message["tool_calls"] = [{**call, "function": {"name": name, "arguments": arguments}}]
        output = max(1, text_tokens(len(arguments.encode())))
        finish = "stop" if body.get("tool_choice") != "required" else "tool_calls"
    else:
        message["content"], output, was_cut = _written(body.get("response_format"), prompt, limit, ask.twist)
        finish = "length" if was_cut else "stop"
    choices = min(8, _limit(body, "n") or 1)
    tokens = _counted(prompt, _cached(context, body, model, prompt, ask), output * choices)
    document = {
        "id": context.new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(ask.now),
        "model": model.snapshot,
        "choices": [
            {"index": number, "message": message, "logprobs": None, "finish_reason": finish}
            for number in range(choices)
        ],
        "usage": {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.output,
            "total_tokens": tokens.prompt + tokens.output,
            "prompt_tokens_details": {**_input_details(tokens), "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_emulator",
    }
    return Answered(document, model, tokens)


def _responses(context: Context, body: Document, model: Model, ask: Ask) -> Answered:
    prompt = _responses_prompt(body)
    limit = _limit(body, "max_output_tokens")
    form = (as_document(body.get("text")) or {}).get("format")
    tool = _forced_tool(body)
    was_cut = False
    item: dict[str, Any]
    if tool is not None and not ask.twist.refusal:
        name, schema = tool
        arguments = msgspec.json.encode(write_document(schema, prompt.question)).decode()
        output = max(1, text_tokens(len(arguments.encode())))
        item = {"id": context.new_id("fc_"), "type": "function_call", "status": "completed", "name": name}
        item |= {"call_id": context.new_id("call_"), "arguments": arguments}
    else:
        part: dict[str, Any]
        if ask.twist.refusal:
            part, output = {"type": "refusal", "refusal": _REFUSAL}, text_tokens(len(_REFUSAL))
        else:
            text, output, was_cut = _written(form, prompt, limit, ask.twist)
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = {"id": context.new_id("msg_"), "type": "message", "role": "assistant", "content": [part]}
        item["status"] = "incomplete" if was_cut else "completed"
    tokens = _counted(prompt, _cached(context, body, model, prompt, ask), output)
    document = {
        "id": context.new_id("resp_"),
        "object": "response",
        "created_at": int(ask.now),
        "status": "incomplete" if was_cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if was_cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": limit,
        "metadata": body.get("metadata") or {},
        "model": model.snapshot,
        "output": [item],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {
            "input_tokens": tokens.prompt,
            "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.write_5m},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.prompt + tokens.output,
        },
        "user": None,
    }
    return Answered(document, model, tokens)


def embedding_inputs(source: Any) -> list[Any]:
    """The inputs of an embeddings body: a text, a token array, or a list of either."""
    items = as_list(source)
    if items is None:
        return [source] if isinstance(source, str) and source else []
    return [items] if items and isinstance(items[0], int) else items


def _embedding_sizes(body: Document) -> list[int]:
    inputs = embedding_inputs(body.get("input"))
    if not inputs:
        raise ApiError(400, "'input' must be a non-empty string or array.", param="input")
    if len(inputs) > 2048:
        raise ApiError(400, "'input' may have at most 2048 items.", param="input")
    sizes: list[int] = []
    for item in inputs:
        numbers = as_list(item)
        if not isinstance(item, str) and numbers is None:
            raise ApiError(400, "'input' items must be strings or token arrays.", param="input")
        sizes.append(
            text_tokens(len(item.encode(errors="replace"))) if isinstance(item, str) else len(numbers or ())
        )
    return [max(1, size) for size in sizes]


def _embeddings(body: Document, model: Model) -> Answered:
    sizes = _embedding_sizes(body)
    own = 3072 if model.name.endswith("large") else 1536
    usual, most = EMBEDDING_SIZES.get(model.name, (own, own))
    dimensions = _limit(body, "dimensions") or usual
    if dimensions > most:
        raise ApiError(400, f"'dimensions' may be at most {most} for {model.name}.", param="dimensions")
    packed = body.get("encoding_format") == "base64"
    data: list[Document] = []
    for number, item in enumerate(embedding_inputs(body.get("input"))):
        vector = _vector(str(item), dimensions)
        value = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if packed else vector
        data.append({"object": "embedding", "index": number, "embedding": value})
    tokens = Tokens(input=sum(sizes))
    usage = {"prompt_tokens": tokens.input, "total_tokens": tokens.input}
    return Answered({"object": "list", "data": data, "model": model.snapshot, "usage": usage}, model, tokens)


def _vector(text: str, dimensions: int) -> list[float]:
    """A unit vector that depends on the text alone."""
    raw = array("h")
    raw.frombytes(shake_256(text.encode(errors="replace")).digest(dimensions * 2))
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return [round(value / length, 8) for value in raw]

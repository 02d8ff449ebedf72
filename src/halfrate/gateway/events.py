"""A whole answer as the stream that its caller asked for: server-sent events, as OpenAI and Anthropic send them.

For answers that came whole from a provider whose own streams are of another form.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"


def chat_events(completion: Mapping[str, Any], *, usage: bool) -> Iterator[bytes]:
    """A chat completion as its chunks, and "[DONE]" (API reference, "Streaming").

    `usage`: whether the last tells what it used.
    """
    head = {name: value for name, value in completion.items() if name not in {"object", "choices", "usage"}}
    head["object"] = "chat.completion.chunk"
    rest: dict[str, Any] = {"usage": None} if usage else {}
    for choice in completion["choices"]:
        place = {"index": choice["index"], "logprobs": choice.get("logprobs")}
        message = {name: value for name, value in choice["message"].items() if value is not None}
        calls = message.pop("tool_calls", None)
        if calls:
            message["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
        yield _data({**head, "choices": [{**place, "delta": message, "finish_reason": None}], **rest})
        end: dict[str, Any] = {
            **place,
            "logprobs": None,
            "delta": {},
            "finish_reason": choice["finish_reason"],
        }
        yield _data({**head, "choices": [end], **rest})
    if usage:
        yield _data({**head, "choices": [], "usage": completion.get("usage")})
    yield DONE


def message_events(message: Mapping[str, Any]) -> Iterator[bytes]:
    """A message as its events (guide to streaming messages)."""
    told = dict(message["usage"])
    start: dict[str, Any] = {
        **message,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**told, "output_tokens": 0},
    }
    yield _event("message_start", message=start)
    for index, block in enumerate(message["content"]):
        head, deltas = _block(block)
        yield _event("content_block_start", index=index, content_block=head)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    end = {"stop_reason": message["stop_reason"], "stop_sequence": message.get("stop_sequence")}
    yield _event("message_delta", delta=end, usage={"output_tokens": told.get("output_tokens", 0)})
    yield _event("message_stop")


def _block(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and what comes after that."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "tool_use":
            written = msgspec.json.encode(block["input"]).decode()
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": written}]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            if block.get("signature"):
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, deltas
        case _:
            return dict(block), []


def _data(document: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **fields}))

"""An answer in OpenAI's form: the chat completion object, put together from what a family's answer says."""

from typing import Any, Literal, TypeAlias

import msgspec

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class Counted(msgspec.Struct, frozen=True):
    """Tokens as OpenAI counts them: `prompt` includes what was read from a cache and written to one, `completion`
    includes what the model thought."""

    prompt: int
    completion: int
    cached: int = 0
    written: int = 0
    reasoning: int = 0


def tool_call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    """A call of a function. OpenAI's arguments are a string that holds JSON."""
    written = msgspec.json.encode(arguments).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}


def read_arguments(written: str) -> dict[str, Any] | None:
    """The arguments of a call, None where the string that ought to hold a JSON object holds something else. Without
    arguments it may be empty."""
    try:
        return msgspec.json.decode(written or "{}", type=dict[str, Any])
    # No JSON, half a surrogate pair, or deeper than can be read: a model wrote it.
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def choice(
    index: int,
    texts: list[str],
    calls: list[dict[str, Any]],
    finish: Finish,
    *,
    refusal: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One answer. Without any text its content is null where something else stands for it, and empty otherwise."""
    content = "".join(texts) if texts or not (calls or refusal) else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if calls:
        message["tool_calls"] = calls
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def completion(
    answer_id: str, created: int, model: str, choices: list[dict[str, Any]], counted: Counted | None
) -> dict[str, Any]:
    """The whole object; without `usage` where the family's answer has none."""
    out: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
    }
    if counted is not None:
        out["usage"] = usage_of(counted)
    return out


def usage_of(counted: Counted) -> dict[str, Any]:
    """The object's `usage`."""
    return {
        "prompt_tokens": counted.prompt,
        "completion_tokens": counted.completion,
        "total_tokens": counted.prompt + counted.completion,
        "prompt_tokens_details": {
            "cached_tokens": counted.cached,
            "cache_write_tokens": counted.written,
        },
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning},
    }

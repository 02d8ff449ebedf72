"""Bedrock's models: one body for every family (InvokeModel), or one body for all (Converse).

Shapes follow the user guide's pages on inference parameters and the Converse reference. There is neither tool calling
nor prompt caching in batches (batch inference guide).
"""

from array import array
from collections.abc import Callable
from hashlib import shake_256
from math import sqrt
from typing import Final

from halfrate.emulator._answers import Twist, write_text
from halfrate.emulator._anthropic_models import VERSIONS
from halfrate.emulator._anthropic_models import answer as anthropic_answer
from halfrate.emulator._context import Context
from halfrate.emulator._models import find_model
from halfrate.emulator._prices import Model, Tokens
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._tokens import REQUEST_OVERHEAD, content_text, cut, text_tokens
from halfrate.emulator._wire import ApiError, Document, as_document, as_list, documents

ANTHROPIC_VERSION: Final = "bedrock-2023-05-31"
_GEOGRAPHIES: Final = ("us.", "eu.", "apac.", "jp.", "au.", "us-gov.", "global.")
_STAND_IN: Final = "claude-haiku-4-5"
"""The model that Anthropic's own surface answers with, for the sake of the shape."""
_REFUSAL: Final = "I'm sorry, I can't help with that."
_DIMENSIONS: Final = (256, 512, 1_024)


def resolve(model_id: object) -> Model:
    """The model of an id, of an inference profile or of an ARN of either."""
    name = str(model_id).rpartition("/")[2] if isinstance(model_id, str) else ""
    model = find_model(name, "bedrock")
    for prefix in _GEOGRAPHIES:
        if model is None and name.startswith(prefix):
            model = find_model(name.removeprefix(prefix), "bedrock")
    if model is None:
        raise ApiError(400, "The provided model identifier is invalid.")
    return model


def answer(context: Context, model: Model, kind: str, body: Document, ask: Ask) -> Answered:
    """What a model answers with status 200; any other status comes as ApiError. `kind` is the invocation type."""
    if ask.batch_id and (body.get("tools") or body.get("toolConfig")):
        raise ApiError(400, "Tool use is not supported in batch inference.")
    if kind == "Converse":
        if model.kind != "text":
            raise ApiError(400, "This action doesn't support the model that you provided. Try again.")
        return _converse(model, body, ask)
    if "anthropic." in model.name:
        return _anthropic(context, model, body, ask)
    for family, invoke in _FAMILIES.items():
        if family in model.name:
            return invoke(model, body, ask)
    raise ApiError(400, "The provided model identifier is invalid.")


def _anthropic(context: Context, model: Model, body: Document, ask: Ask) -> Answered:
    if body.get("anthropic_version") != ANTHROPIC_VERSION:
        raise ApiError(400, f"anthropic_version: Input should be '{ANTHROPIC_VERSION}'")
    if "model" in body:
        raise ApiError(400, "model: Extra inputs are not permitted")
    asked = {key: value for key, value in body.items() if key != "anthropic_version"}
    answered = anthropic_answer(context, {**asked, "model": _STAND_IN}, VERSIONS[0], ask, "batch")
    tokens = Tokens(input=answered.tokens.prompt, output=answered.tokens.output)
    usage = {
        "input_tokens": tokens.input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": tokens.output,
    }
    return Answered({**answered.body, "usage": usage}, model, tokens)


def _converse(model: Model, body: Document, ask: Ask) -> Answered:
    """A Converse body, which is Nova's own as well."""
    messages = as_list(body.get("messages"))
    if not messages:
        raise ApiError(400, "A conversation must start with a user message. Try again with a conversation.")
    texts = [content_text(body.get("system"))]
    question = ""
    for number, message in enumerate(messages):
        found = as_document(message)
        if found is None or found.get("role") not in ("user", "assistant"):
            raise ApiError(400, f"messages.{number}.role: expected 'user' or 'assistant'.")
        if not list(documents(found.get("content"))):
            raise ApiError(400, f"messages.{number}.content: expected a non-empty list of blocks.")
        texts.append(content_text(found["content"]))
        question = texts[-1] if found["role"] == "user" else question
    config = as_document(body.get("inferenceConfig")) or {}
    text, tokens, was_cut = _spoken(question, config.get("maxTokens"), "maxTokens", ask.twist)
    used = Tokens(input=_prompt("\n".join(texts)), output=tokens)
    usage = {
        "inputTokens": used.input,
        "outputTokens": used.output,
        "totalTokens": used.input + used.output,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0,
    }
    stop = "max_tokens" if was_cut else "end_turn"
    if ask.twist.refusal:
        stop = "content_filtered"
    message = {"role": "assistant", "content": [{"text": text}]}
    return Answered({"output": {"message": message}, "stopReason": stop, "usage": usage}, model, used)


def _llama(model: Model, body: Document, ask: Ask) -> Answered:
    prompt = _text(body, "prompt")
    text, tokens, was_cut = _spoken(prompt, body.get("max_gen_len", 512), "max_gen_len", ask.twist)
    used = Tokens(input=_prompt(prompt), output=tokens)
    document = {
        "generation": text,
        "prompt_token_count": used.input,
        "generation_token_count": used.output,
        "stop_reason": "length" if was_cut else "stop",
    }
    return Answered(document, model, used)


def _mistral(model: Model, body: Document, ask: Ask) -> Answered:
    prompt = _text(body, "prompt")
    text, tokens, was_cut = _spoken(prompt, body.get("max_tokens"), "max_tokens", ask.twist)
    outputs = [{"text": text, "stop_reason": "length" if was_cut else "stop"}]
    return Answered({"outputs": outputs}, model, Tokens(input=_prompt(prompt), output=tokens))


def _titan(model: Model, body: Document, ask: Ask) -> Answered:
    text = _text(body, "inputText")
    dimensions = body.get("dimensions", _DIMENSIONS[-1])
    if dimensions not in _DIMENSIONS:
        raise ApiError(400, f"Malformed input request: dimensions is one of {_DIMENSIONS}.")
    used = Tokens(input=max(1, text_tokens(len(text.encode(errors="replace")))))
    vector = _vector(text, dimensions)
    document: Document = {
        "embedding": vector,
        "embeddingsByType": {"float": vector},
        "inputTextTokenCount": used.input,
    }
    return Answered(document, model, used)


_FAMILIES: Final[dict[str, Callable[[Model, Document, Ask], Answered]]] = {
    "amazon.nova": _converse,
    "meta.llama": _llama,
    "mistral.": _mistral,
    "amazon.titan-embed": _titan,
}


def _text(body: Document, key: str) -> str:
    found = body.get(key)
    if not isinstance(found, str) or not found:
        raise ApiError(400, f"Malformed input request: required key [{key}] not found, please reformat.")
    return found


def _prompt(text: str) -> int:
    return text_tokens(len(text.encode(errors="replace"))) + REQUEST_OVERHEAD


def _spoken(question: str, limit: object, name: str, twist: Twist) -> tuple[str, int, bool]:
    """(text, tokens, whether it was cut off)"""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ApiError(400, f"Malformed input request: {name} should be an integer of at least 1.")
    text = _REFUSAL if twist.refusal else write_text(question, twist)
    tokens = max(1, text_tokens(len(text.encode(errors="replace"))))
    most = tokens if limit is None else limit
    if twist.truncated:
        most = min(most, max(1, tokens // 2))
    if tokens > most:
        return cut(text, most), most, True
    return text, tokens, twist.truncated


def _vector(text: str, dimensions: int) -> list[float]:
    """A unit vector that depends on the text alone."""
    raw = array("h")
    raw.frombytes(shake_256(text.encode(errors="replace")).digest(dimensions * 2))
    length = sqrt(sum(value * value for value in raw)) or 1.0
    return [round(value / length, 8) for value in raw]

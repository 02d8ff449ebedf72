"""Fireworks' models: OpenAI's chat completions, under names of the form `accounts/fireworks/models/...`."""

from typing import Any, Final

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._models import find_model
from halfrate.emulator._openai_models import CHAT
from halfrate.emulator._openai_models import answer as openai_answer
from halfrate.emulator._prices import Model
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document, as_document

PROVIDER: Final = "fireworks"
_PARAMETERS: Final = {
    "maxTokens": "max_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "n": "n",
}


def resolve(body: Document) -> Model:
    """The model that a body names."""
    model = find_model(body.get("model"), PROVIDER)
    if model is None:
        raise ApiError(404, "Model not found, inaccessible, and/or not deployed")
    return model


def answer(context: Context, body: Document, ask: Ask) -> Answered:
    """What the service answers with status 200; any other status comes as ApiError."""
    resolve(body)
    answered = openai_answer(context, CHAT, body, ask)
    for key in ("service_tier", "system_fingerprint"):
        answered.body.pop(key, None)
    for choice in answered.body["choices"]:
        message = choice["message"]
        refusal = message.pop("refusal", None)
        message.pop("annotations", None)
        if "tool_calls" in message:
            choice["finish_reason"] = "tool_calls"
        elif message["content"] is None:
            message["content"] = refusal
    usage = answered.body["usage"]
    usage.pop("completion_tokens_details")
    usage["prompt_tokens_details"] = {"cached_tokens": usage["prompt_tokens_details"]["cached_tokens"]}
    return answered


def defaults(given: object) -> Document:
    """What a job's `inferenceParameters` say for every row, under the names that rows use."""
    parameters = as_document(given) or {}
    found: dict[str, Any] = {}
    for name, key in _PARAMETERS.items():
        value = parameters.get(name, parameters.get(key))
        if value is not None:
            found[key] = value
    extra = parameters.get("extraBody", parameters.get("extra_body"))
    if isinstance(extra, str) and extra:
        try:
            found |= as_document(msgspec.json.decode(extra)) or {}
        except msgspec.DecodeError:
            raise ApiError(400, "invalid inference_parameters.extra_body: not valid JSON") from None
    return found

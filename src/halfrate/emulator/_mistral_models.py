"""Mistral's models: OpenAI's shapes in the main, with what differs.

`tool_choice` may be "any"; a call of a tool ends with `tool_calls`; there is no refusal field; embeddings have 1,024
dimensions, or as many as `output_dimension` says (mistralai 3.7: request and response types).
"""

from typing import Final

from halfrate.emulator._context import Context
from halfrate.emulator._models import find_model
from halfrate.emulator._openai_models import CHAT, EMBEDDINGS
from halfrate.emulator._openai_models import answer as openai_answer
from halfrate.emulator._prices import Model
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document

PROVIDER: Final = "mistral"
SERVED: Final = (CHAT, EMBEDDINGS)
_DIMENSIONS: Final = 1_024


def resolve(body: Document) -> Model:
    """The model that a body names."""
    model = find_model(body.get("model"), PROVIDER)
    if model is None:
        raise ApiError(400, f"Invalid model: {body.get('model')}", kind="invalid_model")
    return model


def answer(context: Context, endpoint: str, body: Document, ask: Ask) -> Answered:
    """What the service answers with status 200; any other status comes as ApiError."""
    resolve(body)
    if endpoint == EMBEDDINGS:
        dimensions = body.get("output_dimension") or _DIMENSIONS
        if not isinstance(dimensions, int) or not 0 < dimensions <= _DIMENSIONS:
            raise ApiError(422, f"Input should be between 1 and {_DIMENSIONS}", param="output_dimension")
        answered = openai_answer(context, endpoint, {**body, "dimensions": dimensions}, ask)
        answered.body["id"] = context.new_id("")
        answered.body["usage"]["completion_tokens"] = 0
        return answered
    if "stream_options" in body:
        # There is no such field, and fields that there are not are refused (mistralai 3.7: request type).
        raise ApiError(422, "Extra inputs are not permitted", param="stream_options")
    asked = {**body, "tool_choice": "required"} if body.get("tool_choice") == "any" else body
    answered = openai_answer(context, endpoint, asked, ask)
    document = answered.body
    document["id"] = context.new_id("")
    for key in ("service_tier", "system_fingerprint"):
        document.pop(key, None)
    for choice in document["choices"]:
        message = choice["message"]
        refusal = message.pop("refusal", None)
        message.pop("annotations", None)
        if "tool_calls" in message:
            message["content"], choice["finish_reason"] = "", "tool_calls"
            message["tool_calls"] = [{**one, "index": n} for n, one in enumerate(message["tool_calls"])]
        else:
            message["content"], message["tool_calls"] = message["content"] or refusal, None
        choice.pop("logprobs", None)
    details = document["usage"].pop("prompt_tokens_details")
    document["usage"].pop("completion_tokens_details")
    document["usage"]["prompt_tokens_details"] = {"cached_tokens": details["cached_tokens"]}
    return answered

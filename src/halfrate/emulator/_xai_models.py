"""xAI's models: OpenAI's chat completions, with what each one costs in its usage.

`usage.cost_in_usd_ticks` counts in units of 1e-10 US dollars (REST reference; batch guide: track costs).
"""

from typing import Final

from halfrate.emulator._context import Context
from halfrate.emulator._models import find_model
from halfrate.emulator._openai_models import CHAT
from halfrate.emulator._openai_models import answer as openai_answer
from halfrate.emulator._prices import Model, cost
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document

PROVIDER: Final = "xai"
PICODOLLARS_PER_TICK: Final = 100


def resolve(body: Document) -> Model:
    """The model that a body names."""
    model = find_model(body.get("model"), PROVIDER)
    if model is None:
        message = f"The model {body.get('model')} does not exist or your team does not have access to it."
        raise ApiError(404, message)
    return model


def answer(context: Context, body: Document, ask: Ask) -> Answered:
    """What the service answers with status 200; any other status comes as ApiError."""
    model = resolve(body)
    answered = openai_answer(context, CHAT, body, ask)
    paid = cost(model, "batch" if ask.batch_id else "standard", answered.tokens)
    document = answered.body
    document.pop("service_tier", None)
    document["usage"]["cost_in_usd_ticks"] = paid // PICODOLLARS_PER_TICK
    for choice in document["choices"]:
        choice["message"].pop("annotations", None)
    return answered

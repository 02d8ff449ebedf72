"""Every model that the emulated providers serve, by provider and name."""

import re

from halfrate.emulator._anthropic_prices import MODELS as ANTHROPIC
from halfrate.emulator._bedrock_prices import MODELS as BEDROCK
from halfrate.emulator._cohere_prices import MODELS as COHERE
from halfrate.emulator._dialect_prices import MODELS as DIALECTS
from halfrate.emulator._fireworks_prices import MODELS as FIREWORKS
from halfrate.emulator._gemini_prices import MODELS as GEMINI
from halfrate.emulator._mistral_prices import MODELS as MISTRAL
from halfrate.emulator._openai_prices import MODELS as OPENAI
from halfrate.emulator._prices import Model
from halfrate.emulator._vertex_prices import MODELS as VERTEX
from halfrate.emulator._xai_prices import MODELS as XAI

_LISTS = (OPENAI, ANTHROPIC, DIALECTS, MISTRAL, GEMINI, VERTEX, XAI, BEDROCK, FIREWORKS, COHERE)
_MODELS = {(model.provider, model.name): model for models in _LISTS for model in models}

# "-2025-04-14" (OpenAI), "-20251001" (Anthropic), "-latest": other names for the same model.
_DATE_SUFFIX = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


def models_of(provider: str) -> list[Model]:
    """What a provider serves, in the order of its list."""
    return [model for model in _MODELS.values() if model.provider == provider]


def all_models() -> list[Model]:
    return list(_MODELS.values())


def find_model(name: object, provider: str) -> Model | None:
    """The model a request names, by its base name or a dated one; None when there is no such model."""
    if not isinstance(name, str):
        return None
    return _MODELS.get((provider, name)) or _MODELS.get((provider, _DATE_SUFFIX.sub("", name)))

"""Every model that the emulated providers serve, by provider and name."""

import re

from halfrate.emulator._anthropic_prices import MODELS as ANTHROPIC
from halfrate.emulator._openai_prices import MODELS as OPENAI
from halfrate.emulator._prices import Model

_LISTS = (OPENAI, ANTHROPIC)
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

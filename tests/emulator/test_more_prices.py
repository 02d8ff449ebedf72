"""The hand-typed prices of Mistral, xAI, Fireworks and Bedrock against a price list that others keep."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import pytest
from genai_prices import Usage, calc_price

from halfrate.emulator._models import models_of
from halfrate.emulator._prices import Model, Tokens, cost

WHEN = datetime(2026, 11, 20, tzinfo=UTC)
THEIR_NAMES: Final = {"mistral": "mistral", "xai": "x-ai", "fireworks": "fireworks", "bedrock": "aws"}
MODELS = [model for provider in THEIR_NAMES for model in models_of(provider)]
WITHOUT_CACHED = {
    "accounts/fireworks/models/llama-v3p1-8b-instruct",
    "meta.llama3-3-70b-instruct-v1:0",
    "mistral.mistral-large-2402-v1:0",
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("prompt", [100_000, 300_000])
def test_standard_prices(model: Model, prompt: int) -> None:
    chat = model.kind == "text"
    cached = 10_000 if chat and model.name not in WITHOUT_CACHED else 0
    output = 1_000 if chat else 0
    usage = Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=output)
    provider = THEIR_NAMES[model.provider]
    theirs = calc_price(usage, model.name, provider_id=provider, genai_request_timestamp=WHEN)
    ours = cost(model, "standard", Tokens(prompt - cached, cached, 0, 0, output))
    assert Decimal(ours) / 10**12 == theirs.total_price


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_batch_prices(model: Model) -> None:
    """Half; at xAI a fifth less for one model, and nothing for the others."""
    factor = Decimal("0.5")
    if model.provider == "xai":
        factor = Decimal("0.8") if model.name == "grok-4.3" else Decimal(1)
    for prompt in (100, 300_000):
        tokens = Tokens(prompt, 0, 0, 0, 100)
        assert cost(model, "batch", tokens) == cost(model, "standard", tokens) * factor


def test_cached_tokens_in_batches() -> None:
    factors = {
        model.name: Decimal(model.batch.cached) / model.standard.cached
        for model in MODELS
        if model.kind == "text"
    }
    assert factors["mistral-small-latest"] == Decimal("0.5")
    assert factors["grok-4.3"] == Decimal("0.8")
    assert factors["accounts/fireworks/models/gpt-oss-120b"] == Decimal("0.5")

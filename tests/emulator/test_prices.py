"""The hand-typed prices against a price list that others keep."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from halfrate.emulator._models import all_models, find_model
from halfrate.emulator._prices import Model, Tokens, cost

WHEN = datetime(2026, 11, 20, tzinfo=UTC)
OURS = [model for model in all_models() if model.provider in {"openai", "anthropic"}]
CHAT_MODELS = [model for model in OURS if model.kind == "text"]


@pytest.mark.parametrize("model", CHAT_MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("prompt", [100_000, 300_000])
def test_standard_prices(model: Model, prompt: int) -> None:
    cached = 10_000
    usage = Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=1_000)
    theirs = calc_price(usage, model.name, provider_id=model.provider, genai_request_timestamp=WHEN)
    ours = cost(model, "standard", Tokens(prompt - cached, cached, 0, 0, 1_000))
    assert Decimal(ours) / 10**12 == theirs.total_price


def test_batches_cost_half_except_for_cached_tokens_of_some_models() -> None:
    whole = []
    for model in OURS:
        assert cost(model, "batch", Tokens(100, 0, 0, 0, 100)) * 2 == cost(
            model, "standard", Tokens(100, 0, 0, 0, 100)
        )
        if model.kind == "text" and model.batch.cached == model.standard.cached:
            whole.append(model.name)
    assert whole == ["gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini"]


def test_names() -> None:
    for model in all_models():
        assert find_model(model.snapshot, model.provider) is model
    assert find_model("gpt-4.1-mini-2025-04-14", "openai") is next(
        model for model in all_models() if model.name == "gpt-4.1-mini"
    )
    for wrong in (None, 5, "", "gpt-4.1-minim", "claude-haiku-4-5"):
        assert find_model(wrong, "openai") is None

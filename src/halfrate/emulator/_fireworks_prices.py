"""Fireworks' models and what they cost.

Typed by hand on 2026-11-21. The standard rates are those of the price list `genai_prices` 0.2.3 (provider
`fireworks`). Batches cost half, cached tokens too (batch guide). Llama has no price of its own for cached tokens.
"""

from halfrate.emulator._prices import Model, Rates, rates


def _model(name: str, standard: Rates, batch: Rates) -> Model:
    full = f"accounts/fireworks/models/{name}"
    return Model(full, full, "fireworks", standard, batch)


# Columns: input, output, cached input.
MODELS = (
    _model("llama-v3p1-8b-instruct", rates(0.20, 0.20, 0.20), rates(0.10, 0.10, 0.10)),
    _model("gpt-oss-120b", rates(0.15, 0.60, 0.015), rates(0.075, 0.30, 0.0075)),
    _model("deepseek-v3p2", rates(0.56, 1.68, 0.28), rates(0.28, 0.84, 0.14)),
)

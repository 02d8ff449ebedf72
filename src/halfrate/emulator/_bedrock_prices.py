"""Bedrock's models and what they cost.

Typed by hand on 2026-11-21. The standard rates are those of the price list `genai_prices` 0.2.3 (provider `aws`).
Batches cost half. There is no caching in batches, so their cached rate is never used. Claude costs a tenth more where
the answer stays in one geography (`us.`, `eu.` ...) than through the `global.` profile.
"""

from halfrate.emulator._prices import Model, Rates, rates


def _model(name: str, standard: Rates, batch: Rates, kind: str = "text") -> Model:
    return Model(name, name, "bedrock", standard, batch, kind=kind)


# Columns: input, output, cached input.
MODELS = (
    _model(
        "global.anthropic.claude-haiku-4-5-20251001-v1:0",
        rates(1.00, 5.00, 0.10),
        rates(0.50, 2.50, 0.05),
    ),
    _model("anthropic.claude-haiku-4-5-20251001-v1:0", rates(1.10, 5.50, 0.11), rates(0.55, 2.75, 0.055)),
    _model("amazon.nova-lite-v1:0", rates(0.06, 0.24, 0.015), rates(0.03, 0.12, 0.0075)),
    _model("meta.llama3-3-70b-instruct-v1:0", rates(0.72, 0.72, 0.72), rates(0.36, 0.36, 0.36)),
    _model("mistral.mistral-large-2402-v1:0", rates(4.00, 12.00, 4.00), rates(2.00, 6.00, 2.00)),
    _model("amazon.titan-embed-text-v2:0", rates(0.02, 0, 0.02), rates(0.01, 0, 0.01), "embedding"),
)

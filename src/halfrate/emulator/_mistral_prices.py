"""Mistral's models and what they cost.

Typed by hand on 2026-11-21. The standard rates are those of the price list `genai_prices` 0.2.3 (provider `mistral`).
Batches cost half (batch guide), cached tokens (0.1 of the input) too, as that list has it.
"""

from halfrate.emulator._prices import Model, rates

# Columns: input, output, cached input.
MODELS = (
    Model(
        "mistral-small-latest",
        "mistral-small-latest",
        "mistral",
        rates(0.15, 0.60, 0.015),
        rates(0.075, 0.30, 0.0075),
    ),
    Model(
        "mistral-medium-latest",
        "mistral-medium-latest",
        "mistral",
        rates(1.50, 7.50, 0.15),
        rates(0.75, 3.75, 0.075),
    ),
    Model(
        "mistral-embed",
        "mistral-embed",
        "mistral",
        rates(0.10, 0, 0.10),
        rates(0.05, 0, 0.05),
        kind="embedding",
    ),
)

"""xAI's models and what they cost.

Typed by hand on 2026-11-21. The standard rates are those of the price list `genai_prices` 0.2.3 (provider `x-ai`).
Batches are 20 % off for grok-4.3, cached tokens too, and not at all for the others (batch guide). A prompt of 200,000
tokens or more pays the long rates.
"""

from typing import Final

from halfrate.emulator._prices import Model, rates

NOT_IN_BATCHES: Final = frozenset({"grok-4.6"})
"""Served in realtime alone: one line that names it cancels a file batch."""
_LONG: Final = 199_999

# Columns: input, output, cached input.
MODELS = (
    Model(
        "grok-4.3",
        "grok-4.3",
        "xai",
        rates(1.25, 2.50, 0.20),
        rates(1.00, 2.00, 0.16),
        rates(2.50, 5.00, 0.40),
        rates(2.00, 4.00, 0.32),
        long_from=_LONG,
    ),
    Model(
        "grok-4.6",
        "grok-4.6",
        "xai",
        rates(2.00, 6.00, 0.50),
        rates(2.00, 6.00, 0.50),
        rates(4.00, 12.00, 1.00),
        rates(4.00, 12.00, 1.00),
        long_from=_LONG,
    ),
    Model("grok-3-mini", "grok-3-mini", "xai", rates(0.30, 0.50, 0.075), rates(0.30, 0.50, 0.075)),
)

"""Anthropic's models and what they cost.

Typed by hand on 2026-11-20 from Anthropic's pricing page and its guide to prompt caching (2026-10-06), standard and
batch separately. A call may be kept in the United States from Sonnet 4.6 and Opus 4.6 on, for a tenth more (data
residency, 2026-11).
"""

from halfrate.emulator._prices import Model, Rates, rates


def _claude(name: str, snapshot: str, standard: Rates, batch: Rates, *, sited: bool = False) -> Model:
    return Model(name, snapshot, "anthropic", standard, batch, sited=sited)


# Columns: input, output, cached input, cache write (5 minutes), cache write (1 hour).
MODELS = (
    _claude(
        "claude-haiku-4-5",
        "claude-haiku-4-5-20251001",
        rates(1.00, 5.00, 0.10, 1.25, 2.00),
        rates(0.50, 2.50, 0.05, 0.625, 1.00),
    ),
    Model(
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
        "anthropic",
        rates(3.00, 15.00, 0.30, 3.75, 6.00),
        rates(1.50, 7.50, 0.15, 1.875, 3.00),
        rates(6.00, 22.50, 0.60, 7.50, 12.00),
        rates(3.00, 11.25, 0.30, 3.75, 6.00),
        long_from=200_000,
    ),
    _claude(
        "claude-sonnet-4-6",
        "claude-sonnet-4-6",
        rates(3.00, 15.00, 0.30, 3.75, 6.00),
        rates(1.50, 7.50, 0.15, 1.875, 3.00),
        sited=True,
    ),
    _claude(
        "claude-opus-4-5",
        "claude-opus-4-5-20251101",
        rates(5.00, 25.00, 0.50, 6.25, 10.00),
        rates(2.50, 12.50, 0.25, 3.125, 5.00),
    ),
    _claude(
        "claude-opus-5-5",
        "claude-opus-5-5",
        rates(4.00, 20.00, 0.20, 5.00, 8.00),
        rates(2.00, 10.00, 0.10, 2.50, 4.00),
        sited=True,
    ),
    _claude(
        "claude-sonnet-5-5",
        "claude-sonnet-5-5",
        rates(2.00, 10.00, 0.10, 2.50, 4.00),
        rates(1.00, 5.00, 0.05, 1.25, 2.00),
        sited=True,
    ),
)

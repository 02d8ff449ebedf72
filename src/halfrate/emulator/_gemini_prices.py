"""Gemini's models on the Gemini Developer API and what they cost.

Typed by hand on 2026-11-21, standard and batch separately. The standard rates are those of the pricing page as the
price list `genai_prices` 0.2.3 has them (provider `google`). Batch is half of them for input and output; a cached token
keeps its standard price in the 2.5 family and in gemini-3-flash-preview (batch guide: the discounts do not add up), and
costs half of it in gemini-3.1-flash-lite and gemini-3.5-flash (pricing page). gemini-2.5-pro has dearer rates for
prompts of more than 200,000 tokens. gemini-embedding-001 costs $0.12 in batch (pricing page).
"""

from halfrate.emulator._prices import Model, Rates, rates, with_audio

_LONG = 200_000


def gemini(
    name: str, provider: str, standard: Rates, batch: Rates, long: tuple[Rates, Rates] | None = None
) -> Model:
    """A model that writes. `long`: its standard and batch rates for long prompts."""
    if long is None:
        return Model(name, name, provider, standard, batch)
    return Model(name, name, provider, standard, batch, long[0], long[1], long_from=_LONG)


def embedding(name: str, provider: str, standard: float, batch: float) -> Model:
    prices = (rates(standard, 0, standard), rates(batch, 0, batch))
    return Model(name, name, provider, *prices, kind="embedding")


# Columns: input, output, cached input.
MODELS = (
    gemini(
        "gemini-2.5-flash",
        "gemini",
        with_audio(rates(0.30, 2.50, 0.03), 1.00, 0.10),
        with_audio(rates(0.15, 1.25, 0.03), 0.50, 0.10),
    ),
    gemini(
        "gemini-2.5-flash-lite",
        "gemini",
        with_audio(rates(0.10, 0.40, 0.01), 0.30, 0.03),
        with_audio(rates(0.05, 0.20, 0.01), 0.15, 0.03),
    ),
    gemini(
        "gemini-2.5-pro",
        "gemini",
        rates(1.25, 10.00, 0.125),
        rates(0.625, 5.00, 0.125),
        (rates(2.50, 15.00, 0.25), rates(1.25, 7.50, 0.25)),
    ),
    gemini(
        "gemini-3-flash-preview",
        "gemini",
        with_audio(rates(0.50, 3.00, 0.05), 1.00, 0.10),
        with_audio(rates(0.25, 1.50, 0.05), 0.50, 0.10),
    ),
    gemini(
        "gemini-3.1-flash-lite",
        "gemini",
        with_audio(rates(0.25, 1.50, 0.025), 0.50, 0.05),
        with_audio(rates(0.125, 0.75, 0.0125), 0.25, 0.025),
    ),
    gemini("gemini-3.5-flash", "gemini", rates(1.50, 9.00, 0.15), rates(0.75, 4.50, 0.075)),
    embedding("gemini-embedding-001", "gemini", 0.15, 0.12),
)

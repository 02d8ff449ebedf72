"""OpenAI's models and what they cost.

Typed by hand on 2026-11-20 from OpenAI's API pricing with its batch table (2026-10-04) and its page on priority
processing; standard and batch separately: "batch is half" is not true of every token kind. Where the batch table
names no cached rate (gpt-4.1*, gpt-4o*), cached tokens keep the standard cached rate. Priority has no rates for long
prompts: they are not offered there.
"""

from halfrate.emulator._prices import Model, Rates, rates


def _gpt(
    name: str, snapshot: str, standard: Rates, batch: Rates, priority: Rates | None, *, flex: bool = False
) -> Model:
    return Model(name, snapshot, "openai", standard, batch, priority=priority, flex=flex)


def _embedding(name: str, standard: float, batch: float) -> Model:
    prices = (rates(standard, 0, standard), rates(batch, 0, batch))
    return Model(name, name, "openai", *prices, kind="embedding")


# Columns: input, output, cached input, cache write (5 minutes), cache write (1 hour).
MODELS = (
    _gpt(
        "gpt-4.1",
        "gpt-4.1-2025-04-14",
        rates(2.00, 8.00, 0.50),
        rates(1.00, 4.00, 0.50),
        rates(3.50, 14.00, 0.875),
    ),
    _gpt(
        "gpt-4.1-mini",
        "gpt-4.1-mini-2025-04-14",
        rates(0.40, 1.60, 0.10),
        rates(0.20, 0.80, 0.10),
        rates(0.70, 2.80, 0.175),
    ),
    _gpt(
        "gpt-4.1-nano",
        "gpt-4.1-nano-2025-04-14",
        rates(0.10, 0.40, 0.025),
        rates(0.05, 0.20, 0.025),
        rates(0.20, 0.80, 0.05),
    ),
    _gpt(
        "gpt-4o",
        "gpt-4o-2024-08-06",
        rates(2.50, 10.00, 1.25),
        rates(1.25, 5.00, 1.25),
        rates(4.25, 17.00, 2.125),
    ),
    _gpt(
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
        rates(0.15, 0.60, 0.075),
        rates(0.075, 0.30, 0.075),
        rates(0.25, 1.00, 0.125),
    ),
    _gpt(
        "gpt-5",
        "gpt-5-2025-08-07",
        rates(1.25, 10.00, 0.125),
        rates(0.625, 5.00, 0.0625),
        rates(2.50, 20.00, 0.25),
        flex=True,
    ),
    _gpt(
        "gpt-5-mini",
        "gpt-5-mini-2025-08-07",
        rates(0.25, 2.00, 0.025),
        rates(0.125, 1.00, 0.0125),
        rates(0.45, 3.60, 0.045),
        flex=True,
    ),
    _gpt(
        "gpt-5-nano",
        "gpt-5-nano-2025-08-07",
        rates(0.05, 0.40, 0.005),
        rates(0.025, 0.20, 0.0025),
        None,
        flex=True,
    ),
    Model(
        "gpt-5.6-luna",
        "gpt-5.6-luna",
        "openai",
        rates(0.20, 1.20, 0.02, 0.25, 0.25),
        rates(0.10, 0.60, 0.01, 0.125, 0.125),
        rates(0.40, 1.80, 0.04, 0.50, 0.50),
        rates(0.20, 0.90, 0.02, 0.25, 0.25),
        long_from=272_000,
        flex=True,
    ),
    _embedding("text-embedding-3-small", 0.02, 0.01),
    _embedding("text-embedding-3-large", 0.13, 0.065),
)

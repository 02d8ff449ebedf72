"""Gemini's models on Vertex AI and what they cost.

Typed by hand on 2026-11-21. The rates are those of the Gemini Developer API, which Vertex AI's pricing page repeats for
its global endpoint, with a difference in batch: models from Gemini 3 on halve the price of a cached token too, while in
the 2.5 family the cached price stays as it is (Vertex AI batch page).
"""

from halfrate.emulator._gemini_prices import embedding, gemini
from halfrate.emulator._prices import rates, with_audio

# Columns: input, output, cached input.
MODELS = (
    gemini(
        "gemini-2.5-flash",
        "vertex",
        with_audio(rates(0.30, 2.50, 0.03), 1.00, 0.10),
        with_audio(rates(0.15, 1.25, 0.03), 0.50, 0.10),
    ),
    gemini(
        "gemini-2.5-flash-lite",
        "vertex",
        with_audio(rates(0.10, 0.40, 0.01), 0.30, 0.03),
        with_audio(rates(0.05, 0.20, 0.01), 0.15, 0.03),
    ),
    gemini(
        "gemini-2.5-pro",
        "vertex",
        rates(1.25, 10.00, 0.125),
        rates(0.625, 5.00, 0.125),
        (rates(2.50, 15.00, 0.25), rates(1.25, 7.50, 0.25)),
    ),
    gemini(
        "gemini-3-flash-preview",
        "vertex",
        with_audio(rates(0.50, 3.00, 0.05), 1.00, 0.10),
        with_audio(rates(0.25, 1.50, 0.025), 0.50, 0.10),
    ),
    gemini(
        "gemini-3.1-flash-lite",
        "vertex",
        with_audio(rates(0.25, 1.50, 0.025), 0.50, 0.05),
        with_audio(rates(0.125, 0.75, 0.0125), 0.25, 0.025),
    ),
    gemini("gemini-3.5-flash", "vertex", rates(1.50, 9.00, 0.15), rates(0.75, 4.50, 0.075)),
    embedding("gemini-embedding-001", "vertex", 0.15, 0.12),
)

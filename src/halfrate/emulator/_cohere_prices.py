"""Cohere's embedding models and what they cost.

Typed by hand on 2026-11-21. The standard rate is that of the price list `genai_prices` 0.2.3 (provider `cohere`), which
has one for text alone: images are billed at it too. No price for batches was found, neither as a factor nor for
`batch-embed-v4`, the name by which the batch cookbook of 2025-10 calls the model: batches cost here what calls do.
"""

from halfrate.emulator._prices import Model, rates


def _model(name: str) -> Model:
    return Model(name, name, "cohere", rates(0.12, 0, 0.12), rates(0.12, 0, 0.12), kind="embedding")


REALTIME = _model("embed-v4.0")
MODELS = (REALTIME, _model("batch-embed-v4"))

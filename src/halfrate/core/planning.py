"""What a job will hold and cost, before anything is sent. Pure."""

import hashlib

import msgspec

from halfrate.base.types import JobPrices, Price, RequestSpec, Usage
from halfrate.core.job import Forecast
from halfrate.core.pricing import usage_cost

BYTES_PER_TOKEN = 4.2
"""Of request text, English and code. A prior: providers' tokenizers differ, and other scripts need more."""

OUTPUT_PRIOR = 200
"""Tokens that an answer takes where nothing is known about it."""


def spec_hash(spec: RequestSpec, account: str, tier: str = "batch") -> str:
    """Names what a job asks, so that the same command can be recognised."""
    asked = [account, spec] if tier == "batch" else [account, spec, tier]
    text = msgspec.json.encode(asked, order="deterministic")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def forecast(
    spec: RequestSpec,
    rows: int,
    text_bytes: int,
    prices: JobPrices,
    *,
    tier: str = "batch",
    ceiling: bool = False,
) -> Forecast:
    """Tokens and money for `rows` requests whose bodies have `text_bytes` bytes in all.

    `ceiling`: with answers as long as `max_tokens` allows, for limits on what may be spent.
    """
    tokens_in = round(text_bytes / BYTES_PER_TOKEN)
    each = 0
    if spec.endpoint != "embeddings":
        each = OUTPUT_PRIOR if spec.max_tokens is None else min(spec.max_tokens, OUTPUT_PRIOR)
        if ceiling and spec.max_tokens is not None:
            each = spec.max_tokens
    usage = Usage(input=tokens_in, output=rows * each)
    return Forecast(
        input_tokens=tokens_in,
        output_tokens=usage.output,
        cost=_dearest(prices.of(tier), usage),
        realtime_cost=_dearest(prices.standard, usage),
    )


def _dearest(prices: dict[str, Price | None], usage: Usage) -> int | None:
    """With several models in one input the dearest is assumed; one unknown price makes the sum unknown."""
    costs: list[int] = []
    for price in prices.values():
        found = usage_cost(usage, price.rates) if price is not None else None
        if found is None:
            return None
        costs.append(found)
    return max(costs, default=None)

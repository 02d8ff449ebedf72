"""What a job will hold and cost, before anything is sent. Pure."""

import hashlib
from collections.abc import Iterable

import msgspec

from halfrate.base.types import JobPrices, Price, RequestSpec, Usage
from halfrate.core.estimates import Estimate, Sample, estimate
from halfrate.core.job import Forecast
from halfrate.core.pricing import usage_cost


def spec_hash(spec: RequestSpec, account: str, tier: str = "batch") -> str:
    """Names what a job asks, so that the same command can be recognised."""
    return _digest([account, spec] if tier == "batch" else [account, spec, tier])


def prompt_hash(spec: RequestSpec) -> str:
    """Names what is asked of a row, whoever asks it, and of whichever rows; "" where each row says that itself.

    Marks for a cache change nothing of it.
    """
    if spec.native is not None:
        return ""
    options = {name: value for name, value in spec.options.items() if name != "cache"}
    return _digest([msgspec.structs.replace(spec, options=options, head="", lead="")])


def _digest(asked: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(asked, order="deterministic"), digest_size=16).hexdigest()


def forecast(
    spec: RequestSpec,
    rows: int,
    text_bytes: float,
    prices: JobPrices,
    *,
    tier: str = "batch",
    samples: Iterable[Sample] = (),
    ceiling: bool = False,
    counted: int | None = None,
) -> Forecast:
    """Tokens and money for `rows` requests whose bodies have `text_bytes` bytes in all.

    `samples`: what earlier jobs took. `counted`: the tokens of the requests' text, where they were counted. `ceiling`:
    as much as it may come to, with answers as long as `max_tokens` allows, for limits on what may be spent.
    """
    answers = spec.endpoint != "embeddings"
    found = estimate(samples, rows, text_bytes, max_tokens=spec.max_tokens, answers=answers, counted=counted)
    usage = _usage(found, found.input.likely, found.output.likely)
    if ceiling:
        written = rows * spec.max_tokens if answers and spec.max_tokens is not None else found.output.high
        # What a cache will save is hoped for, never counted on.
        usage = Usage(input=round(found.input.high), output=round(written))
    table = prices.of(tier)
    return Forecast(
        input_tokens=usage.total_input,
        output_tokens=usage.output,
        cost=_dearest(table, usage),
        realtime_cost=_dearest(prices.standard, usage),
        cost_low=_dearest(table, _usage(found, found.input.low, found.output.low)),
        cost_high=_dearest(table, Usage(input=round(found.input.high), output=round(found.output.high))),
        basis=found.basis,
    )


def _usage(found: Estimate, read: float, written: float) -> Usage:
    cached = round(read * found.cached)
    return Usage(input=round(read) - cached, cached=cached, output=round(written))


def _dearest(prices: dict[str, Price | None], usage: Usage) -> int | None:
    """With several models in one input the dearest is assumed; one unknown price makes the sum unknown."""
    costs: list[int] = []
    for price in prices.values():
        found = usage_cost(usage, price.rates) if price is not None else None
        if found is None:
            return None
        costs.append(found)
    return max(costs, default=None)

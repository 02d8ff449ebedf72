"""What requests cost: exact integers, judged request by request."""

from collections.abc import Mapping

import msgspec

from halfrate.base.results import Tokens
from halfrate.base.types import JobPrices, Price, Rates, Usage


def cost(tokens: Tokens, price: Price | None) -> int | None:
    """Picodollars of one request, or None where a kind of token that it used has no known price.

    A long-context step is chosen by this request's own input, never by a sum over requests.
    """
    if price is not None and tokens.region:
        price = price.regions.get(tokens.region)
    if price is None:
        return None
    rates = price.rates
    if price.steps:
        read = tokens.read
        for step in price.steps:
            if read > step.above:
                rates = step.rates
    counts = tokens[:5]
    charged = (rates.input, rates.cached, rates.write_5m, rates.write_1h, rates.output)
    if any(tokens[6:10]):
        counts, charged = _apart(tokens, rates)
    total = 0
    for count, rate in zip(counts, charged, strict=True):
        if count:
            if rate is None:
                return None
            total += count * rate
    return total


def _apart(tokens: Tokens, rates: Rates) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """Tokens and what each costs, those that are no text beside the others where they have prices of their own."""
    heard, again, spoken = tokens[6:9] if rates.audio_apart else (0, 0, 0)
    drawn = tokens.image_output if rates.image_output is not None else 0
    return (
        tokens.input - heard,
        tokens.cached - again,
        tokens.write_5m,
        tokens.write_1h,
        tokens.output - spoken - drawn,
        heard,
        again,
        spoken,
        drawn,
    ), (
        rates.input,
        rates.cached,
        rates.write_5m,
        rates.write_1h,
        rates.output,
        rates.audio_input,
        rates.audio_cached,
        rates.audio_output,
        rates.image_output,
    )


def usage_cost(usage: Usage, rates: Rates) -> int | None:
    """Picodollars of tokens added up, at flat rates. For estimates: a bill is made request by request."""
    flat = Price(model="", tier="", rates=rates)
    return cost(Tokens(**msgspec.structs.asdict(usage)), flat)


class JobPricing:
    """The prices that a job was planned with, found again by the model names in its results.

    A result names a dated snapshot (`gpt-4.1-mini-2025-04-14`) where the request named the model
    (`gpt-4.1-mini`): the longest requested name that begins it is what it is billed as.
    """

    def __init__(self, prices: JobPrices) -> None:
        self._prices = prices
        self._names: dict[str, str] = {}

    def priced_as(self, model: str) -> str:
        name = self._names.get(model)
        if name is None:
            name = self._names[model] = _longest_prefix(model, self._prices.batch)
        return name

    def paid(self, model: str, tokens: Tokens, tier: str) -> int | None:
        """Picodollars of one request in a tier, billed as `model`; None where a price is unknown."""
        return cost(tokens, self._prices.of(tier).get(model))

    def uncached(self, model: str, tokens: Tokens, tier: str) -> int | None:
        """What the same request would have cost in the same tier if nothing were cached."""
        heard = tokens.audio_input + tokens.audio_cached
        plain = tokens._replace(
            input=tokens.read, cached=0, write_5m=0, write_1h=0, audio_input=heard, audio_cached=0
        )
        return self.paid(model, plain, tier)

    def standard(self, model: str, tokens: Tokens) -> int | None:
        """What the same request would have cost in real time."""
        return cost(tokens, self._prices.standard.get(model))


def _longest_prefix(model: str, known: Mapping[str, object]) -> str:
    if len(known) == 1:
        return next(iter(known))
    fitting = [name for name in known if model.startswith(name)]
    return max(fitting, key=len, default=model)

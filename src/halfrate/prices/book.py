"""Reads the price book that ships with the package. An unknown model has no price, which is not zero."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from halfrate.base.money import per_million
from halfrate.base.types import Price, Rates, Step


class _Clause(msgspec.Struct, frozen=True):
    equals: str | None = None
    starts_with: str | None = None
    regex: str | None = None

    def fits(self, name: str) -> bool:
        if self.equals is not None:
            return name == self.equals
        if self.starts_with is not None:
            return name.startswith(self.starts_with)
        return self.regex is not None and re.search(self.regex, name) is not None


class _Step(msgspec.Struct, frozen=True):
    above: int
    rates: dict[str, str]


class _Price(msgspec.Struct, frozen=True):
    tier: str
    rates: dict[str, str]
    steps: tuple[_Step, ...] = ()
    since: str | None = None


class _Model(msgspec.Struct, frozen=True):
    provider: str
    model: str
    match: tuple[_Clause, ...]
    prices: tuple[_Price, ...]
    source: str = ""


class _Book(msgspec.Struct, frozen=True):
    built: str
    source: str
    models: tuple[_Model, ...]


class PriceBook:
    """Looks prices up."""

    def __init__(self, book: _Book) -> None:
        self._book = book

    @classmethod
    def read(cls, raw: bytes) -> "PriceBook":
        return cls(msgspec.json.decode(raw, type=_Book))

    def with_prices(
        self, provider: str, models: Mapping[str, Mapping[str, Mapping[str, str]]], source: str
    ) -> "PriceBook":
        """The same book with a provider's prices by model, tier and kind of token, in dollars a million.

        Raises ValueError where one of them is no price.
        """
        more = tuple(
            _Model(
                provider=provider,
                model=name,
                match=(),
                prices=tuple(_Price(tier=tier, rates=dict(rates)) for tier, rates in tiers.items()),
                source=source,
            )
            for name, tiers in models.items()
        )
        return PriceBook(msgspec.structs.replace(self._book, models=(*more, *self._book.models)))

    def find(self, provider: str, model: str, tier: str, day: str) -> Price | None:
        """The price of `model` in `tier` on `day` (ISO), or None where the book does not know it."""
        entry = self._model(provider, model)
        if entry is None:
            return None
        fitting = [p for p in entry.prices if p.tier == tier and (p.since is None or p.since <= day)]
        if not fitting:
            return None
        price = max(fitting, key=lambda p: p.since or "")
        return Price(
            model=entry.model,
            tier=tier,
            rates=_rates(price.rates),
            steps=tuple(Step(above=s.above, rates=_rates(s.rates)) for s in price.steps),
            since=price.since,
            source=entry.source or self._book.source,
        )

    def _model(self, provider: str, model: str) -> _Model | None:
        named = [m for m in self._book.models if m.provider == provider]
        for entry in named:
            if entry.model == model:
                return entry
        for entry in named:
            if any(clause.fits(model) for clause in entry.match):
                return entry
        return None


def _rates(rates: dict[str, str]) -> Rates:
    return msgspec.convert({kind: per_million(value) for kind, value in rates.items()}, Rates)


@functools.cache
def load_book() -> PriceBook:
    """The book that ships with this version."""
    return PriceBook.read(Path(__file__).with_name("book.json").read_bytes())

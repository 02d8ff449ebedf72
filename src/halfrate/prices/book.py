"""Reads the price book that ships with the package. An unknown model has no price, which is not zero."""

import datetime
import functools
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from halfrate.base.money import per_million
from halfrate.base.types import Price, Rates, Step


class Clause(msgspec.Struct, frozen=True, omit_defaults=True):
    """One way to name a model."""

    equals: str | None = None
    starts_with: str | None = None
    regex: str | None = None

    def fits(self, name: str) -> bool:
        if self.equals is not None:
            return name == self.equals
        if self.starts_with is not None:
            return name.startswith(self.starts_with)
        return self.regex is not None and re.search(self.regex, name) is not None


class EntryStep(msgspec.Struct, frozen=True):
    """Rates from more than `above` input tokens on, dollars a million as text."""

    above: int
    rates: dict[str, str]


class EntryPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tier's rates, dollars a million as text, from the day `since` on (ISO); None: from ever.

    `region`: the only place where it holds, "" for wherever nothing else does.
    """

    tier: str
    rates: dict[str, str]
    steps: tuple[EntryStep, ...] = ()
    since: str | None = None
    source: str = ""
    region: str = ""


class Uplift(msgspec.Struct, frozen=True, omit_defaults=True):
    """What some models cost where a request is run in one place for certain: so many times what they cost elsewhere.

    `models`: a regular expression; `regions`: names of places, none for each that has a name.
    """

    provider: str
    models: str
    times: str
    regions: tuple[str, ...] = ()
    source: str = ""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a price list says of one model."""

    provider: str
    model: str
    match: tuple[Clause, ...] = ()
    """Other names of it."""
    prices: tuple[EntryPrice, ...] = ()
    source: str = ""


class PriceList(msgspec.Struct, frozen=True):
    """A price list as it stands in a file."""

    models: tuple[Entry, ...]
    built: str = ""
    source: str = ""
    uplifts: tuple[Uplift, ...] = ()


class _Found(NamedTuple):
    """A price, and where it stands."""

    listed: PriceList
    entry: Entry
    price: EntryPrice


class PriceBook:
    """Looks prices up, in one list before the other: what a user knows goes before what ships.

    Args:
        lists: the first has the first word, model by model, tier by tier.
    """

    def __init__(self, *lists: PriceList) -> None:
        self._lists = lists

    @classmethod
    def read(cls, raw: bytes) -> "PriceBook":
        return cls(msgspec.json.decode(raw, type=PriceList))

    def below(self, own: PriceList) -> "PriceBook":
        """The same book, with a list that has the first word."""
        return PriceBook(own, *self._lists)

    def find(self, provider: str, model: str, tier: str, day: str, region: str = "") -> Price | None:
        """The price of `model` in `tier` on `day` (ISO), or None where the book does not know it.

        `region`: where requests are run, "" for anywhere. The price has those of other places with it that results may
        name.
        """
        dated = [
            found
            for found in self._prices(provider, model, tier)
            if found.price.since is None or found.price.since <= day
        ]
        if not dated:
            return None
        uplifts = [
            uplift
            for listed in self._lists
            for uplift in listed.uplifts
            if uplift.provider == provider and re.search(uplift.models, dated[-1].entry.model) is not None
        ]
        price = _in(region, dated, uplifts)
        places = {place for uplift in uplifts for place in uplift.regions}
        places |= {found.price.region for found in dated if found.price.region}
        there = {place: _in(place, dated, uplifts) for place in sorted(places)}
        known = {place: one for place, one in there.items() if one is not None}
        return msgspec.structs.replace(price, regions=known) if price is not None and known else price

    def name(self, provider: str, model: str) -> str | None:
        """The name under which the book has a model; None where it has none."""
        found = [entry for listed in self._lists if (entry := _entry(listed, provider, model)) is not None]
        # What ships knows a model by more names than a user's own list does.
        return found[-1].model if found else None

    def models(self) -> list[tuple[str, str]]:
        """(provider, model) of all that are known, sorted."""
        return sorted({(entry.provider, entry.model) for listed in self._lists for entry in listed.models})

    def _prices(self, provider: str, model: str, tier: str) -> Iterator[_Found]:
        """What the lists say, the first list first, the newest price first; what ships is last."""
        known = self.name(provider, model)
        for listed in self._lists:
            entry = _entry(listed, provider, model)
            if entry is None and known is not None:
                entry = _entry(listed, provider, known)
            if entry is not None:
                fitting = [price for price in entry.prices if price.tier == tier]
                for price in sorted(fitting, key=lambda price: price.since or "", reverse=True):
                    yield _Found(listed, entry, price)


def _entry(listed: PriceList, provider: str, model: str) -> Entry | None:
    named = [entry for entry in listed.models if entry.provider == provider]
    for entry in named:
        if entry.model == model:
            return entry
    for entry in named:
        if any(clause.fits(model) for clause in entry.match):
            return entry
    return None


def _in(region: str, dated: Sequence[_Found], uplifts: Sequence[Uplift]) -> Price | None:
    """The price in a place: its own, or what it costs anywhere, so many times as is said of the place."""
    own = next((found for found in dated if found.price.region == region), None)
    if own is not None:
        return _price(own, None)
    found = next((found for found in dated if not found.price.region), None)
    if found is None:
        return None
    return _price(found, next((one for one in uplifts if not one.regions or region in one.regions), None))


def _price(found: _Found, uplift: Uplift | None) -> Price:
    times = Decimal(uplift.times) if uplift is not None else Decimal(1)
    price = found.price
    source = price.source or found.entry.source or found.listed.source
    return Price(
        model=found.entry.model,
        tier=price.tier,
        rates=_rates(price.rates, times),
        steps=tuple(Step(above=step.above, rates=_rates(step.rates, times)) for step in price.steps),
        since=price.since,
        source=f"{source}; {uplift.source}" if uplift is not None else source,
    )


def checked(entry: Entry) -> None:
    """Raises ValueError where a price of an entry is none."""
    for price in entry.prices:
        if price.since is not None:
            datetime.date.fromisoformat(price.since)
        for rates in (price.rates, *(step.rates for step in price.steps)):
            if "input" not in rates:
                raise ValueError(f"the {price.tier} price does not say what input costs")
            for kind, value in rates.items():
                if kind not in Rates.__struct_fields__:
                    raise ValueError(f"there is no kind of token {kind!r}")
                try:
                    pico = per_million(value)
                except ArithmeticError:
                    raise ValueError(f"{value!r} is no price in USD for a million tokens") from None
                if pico < 0:
                    raise ValueError(f"{value} is less than nothing")


def _rates(rates: dict[str, str], times: Decimal) -> Rates:
    return msgspec.convert(
        {kind: per_million(Decimal(value) * times) for kind, value in rates.items()}, Rates
    )


@functools.cache
def load_book() -> PriceBook:
    """The book that ships with this version."""
    return PriceBook.read(Path(__file__).with_name("book.json").read_bytes())

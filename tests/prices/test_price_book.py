"""The price book: which of its prices holds, by list, tier and day."""

import datetime

import pytest

from halfrate.base.money import per_million
from halfrate.prices.book import (
    Clause,
    Entry,
    EntryPrice,
    EntryStep,
    PriceBook,
    PriceList,
    checked,
    load_book,
)

SHIPPED = PriceList(
    (
        Entry(
            "acme",
            "large",
            match=(Clause(starts_with="large-20"),),
            prices=(
                EntryPrice("standard", {"input": "2", "output": "8"}),
                EntryPrice("standard", {"input": "1", "output": "4"}, since="2026-03-01"),
                EntryPrice("batch", {"input": "0.5", "output": "2"}),
            ),
            source="acme's page",
        ),
    ),
    source="the list",
)
OWN = PriceList(
    (
        Entry(
            "acme",
            "large",
            prices=(
                EntryPrice(
                    "standard", {"input": "0.9", "output": "3"}, since="2026-06-01", source="contract"
                ),
            ),
        ),
    )
)
BOOK = PriceBook(SHIPPED).below(OWN)


@pytest.mark.parametrize(
    ("day", "dollars", "source"),
    [
        ("2026-02-28", "2", "acme's page"),
        ("2026-03-01", "1", "acme's page"),
        ("2026-05-31", "1", "acme's page"),
        ("2026-06-01", "0.9", "contract"),
    ],
)
@pytest.mark.parametrize("name", ["large", "large-2026-01-01"])
def test_each_day_has_its_price(name: str, day: str, dollars: str, source: str) -> None:
    price = BOOK.find("acme", name, "standard", day)
    assert price is not None
    assert (price.rates.input, price.source) == (per_million(dollars), source)


def test_a_tier_that_ones_own_list_does_not_have_is_the_books() -> None:
    batch = BOOK.find("acme", "large", "batch", "2026-07-01")
    assert batch is not None
    assert batch.rates.output == per_million("2")


def test_what_is_not_known_has_no_price() -> None:
    assert BOOK.find("acme", "small", "standard", "2026-07-01") is None
    assert BOOK.find("other", "large", "standard", "2026-07-01") is None
    assert BOOK.find("acme", "large", "flex", "2026-07-01") is None
    assert PriceBook(OWN).find("acme", "large", "standard", "2026-05-31") is None, "it had no price before"


@pytest.mark.parametrize(
    ("price", "why"),
    [
        (EntryPrice("batch", {"output": "1"}), "what input costs"),
        (EntryPrice("batch", {"input": "-1"}), "less than nothing"),
        (EntryPrice("batch", {"input": "cheap"}), "no price"),
        (EntryPrice("batch", {"input": "NaN"}), "NaN"),
        (EntryPrice("batch", {"input": "Infinity"}), "no price"),
        (EntryPrice("batch", {"input": "0.0000001"}), "finer than a picodollar"),
        (EntryPrice("batch", {"input": "1", "smell": "1"}), "no kind of token"),
        (EntryPrice("batch", {"input": "1"}, since="soon"), "soon"),
        (EntryPrice("batch", {"input": "1"}, steps=(EntryStep(9, {"input": "-1"}),)), "less than nothing"),
    ],
)
def test_what_is_no_price_is_refused(price: EntryPrice, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked(Entry("acme", "large", prices=(price,)))


def test_every_price_that_ships_is_one_and_says_where_it_is_from() -> None:
    book = load_book()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    models = book.models()
    assert len(models) > 900
    found = [
        book.find(*model, tier, today)
        for model in models
        for tier in ("standard", "batch", "flex", "priority")
    ]
    priced = [price for price in found if price is not None]
    assert len(priced) > len(models)
    assert all(price.source for price in priced)
    assert all(price.rates.input is not None or price.rates.output is not None for price in priced)

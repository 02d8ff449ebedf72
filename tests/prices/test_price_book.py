"""The price book: which of its prices holds, by list, tier and day."""

import datetime
from decimal import Decimal

import msgspec
import pytest

from halfrate.base.money import per_million
from halfrate.prices.book import (
    Clause,
    Entry,
    EntryPrice,
    EntryStep,
    PriceBook,
    PriceList,
    Uplift,
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


PLACES = PriceBook(
    PriceList(
        (
            Entry(
                "acme",
                "large",
                prices=(
                    EntryPrice("batch", {"input": "0.5"}, (EntryStep(9, {"input": "1"}),)),
                    EntryPrice("batch", {"input": "0.7"}, region="eu", since="2026-03-01"),
                ),
                source="acme's page",
            ),
            Entry("acme", "small", prices=(EntryPrice("batch", {"input": "0.1"}),)),
        ),
        source="the list",
        uplifts=(
            Uplift("acme", "^large", "1.1", regions=("us",), source="a tenth more"),
            Uplift("acme", "^small", "2", source="twice"),
        ),
    )
)


@pytest.mark.parametrize(
    ("model", "region", "day", "dollars", "source"),
    [
        ("large", "", "2026-05-01", "0.5", "acme's page"),
        ("large", "us", "2026-05-01", "0.55", "acme's page; a tenth more"),
        ("large", "eu", "2026-05-01", "0.7", "acme's page"),
        # Before it had a price of its own, and where none is known, it costs what it costs anywhere.
        ("large", "eu", "2026-02-01", "0.5", "acme's page"),
        ("large", "jp", "2026-05-01", "0.5", "acme's page"),
        ("small", "jp", "2026-05-01", "0.2", "the list; twice"),
    ],
)
def test_a_place_may_have_its_own_price(model: str, region: str, day: str, dollars: str, source: str) -> None:
    price = PLACES.find("acme", model, "batch", day, region)
    assert price is not None
    assert (price.rates.input, price.source) == (per_million(dollars), source)


def test_a_price_brings_those_of_the_places_that_a_result_may_name() -> None:
    price = PLACES.find("acme", "large", "batch", "2026-05-01")
    assert price is not None
    there = {place: one.rates.input for place, one in price.regions.items()}
    assert there == {"us": per_million("0.55"), "eu": per_million("0.7")}
    assert price.regions["us"].steps[0].rates.input == per_million("1.1")
    anywhere = PLACES.find("acme", "small", "batch", "2026-05-01")
    assert anywhere is not None
    assert anywhere.regions == {}


def test_ones_own_price_is_dearer_in_a_dear_place_too() -> None:
    own = PriceList((Entry("acme", "large", prices=(EntryPrice("batch", {"input": "0.4"}),)),))
    price = PLACES.below(own).find("acme", "large", "batch", "2026-05-01", "us")
    assert price is not None
    assert price.rates.input == per_million("0.44")


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
        book.find(*model, tier, today, region)
        for model in models
        for tier in ("standard", "batch", "flex", "priority")
        for region in ("", "us")
    ]
    priced = [price for price in found if price is not None]
    assert len(priced) > 2 * len(models)
    assert all(price.source for price in priced)
    assert all(price.rates.input is not None or price.rates.output is not None for price in priced)


@pytest.mark.parametrize(
    ("model", "day", "input_"),
    [
        ("gemini/gemini-3.6-flash", "2026-11-22", "0.375"),
        ("gemini/gemini-3.6-flash", "2027-01-01", "0.75"),
        ("vertex/gemini-embedding-001", "2026-11-22", "0.12"),
        ("openai/gpt-4.1-mini", "2026-01-01", "0.2"),
    ],
)
def test_a_batch_price_that_changes_has_its_day(model: str, day: str, input_: str) -> None:
    provider, name = model.split("/")
    price = load_book().find(provider, name, "batch", day)
    assert price is not None
    assert price.rates.input == per_million(input_)


@pytest.mark.parametrize(
    ("model", "region", "times"),
    [
        ("anthropic/claude-sonnet-4-5", "us", "1"),
        ("anthropic/claude-sonnet-4-6", "us", "1.1"),
        ("anthropic/claude-opus-5-5", "us", "1.1"),
        ("openai/gpt-5.2", "eu", "1"),
        ("openai/gpt-5.4", "eu", "1.1"),
    ],
)
def test_what_a_place_costs_more(model: str, region: str, times: str) -> None:
    provider, name = model.split("/")
    book = load_book()
    for tier in ("batch", "standard"):
        here = book.find(provider, name, tier, "2026-11-22")
        there = book.find(provider, name, tier, "2026-11-22", region)
        assert here is not None
        assert there is not None
        for kind, rate in msgspec.structs.asdict(here.rates).items():
            dear = getattr(there.rates, kind)
            assert dear == (None if rate is None else rate * Decimal(times)), kind


def test_cached_input_of_gemini_3_is_halved_at_vertex_and_not_at_the_gemini_api() -> None:
    found = [
        load_book().find(provider, "gemini-3-flash-preview", "batch", "2026-11-22")
        for provider in ("gemini", "vertex")
    ]
    assert [price and price.rates.cached for price in found] == [per_million("0.05"), per_million("0.025")]

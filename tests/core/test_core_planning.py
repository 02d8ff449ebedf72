"""Prices, forecasts and deadlines: exact where money is concerned, refused where nothing is known."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import UsageError
from halfrate.base.results import Tokens
from halfrate.base.types import JobPrices, Price, Rates, RequestSpec, Step, Usage
from halfrate.core.estimates import OUTPUT, Sample
from halfrate.core.planning import forecast, prompt_hash, spec_hash
from halfrate.core.pricing import JobPricing, cost, usage_cost
from halfrate.service.deadlines import deadline_at

FLAT = Price(model="m", tier="batch", rates=Rates(input=50_000, cached=12_500, output=200_000))
STEPPED = Price(
    model="m",
    tier="batch",
    rates=Rates(input=100, output=1000),
    steps=(
        Step(above=1000, rates=Rates(input=200, output=1500)),
        Step(above=5000, rates=Rates(input=300, output=2000)),
    ),
)
COUNTS = st.integers(0, 10**7)


def tokens(read: int, out: int, *, cached: int = 0, write: int = 0) -> Tokens:
    return Tokens(read, cached, write, 0, out)


@given(st.lists(st.tuples(COUNTS, COUNTS), max_size=20))
def test_at_a_flat_price_sums_are_exact(rows: list[tuple[int, int]]) -> None:
    costs = [cost(tokens(read, out), FLAT) for read, out in rows]
    total = sum(one for one in costs if one is not None)
    assert None not in costs
    usage = Usage(input=sum(read for read, _ in rows), output=sum(out for _, out in rows))
    assert total == usage_cost(usage, FLAT.rates)
    assert total == usage.input * 50_000 + usage.output * 200_000


def test_a_step_is_judged_by_each_requests_own_input() -> None:
    assert cost(tokens(1000, 1), STEPPED) == 1000 * 100 + 1000
    assert cost(tokens(1001, 1), STEPPED) == 1001 * 200 + 1500
    assert cost(tokens(5001, 0), STEPPED) == 5001 * 300
    # Two short requests are not one long one.
    assert 2 * (cost(tokens(800, 0), STEPPED) or 0) == 160_000


def test_what_is_unknown_is_none_and_never_zero() -> None:
    assert cost(tokens(1, 1), None) is None
    assert cost(tokens(1, 1, write=1), FLAT) is None
    assert cost(tokens(1, 1), FLAT) == 250_000
    half = Price(model="m", tier="batch", rates=Rates(input=5))
    assert cost(tokens(1, 0), half) == 5
    assert cost(tokens(1, 1), half) is None


HEARD = Rates(input=10, cached=1, output=100, audio_input=50, audio_cached=5, audio_output=300)


def test_sound_and_pictures_cost_what_they_cost_where_that_is_said() -> None:
    """A token of sound is not a token of text as well."""
    used = Tokens(100, 40, output=20, audio_input=30, audio_cached=10, audio_output=5)
    apart = 70 * 10 + 30 * 50 + 30 * 1 + 10 * 5 + 15 * 100 + 5 * 300
    assert cost(used, Price(model="m", tier="batch", rates=HEARD)) == apart
    plain = Rates(input=10, cached=1, output=100)
    assert cost(used, Price(model="m", tier="batch", rates=plain)) == 100 * 10 + 40 + 20 * 100
    drawn = Price(model="m", tier="batch", rates=Rates(input=10, output=100, image_output=900))
    assert cost(Tokens(3, output=20, image_output=12), drawn) == 30 + 8 * 100 + 12 * 900
    # A model with a price for sound that is read and none for what it says: nobody knows what that costs.
    half = Price(model="m", tier="batch", rates=Rates(input=10, cached=1, output=100, audio_input=50))
    assert cost(Tokens(100, output=20, audio_input=30), half) == 70 * 10 + 30 * 50 + 2000
    assert cost(Tokens(100, output=20, audio_output=1), half) is None
    assert cost(Tokens(100, 10, audio_cached=10), half) is None


def test_what_sound_would_have_cost_without_a_cache() -> None:
    pricing = JobPricing(JobPrices({"m": Price(model="m", tier="batch", rates=HEARD)}, {}))
    used = Tokens(100, 40, output=20, audio_input=30, audio_cached=10)
    assert pricing.uncached("m", used, "batch") == 100 * 10 + 40 * 50 + 2000


def test_a_request_that_was_run_elsewhere_has_the_price_of_that_place() -> None:
    there = Price(model="m", tier="batch", rates=Rates(input=110))
    price = Price(model="m", tier="batch", rates=Rates(input=100), regions={"us": there})
    assert cost(Tokens(3), price) == 300
    assert cost(Tokens(3, region="us"), price) == 330
    assert cost(Tokens(3, region="mars"), price) is None, "nobody here knows what that costs"


def test_a_snapshot_is_billed_as_the_model_that_was_asked_for() -> None:
    prices: dict[str, Price | None] = {"gpt-4.1": FLAT, "gpt-4.1-mini": STEPPED}
    pricing = JobPricing(JobPrices(prices, prices))
    assert pricing.priced_as("gpt-4.1-mini-2025-04-14") == "gpt-4.1-mini"
    assert pricing.priced_as("gpt-4.1-2025-04-14") == "gpt-4.1"
    assert pricing.priced_as("other") == "other"
    assert pricing.paid("other", tokens(1, 1), "batch") is None
    one = JobPricing(JobPrices({"alias": FLAT}, {"alias": FLAT}))
    assert one.priced_as("what-it-stands-for") == "alias"
    assert one.paid("alias", tokens(1, 0), "batch") == one.standard("alias", tokens(1, 0)) == 50_000


def spec(**options: Any) -> RequestSpec:
    options = {"provider": "openai", "model": "m", "endpoint": "chat", **options}
    return RequestSpec(**options)


PRICES = JobPrices({"m": FLAT}, {"m": FLAT})


def test_a_forecast() -> None:
    plan = forecast(spec(), 10, 4200, PRICES)
    assert (plan.input_tokens, plan.output_tokens) == (1000, 10 * OUTPUT[1])
    assert plan.cost == 1000 * 50_000 + 2000 * 200_000 == plan.realtime_cost
    assert forecast(spec(max_tokens=5), 10, 0, PRICES).output_tokens == 50
    assert forecast(spec(max_tokens=1000), 10, 0, PRICES).output_tokens == 10 * OUTPUT[1]
    assert forecast(spec(max_tokens=1000), 10, 0, PRICES, ceiling=True).output_tokens == 10_000
    assert forecast(spec(endpoint="embeddings"), 10, 4200, PRICES).output_tokens == 0
    assert (plan.cost_low or 0) < (plan.cost or 0) < (plan.cost_high or 0)
    assert plan.basis == "nothing"


def test_the_most_that_a_job_may_cost_counts_on_no_cache_and_no_luck() -> None:
    known = [Sample(same=True, rows=10, text_bytes=4000, input=1000, cached=900, output=100)]
    plan = forecast(spec(), 10, 4000, PRICES, samples=known)
    most = forecast(spec(), 10, 4000, PRICES, samples=known, ceiling=True)
    assert (plan.input_tokens, plan.cost) == (1000, 100 * 50_000 + 900 * 12_500 + 100 * 200_000)
    assert plan.cost_high == most.cost
    assert most.cost is not None
    assert most.cost > 1000 * 50_000 + 100 * 200_000


def test_one_unknown_price_makes_the_sum_unknown_and_the_dearest_is_assumed() -> None:
    assert forecast(spec(), 1, 42, JobPrices({"m": FLAT, "n": None}, {})).cost is None
    dear = forecast(spec(), 1, 420, JobPrices({"m": FLAT, "n": STEPPED}, {}))
    assert dear.cost == forecast(spec(), 1, 420, PRICES).cost
    assert dear.realtime_cost is None


def test_a_prompt_is_the_same_whoever_asks_it() -> None:
    assert prompt_hash(spec(prompt="a")) == prompt_hash(spec(prompt="a"))
    assert prompt_hash(spec(prompt="a")) != prompt_hash(spec(prompt="b"))
    assert prompt_hash(spec(native="openai")) == "", "each of its rows asks what it likes"


def test_the_same_request_has_the_same_name() -> None:
    assert spec_hash(spec(prompt="a"), "x") == spec_hash(spec(prompt="a"), "x")
    others = [spec(prompt="b"), spec(prompt="a", max_tokens=1), spec(prompt="a", params={"k": 1})]
    names = {spec_hash(other, "x") for other in others} | {spec_hash(spec(prompt="a"), "y")}
    assert len(names) == 4
    assert spec_hash(spec(prompt="a"), "x") not in names
    assert spec_hash(spec(params={"a": 1, "b": 2}), "x") == spec_hash(spec(params={"b": 2, "a": 1}), "x")


NOW = datetime.datetime(2026, 10, 5, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("8h", 8),
        ("90m", 1.5),
        ("90 min", 1.5),
        ("2d", 48),
        ("0.5h", 0.5),
        (" 8h ", 8),
        ("2026-10-05T13:00Z", 1),
    ],
)
def test_deadlines(text: str, hours: float) -> None:
    assert deadline_at(text, NOW) == NOW.timestamp() + hours * 3600


def test_deadlines_of_other_kinds() -> None:
    assert deadline_at(None, NOW) is None
    assert deadline_at(datetime.timedelta(hours=1), NOW) == NOW.timestamp() + 3600
    assert deadline_at(NOW + datetime.timedelta(minutes=5), NOW) == NOW.timestamp() + 300
    at = deadline_at("06:00", NOW)
    assert at is not None
    assert 0 < at - NOW.timestamp() <= 86_400
    assert datetime.datetime.fromtimestamp(at).astimezone().strftime("%H:%M") == "06:00"
    naive = datetime.datetime(2099, 1, 1)  # noqa: DTZ001
    assert deadline_at(naive, NOW) == naive.timestamp()


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "soon",
        "8",
        "8 hours or so",
        "-1h",
        "24:00",
        "12:99",
        "2026-13-01",
        "0h",
        "2020-01-01",
        "1e9h",
        "9" * 400 + "d",
    ],
)
def test_what_is_no_deadline(wanted: str) -> None:
    with pytest.raises(UsageError, match="Nothing was sent"):
        deadline_at(wanted, NOW)
    with pytest.raises(UsageError, match="past"):
        deadline_at(datetime.timedelta(hours=-1), NOW)


@given(st.text(max_size=20))
def test_any_text_is_a_deadline_or_refused(text: str) -> None:
    try:
        at = deadline_at(text, NOW)
    except UsageError:
        return
    assert at is not None
    assert at > NOW.timestamp()

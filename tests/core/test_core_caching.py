"""Whether a cache pays: held against what the same rows cost, added up one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import UsageError
from halfrate.base.types import CacheRules, Price, Rates
from halfrate.core.caching import HITS, SEED, CachePlan, Life, choose, least_of, weigh

# Sonnet's, in a batch: 1.50 a million, a tenth of it read, 1.25 and 2 times of it written.
RATES = Rates(input=1_500_000, cached=150_000, write_5m=1_875_000, write_1h=3_000_000, output=7_500_000)
PRICE = Price(model="m", tier="batch", rates=RATES)


@given(
    st.integers(1, 100_000),
    st.integers(0, 20_000),
    st.sampled_from(["5m", "1h"]),
    st.booleans(),
    st.sampled_from([0, 1024, 4096]),
)
def test_the_sum_is_that_of_the_rows(rows: int, shared: int, life: Life, batched: bool, least: int) -> None:
    plan = weigh(PRICE, rows, shared, life, batched=batched, least=least)
    assert plan is not None
    if plan.life is None:
        assert shared < least or rows <= (SEED if batched else 1)
        return
    written = 3_000_000 if life == "1h" else 1_875_000
    first = SEED if batched else 1
    hits = round((rows - first) * HITS[batched, life])
    paid = hits * shared * 150_000 + (rows - hits) * shared * written
    assert plan.saves == rows * shared * 1_500_000 - paid
    assert plan.most == rows * shared * 1_500_000 - shared * ((rows - first) * 150_000 + first * written)
    assert plan.risk == rows * shared * (written - 1_500_000) >= -plan.saves
    assert plan.seed == (SEED if batched else 0)


@given(st.integers(1, 5_000), st.integers(0, 8_000), st.booleans(), st.booleans())
def test_what_is_chosen_by_itself_never_costs_more(
    rows: int, shared: int, batched: bool, hurried: bool
) -> None:
    plan = choose("auto", PRICE, rows, shared, batched=batched, least=1024, hurried=hurried)
    if plan.life is None:
        assert plan == CachePlan()
    else:
        assert plan.saves > 0.05 * rows * shared * 1_500_000
        assert shared >= 1024
        assert not (hurried and batched)


def test_many_rows_that_share_much_are_cached_for_an_hour_behind_a_batch_that_goes_first() -> None:
    plan = choose("auto", PRICE, 1000, 2000, batched=True, least=1024, hurried=False)
    assert (plan.life, plan.seed, plan.shared) == ("1h", SEED, 2000)
    assert plan.saves > 0.6 * 1000 * 2000 * 1_500_000


def test_in_real_time_five_minutes_are_enough() -> None:
    plan = choose("auto", PRICE, 1000, 2000, batched=False, least=1024, hurried=True)
    assert (plan.life, plan.seed) == ("5m", 0)


@pytest.mark.parametrize(
    ("wanted", "rows", "shared", "price", "why"),
    [
        ("1h", 3, 2000, PRICE, "more than it saves"),
        ("5m", 1000, 2000, PRICE, "more than it saves"),
        ("1h", 1000, 900, PRICE, "fewer than 1,024 are not cached"),
        ("1h", 1000, 2000, None, "unknown"),
        ("1h", 1000, 2000, Price(model="m", tier="batch", rates=Rates(input=1, output=1)), "unknown"),
    ],
)
def test_marks_that_would_cost_more_are_refused(
    wanted: Life, rows: int, shared: int, price: Price | None, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        choose(wanted, price, rows, shared, batched=True, least=1024, hurried=False)
    assert (
        choose(
            "auto",
            price,
            rows if why != "more than it saves" else 3,
            shared,
            batched=True,
            least=1024,
            hurried=False,
        )
        == CachePlan()
    )


def test_off_is_off() -> None:
    assert choose("off", PRICE, 10**6, 10**5, batched=True, least=0, hurried=False) == CachePlan()


def test_the_least_is_the_first_pattern_that_fits() -> None:
    rules = CacheRules(marks=True, least=(("haiku-4-5", 4096), ("haiku", 2048), ("", 1024)))
    assert [least_of(rules, name) for name in ("claude-haiku-4-5", "claude-haiku-3", "x")] == [
        4096,
        2048,
        1024,
    ]


def test_beside_a_deadline_no_batch_goes_first() -> None:
    with pytest.raises(UsageError, match="there is a deadline"):
        choose("1h", PRICE, 1000, 2000, batched=True, least=1024, hurried=True)
    assert choose("1h", PRICE, 1000, 2000, batched=False, least=1024, hurried=True).life == "1h"

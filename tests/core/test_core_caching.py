"""Whether a cache pays: held against what the same rows cost, added up one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import UsageError
from halfrate.base.types import CacheRules, Price, Rates
from halfrate.core.caching import (
    HITS,
    SEED,
    Cache,
    CachePlan,
    Life,
    choose,
    least_of,
    part_of,
    weigh,
    weigh_groups,
)

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
    assert plan.first == (SEED if batched else 0)


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
    assert (plan.life, plan.first, plan.shared) == ("1h", SEED, 2000)
    assert plan.saves > 0.6 * 1000 * 2000 * 1_500_000


def test_in_real_time_five_minutes_are_enough() -> None:
    plan = choose("auto", PRICE, 1000, 2000, batched=False, least=1024, hurried=True)
    assert (plan.life, plan.first) == ("5m", 0)


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


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 8_000), st.integers(2, 200)), st.integers(1, 5), min_size=1, max_size=8
    ),
    st.sampled_from(["5m", "1h"]),
    st.integers(0, 2_000),
)
def test_what_groups_save_is_the_sum_of_their_rows(
    groups: dict[tuple[float, int], int], life: Life, before: int
) -> None:
    plan = weigh_groups(PRICE, groups, life, before, least=1024)
    written = 3_000_000 if life == "1h" else 1_875_000
    share = HITS[True, life]
    saves = most = risk = rows_in_groups = 0.0
    for (shared, rows), many in groups.items():
        tokens = shared + before
        unmarked = rows * 1_500_000
        first = 2 if rows >= 50 else 1
        paid = first * written + (rows - first) * (share * 150_000 + (1 - share) * written)
        if tokens < 1024 or unmarked - paid <= 0.05 * unmarked:
            continue
        assert rows >= plan.fewest
        rows_in_groups += many * rows
        saves += many * tokens * (unmarked - paid)
        most += many * tokens * (unmarked - first * written - (rows - first) * 150_000)
        risk += many * tokens * (rows * written - unmarked)
    assert plan.grouped == rows_in_groups
    assert (plan.life, plan.fewest > 0) == ((life, True) if rows_in_groups else (None, False))
    assert (plan.saves, plan.most, plan.risk) == tuple(
        pytest.approx(sum_, abs=1) for sum_ in (saves, most, risk)
    )


def test_three_rows_are_a_group_and_two_are_not() -> None:
    assert weigh_groups(PRICE, {(2000, 2): 9}, "1h", 0, least=1024) == CachePlan()
    plan = weigh_groups(PRICE, {(2000, 2): 9, (2000, 3): 4}, "1h", 0, least=1024)
    assert (plan.groups, plan.grouped, plan.fewest) == (4, 12, 3)
    # In five minutes the batch that follows is not through.
    assert weigh_groups(PRICE, {(2000, 50): 9}, "5m", 0, least=1024) == CachePlan()
    assert weigh_groups(None, {(2000, 50): 9}, "1h", 0, least=1024) == CachePlan()


def test_a_few_groups_among_many_rows_are_not_worth_a_batch_that_goes_first() -> None:
    def chosen(wanted: Cache, tokens: int) -> CachePlan:
        return choose(
            wanted,
            PRICE,
            10_000,
            0,
            batched=True,
            least=1024,
            hurried=False,
            groups={(2000, 10): 1},
            tokens=tokens,
        )

    assert chosen("auto", 100_000).groups == 1
    assert chosen("auto", 10_000_000) == CachePlan()
    # Who asks for it gets it.
    assert chosen("1h", 10_000_000).groups == 1


def test_what_groups_share_counts_beside_what_all_rows_share() -> None:
    def chosen(shared: int, own: int) -> CachePlan:
        return choose(
            "auto",
            PRICE,
            100,
            shared,
            batched=True,
            least=1024,
            hurried=False,
            groups={(own, 50): 2},
            tokens=100 * (shared + own),
        )

    both, alone, all_rows = chosen(2000, 500), chosen(500, 2000), chosen(2000, 0)
    assert (both.shared, both.first, both.groups) == (2000, 4, 2)
    assert (alone.shared, alone.first, alone.groups) == (0, 4, 2)
    assert (all_rows.shared, all_rows.groups) == (2000, 0)
    # Neither is long enough by itself.
    assert chosen(600, 600).groups == 2
    assert chosen(400, 600) == CachePlan()
    beside = weigh_groups(PRICE, {(500, 50): 2}, "1h", 0, least=0)
    all_rows = weigh(PRICE, 100, 2000, "1h", batched=True, least=1024, first=4)
    assert all_rows is not None
    assert both.saves == all_rows.saves + beside.saves


@given(st.integers(3, 5_000), st.integers(0, 5_000))
def test_what_is_left_of_a_plan_is_what_is_left_of_its_rows(rows: int, left: int) -> None:
    plan = weigh(PRICE, rows, 2000, "1h", batched=True, least=1024)
    assert plan is not None
    assert part_of(plan, rows, rows) == plan
    left = min(left, rows)
    rest = part_of(plan, left, rows)
    reading = min(left, rows - SEED)
    writing = left - reading
    share = (plan.saves + plan.risk * SEED / rows) / (rows - SEED)
    assert rest.saves == pytest.approx(reading * share - writing * plan.risk / rows, abs=writing + 3)
    assert part_of(plan, 0, rows).saves == 0

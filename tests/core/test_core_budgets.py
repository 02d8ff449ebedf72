"""Budgets: when their periods begin, whom they are for, and what they let through."""

import datetime
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import OverBudget, UsageError
from halfrate.core.budgets import (
    Amount,
    Budget,
    Period,
    Purse,
    Standing,
    Terms,
    check_budget,
    check_job,
    standing,
)

SEARCH = Terms("openai", "gpt-4.1-mini", {"team": "search", "env": "prod"})
OTHERS = Terms("work", "claude-haiku-4-5", {"team": "ads"})


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("period", "begun"),
    [("day", "2026-03-01"), ("week", "2026-02-23"), ("month", "2026-03-01"), ("ever", "1970-01-01")],
)
def test_a_period_begins_at_midnight_utc(period: Period, begun: str) -> None:
    # A Sunday, and the first of a month after a short one.
    for moment in ("2026-03-01T00:00:00", "2026-03-01T23:59:59"):
        assert Budget(period=period).since(at(moment)) == at(begun)


@given(st.floats(min_value=0, max_value=4e9), st.sampled_from(["day", "week", "month"]))
def test_every_moment_is_in_its_period(now: float, period: Period) -> None:
    begun = Budget(period=period).since(now)
    assert begun <= now
    assert begun == Budget(period=period).since(begun)
    assert now - begun < 31 * 86_400


@pytest.mark.parametrize(
    ("budget", "search", "others"),
    [
        (Budget(), True, True),
        (Budget(name="team", value="search"), True, False),
        (Budget(name="env", value="prod"), True, False),
        (Budget(name="account", value="work"), False, True),
        (Budget(name="model", value="gpt-4.1-mini"), True, False),
        (Budget(name="team", value=""), False, False),
        (Budget(name="nothing", value="search"), False, False),
    ],
)
def test_whom_a_budget_is_for(budget: Budget, search: bool, others: bool) -> None:
    assert (budget.covers(SEARCH), budget.covers(OTHERS)) == (search, others)


def test_what_is_paid_and_what_is_promised_count_for_those_it_is_for() -> None:
    found = standing(
        Budget(name="team", value="search", stop=100),
        [Amount("a", 30), Amount("b", 500), Amount("c", 5, unknown=2)],
        [Amount("a", 20, unknown=1), Amount("b", 700, unknown=9)],
        {"a": SEARCH, "b": OTHERS, "c": SEARCH},
    )
    assert (found.spent, found.promised, found.unknown) == (35, 20, 3)
    assert found.left == 45


def a_standing(*, stop: int | None = 100, warn: int | None = None, spent: int = 60) -> Standing:
    return Standing(budget=Budget(stop=stop, warn=warn), spent=spent, promised=10)


@pytest.mark.parametrize(
    ("asked", "stops"), [(0, False), (30, False), (31, True), (None, True)], ids=["0", "30", "31", "unknown"]
)
def test_what_a_budget_stops(asked: int | None, stops: bool) -> None:
    assert a_standing().stops(asked) is stops
    assert a_standing(stop=None, warn=1).stops(asked) is False
    refused = _raised(lambda: check_job(a_standing(), asked, [asked], "refuse"))
    assert (refused is not None) is stops


def _raised(call: Callable[[], object]) -> OverBudget | None:
    try:
        call()
    except OverBudget as error:
        return error
    return None


def test_a_job_that_may_wait_is_taken_on_unless_it_would_wait_for_ever() -> None:
    check_job(a_standing(), 5000, [100, 90], "wait")
    with pytest.raises(OverBudget, match=r"A single batch of this job .* never"):
        check_job(a_standing(), 5000, [101], "wait")
    with pytest.raises(OverBudget, match="unknown"):
        check_job(a_standing(), None, [None], "wait")


def test_a_warning_comes_when_its_amount_is_reached() -> None:
    warned = a_standing(warn=80)
    assert [warned.warns(asked) for asked in (0, 9, 10)] == [False, False, True]
    assert a_standing(warn=70).warns()


def test_a_budget_that_limits_nothing_is_none() -> None:
    with pytest.raises(UsageError, match="needs an amount"):
        check_budget(Budget())
    with pytest.raises(UsageError, match="too late"):
        check_budget(Budget(stop=5, warn=6))
    check_budget(Budget(stop=5, warn=5))


def test_a_purse_counts_along() -> None:
    purse = Purse(
        [
            Standing(budget=Budget(name="team", value="search", stop=100), spent=60, promised=10),
            Standing(budget=Budget(stop=1000), spent=900, promised=50),
            Standing(budget=Budget(warn=1), spent=900, promised=50),
        ]
    )
    assert purse.affords(SEARCH, 30)
    assert not purse.affords(SEARCH, 31)
    assert not purse.affords(SEARCH, None)
    purse.take(SEARCH, 30)
    assert not purse.affords(SEARCH, 1)
    assert purse.affords(SEARCH, 0)
    # What one team took is gone from everybody's as well.
    assert purse.affords(OTHERS, 20)
    assert not purse.affords(OTHERS, 21)

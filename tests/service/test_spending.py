"""Budgets between two looks at the ledger."""

import pytest

from halfrate.base.errors import OverBudget
from halfrate.core.budgets import Budget, Standing, Terms
from halfrate.service.spending import Spending

SEARCH = Terms("openai", "gpt-4.1-mini", {"team": "search"})
ADS = Terms("openai", "gpt-4.1-mini", {"team": "ads"})
BUDGET = Budget(name="team", value="search", stop=1_000)


class Books:
    """A ledger, and calls that are logged and not in it yet."""

    def __init__(self, *budgets: Budget) -> None:
        self.budgets = budgets
        self.spent = 0
        self.logged = 0
        self.spending = Spending(self.standings, self.book)

    def book(self) -> None:
        self.spent += self.logged
        self.logged = 0

    def standings(self) -> list[Standing]:
        return [Standing(budget=budget, spent=self.spent, promised=0) for budget in self.budgets]

    def pay(self, most: int, cost: int) -> None:
        """A call from its beginning to its end."""
        hold = self.spending.hold(SEARCH, lambda: most)
        self.logged += cost
        self.spending.settle(hold, cost)


def test_without_a_budget_nothing_is_asked() -> None:
    def never() -> int:
        raise AssertionError

    books = Books(Budget(name="team", value="search", warn=5))
    books.spending.refresh()
    assert books.spending.hold(SEARCH, never) is None
    books = Books(BUDGET)
    books.spending.refresh()
    assert books.spending.hold(ADS, never) is None
    books.spending.settle(None, 10)


def test_calls_under_way_are_counted_with_the_most_they_may_cost() -> None:
    books = Books(BUDGET)
    books.spending.refresh()
    first = books.spending.hold(SEARCH, lambda: 600)
    with pytest.raises(OverBudget, match="search"):
        books.spending.hold(SEARCH, lambda: 600)
    books.spending.settle(first, 100)
    assert books.spending.hold(SEARCH, lambda: 900) is not None
    with pytest.raises(OverBudget):
        books.spending.hold(SEARCH, lambda: 1)


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_the_sum_is_the_same_however_often_the_ledger_is_looked_at(looks: int) -> None:
    books = Books(BUDGET)
    books.spending.refresh()
    for _ in range(10):
        books.pay(100, 100)
        for _ in range(looks):
            books.spending.refresh()
    with pytest.raises(OverBudget):
        books.pay(100, 100)


def test_what_is_under_way_stays_set_aside_when_the_ledger_is_looked_at() -> None:
    books = Books(BUDGET)
    books.spending.refresh()
    hold = books.spending.hold(SEARCH, lambda: 900)
    books.spending.refresh()
    with pytest.raises(OverBudget):
        books.spending.hold(SEARCH, lambda: 200)
    books.spending.settle(hold, 0)
    assert books.spending.hold(SEARCH, lambda: 1_000) is not None


def test_what_has_no_price_is_not_let_through() -> None:
    books = Books(BUDGET)
    books.spending.refresh()
    with pytest.raises(OverBudget, match="unknown"):
        books.spending.hold(SEARCH, lambda: None)


def test_a_budget_that_is_set_or_dropped_holds_from_the_next_look_on() -> None:
    books = Books()
    books.spending.refresh()
    books.pay(10**9, 5_000)
    books.budgets = (BUDGET,)
    books.spending.refresh()
    with pytest.raises(OverBudget):
        books.pay(1, 1)
    books.budgets = ()
    books.spending.refresh()
    books.pay(10**9, 1)

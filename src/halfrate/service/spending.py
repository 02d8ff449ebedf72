"""Whether a call in real time may still be made: budgets, held against the ledger and what is not in it yet."""

import threading
from collections.abc import Callable, Sequence

import msgspec

from halfrate.base.errors import OverBudget
from halfrate.base.money import show_usd
from halfrate.core.budgets import Budget, Standing, Terms


class Hold(msgspec.Struct, frozen=True):
    """Money that is set aside for a call until it is known what it cost."""

    terms: Terms
    amount: int


class _Limit:
    """A budget that stops something, and what this process has let through since the ledger was looked at."""

    def __init__(self, standing: Standing) -> None:
        self.budget = standing.budget
        self.left = standing.left or 0
        self.spent = 0
        self.held = 0


class Spending:
    """Counts along what calls cost, so that a budget is not passed between two looks at the ledger.

    Another process's calls are known from the next look on. Safe to use from several threads.

    Args:
        standings: how all budgets stand; asked for in `refresh`.
        book: brings into the ledger what was logged.
    """

    def __init__(self, standings: Callable[[], Sequence[Standing]], book: Callable[[], object]) -> None:
        self._standings = standings
        self._book = book
        self._limits: dict[Budget, _Limit] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def refresh(self) -> None:
        """Bring calls into the ledger, and look at the budgets. Raises HalfrateError; then they stand as they did."""
        with self._turn:
            with self._lock:
                before = {budget: limit.spent for budget, limit in self._limits.items()}
            self._book()
            found = {one.budget: _Limit(one) for one in self._standings() if one.budget.stop is not None}
            with self._lock:
                for budget, limit in found.items():
                    known = self._limits.get(budget)
                    if known is not None:
                        # What was spent while the ledger was looked at may be in it or not: it is counted once more.
                        limit.spent = known.spent - before.get(budget, 0)
                        limit.held = known.held
                self._limits = found

    def hold(self, terms: Terms, worst: Callable[[], int | None]) -> Hold | None:
        """Set money aside for a call; None where no budget covers it. Raises OverBudget.

        `worst`: picodollars that it may cost, None where that is unknown; only asked where a budget covers it.
        """
        limits = self._limits
        if not any(budget.covers(terms) for budget in limits):
            return None
        most = worst()
        with self._lock:
            covering = [limit for limit in self._limits.values() if limit.budget.covers(terms)]
            for limit in covering:
                if most is None:
                    raise OverBudget(
                        f"What a call of {terms.account}/{terms.model} costs is unknown, and a budget stops it "
                        f"({limit.budget.title}). Nothing was sent."
                    )
                left = limit.left - limit.spent - limit.held
                if most > left:
                    raise OverBudget(
                        f"A budget stops this call: it may cost {show_usd(most)}, and {show_usd(max(0, left))} are "
                        f"left ({limit.budget.title}). Nothing was sent."
                    )
            for limit in covering:
                limit.held += most or 0
        return Hold(terms, most or 0) if covering else None

    @property
    def limited(self) -> bool:
        """Whether any budget stops anything."""
        return bool(self._limits)

    def settle(self, hold: Hold | None, cost: int) -> None:
        """The call has ended: picodollars that it cost."""
        if hold is None:
            return
        with self._lock:
            for limit in self._limits.values():
                if limit.budget.covers(hold.terms):
                    limit.held = max(0, limit.held - hold.amount)
                    limit.spent += cost

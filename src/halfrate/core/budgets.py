"""Budgets: what may be spent in a day, a week, a month or ever, on whose account. Pure.

A budget is held against what was paid in its period and what is promised: the rows of open jobs that are still to be
paid for, at what they should cost. Days, weeks (from Monday on) and months are UTC's, as they are on providers' bills.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from halfrate.base.errors import OverBudget, UsageError
from halfrate.base.money import show_usd
from halfrate.core.job import Job

Period: TypeAlias = Literal["day", "week", "month", "ever"]
OnBudget: TypeAlias = Literal["refuse", "wait"]
"""What becomes of a job that would cross a budget: it is not taken on, or its rows wait until there is room."""

_SPAN: Final = {"day": "a day", "week": "a week", "month": "a month", "ever": "in all"}
_DAY: Final = 86_400.0


class Terms(msgspec.Struct, frozen=True):
    """What of a job tells which budgets it is under. `account`: the name that it was asked for by."""

    account: str
    model: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, job: Job) -> "Terms":
        account, _, _ = job.label.partition("/")
        return cls(account, job.spec.model, job.tags)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on money in a period; picodollars.

    `name` is "account", "model" or a tag's name, with the `value` that jobs have there; "" for all jobs. From `warn` on
    there is a warning, beyond `stop` nothing more is sent; each may be None.
    """

    name: str = ""
    value: str = ""
    period: Period = "month"
    warn: int | None = None
    stop: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.name}={self.value}" if self.name else "all"

    @property
    def title(self) -> str:
        """As in `team=search, a month`."""
        return f"{self.scope}, {_SPAN[self.period]}"

    def covers(self, terms: Terms) -> bool:
        match self.name:
            case "":
                return True
            case "account":
                return terms.account == self.value
            case "model":
                return terms.model == self.value
            case _:
                return terms.tags.get(self.name) == self.value

    def since(self, now: float) -> float:
        """When the period began that `now` is in. Seconds since 1970 UTC."""
        day = now - now % _DAY
        match self.period:
            case "day":
                return day
            case "week":
                return day - datetime.datetime.fromtimestamp(day, datetime.UTC).weekday() * _DAY
            case "month":
                return day - (datetime.datetime.fromtimestamp(day, datetime.UTC).day - 1) * _DAY
            case "ever":
                return 0.0


class Amount(msgspec.Struct, frozen=True):
    """Money for some rows of a job: picodollars for those whose price is known, and how many have none."""

    job_id: str
    cost: int
    unknown: int = 0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget stands: `spent` in the period, `promised` to rows that are still to be paid for. Picodollars.

    `unknown`: payments and shards whose price nobody knows, and which are in neither sum.
    """

    budget: Budget
    spent: int
    promised: int
    unknown: int = 0

    @property
    def taken(self) -> int:
        return self.spent + self.promised

    @property
    def left(self) -> int | None:
        """What may still be promised; None where nothing stops it."""
        return None if self.budget.stop is None else max(0, self.budget.stop - self.taken)

    def stops(self, asked: int | None) -> bool:
        """Whether something for `asked` picodollars would cross it. What has no price cannot be held against it."""
        if self.budget.stop is None:
            return False
        return asked is None or self.taken + asked > self.budget.stop

    def warns(self, asked: int = 0) -> bool:
        return self.budget.warn is not None and self.taken + asked >= self.budget.warn

    def plus(self, asked: int) -> "Standing":
        """With something for `asked` picodollars promised besides."""
        return msgspec.structs.replace(self, promised=self.promised + asked)

    def text(self) -> str:
        """As in `$4.20 spent and $1.00 promised of $5.00 (team=search, a month)`."""
        parts = f"{show_usd(self.spent)} spent and {show_usd(self.promised)} promised"
        most = self.budget.stop if self.budget.stop is not None else self.budget.warn
        return f"{parts} of {show_usd(most)} ({self.budget.title})"


def standing(
    budget: Budget, spent: Iterable[Amount], promised: Iterable[Amount], terms: Mapping[str, Terms]
) -> Standing:
    """`spent`: what was paid in the budget's period. `terms`: of every job that is named in one of them."""
    paid = [one for one in spent if budget.covers(terms[one.job_id])]
    open_ = [one for one in promised if budget.covers(terms[one.job_id])]
    return Standing(
        budget=budget,
        spent=sum(one.cost for one in paid),
        promised=sum(one.cost for one in open_),
        unknown=sum(one.unknown for one in (*paid, *open_)),
    )


def check_budget(budget: Budget) -> None:
    """Raises UsageError for what limits nothing, or warns too late."""
    if budget.warn is None and budget.stop is None:
        raise UsageError("A budget needs an amount to stop at, or one to warn at. Nothing was changed.")
    if budget.warn is not None and budget.stop is not None and budget.warn > budget.stop:
        raise UsageError(
            f"A warning from {show_usd(budget.warn)} on comes too late where {show_usd(budget.stop)} stops it. Nothing "
            "was changed."
        )


def check_job(
    one: Standing, asked: int | None, stakes: Iterable[int | None], on_budget: OnBudget, *, hoped: int = 0
) -> None:
    """Raises OverBudget where a job must not be taken on that should cost `asked`, its shards `stakes`.

    `hoped`: what a cache should save of that, and was never seen to.
    """
    if not one.stops(asked):
        return
    if asked is None:
        raise OverBudget(
            f"What this job would cost is unknown, and a budget stops it: {one.text()}. `halfrate price set` notes a "
            "price of your own. Nothing was sent."
        )
    without = ", not counting on a cache that is new to this model" if hoped else ""
    if on_budget == "refuse":
        raise OverBudget(
            f"This job should cost {show_usd(asked)}{without}, and a budget stops it: {one.text()}. Nothing was sent. "
            "With --over-budget wait it is taken on, and sent as far as the budget allows."
        )
    most = one.budget.stop or 0
    largest = max((stake or 0 for stake in stakes), default=0)
    if largest > most:
        raise OverBudget(
            f"A single batch of this job should cost {show_usd(largest)}{without}, which a budget of {show_usd(most)} "
            f"({one.budget.title}) would never let through. Nothing was sent."
        )


class Purse:
    """What may be sent now: budgets against what was paid and what is at work, counting along what is let through.

    Args:
        standings: of the budgets that stop anything; `promised` is what is at work.
    """

    def __init__(self, standings: Sequence[Standing]) -> None:
        self._left = [(one.budget, one.left or 0) for one in standings if one.budget.stop is not None]

    def affords(self, terms: Terms, cost: int | None) -> bool:
        """Whether a shard for `cost` picodollars crosses no budget."""
        return all(cost is not None and cost <= left for budget, left in self._left if budget.covers(terms))

    def take(self, terms: Terms, cost: int | None) -> bool:
        """Whether it crosses none; then it is counted along."""
        if not self.affords(terms, cost):
            return False
        self._left = [
            (budget, left - (cost or 0) if budget.covers(terms) else left) for budget, left in self._left
        ]
        return True

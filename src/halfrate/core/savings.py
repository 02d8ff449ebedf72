"""What waiting would save, from a few figures that a person knows: arithmetic, and nothing looked up."""

from fractions import Fraction
from typing import Final

import msgspec

from halfrate.base.results import Tokens
from halfrate.base.types import Price
from halfrate.core.pricing import cost

RUNS_A_YEAR: Final = {"hour": 8760, "day": 365, "week": 52, "month": 12, "quarter": 4, "year": 1}
"""How often something happens in a year that happens every so often. A year has 52 weeks here, and 365 days."""


class Saving(msgspec.Struct, frozen=True):
    """Picodollars: in real time and in a batch, of one run."""

    realtime: int
    batch: int

    @property
    def saved(self) -> int:
        return self.realtime - self.batch

    @property
    def share(self) -> Fraction:
        """Of the price of real time; 0 where that is nothing."""
        return Fraction(self.saved, self.realtime) if self.realtime else Fraction(0)

    def times(self, runs: int) -> "Saving":
        return Saving(self.realtime * runs, self.batch * runs)


def of_rows(rows: int, tokens: Tokens, standard: Price | None, batch: Price | None) -> Saving | None:
    """What `rows` requests of these tokens cost each way; None where a price is unknown."""
    dear, cheap = cost(tokens, standard), cost(tokens, batch)
    return None if dear is None or cheap is None else Saving(rows * dear, rows * cheap)


class SpendSaving(msgspec.Struct, frozen=True):
    """A bill, part of which moves to batches while the rest is served more cheaply. Picodollars.

    `rest` and `total` are the least and the most, as what the rest saves is an assumption with a range.
    """

    spend: int
    batch: int
    rest: tuple[int, int]

    @property
    def total(self) -> tuple[int, int]:
        return (self.batch + self.rest[0], self.batch + self.rest[1])

    @property
    def shares(self) -> tuple[Fraction, Fraction]:
        """Of the bill; 0 where that is nothing."""
        if not self.spend:
            return (Fraction(0), Fraction(0))
        low, high = self.total
        return (Fraction(low, self.spend), Fraction(high, self.spend))


def of_spend(
    spend: int, batch_share: Fraction, discount: Fraction, rest_saving: tuple[Fraction, Fraction]
) -> SpendSaving:
    """What is saved of a bill when `batch_share` of it gets `discount`, and the rest saves something in a range.

    Shares are between 0 and 1. What is less than a picodollar is dropped.
    """
    moved = spend * batch_share
    low, high = ((spend - moved) * share for share in rest_saving)
    return SpendSaving(spend, int(moved * discount), (int(low), int(high)))

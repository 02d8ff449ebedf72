"""What a group of calls costs, and what it would cost in batches: exact integers, from tokens and the price book."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

import msgspec

from halfrate.base.types import Price, Rates
from halfrate.core.audit_group import Cell, Group, Lane
from halfrate.core.savings import SpendSaving, of_spend

DONE: Final = frozenset({"batch", "flex"})
"""Tiers at the price of a batch: there is nothing left to move."""
MONTH: Final = 30
"""Days."""
LEAST_DAYS: Final = 1


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Picodollars of what the log covers, or of a month where they were scaled.

    Args:
        spend: what was paid, as far as prices are known; None where none is.
        done: of that, what went in batches or flex already.
        moving: of that, what is in real time and has prices both ways.
        batch: what `moving` would cost in a batch where nothing comes from a cache.
        cached: what it would cost in a batch where as much comes from a cache as it did in real time. None where the
            log shows nothing cached, or a price of it is unknown.
        logged: of `spend`, what the log says where the book has no price.
        unpriced: calls without any price. unmovable: calls in real time that have no price in a batch.
    """

    spend: int | None = None
    done: int = 0
    moving: int = 0
    batch: int = 0
    cached: int | None = None
    logged: int = 0
    unpriced: int = 0
    unmovable: int = 0

    @property
    def saved(self) -> int | None:
        """By a batch alone; None where nothing has prices both ways."""
        return self.moving - self.batch if self.moving else None

    @property
    def saved_cached(self) -> int | None:
        return self.moving - self.cached if self.moving and self.cached is not None else None

    @property
    def best(self) -> int | None:
        """The more of the two."""
        found = [saved for saved in (self.saved, self.saved_cached) if saved is not None]
        return max(found) if found else None

    @property
    def realtime(self) -> int:
        """What is paid for real time now."""
        return (self.spend or 0) - self.done

    def monthly(self, days: Fraction | None) -> "Move":
        """The same for a month, from so many days; as it is where they are unknown."""
        if days is None:
            return self
        scale = Fraction(MONTH) / max(days, Fraction(LEAST_DAYS))

        def scaled(amount: int | None) -> int | None:
            return None if amount is None else int(amount * scale)

        return msgspec.structs.replace(
            self,
            spend=scaled(self.spend),
            done=scaled(self.done),
            moving=scaled(self.moving),
            batch=scaled(self.batch),
            cached=scaled(self.cached),
            logged=scaled(self.logged),
        )


def priced(group: Group) -> Move:
    """The move of a whole group into batches."""
    spend = done = moving = batch = cached = logged = unpriced = unmovable = 0
    known = saw_cache = False
    cache_known = True
    for cell in group.cells.values():
        lane = cell.lane
        paid = _cost(cell, lane.paid, lane)
        if paid is None and (cell.costed >= cell.calls and cell.costed):
            paid = cell.logged
            logged += paid
        if paid is None:
            unpriced += cell.calls or 1
            continue
        known = True
        spend += paid
        if lane.tier in DONE:
            done += paid
            continue
        now, cold, warm = _cost(cell, lane.paid, lane), _cost(_cold(cell), lane.batch, lane), None
        if now is None or cold is None:
            unmovable += cell.calls or 1
            continue
        if cell.cached:
            saw_cache = True
            warm = _cost(cell, lane.batch, lane)
            cache_known &= warm is not None
        moving += now
        batch += cold
        cached += cold if warm is None else warm
    return Move(
        spend=spend if known else None,
        done=done,
        moving=moving,
        batch=batch,
        cached=cached if saw_cache and cache_known else None,
        logged=logged,
        unpriced=unpriced,
        unmovable=unmovable,
    )


def _cold(cell: Cell) -> Cell:
    """The same tokens, all of the input read anew."""
    read = cell.input + cell.cached + cell.write_5m + cell.write_1h
    return msgspec.structs.replace(cell, input=read, cached=0, write_5m=0, write_1h=0)


def _cost(cell: Cell, price: Price | None, lane: Lane) -> int | None:
    """None where a kind of token that was used has no known price."""
    if price is None:
        return None
    rates = rates_of(price, lane.steps[cell.step - 1] + 1 if cell.step else 0)
    total = 0
    for tokens, rate in (
        (cell.input, rates.input),
        (cell.cached, rates.cached),
        (cell.write_5m, rates.write_5m),
        (cell.write_1h, rates.write_1h),
        (cell.output, rates.output),
    ):
        if tokens:
            if rate is None:
                return None
            total += tokens * rate
    return total


def rates_of(price: Price, read: int) -> Rates:
    """The rates of a request that reads so many tokens."""
    rates = price.rates
    for step in price.steps:
        if read > step.above:
            rates = step.rates
    return rates


def total(moves: Iterable[Move]) -> Move:
    """All of them added up: what is unknown of one is left out, and counted."""
    found = list(moves)
    spends = [move.spend for move in found if move.spend is not None]
    # With a cache where the log shows one, and without it where it does not.
    warm = [move.batch if move.cached is None else move.cached for move in found]
    return Move(
        spend=sum(spends) if spends else None,
        done=sum(move.done for move in found),
        moving=sum(move.moving for move in found),
        batch=sum(move.batch for move in found),
        cached=sum(warm) if any(move.cached is not None for move in found) else None,
        logged=sum(move.logged for move in found),
        unpriced=sum(move.unpriced for move in found),
        unmovable=sum(move.unmovable for move in found),
    )


def rest_of(whole: Move, moved: Move, rest_saving: tuple[Fraction, Fraction]) -> SpendSaving:
    """The bill for real time: what is `moved` of it goes into batches, and the rest saves something in a range."""
    spend = whole.realtime
    share = Fraction(moved.moving, spend) if spend else Fraction(0)
    discount = Fraction(moved.best or 0, moved.moving) if moved.moving else Fraction(0)
    return of_spend(spend, share, discount, rest_saving)


def days_of(first: float, last: float) -> Fraction | None:
    """Days that a log covers; None where it has no times, which are infinite then."""
    if not (math.isfinite(first) and math.isfinite(last)):
        return None
    return Fraction(round((last - first) * 1000), 86400 * 1000)

"""How long things at a provider take: learned from what was seen, and until then believed from public reports.

A distribution here is a table of survival: for each of some two hundred moments, spaced evenly on a logarithmic
scale, the share of cases that are *not over* by then. It is learned by counting, moment by moment, how many of
those that had got so far came to their end next (Kaplan and Meier's estimate). What is still going on counts up
to its present age and says nothing about what follows, so long batches are not forgotten for being unfinished.
The prior enters as `weight` imaginary cases with the prior's shape, which fade as real ones come (the posterior
of a beta-Stacy process; Walker and Muliere, 1997). Beyond the longest case ever seen the prior's shape goes on.

Where the numbers of the priors come from, and which are guesses, stands with each of them. All times are seconds.
"""

import functools
import math
from collections.abc import Iterable
from typing import Final

import msgspec

_RATIO: Final = 1.08
"""Between one moment of the table and the next. The finest difference that can be learned."""
_LONGEST: Final = 4 * 86400.0
_LOG_RATIO: Final = math.log(_RATIO)
_CELLS: Final = math.ceil(math.log(_LONGEST) / _LOG_RATIO)
_MOMENTS: Final = tuple(math.exp(k * _LOG_RATIO) for k in range(_CELLS + 1))
"""One second to four days."""


class Span(msgspec.Struct, frozen=True):
    """How long one case took. `over` is false where it had not come to its end when it was last seen: a batch
    that runs, or that was cancelled or expired before all of it was finished."""

    seconds: float
    over: bool = True
    rows: int = 0
    """0 where the number of rows does not matter."""


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """What is believed before anything was seen."""

    unfinished: tuple[tuple[float, float], ...]
    """(seconds, share of cases that take longer), increasing in seconds. Straight lines between them where both
    are logarithms; the last line goes on."""
    weight: float
    """Worth so many cases that were seen."""
    growth: float = 0.0
    """Times grow with rows to this power, from `usual_rows` up."""
    usual_rows: int = 1

    def left(self, seconds: float, rows: int = 0) -> float:
        """The share of cases that take longer than `seconds`."""
        if self.growth and rows > self.usual_rows:
            seconds /= (rows / self.usual_rows) ** self.growth
        if seconds <= 1.0:
            return 1.0
        before = (1.0, 1.0)
        slope = 0.0
        for point in self.unfinished:
            slope = math.log(point[1] / before[1]) / math.log(point[0] / before[0])
            if seconds <= point[0]:
                break
            before = point
        return before[1] * (seconds / before[0]) ** slope


BATCH: Final = Prior(
    unfinished=(
        (60.0, 0.97),
        (120.0, 0.88),
        (420.0, 0.50),
        (3600.0, 0.10),
        (21600.0, 0.025),
        (86400.0, 0.006),
    ),
    weight=6.0,
    growth=0.25,
    usual_rows=2000,
)
"""From the create of a batch to its end with all rows.

* Half within 7 minutes, nine in ten within an hour: OpenRouter on 230,000 batches at several providers in the two
  weeks before its announcement (openrouter.ai/blog/announcements/batch-api, 2026; at most 5,000 rows each). Anthropic
  says "most batches finishing in less than 1 hour" (platform.claude.com, batch processing guide, 2026-09). Small
  Anthropic batches took 90 s to 13 min (github.com/dust-tt/dust/pull/22800, 2026-03).
* That the tail is long: batches of ten rows on one OpenAI account took 8.0 h and 18.9 h, and one expired after
  24.5 h with one row finished (github.com/warmbly/warmbly/pull/333, 2026-09); more than 12 h for all batches of a day
  (community.openai.com/t/1255766, 2025); 9 h for 100,000 embeddings (community.openai.com/t/718416, 2024).
* Guesses: the shares beyond six hours (nobody publishes how many expire; 0.6 % is ours), the times below two
  minutes, and that ten times the rows take 1.8 times as long.
"""

SETTLE: Final = Prior(
    unfinished=((5.0, 0.97), (60.0, 0.50), (300.0, 0.10), (600.0, 0.004), (900.0, 0.001), (3600.0, 0.0001)),
    weight=4.0,
)
"""From the cancel of a batch to its terminal state.

OpenAI: "in status cancelling for up to 10 minutes" (API reference, cancel batch). Anthropic lets requests that
cannot be interrupted come to their end first (API reference, cancel a message batch) and names no time. Only the
ten minutes are known: the shape below them is a guess, and so is one case in 250 that takes longer."""

HARVEST: Final = Prior(
    unfinished=((4.0, 0.95), (15.0, 0.50), (60.0, 0.10), (180.0, 0.02), (600.0, 0.002)),
    weight=4.0,
)
"""From the terminal state to outcomes that are durable here, for a batch of 10,000 rows (see `harvest_scale`). A
guess: 20 MB of results over a line of 10 to 100 Mbit/s, another shard's results being read first."""

HARVEST_ROWS: Final = 10_000
_HARVEST_FIXED: Final = 5000.0
"""Rows that could be fetched in the time that a harvest takes however few there are."""


def harvest_scale(rows: float) -> float:
    """How much longer the harvest of `rows` takes than that of 10,000."""
    return (rows + _HARVEST_FIXED) / (HARVEST_ROWS + _HARVEST_FIXED)


class Durations(msgspec.Struct, frozen=True):
    """A learned distribution: `survival[k]` is the share of cases that take longer than moment k of the table."""

    survival: tuple[float, ...]
    cases: float = 0.0
    """How many were seen, those of other sizes counting for less."""

    @staticmethod
    def moments() -> tuple[float, ...]:
        """Seconds, of each place in the table."""
        return _MOMENTS

    def left(self, seconds: float) -> float:
        """The share of cases that take longer than `seconds`."""
        if seconds <= 0.0:
            return 1.0
        place = math.log(seconds) / _LOG_RATIO
        if place <= 0.0:
            return 1.0 - (1.0 - self.survival[0]) * seconds
        cell = int(place)
        if cell >= _CELLS:
            return self.survival[_CELLS]
        first = _MOMENTS[cell]
        part = (seconds - first) / (_MOMENTS[cell + 1] - first)
        return self.survival[cell] + (self.survival[cell + 1] - self.survival[cell]) * part

    def chance(self, by: float, age: float = 0.0) -> float:
        """That a case which has gone on for `age` seconds is over when it is `by` seconds old."""
        if by <= age:
            return 0.0
        going = self.left(age)
        return 1.0 - self.left(by) / going if going > 0.0 else 1.0

    def quantile(self, share: float, age: float = 0.0) -> float:
        """The age by which `share` of the cases that got to `age` are over. Infinite where that is not foreseen
        within four days."""
        target = self.left(age) * (1.0 - share)
        if self.survival[0] <= target:
            # Over in the first second, as far as the table can tell.
            return max(age, (1.0 - target) / (1.0 - self.survival[0])) if self.survival[0] < 1.0 else age
        low, high = 0, _CELLS
        if self.survival[high] > target:
            return math.inf
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.survival[middle] <= target else (middle, high)
        fall = self.survival[low] - self.survival[high]
        part = (self.survival[low] - target) / fall if fall > 0.0 else 0.0
        return max(age, _MOMENTS[low] + (_MOMENTS[high] - _MOMENTS[low]) * part)


def learn(spans: Iterable[Span], prior: Prior, rows: int = 0) -> Durations:
    """The distribution after `spans`, for cases of `rows` rows.

    Cases of another size count for less, a tenth at least. The newest few hundred are enough: give no more, so
    that what is long past is forgotten.
    """
    over = [0.0] * (_CELLS + 1)
    going = [0.0] * (_CELLS + 1)
    cases = 0.0
    for span in spans:
        weight = _likeness(span.rows, rows)
        cell = _cell(span.seconds)
        (over if span.over else going)[cell] += weight
        cases += weight
    at_risk = cases
    survival = [1.0]
    before = 1.0
    share = 1.0
    for cell, expected in enumerate(_expected(prior, rows)):
        # Those last seen within the cell were in danger for half of it (the actuary's convention).
        danger = prior.weight * before + at_risk - going[cell] / 2
        share *= 1.0 - min(1.0, (prior.weight * (before - expected) + over[cell]) / danger)
        survival.append(share)
        at_risk = max(0.0, at_risk - over[cell] - going[cell])
        before = expected
    return Durations(tuple(survival[1:]), cases)


@functools.lru_cache(maxsize=64)
def _expected(prior: Prior, rows: int) -> tuple[float, ...]:
    return tuple(prior.left(moment, rows) for moment in _MOMENTS)


def learn_harvest(spans: Iterable[Span]) -> Durations:
    """How long the harvest of 10,000 rows takes, from harvests of any size."""
    return learn((Span(span.seconds / harvest_scale(span.rows), span.over) for span in spans), HARVEST)


def _cell(seconds: float) -> int:
    """The moment of the table by which it is seen to be over: cell k ends at moment k."""
    if seconds <= 1.0:
        return 0
    return min(_CELLS, math.ceil(math.log(seconds) / _LOG_RATIO))


def _likeness(rows: int, wanted: int) -> float:
    """How much a case of `rows` rows says about one of `wanted`: half at three times the size, a tenth at least."""
    if not rows or not wanted or rows == wanted:
        return 1.0
    apart = math.log(rows / wanted) / math.log(3.0)
    return max(0.1, 0.5 ** (apart * apart))

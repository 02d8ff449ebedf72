"""When a job will be finished, with a range, and how likely its deadline is kept. Pure.

Two roads lead to the end: the batches end by themselves, or, where there is a deadline and something may be done for
it, each is rescued at its point of no return. The forecast joins both, shard by shard.

Each shard is taken to be late for reasons of its own. On a bad day they are late together, and nobody publishes how
often that is: then all forecasts of that day are wrong together. How well they do is measured with the replays
(docs/deadlines.md).
"""

import math
from collections.abc import Callable

import msgspec

from halfrate.core.deadlines import CarryOn, Plan, plan
from halfrate.core.situation import (
    MARGINS,
    Beliefs,
    JobView,
    Margins,
    Part,
    Tier,
    chance_of_batch,
    parts,
    safe_end,
)

_HORIZON = 4 * 86400.0
_FIRST = 1.0
_STEPS = 40
_BATCH_PRICE = 1.0


class Finish(msgspec.Struct, frozen=True):
    """Moments by which a job is finished with a chance of a half and of nine in ten; infinite beyond four days."""

    p50: float
    p90: float
    in_time: float | None
    """The chance that the deadline is kept. None without a deadline."""


def forecast(job: JobView, beliefs: Beliefs, margins: Margins = MARGINS) -> Finish:
    """When `job` will be finished if the ladder is followed."""
    outlook = _Outlook(job, beliefs, margins, plan(job, beliefs, margins))
    return Finish(
        p50=_when(outlook.finished_by, job.now, 0.5),
        p90=_when(outlook.finished_by, job.now, 0.9),
        in_time=None if job.deadline is None else outlook.finished_by(job.deadline),
    )


class _Outlook:
    """The chance, for any moment, that the last row is there by then."""

    def __init__(self, job: JobView, beliefs: Beliefs, margins: Margins, planned: Plan) -> None:
        self.job = job
        self.beliefs = beliefs
        self.margins = margins
        self.tier = _counted_on(job, beliefs)
        self.begun: list[Part] = []
        self.open: list[tuple[Part, float]] = []
        for part in parts(job, beliefs, margins):
            step = planned.steps[part.shard.id]
            if part.open and isinstance(step, CarryOn):
                self.open.append((part, self._turn(part, step.until)))
            else:
                # What the plan takes out of the batches now has begun, as far as the forecast goes.
                self.begun.append(part)

    def _turn(self, part: Part, until: float | None) -> float:
        """When a shard will leave its batch. While others end, its point of no return moves on, to where it would be
        if it were alone."""
        if until is None or self.tier is None:
            return math.inf
        rate = self.tier.rate
        alone = safe_end(self.job, self.beliefs) - part.lead_later - rate.pause - rate.safe_seconds(part.need)
        return max(until, alone, self.job.now)

    def finished_by(self, moment: float) -> float:
        if moment <= self.job.now:
            return 0.0
        product = self._begun_by(moment)
        for part, turn in self.open:
            product *= self._shard_by(part, turn, moment)
        return product

    def _shard_by(self, part: Part, turn: float, moment: float) -> float:
        """That a shard's batch has ended by itself until its turn, or its rows were answered after it."""
        done = self._batch_by(part, min(moment, turn))
        if moment <= turn:
            return done
        takes = self._takes(part.need, part.lead_likely)
        room = safe_end(self.job, self.beliefs) - turn
        if moment - turn < room:
            # What is left in hand, others of the job use up: a rescue ends nearer to the deadline than it must.
            takes = (takes + max(takes, room)) / 2
        return done + (1.0 - done) * self._answered(takes, moment - turn)

    def _batch_by(self, part: Part, moment: float) -> float:
        # The end has to be seen, and the results have to come here.
        moment = min(moment, self.job.now + _HORIZON) - self.margins.look / 2 - part.lead_home
        return chance_of_batch(part.shard, moment, self.job.now, self.beliefs)

    def _begun_by(self, moment: float) -> float:
        """That real time has answered what it has been given, or is about to be."""
        if not self.begun:
            return 1.0
        lead = max(part.lead_likely for part in self.begun)
        takes = self._takes(sum(part.need for part in self.begun), lead)
        return self._answered(takes, moment - self.job.now)

    def _takes(self, work: float, lead: float) -> float:
        return lead + (self.tier.rate.seconds(work) + self.beliefs.slowest_row / 2 if self.tier else 0.0)

    def _answered(self, takes: float, seconds: float) -> float:
        if self.tier is None:
            return 1.0 if seconds >= takes else 0.0
        return self.tier.rate.chance(seconds, takes)


def _counted_on(job: JobView, beliefs: Beliefs) -> Tier | None:
    """The tier that a rescue ends in: see the ladder."""
    if job.deadline is None or not job.rescue:
        return None
    dear = [tier for tier in beliefs.tiers if tier.price > _BATCH_PRICE and job.extra]
    cheap = [tier for tier in beliefs.tiers if tier.price <= _BATCH_PRICE]
    return min(dear or cheap, key=lambda tier: tier.price, default=None)


def _when(chance: Callable[[float], float], now: float, share: float) -> float:
    """The first moment by which the chance is `share`, to a per cent of the time until then."""
    if chance(now + _HORIZON) < share:
        return math.inf
    low, high = math.log(_FIRST), math.log(_HORIZON)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(now + math.exp(middle)) >= share else (middle, high)
        if high - low < 0.005:
            break
    return now + math.exp(high)

"""When a job will be finished, with a range, and how likely its deadline is kept. Pure.

Two roads lead to the end: the batches end by themselves, or, where there is a deadline and something may be done for
it, they are rescued from the first point of no return on. The forecast joins both.

How shards of one job hang together nobody publishes: on a bad day all are late, on a normal one each is late for
reasons of its own. The forecast takes the middle: n shards count as the square root of n independent ones. A guess;
how well it does is measured with the replays (docs/deadlines.md).
"""

import math
from collections.abc import Callable

import msgspec

from halfrate.core.deadlines import CarryOn, Plan, plan
from halfrate.core.situation import MARGINS, Beliefs, JobView, Margins, Part, Tier, chance_of_batch, parts

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
        pieces = parts(job, beliefs, margins)
        self.begun = [part for part in pieces if not part.open]
        self.tier = _counted_on(job, beliefs)
        turns = [self._turn(part, planned) for part in pieces if part.open]
        self.turn = min(turns, default=math.inf) if self.tier is not None else math.inf
        sent = [part for part in pieces if part.open and self._turn(part, planned) <= job.now]
        self.open = [part for part in pieces if part.open and part not in sent]
        # What the plan takes out of the batches now has begun, as far as the forecast goes.
        self.begun += sent
        self.undone = self._batches_by(self.turn)

    def _turn(self, part: Part, planned: Plan) -> float:
        """When a shard leaves its batch, if that has not ended before."""
        step = planned.steps[part.shard.id]
        if not isinstance(step, CarryOn):
            return self.job.now
        return math.inf if step.until is None else step.until

    def finished_by(self, moment: float) -> float:
        if moment <= self.job.now:
            return 0.0
        done = self._batches_by(min(moment, self.turn))
        if moment > self.turn:
            done = self.undone + (1.0 - self.undone) * self._rescued_by(moment)
        return done * self._begun_by(moment)

    def _batches_by(self, moment: float) -> float:
        """That all batches have ended by themselves, and their results are here."""
        if not self.open:
            return 1.0
        product = 1.0
        for part in self.open:
            product *= self._batch_by(part, moment)
        return product ** (1.0 / math.sqrt(len(self.open)))

    def _batch_by(self, part: Part, moment: float) -> float:
        if math.isinf(moment):
            moment = self.job.now + _HORIZON
        return chance_of_batch(part.shard, moment, self.job.now, self.beliefs)

    def _begun_by(self, moment: float) -> float:
        """That real time has answered what it has been given, or is about to be."""
        work = sum(part.need for part in self.begun)
        if not self.begun:
            return 1.0
        lead = max(part.lead_likely for part in self.begun)
        return self._answered(work, lead, moment - self.job.now)

    def _rescued_by(self, moment: float) -> float:
        """The same of what the batches will have left at the turn, given that they leave something."""
        left = sum(part.need * (1.0 - self._batch_by(part, self.turn)) for part in self.open)
        least = max(part.need for part in self.open) if self.open else 0.0
        work = min(max(left / max(1.0 - self.undone, 1e-6), least), sum(part.need for part in self.open))
        lead = max((part.lead_likely for part in self.open), default=0.0)
        return self._answered(work, lead, moment - self.turn)

    def _answered(self, work: float, lead: float, seconds: float) -> float:
        if self.tier is None:
            return 1.0 if seconds >= lead else 0.0
        rate = self.tier.rate
        expected = lead + rate.seconds(work) + self.beliefs.slowest_row / 2
        return rate.chance(seconds, expected)


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

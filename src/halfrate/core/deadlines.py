"""The ladder: batch, flex, standard. Which rows of a job stay in their batches, until when at the latest, and which
must go out in real time now for the last one to land before the deadline. Pure: no clock, no I/O.

The idea. Waiting for a batch costs nothing until the moment after which real time could no longer do, before the
deadline, all that the batches may leave undone. That moment is the *point of no return*. So nothing is rescued before
it, whatever the batches look like; and at it, no more is rescued than keeps real time busy:

    point of no return = deadline - last row - pause - rows that may be left / rate counted with - lead

where *lead* is the time from the order to cancel until the rows can begin: the cancel settles, the end is seen, the
results are fetched. All rows of a job share the rate, so its shards are put in a row, the least promising batches
first, and each has a point of its own: the last moment at which it must begin for itself and all behind it to be
done. At its point the first is cancelled. While real time answers its rows the others stay in their batches, and each
that ends by itself moves the points of all before it further away. Everything is decided anew from the present state
at each look; nothing is remembered. A rate that turns out lower, a cancel that takes long, rows that fail: each moves
the points of the shards that are left.

Where real time cannot do all of it even if it began now, waiting is no longer free. Then the batches are leant on as
long as they are likely to finish enough in time; after that, real time is kept busy with the least promising.

A tier that costs no more than a batch (flex) is used earlier, because it is slower and nothing is lost by it. Rows go
to a dearer tier when the cheaper one can no longer be trusted to do them all.
"""

import enum
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from halfrate.core.rates import Rate
from halfrate.core.situation import (
    MARGINS,
    Beliefs,
    JobView,
    Margins,
    Part,
    Stage,
    Tier,
    TierName,
    chance_of_batch,
    parts,
    safe_end,
)

_BATCH_PRICE = 1.0
_LOOKS_AHEAD = 12


class Reach(enum.StrEnum):
    """How a deadline stands."""

    NONE = "none"
    """There is no deadline, or nothing may be done for it."""
    SAFE = "safe"
    """Whatever the batches do, real time can still keep it, as far as known."""
    TIGHT = "tight"
    """Real time keeps it if all goes as expected."""
    BATCH = "batch"
    """Beyond what real time can do; the batches may still keep it."""
    BREACH = "breach"
    """It will be missed."""


class CarryOn(msgspec.Struct, frozen=True):
    """Leave it to a batch: the one that runs, or one to be created. For shards that are being cancelled or collected:
    go on with that."""

    until: float | None = None
    """The point of no return. Look again then at the latest. None: there is none."""


class Rescue(msgspec.Struct, frozen=True):
    """Cancel the batch now, harvest it, and run what is missing in real time: in this tier, as it looks now."""

    tier: TierName


class Send(msgspec.Struct, frozen=True):
    """Run the rows in real time now, in this tier. Ask again at `Plan.review_at`: the tier may change."""

    tier: TierName


Step: TypeAlias = CarryOn | Rescue | Send


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with each shard of a job that is not done, by its id."""

    steps: dict[str, Step]
    review_at: float | None = None
    """When to plan again at the latest, if nothing has happened before. None: no need."""
    reach: Reach = Reach.NONE
    late_by: float = 0.0
    """With `BREACH`: seconds after the deadline at which the last row is expected."""
    demand: float = 0.0
    """Rows for which jobs with later deadlines must leave the rate to this one."""


def plan(job: JobView, beliefs: Beliefs, margins: Margins = MARGINS) -> Plan:
    """What to do with the shards of `job` now."""
    pieces = parts(job, beliefs, margins)
    tiers = _affordable(job, beliefs)
    if job.deadline is None or not job.rescue or not tiers:
        return _watch(job, pieces, tiers, margins)
    ladder = _Ladder(job, beliefs, margins, pieces, tiers)
    return ladder.plan()


def _affordable(job: JobView, beliefs: Beliefs) -> list[Tier]:
    """The tiers that may be used, cheapest first."""
    most = float("inf") if job.extra and job.deadline is not None and job.rescue else _BATCH_PRICE
    return sorted(
        (t for t in beliefs.tiers if t.price <= most), key=lambda t: (t.price, -t.rate.counted_with)
    )


def _watch(job: JobView, pieces: Sequence[Part], tiers: Sequence[Tier], margins: Margins) -> Plan:
    """Nothing is done for time's sake. Few rows still go where they cost no more and need not wait."""
    steps: dict[str, Step] = {}
    for part in pieces:
        few = job.rescue and part.shard.stage is Stage.WAITING and part.shard.rows <= margins.small
        sending = few or part.shard.stage is Stage.REALTIME
        steps[part.shard.id] = Send(tiers[0].name) if tiers and sending else CarryOn()
    return Plan(steps=steps)


class _Ladder:
    """One plan in the making."""

    def __init__(
        self, job: JobView, beliefs: Beliefs, margins: Margins, pieces: Sequence[Part], tiers: Sequence[Tier]
    ) -> None:
        self.job = job
        self.beliefs = beliefs
        self.margins = margins
        self.end = safe_end(job, beliefs)
        # The firm tier is what is counted on; the gentle one costs no more than a batch, and may not be there.
        dear = [tier for tier in tiers if tier.price > _BATCH_PRICE]
        self.firm = dear[0] if dear else max(tiers, key=lambda t: t.rate.counted_with)
        self.gentle = tiers[0] if dear and tiers[0].price <= _BATCH_PRICE else self.firm
        self.begun = [part for part in pieces if not part.open]
        self.queue = sum(part.need for part in self.begun)
        self.open = sorted((part for part in pieces if part.open), key=self._promise)
        self.total = self.queue + sum(part.need for part in self.open)
        self.slack = self._slack(self.firm.rate)
        self.tier = self.gentle if self.slack > 0.0 else self.firm

    def _promise(self, part: Part) -> tuple[bool, float, float, str]:
        """The least promising first; of equals the largest. What is not sent yet can begin without a cancel."""
        waiting = part.shard.stage is Stage.WAITING
        chance = chance_of_batch(part.shard, self.end, self.job.now, self.beliefs)
        return (not waiting, chance, -part.need, part.shard.id)

    def plan(self) -> Plan:
        late = self._late()
        leaning = late > 0.0 and self._leans()
        steps: dict[str, Step] = {p.shard.id: self._go_on(p) for p in self.begun}
        looks: list[float] = []
        demand = self.queue
        behind = 0.0
        for part, (until, free) in zip(self.open, self._points(), strict=True):
            step = CarryOn() if leaning else self._step(part, until, free, behind, out_of_reach=late > 0.0)
            steps[part.shard.id] = step
            if not isinstance(step, CarryOn):
                behind += part.need
            if not isinstance(step, CarryOn) or self._chance(part, until) < self.margins.sure:
                demand += part.need
            if isinstance(step, CarryOn) and step.until is not None:
                looks.append(step.until)
        if self.tier is not self.firm and any(isinstance(step, Send) for step in steps.values()):
            looks.append(self.job.now + self.slack)
        if leaning:
            looks.append(self.job.now + (self.end - self.job.now) / _LOOKS_AHEAD)
        soonest = self.job.now + self.margins.soon
        return Plan(
            steps=steps,
            review_at=max(min(looks), soonest) if looks else None,
            reach=self._reach(late, leaning=leaning),
            late_by=max(0.0, late),
            demand=demand,
        )

    # ------------------------------------------------------------ moments

    def _slack(self, rate: Rate) -> float:
        """Seconds that can be waited, if everything then has to go out in real time at `rate`."""
        work, longest = self.job.ahead, 0.0
        for part in sorted((*self.begun, *self.open), key=lambda p: p.lead, reverse=True):
            work += part.need
            longest = max(longest, part.lead + rate.safe_seconds(work) + rate.pause)
        return self.end - self.job.now - longest

    def _late(self) -> float:
        """Seconds by which real time misses the deadline if it does everything, begins now and all goes as
        expected. Negative: it does not."""
        work, longest = self.job.ahead, 0.0
        for part in sorted((*self.begun, *self.open), key=lambda p: p.lead_likely, reverse=True):
            work += part.need
            longest = max(longest, part.lead_likely + self.firm.rate.seconds(work))
        return self.job.now + longest - self.end

    def _points(self) -> list[tuple[float, float]]:
        """The point of no return of each open shard, in their order; and when real time is free for it."""
        points: list[tuple[float, float]] = []
        before, rest = 0.0, self.total - self.queue
        for part in self.open:
            must = self._must_begin(rest)
            # Behind already: then it is early enough if its rows are here when those before them are answered.
            may = self.job.now + self.tier.rate.seconds(self.queue + before)
            points.append((max(must, may) - part.lead_later, may))
            before += part.need
            rest -= part.need
        return points

    def _must_begin(self, rows: float) -> float:
        """The last moment at which real time can begin with `rows` and still be done in time."""
        rows += self.job.ahead
        firm = self.end - self.firm.rate.pause - self.firm.rate.safe_seconds(rows)
        if self.tier is self.firm:
            return firm
        # Nothing is lost by using the gentle tier early, but it is no reason to leave the batches at once.
        gentle = self.end - self.gentle.rate.pause - self.gentle.rate.safe_seconds(rows)
        gentle = min(gentle, firm - self.margins.gentle_lead)
        return max(gentle, firm - self.margins.gentle_most)

    def _chance(self, part: Part, by: float) -> float:
        return chance_of_batch(part.shard, by - self.margins.look, self.job.now, self.beliefs)

    # ------------------------------------------------------------ judgements

    def _go_on(self, part: Part) -> Step:
        return Send(self.tier.name) if part.shard.stage is Stage.REALTIME else CarryOn()

    def _step(self, part: Part, until: float, free: float, behind: float, *, out_of_reach: bool) -> Step:
        waiting = part.shard.stage is Stage.WAITING
        if waiting and self._small(part):
            return Send(self.tier.name)
        if until <= self.job.now + self.margins.soon:
            if out_of_reach and self._better_left(part, behind):
                return CarryOn()
            return Send(self.tier.name) if waiting else Rescue(self.tier.name)
        # Not worth a batch. But what cannot begin yet need not be given up yet.
        soon = free <= self.job.now + part.lead_later
        if waiting and soon and self._chance(part, until) < self.margins.worth:
            return Send(self.tier.name)
        end = self.job.deadline or until
        return CarryOn(min(until, end) if end > self.job.now else until)

    def _small(self, part: Part) -> bool:
        if self.tier.price <= _BATCH_PRICE and part.shard.rows <= self.margins.small:
            return True
        last = len(self.open) + len(self.begun) == 1
        return last and part.shard.rows <= self.margins.tail * self.job.rows

    def _better_left(self, part: Part, behind: float) -> bool:
        """Whether a shard that real time is not expected to finish in time has more hope in its batch."""
        now, rate = self.job.now, self.firm.rate
        takes = part.lead_likely + rate.seconds(self.queue + behind + part.need + self.job.ahead)
        if now + takes <= self.end:
            return False
        batch = chance_of_batch(part.shard, self.end, now, self.beliefs)
        realtime = rate.chance(self.end - now, takes)
        if max(batch, realtime) >= self.margins.hopeless:
            return batch > realtime
        # Too late for both: the sooner of the two.
        return chance_of_batch(part.shard, now + takes, now, self.beliefs) >= 0.5

    def _leans(self) -> bool:
        """Whether there will be a moment at which real time can do what the batches are then likely to have left."""
        now, rate = self.job.now, self.firm.rate
        lead = max((part.lead_likely for part in self.open), default=0.0)
        for look in range(1, _LOOKS_AHEAD):
            moment = now + (self.end - now) * look / _LOOKS_AHEAD
            room = (self.end - moment - lead) * rate.rows_per_second - self.queue - self.job.ahead
            if room < 0.0:
                return False
            left = spread = 0.0
            for part in self.open:
                share = 1.0 - chance_of_batch(part.shard, moment, now, self.beliefs)
                left += part.need * share
                spread += part.need * part.need * share * (1.0 - share)
            # Batches of one day fail together: that most rows are likely to be there matters beside how many will.
            likely = left <= (1.0 - self.margins.lean) * (self.total - self.queue)
            if likely and left + 2.0 * spread**0.5 <= room:
                return True
        return False

    def _reach(self, late: float, *, leaning: bool) -> Reach:
        if late <= 0.0:
            return Reach.SAFE if self.slack >= 0.0 else Reach.TIGHT
        hope = leaning or any(
            chance_of_batch(part.shard, self.end, self.job.now, self.beliefs) >= self.margins.hopeless
            for part in self.open
        )
        return Reach.BATCH if hope else Reach.BREACH

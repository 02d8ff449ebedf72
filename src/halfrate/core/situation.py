"""What a deadline is judged by: a job's shards as they stand, what is believed of the provider, and the margins.

Moments are seconds since 1970, spans are seconds, prices are relative to the same rows in a batch (1.0).
"""

import enum
from typing import Literal

import msgspec

from halfrate.core.durations import Durations, harvest_scale
from halfrate.core.rates import Rate

TierName = Literal["flex", "standard", "priority"]
"""Tiers of real time. What is none of them waits in a batch."""

_LONGEST_LEAD = 7200.0
"""Seconds after which a cancel or a harvest that has not come to its end is no longer planned with."""
_SUREST = 0.997


class Stage(enum.StrEnum):
    """Where the rows of a shard are, as far as time is concerned."""

    WAITING = "waiting"
    """Nothing of it is at the provider: not sent yet, waiting for quota, or left over from an attempt."""
    RUNNING = "running"
    """A batch of it is, or may be, at work (a create whose outcome is not known belongs here)."""
    CANCELLING = "cancelling"
    COLLECTING = "collecting"
    """Its batch has ended; the results are on their way here."""
    REALTIME = "realtime"
    """Its rows are going out in real time."""


_SETTLING = frozenset({Stage.WAITING, Stage.RUNNING, Stage.CANCELLING})


class ShardView(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that is not done."""

    id: str
    stage: Stage
    rows: int
    """Rows without an outcome here: of the present attempt, and in real time those still to be answered."""
    finished: int = 0
    """Of `rows`, those that the provider says are finished. 0 where it does not say; all once a batch has
    ended by itself."""
    since: float | None = None
    """When the batch was created, or the cancel was asked for, or the batch ended: by `stage`."""
    pace: float | None = None
    """Rows a second that the provider's count rose by lately. None: not known."""
    starts: float | None = None
    """Of one that waits for quota: when the provider is expected to take it (see `expected_starts`). None: now."""


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job at one moment."""

    now: float
    deadline: float | None
    shards: tuple[ShardView, ...]
    """Those that are not done."""
    rows: int
    """Of the whole job."""
    ahead: float = 0.0
    """Rows of other jobs on the same account and model that real time must answer first: the sum of `demand` in
    the plans of those whose deadline is not later than this one's."""
    extra: bool = True
    """Whether more than the price of a batch may be paid."""
    rescue: bool = True
    """False: only say how it stands."""


class Tier(msgspec.Struct, frozen=True):
    """A way to run rows in real time."""

    name: TierName
    price: float
    rate: Rate


class Beliefs(msgspec.Struct, frozen=True, kw_only=True):
    """What is believed of an account and a model, from what it has done so far."""

    batches: Durations
    settle: Durations
    harvest: Durations
    """Of 10,000 rows; see `harvest_scale`."""
    tiers: tuple[Tier, ...] = ()
    """Those that the model has and that could be used, prices known."""
    failing: float = 0.01
    """Share of rows that need another try."""
    slowest_row: float = 60.0
    """Seconds from sending a row in real time to its answer on disk, of the slowest, a second try included."""


class Margins(msgspec.Struct, frozen=True, kw_only=True):
    """How careful the ladder is."""

    settle: float = 0.99
    """How sure a cancel must be to have settled."""
    harvest: float = 0.97
    look: float = 30.0
    """The longest time between two looks at a batch that is being cancelled, or that nears its point."""
    worth: float = 0.08
    """A batch that is less likely than this to end in time is not begun."""
    sure: float = 0.95
    """A shard whose batch is as likely as this to end in time needs no real time, for other jobs' plans."""
    soon: float = 10.0
    """A point of no return that is nearer than this is there."""
    gentle_lead: float = 1800.0
    """How much earlier than to a dear tier rows go to one that costs no more than a batch, at least."""
    gentle_most: float = 7200.0
    """And at most."""
    small: int = 20
    """So few rows go to real time at once, where that costs no more than a batch."""
    tail: float = 0.001
    """The last rows of a job, if they are no more than this share of it, go to real time at any price allowed."""
    lean: float = 0.9
    """How sure the batches must be, where real time alone can no longer do it all, to be left alone."""
    hopeless: float = 0.05
    """A batch that is less likely than this to end in time is given up where real time is behind."""


MARGINS = Margins()


class Part(msgspec.Struct, frozen=True):
    """A shard as a piece of work for real time."""

    shard: ShardView
    need: float
    """Rows that real time would have to answer, second tries included."""
    lead: float
    """Seconds from the order until they can begin, at worst."""
    lead_likely: float
    """The same, if all goes as expected."""
    lead_later: float
    """As `lead`, if it is left to a batch now: one that waits will then have to be cancelled too."""
    lead_home: float = 0.0
    """Seconds from the end of its batch until the results are here, if all goes as expected."""

    @property
    def open(self) -> bool:
        """Whether it is still to be decided if a batch does it."""
        return self.shard.stage in {Stage.WAITING, Stage.RUNNING}


class _Leads(msgspec.Struct, frozen=True):
    """Seconds that cancels and harvests take from their beginning, safely and likely; harvests of 10,000 rows."""

    sure: float
    """How sure a cancel is to have settled."""
    settle: float
    settle_likely: float
    harvest: float
    harvest_likely: float


def parts(job: JobView, beliefs: Beliefs, margins: Margins) -> list[Part]:
    batches = sum(shard.stage in _SETTLING for shard in job.shards)
    # Of many cancels the slowest counts: each must be surer than one alone.
    sure = min(1.0 - (1.0 - margins.settle) / max(batches, 1), _SUREST)
    leads = _Leads(
        sure=sure,
        settle=_remaining(beliefs.settle, sure),
        settle_likely=_remaining(beliefs.settle, 0.5),
        harvest=_remaining(beliefs.harvest, margins.harvest),
        harvest_likely=_remaining(beliefs.harvest, 0.5),
    )
    return [_part(shard, job.now, beliefs, margins, leads) for shard in job.shards]


def _part(shard: ShardView, now: float, beliefs: Beliefs, margins: Margins, leads: _Leads) -> Part:
    finished = min(max(shard.finished, 0), shard.rows)
    need = (shard.rows - finished) * (1.0 + beliefs.failing) + finished * beliefs.failing
    scale = harvest_scale(shard.rows)
    harvest, home = leads.harvest * scale, leads.harvest_likely * scale
    settle, likely = leads.settle + margins.look, leads.settle_likely + margins.look / 2
    age = 0.0 if shard.since is None else max(0.0, now - shard.since)
    match shard.stage:
        case Stage.WAITING:
            return Part(shard, need, 0.0, 0.0, settle + harvest, home)
        case Stage.RUNNING:
            return Part(shard, need, settle + harvest, likely + home, settle + harvest, home)
        case Stage.CANCELLING:
            lead = _remaining(beliefs.settle, leads.sure, age) + margins.look + harvest
            likely = _remaining(beliefs.settle, 0.5, age) + margins.look / 2 + home
            return Part(shard, need, lead, likely, lead)
        case Stage.COLLECTING:
            lead = _remaining(beliefs.harvest, margins.harvest, age / scale) * scale
            return Part(shard, need, lead, _remaining(beliefs.harvest, 0.5, age / scale) * scale, lead)
        case Stage.REALTIME:
            return Part(shard, need, 0.0, 0.0, 0.0)


def _remaining(spans: Durations, share: float, age: float = 0.0) -> float:
    return min(spans.quantile(share, age) - age, _LONGEST_LEAD)


def chance_of_batch(shard: ShardView, by: float, now: float, beliefs: Beliefs) -> float:
    """That the batch of a shard ends by itself, with all rows, by the moment `by`; for one that is not sent yet, as
    if it were now. Where the provider's counts move, their pace is heard as well."""
    if shard.stage is Stage.WAITING and shard.starts is not None:
        now = max(now, shard.starts)
    if by <= now:
        return 0.0
    age = 0.0 if shard.stage is Stage.WAITING or shard.since is None else max(0.0, now - shard.since)
    chance = beliefs.batches.chance(age + by - now, age)
    if shard.pace is None or shard.stage is not Stage.RUNNING:
        return chance
    left = shard.rows - shard.finished
    if left <= 0 or shard.finished <= 0:
        return chance
    # At this pace it needs left / pace. Half of the judgement; the other half knows that batches stall.
    ratio = (by - now) * shard.pace / left
    return (chance + min(1.0, ratio * ratio / (1.0 + ratio * ratio))) / 2


def safe_end(job: JobView, beliefs: Beliefs) -> float:
    """When the last row must be sent for its answer to be there by the deadline."""
    return (job.deadline if job.deadline is not None else float("inf")) - beliefs.slowest_row


def expected_starts(now: float, since: float, taken: int, waiting: int) -> list[float]:
    """When the provider will take the shards that wait for quota, the next one first: as fast as it took `taken` of
    them from the moment `since` until now."""
    gap = (now - since) / max(taken, 1)
    return [now + gap * (place + 1) for place in range(waiting)]

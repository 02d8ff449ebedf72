"""Ladders with a mistake in them, to show that the replays tell the difference."""

import math

import msgspec

from halfrate.core.deadlines import CarryOn, Plan, Rescue, Send, Step, plan
from halfrate.core.durations import Durations
from halfrate.core.rates import Rate
from halfrate.core.situation import Beliefs, JobView, Margins, Stage, Tier

from .replay import Planner

_AT_ONCE = Durations((0.0,) * len(Durations.moments()))


def _no_settling(job: JobView, beliefs: Beliefs, margins: Margins) -> Plan:
    """Believes that a cancelled batch has stopped at once."""
    sure = msgspec.structs.replace(margins, look=0.0)
    return plan(job, msgspec.structs.replace(beliefs, settle=_AT_ONCE), sure)


def _alone(job: JobView, beliefs: Beliefs, margins: Margins) -> Plan:
    """Thinks of each shard as if it had the rate for itself."""
    steps: dict[str, Step] = {}
    looks: list[float] = []
    demand = 0.0
    for shard in job.shards:
        one = plan(msgspec.structs.replace(job, shards=(shard,), ahead=0.0), beliefs, margins)
        steps |= one.steps
        demand += one.demand
        looks.append(math.inf if one.review_at is None else one.review_at)
    soonest = min(looks, default=math.inf)
    return Plan(steps=steps, review_at=None if math.isinf(soonest) else soonest, demand=demand)


def _at_once(job: JobView, beliefs: Beliefs, margins: Margins) -> Plan:
    """Rescues whatever runs."""
    tier = max(beliefs.tiers, key=lambda t: t.price).name
    steps: dict[str, Step] = {}
    for shard in job.shards:
        match shard.stage:
            case Stage.WAITING | Stage.REALTIME:
                steps[shard.id] = Send(tier)
            case Stage.RUNNING:
                steps[shard.id] = Rescue(tier)
            case _:
                steps[shard.id] = CarryOn()
    return Plan(steps=steps)


def _full_speed(job: JobView, beliefs: Beliefs, margins: Margins) -> Plan:
    """Takes the rate for certain: no doubt, no throttling."""
    tiers = tuple(Tier(t.name, t.price, _certain(t.rate)) for t in beliefs.tiers)
    return plan(job, msgspec.structs.replace(beliefs, tiers=tiers), margins)


def _certain(rate: Rate) -> Rate:
    return msgspec.structs.replace(rate, doubt=0.01, pause=0.0)


def _too_late(job: JobView, beliefs: Beliefs, margins: Margins) -> Plan:
    """Never rescues."""
    return plan(msgspec.structs.replace(job, rescue=False), beliefs, margins)


MISTAKES: dict[str, Planner] = {
    "no time for cancels to settle": _no_settling,
    "other shards forgotten": _alone,
    "rescued at once": _at_once,
    "the rate taken for certain": _full_speed,
    "never rescued": _too_late,
}

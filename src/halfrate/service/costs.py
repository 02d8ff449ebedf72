"""What was paid, and what for: payments of the ledger added up by whatever somebody asks."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from halfrate.base.money import added
from halfrate.base.types import Usage
from halfrate.core.job import Job
from halfrate.store.store import Spent

NONE: Final = "(none)"
"""Stands for a tag that a job does not have."""
KEYS: Final = ("job", "model", "account", "provider", "tier", "kind", "day", "month")
"""What payments can be grouped by, beside the names of tags."""


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """A sum of payments. Money in picodollars, None where one of the prices is unknown.

    `keys`: what they have in common. `waste`: what of `cost` bought nothing; `rescue`: what of it was paid for real
    time by jobs that were to go in batches. `doubts`: calls that may have been billed unseen, and are in no sum.
    """

    keys: tuple[str, ...]
    rows: int = 0
    usage: Usage = Usage()
    cost: int | None = 0
    realtime_cost: int | None = 0
    uncached_cost: int | None = 0
    waste: int | None = 0
    rescue: int | None = 0
    doubts: int = 0

    @property
    def saved(self) -> int | None:
        if self.cost is None or self.realtime_cost is None:
            return None
        return self.realtime_cost - self.cost

    @property
    def cache_saved(self) -> int | None:
        """What caching saved beside that: less than nothing where it cost more."""
        if self.cost is None or self.uncached_cost is None:
            return None
        return self.uncached_cost - self.cost


def grouped(spent: Iterable[Spent], by: Sequence[str], jobs: Mapping[str, Job]) -> list[CostLine]:
    """Payments added up by each of `by` together: names of KEYS, or of tags. In the order of their values."""
    tell = [_teller(name, jobs) for name in by]
    sums: dict[tuple[str, ...], CostLine] = {}
    for one in spent:
        keys = tuple(told(one) for told in tell)
        job = jobs.get(one.job_id)
        rescued = one.tier != "batch" and (job is None or job.tier == "batch")
        sums[keys] = _with(sums.get(keys) or CostLine(keys=keys), one, rescued=rescued)
    return [sums[keys] for keys in sorted(sums)]


def total(lines: Iterable[CostLine], name: str, width: int) -> CostLine:
    """All of them added up, under `name` and as many empty keys as make `width`."""
    found = CostLine(keys=(name, *[""] * (width - 1)))
    for line in lines:
        found = CostLine(
            keys=found.keys,
            rows=found.rows + line.rows,
            usage=plus(found.usage, line.usage),
            cost=added((found.cost, line.cost)),
            realtime_cost=added((found.realtime_cost, line.realtime_cost)),
            uncached_cost=added((found.uncached_cost, line.uncached_cost)),
            waste=added((found.waste, line.waste)),
            rescue=added((found.rescue, line.rescue)),
            doubts=found.doubts + line.doubts,
        )
    return found


def plus(one: Usage, other: Usage) -> Usage:
    counted = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return Usage(*(p + q for p, q in counted))


def _with(line: CostLine, one: Spent, *, rescued: bool) -> CostLine:
    if one.kind == "doubt":
        return msgspec.structs.replace(line, doubts=line.doubts + one.rows)
    return CostLine(
        keys=line.keys,
        rows=line.rows + one.rows,
        usage=plus(line.usage, one.usage),
        cost=added((line.cost, one.cost)),
        realtime_cost=added((line.realtime_cost, one.realtime_cost)),
        uncached_cost=added((line.uncached_cost, one.uncached_cost)),
        waste=added((line.waste, one.cost)) if one.kind == "waste" else line.waste,
        rescue=added((line.rescue, one.cost)) if rescued else line.rescue,
        doubts=line.doubts,
    )


def _teller(name: str, jobs: Mapping[str, Job]) -> Callable[[Spent], str]:
    def of_job(tell: Callable[[Job], str]) -> Callable[[Spent], str]:
        values = {job.id: tell(job) for job in jobs.values()}
        return lambda one: values.get(one.job_id, NONE)

    match name:
        case "job":
            return lambda one: one.job_id
        case "model" | "account" | "tier" | "kind":
            return lambda one: getattr(one, name)
        case "provider":
            return of_job(lambda job: job.spec.provider)
        case "day":
            return lambda one: _date(one.day).isoformat()
        case "month":
            return lambda one: f"{_date(one.day):%Y-%m}"
        case _:
            return of_job(lambda job: job.tags.get(name, NONE))


def _date(day: int) -> datetime.date:
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=day)

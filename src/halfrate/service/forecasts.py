"""Forecasts of costs: what earlier jobs teach, what a job under way should come to, and how good forecasts were."""

import itertools
from collections import Counter
from collections.abc import Iterable

import msgspec

from halfrate.base.money import added
from halfrate.base.types import RequestSpec
from halfrate.core.caching import Hits, Life, part_of
from halfrate.core.estimates import Basis, Sample
from halfrate.core.job import Forecast, Job, JobState
from halfrate.core.planning import forecast, prompt_hash
from halfrate.providers.registry import adapter_class
from halfrate.service.caching import with_cached_cost
from halfrate.service.prices import TIERS
from halfrate.store.store import Spent, Store

_LOOKED_THROUGH = 1000
"""Jobs, the newest first, among which samples are looked for."""
_ENOUGH = 8
"""Samples of a kind that are looked at: older ones say less of what models answer today."""

_NEARLY_ALL = 0.95
_LAST_SEEN = 30 * 86_400.0
"""How long it is believed that caches are as they were seen, seconds: where they are not used for being cold, nothing
new is seen of them."""


def samples(store: Store, spec: RequestSpec) -> list[Sample]:
    """What the newest jobs took that asked the same of a row; where there are none, others of the same model."""
    asked = prompt_hash(spec)
    # What comes from a cache where a request says so is the plan's to say, which may be another than it was.
    marked = adapter_class(spec.provider).capabilities.cache.marks
    alike = [job for job in store.jobs(limit=_LOOKED_THROUGH) if job.text_bytes and _is_alike(job.spec, spec)]
    same = [job for job in alike if asked and job.prompt_hash == asked]
    found = _newest(store, same, same=True) or _newest(store, alike, same=False)
    return [msgspec.structs.replace(sample, cached=0) for sample in found] if marked else found


def cache_hits(store: Store, job: Job) -> Hits:
    """How often rows of the job's model and tier found warm what others had put into a cache, of those that could; only
    what was seen."""
    seen: dict[Life, list[Sample]] = {}
    readable = Counter[Life]()
    for other in store.jobs(limit=_LOOKED_THROUGH):
        life = other.cache.life
        if life is None or not other.cache.readable or other.created_at < job.created_at - _LAST_SEEN:
            continue
        if other.tier != job.tier or not _is_alike(other.spec, job.spec):
            continue
        sample = _sample(other, store.spent(job_id=other.id), same=False)
        known = seen.setdefault(life, [])
        if (
            len(known) < _ENOUGH
            and sample is not None
            and other.state is JobState.DONE
            and _tells(other, sample)
        ):
            known.append(sample)
            # It goes by what the rows were thought to be long.
            readable[life] += round(other.cache.readable * sample.input / max(1, other.forecast.input_tokens))
    batched = job.tier == "batch"
    return {
        (batched, life): min(1.0, sum(sample.cached for sample in known) / readable[life])
        for life, known in seen.items()
        if known
    }


def _newest(store: Store, jobs: list[Job], *, same: bool) -> list[Sample]:
    """Samples of the first of these jobs that tell."""
    made = ((job, _sample(job, store.spent(job_id=job.id), same=same)) for job in jobs)
    told = (sample for job, sample in made if sample is not None and _tells(job, sample))
    return list(itertools.islice(told, _ENOUGH))


def _tells(job: Job, sample: Sample) -> bool:
    """Whether the rows that were billed stand for all of a job: those that failed may have been the long ones."""
    return job.state is not JobState.DONE or sample.rows >= _NEARLY_ALL * job.rows


def _is_alike(one: RequestSpec, other: RequestSpec) -> bool:
    same_model = (one.provider, one.model, one.endpoint) == (other.provider, other.model, other.endpoint)
    return same_model and bool(one.model)


def _sample(job: Job, spent: Iterable[Spent], *, same: bool) -> Sample | None:
    paid = [one for one in spent if one.kind == "rows"]
    rows = sum(one.rows for one in paid)
    if not rows:
        return None
    return Sample(
        same=same,
        rows=rows,
        text_bytes=job.text_bytes * rows / job.rows,
        input=sum(one.usage.total_input for one in paid),
        cached=sum(one.usage.cached for one in paid),
        output=sum(one.usage.output for one in paid),
    )


def by_tier(store: Store, job: Job) -> dict[str, Forecast]:
    """What a job that is not submitted should cost in each tier whose price is known, from the cheapest on."""
    known = samples(store, job.spec)
    made = {
        tier: forecast(
            job.spec,
            job.rows,
            job.text_bytes,
            job.prices,
            tier=tier,
            samples=known,
            counted=job.counted_tokens,
        )
        for tier in TIERS
    }
    # What a cache saves was reckoned for the job's own tier.
    made[job.tier] = job.forecast
    return {tier: one for tier, one in made.items() if one.cost is not None}


def expected(store: Store, job: Job) -> Forecast:
    """What a job should come to: what it has cost, and what the rest should, going by its own rows."""
    spent = store.spent(job_id=job.id)
    sample = _sample(job, spent, same=True)
    if sample is None or not job.text_bytes:
        return job.forecast
    if job.cache.life is not None:
        sample = msgspec.structs.replace(sample, cached=0)
    left = max(0, job.rows - sample.rows)
    rest = forecast(
        job.spec, left, job.text_bytes * left / job.rows, job.prices, tier=job.tier, samples=[sample]
    )
    rest = with_cached_cost(rest, part_of(job.cache, left, job.rows))
    costs = [one.cost for one in spent if one.kind != "doubt"]
    dear = [one.realtime_cost for one in spent if one.kind != "doubt"]
    return Forecast(
        input_tokens=sample.input + rest.input_tokens,
        output_tokens=sample.output + rest.output_tokens,
        cost=added([*costs, rest.cost]),
        realtime_cost=added([*dear, rest.realtime_cost]),
        cost_low=added([*costs, rest.cost_low]),
        cost_high=added([*costs, rest.cost_high]),
        basis="prompt",
    )


class Score(msgspec.Struct, frozen=True):
    """A forecast, and what came of it. Picodollars; `paid` is what the job cost in the end."""

    job: str
    model: str
    basis: Basis
    forecast: int
    low: int
    high: int
    paid: int

    @property
    def off(self) -> float:
        """By how much the forecast was too high, as a share of what was paid."""
        return (self.forecast - self.paid) / self.paid if self.paid else 0.0

    @property
    def held(self) -> bool:
        """Whether what was paid lay in the range."""
        return self.low <= self.paid <= self.high


def scores(store: Store, since: float = 0.0) -> list[Score]:
    """Forecasts of jobs that ended since then, all of whose prices were known; the newest first."""
    costs: dict[str, list[int | None]] = {}
    for one in store.spent():
        if one.kind != "doubt":
            costs.setdefault(one.job_id, []).append(one.cost)
    found: list[Score] = []
    for job in store.jobs():
        plan = job.forecast
        if job.state is not JobState.DONE or (job.finished_at or 0.0) < since:
            continue
        paid = added(costs.get(job.id, ()))
        if paid is None or plan.cost is None or plan.cost_low is None or plan.cost_high is None:
            continue
        found.append(Score(job.id, job.label, plan.basis, plan.cost, plan.cost_low, plan.cost_high, paid))
    return found

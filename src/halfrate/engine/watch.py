"""Watching deadlines: what the ladder says of each job is done to its shards, whoever works on them.

Nothing is remembered between two looks but what the store knows, so any number of processes may watch the same jobs:
they come to the same plan, and a step that one has taken is no step any more for the next.
"""

import asyncio
import functools
from collections.abc import Iterable, Mapping
from typing import Final

from halfrate.base.clock import Clock
from halfrate.base.types import Price
from halfrate.core import deadlines
from halfrate.core import lifecycle as life
from halfrate.core.deadlines import Plan, Rescue, Send
from halfrate.core.durations import BATCH, SETTLE, learn, learn_harvest
from halfrate.core.durations import Span as Length
from halfrate.core.job import Job, JobState
from halfrate.core.lifecycle import MOVING, WAITING, Policy, Shard, State
from halfrate.core.rates import Rate, RateLimits, Throughput, allowed, flex_rate, realtime_rate
from halfrate.core.situation import Beliefs, JobView, ShardView, Stage, Tier, TierName
from halfrate.engine.steps import Site, Worker
from halfrate.store.store import Span, Store

_EVERY: Final = 60.0
"""Seconds between two looks, where nothing calls for an earlier one."""
_USUAL_PREMIUM: Final = 2.0
"""What real time costs beside a batch, where the prices are not known."""
_POLICY: Final = Policy(uploads_file=True)

_STAGES: Final[Mapping[State, Stage]] = {
    State.PLANNED: Stage.WAITING,
    State.UPLOADED: Stage.WAITING,
    State.SUBMITTING: Stage.RUNNING,
    State.RUNNING: Stage.RUNNING,
    State.CANCELLING: Stage.CANCELLING,
    State.COLLECTING: Stage.COLLECTING,
    State.CLEANING: Stage.COLLECTING,
    State.ANSWERING: Stage.REALTIME,
}


class Watch:
    """Looks after the deadlines of one job, or of all."""

    def __init__(self, store: Store, site: Site, worker: Worker, clock: Clock, job_id: str | None) -> None:
        self.next_look = 0.0
        self._store = store
        self._site = site
        self._worker = worker
        self._clock = clock
        self._job_id = job_id

    async def look(self) -> None:
        """Plan every job that has a deadline, the nearest first, and take the steps that are due."""
        now = self._clock.now()
        self.next_look = now + _EVERY
        needed: dict[tuple[str, str], float] = {}
        for job in await asyncio.to_thread(self._jobs):
            shards = await asyncio.to_thread(self._store.shards, job.id)
            place = (job.account, job.spec.model)
            plan = await asyncio.to_thread(
                outlook, self._store, self._site, job, shards, now, needed.get(place, 0.0)
            )
            needed[place] = needed.get(place, 0.0) + plan.demand
            if plan.review_at is not None:
                self.next_look = min(self.next_look, plan.review_at)
            for shard in shards:
                step = plan.steps.get(shard.id)
                if step is not None:
                    await self._take(shard, step, _firm(self._store, self._site, job))

    def _jobs(self) -> list[Job]:
        jobs = (
            [self._site.job(self._job_id)]
            if self._job_id is not None
            else self._store.jobs(states=[JobState.OPEN])
        )
        wanted = [job for job in jobs if job.deadline is not None and job.rescue]
        return sorted(wanted, key=lambda job: (job.deadline or 0.0, job.id))

    async def _take(self, shard: Shard, step: deadlines.Step, firm: str) -> None:
        match step:
            case Rescue() if shard.state is State.RUNNING and not shard.rescue:
                await self._change(shard, life.RescueAsked(firm))
            case Send(tier) if shard.state in WAITING:
                await self._change(shard, life.SendNow(tier))
            case Send(tier) if shard.state is State.ANSWERING and shard.tier != tier:
                running = self._worker.answers_in(shard.id)
                if running is None:
                    await self._change(shard, life.SendNow(tier))
                elif running != tier:
                    # Its calls under way come to their end; at the next look nobody holds it.
                    self._worker.stop_answering(shard.id)
                    self.next_look = self._clock.now() + 1.0
            case _:
                return

    async def _change(self, shard: Shard, event: life.Event) -> None:
        """Take a step, unless the shard has moved on since it was looked at."""

        def step(present: Shard) -> Shard | None:
            if present.state is not shard.state or present.attempt != shard.attempt:
                return None
            return life.apply(present, event, _POLICY, self._clock.now())

        await asyncio.to_thread(self._store.change, shard.id, step)


def outlook(
    store: Store, site: Site, job: Job, shards: Iterable[Shard], now: float, ahead: float = 0.0
) -> Plan:
    """What the ladder says of a job now. `ahead`: rows that nearer deadlines need real time for first."""
    return deadlines.plan(job_view(job, shards, now, ahead), beliefs(store, site, job, now))


def job_view(job: Job, shards: Iterable[Shard], now: float, ahead: float = 0.0) -> JobView:
    """A job as deadlines are judged by."""
    going = (shard for shard in shards if shard.state in MOVING and not shard.cancel_requested)
    views = tuple(_view(shard, now) for shard in going)
    return JobView(
        now=now, deadline=job.deadline, shards=views, rows=job.rows, ahead=ahead, rescue=job.rescue
    )


def _view(shard: Shard, now: float) -> ShardView:
    stage = _STAGES[shard.state]
    rows, finished = shard.sending, 0
    since: float | None = None
    pace: float | None = None
    match stage:
        case Stage.WAITING:
            pass
        case Stage.RUNNING:
            since = shard.submitted_at if shard.submitted_at is not None else shard.intent_at
            finished = shard.rows_finished
            if since is not None and finished and now > since:
                pace = finished / (now - since)
        case Stage.CANCELLING:
            since, finished = shard.cancelled_at, shard.rows_finished
        case Stage.COLLECTING:
            since = shard.ended_at
            whole = shard.cancelled_at is None and shard.tier == "batch"
            finished = (
                rows - shard.unsettled
                if shard.state is State.CLEANING
                else rows
                if whole
                else shard.rows_finished
            )
        case Stage.REALTIME:
            rows -= shard.rows_finished
    left_over = shard.rows_left - shard.sending
    return ShardView(
        id=shard.id, stage=stage, rows=rows + left_over, finished=max(0, finished), since=since, pace=pace
    )


def beliefs(store: Store, site: Site, job: Job, now: float) -> Beliefs:
    """What has been seen of the job's account and model, and what is believed where nothing was."""
    spans = functools.partial(store.spans, job.account, job.spec.model)
    running = [
        Length(seconds=now - shard.submitted_at, over=False, rows=shard.sending)
        for shard in store.shards(job.id)
        if shard.state is State.RUNNING and shard.submitted_at is not None and now > shard.submitted_at
    ]
    rows = max((shard.rows for shard in store.shards(job.id)), default=0)
    return Beliefs(
        batches=learn([*_lengths(spans("batch")), *running], BATCH, rows),
        settle=learn(_lengths(spans("settle")), SETTLE),
        harvest=learn_harvest(_lengths(spans("harvest"))),
        tiers=_tiers(store, site, job),
    )


def _lengths(spans: Iterable[Span]) -> list[Length]:
    return [Length(seconds=span.seconds, over=span.over, rows=span.rows) for span in spans]


def _tiers(store: Store, site: Site, job: Job) -> tuple[Tier, ...]:
    adapter = site.adapter(job.account)
    offered = adapter.tiers(job.spec.endpoint) if adapter.capabilities.rescues else ()
    standard = realtime_rate(_throughput(store, job, "standard"), _allowed(store, job))
    tiers: list[Tier] = []
    if "standard" in offered:
        tiers.append(_tier("standard", job, job.prices.standard, standard))
    # How flex is priced, and whether a model has it at all, is known from the price book alone.
    if "flex" in offered and any(job.prices.flex.values()):
        tiers.append(
            _tier("flex", job, job.prices.flex, flex_rate(_throughput(store, job, "flex"), standard))
        )
    return tuple(tiers)


def _allowed(store: Store, job: Job) -> float | None:
    """Rows a second within the limits that were set, or told by the provider's replies."""
    # What holds for the model goes before what holds for the account.
    mine = {quota.kind: float(quota.most) for quota, _ in store.limits(job.account, job.spec.model)}
    limits = RateLimits(
        rpm=mine.get("rpm"), tpm=mine.get("tpm"), itpm=mine.get("itpm"), otpm=mine.get("otpm")
    )
    rows = max(1, job.rows)
    return allowed(limits, job.forecast.input_tokens / rows, job.forecast.output_tokens / rows)


def _firm(store: Store, site: Site, job: Job) -> str:
    """The tier in which rows go on that a batch has left: the surest there is. A cheaper one is looked for then."""
    tiers = _tiers(store, site, job)
    return max(tiers, key=lambda tier: tier.rate.counted_with).name if tiers else "standard"


def _throughput(store: Store, job: Job, tier: str) -> list[Throughput]:
    return [Throughput(span.rows, span.seconds) for span in store.spans(job.account, job.spec.model, tier)]


def _tier(name: TierName, job: Job, prices: Mapping[str, Price | None], rate: Rate) -> Tier:
    """A tier with its price beside a batch's, judged by input tokens."""
    premiums = [
        real.rates.input / batch.rates.input
        for model, real in prices.items()
        if real is not None
        and (batch := job.prices.batch.get(model)) is not None
        and real.rates.input
        and batch.rates.input
    ]
    return Tier(name, max(premiums, default=_USUAL_PREMIUM), rate)

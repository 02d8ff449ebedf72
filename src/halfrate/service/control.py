"""Acting on whole jobs: cancel, pause, resume, try again, conclude."""

import functools
from collections.abc import Callable

import msgspec

from halfrate.base.clock import Clock
from halfrate.core import lifecycle as life
from halfrate.core.job import Job, JobState
from halfrate.core.lifecycle import LIVE, MOVING, Policy, Shard, State
from halfrate.engine.collecting import slots_left
from halfrate.service.site import JobSite
from halfrate.store.store import Store


class Control:
    """Does what `Service` promises under the same names. Whoever works on a job sees it at the next step."""

    def __init__(self, store: Store, site: JobSite, clock: Clock) -> None:
        self._store = store
        self._site = site
        self._clock = clock

    def cancel(self, job_id: str) -> int:
        return self._change(job_id, _cancelled)

    def pause(self, job_id: str) -> int:
        changed = self._change(job_id, _paused)
        if changed:
            self._save(msgspec.structs.replace(self._site.fresh(job_id), state=JobState.PAUSED))
        return changed

    def resume(self, job_id: str, *, keep_going: bool = False) -> int:
        changed = self._change(job_id, _resumed)
        job = self._site.fresh(job_id)
        state = JobState.OPEN if changed else job.state
        wanted = msgspec.structs.replace(job, state=state, keep_going=keep_going or job.keep_going)
        if wanted != job:
            self._save(wanted)
        return changed

    def retry(self, job_id: str) -> int:
        files = self._site.files(job_id)

        def again(shard: Shard, now: float, policy: Policy) -> Shard | None:
            if shard.state is State.STOPPED:
                return life.apply(shard, life.Resumed(), policy, now)
            if shard.state is not State.DONE:
                return None
            rows = len(slots_left(shard, files))
            return life.apply(shard, life.Resumed(rows), policy, now) if rows else None

        changed = self._change(job_id, again)
        if changed:
            job = self._site.fresh(job_id)
            self._save(msgspec.structs.replace(job, state=JobState.OPEN, finished_at=None))
        return changed

    def conclude(self, job_id: str) -> Job:
        job = self._site.fresh(job_id)
        shards = self._store.shards(job_id)
        if any(shard.state in MOVING for shard in shards):
            return job
        if any(shard.state is State.PAUSED for shard in shards):
            return self._save(msgspec.structs.replace(job, state=JobState.PAUSED))
        state = JobState.DONE
        if any(shard.state is State.STOPPED for shard in shards):
            state = JobState.STOPPED
        elif any(shard.cancel_requested for shard in shards):
            state = JobState.CANCELLED
        return self._save(msgspec.structs.replace(job, state=state, finished_at=self._clock.now()))

    def wake(self, job_id: str) -> None:
        """Try now what waits after a failure: whoever starts a run has perhaps just mended what was wrong."""
        now = self._clock.now()

        def due(shard: Shard) -> Shard | None:
            waiting = shard.state in MOVING and shard.trouble is not None and shard.next_at > now
            return msgspec.structs.replace(shard, next_at=now) if waiting else None

        for shard in self._store.shards(job_id):
            self._store.change(shard.id, due)

    # ------------------------------------------------------------ parts

    def _change(self, job_id: str, step: Callable[..., Shard | None]) -> int:
        """Have every shard of a job take a step that it is for; the number of those.

        `step(shard, now=, policy=)` gives the shard after it, None where it is not for that one.
        """
        policy = self._site.policy(self._site.job(job_id))
        now = self._clock.now()
        changed = 0
        for shard in self._store.shards(job_id):
            if self._store.change(shard.id, functools.partial(step, now=now, policy=policy)) is not None:
                changed += 1
        return changed

    def _save(self, job: Job) -> Job:
        self._store.save_job(job, self._clock.now())
        self._site.remember(job)
        return job


def _cancelled(shard: Shard, now: float, policy: Policy) -> Shard | None:
    if shard.cancel_requested or shard.state not in LIVE:
        return None
    return life.apply(shard, life.CancelAsked(), policy, now)


def _paused(shard: Shard, now: float, policy: Policy) -> Shard | None:
    if shard.paused or shard.cancel_requested or shard.state not in MOVING:
        return None
    return life.apply(shard, life.PauseAsked(), policy, now)


def _resumed(shard: Shard, now: float, policy: Policy) -> Shard | None:
    if not shard.paused or shard.state not in LIVE:
        return None
    return life.apply(shard, life.PauseEnded(), policy, now)

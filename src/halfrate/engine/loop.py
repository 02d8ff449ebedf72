"""The local executor: claims due shards and advances them until nothing is left to do."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from halfrate.base.clock import Clock
from halfrate.core import lifecycle as life
from halfrate.core.admission import Quota
from halfrate.core.lifecycle import Policy, Shard, State
from halfrate.engine.owner import Owner
from halfrate.engine.steps import Worker, lease
from halfrate.engine.watch import Watch
from halfrate.store.store import Fenced, Store

_SLOTS = 4
"""Steps at a time. More of them fill no line that these do not fill, and each holds buffers of its own."""
_LONGEST_NAP = 5.0


class Loop:
    """Runs the shards of one job, or of all, in this process.

    `quotas`: the providers' documented limits, for where nothing better is known.

    `stop()` ends it after the steps that are under way; nothing is cancelled at a provider by that.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        clock: Clock,
        owner: Owner,
        quotas: Callable[[], Sequence[Quota]] = lambda: (),
    ) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock
        self._owner = owner
        self._quotas = quotas
        self._stopped = asyncio.Event()
        self._roused = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()
        self._roused.set()

    def rouse(self) -> None:
        """Something is due that was not there at the last look."""
        self._roused.set()

    async def run(
        self,
        policy: Policy,
        *,
        job_id: str | None = None,
        enough: Callable[[], bool] = lambda: False,
        wait_for_more: bool = False,
    ) -> None:
        """Step until no shard goes on by itself, `stop()` was called, or `enough()` says so.

        `wait_for_more`: when there is nothing to do, wait for what others submit.
        """
        span = lease(policy)
        running: set[asyncio.Task[None]] = set()
        # Rows that run in real time take minutes or hours, and must not keep batches from being looked at.
        answering: set[asyncio.Task[None]] = set()
        watch = Watch(self._store, self._worker.site, self._worker, self._clock, job_id)
        await self._take_over_dead(policy, span)
        try:
            while not self._stopped.is_set() and not enough():
                self._roused.clear()
                if self._worker.replan or self._clock.now() >= watch.next_look:
                    self._worker.replan = False
                    await watch.look()
                answering &= running
                free = _SLOTS - len(running) + len(answering)
                now = self._clock.now()
                claimed = await self._claim(now, span, job_id, free) if free else []
                for shard in claimed:
                    task = asyncio.create_task(self._worker.advance(shard, now + span))
                    running.add(task)
                    if shard.state is State.ANSWERING:
                        answering.add(task)
                if len(claimed) == free:
                    # No hand is free: what else is due has to wait for one, and asking for it would be idle work.
                    await self._wait(running, max(watch.next_look - self._clock.now(), 0.0))
                    continue
                due = await asyncio.to_thread(self._store.next_due, job_id, now=self._clock.now())
                if due is None and not running and not wait_for_more:
                    return
                now = self._clock.now()
                nap = min(now + _LONGEST_NAP if due is None else due, watch.next_look) - now
                await self._wait(running, min(max(nap, 0.0), _LONGEST_NAP))
        finally:
            # Calls under way are waited for; no other leaves.
            self._worker.stop_answering()
            if running:
                await asyncio.gather(*running)

    async def _claim(self, now: float, span: float, job_id: str | None, limit: int) -> list[Shard]:
        return await asyncio.to_thread(
            self._store.claim,
            self._owner.name,
            now,
            span,
            job_id=job_id,
            limit=limit,
            quotas=self._quotas(),
        )

    async def _wait(self, running: set[asyncio.Task[None]], nap: float | None) -> None:
        """Until a step is done, the nap is over, or somebody rouses the loop; raises what a step raised."""
        alarms: set[asyncio.Task[Any]] = {asyncio.create_task(self._roused.wait())}
        if nap is not None:
            alarms.add(asyncio.create_task(self._clock.sleep(nap)))
        try:
            done, _ = await asyncio.wait({*running, *alarms}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for alarm in alarms:
                alarm.cancel()
        for task in done & running:
            running.discard(task)
            task.result()

    async def _take_over_dead(self, policy: Policy, span: float) -> None:
        """Free what workers that died on this machine held, at once instead of at the end of their leases."""
        now = self._clock.now()
        for name in await asyncio.to_thread(self._store.owners):
            if not await asyncio.to_thread(self._owner.proven_dead, name):
                continue
            taken = await asyncio.to_thread(self._store.take_over, name, self._owner.name, now + span)
            for shard in taken:
                # A user's cancel may have come in between; then the shard is free already.
                with suppress(Fenced):
                    await asyncio.to_thread(self._store.save, _freed(shard, policy, now), self._owner.name)


def _freed(shard: Shard, policy: Policy, now: float) -> Shard:
    if shard.state is State.SUBMITTING:
        return life.apply(shard, life.SenderGone(), policy, now)
    return shard

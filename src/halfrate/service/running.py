"""Working on jobs until they have ended, or until the loop is stopped."""

import asyncio
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from halfrate.base.clock import Clock
from halfrate.base.errors import HalfrateError
from halfrate.core.admission import Quota
from halfrate.core.job import Job, JobState
from halfrate.core.lifecycle import MOVING, Policy, Shard, State
from halfrate.engine.loop import Loop
from halfrate.engine.owner import Owner
from halfrate.engine.steps import Worker
from halfrate.rows.collect import Check
from halfrate.service.control import Control
from halfrate.service.limits import documented
from halfrate.service.outputs import Outputs
from halfrate.service.site import JobSite, account_for
from halfrate.store.store import Store

_PATIENCE = 300.0
"""Seconds after which a worker tries again what a person has to mend."""
_LEFT_OPEN = 10.0
"""Seconds between two looks for jobs of which nothing goes on, and which nobody has concluded."""
_LONGEST_CREATE = 600.0
"""The longest wait for a paid call of any provider, which a lease has to outlast."""


class Runner:
    """Runs the engine's loop over one job or over all, as `Service` promises under the same names."""

    def __init__(
        self, store: Store, site: JobSite, clock: Clock, owner: Owner, control: Control, outputs: Outputs
    ) -> None:
        self._store = store
        self._site = site
        self._clock = clock
        self._owner = owner
        self._control = control
        self._outputs = outputs

    async def run(
        self,
        job_id: str,
        *,
        on_step: Callable[[Shard], None],
        on_loop: Callable[[Loop], None],
        check: Check | None,
        until_submitted: bool,
    ) -> None:
        job = self._site.job(job_id)
        account = account_for(job.account)
        if check is not None:
            self._site.set_check(job_id, check)
        halts: list[HalfrateError] = []
        self._control.wake(job_id)
        shards = {shard.id: shard for shard in self._store.shards(job_id)}

        def halted(error: HalfrateError) -> None:
            halts.append(error)
            loop.stop()

        def stepped(shard: Shard) -> None:
            shards[shard.id] = shard
            on_step(shard)

        worker = Worker(
            self._store, self._site, self._clock, self._owner.name, on_step=stepped, on_halt=halted
        )
        loop = Loop(self._store, worker, self._clock, self._owner, self._documented)
        on_loop(loop)
        try:
            await loop.run(
                self._site.policy(job),
                job_id=job_id,
                enough=lambda: until_submitted and not _to_submit(shards.values()),
            )
        finally:
            await self._site.disconnect(account.name)
        if halts:
            raise halts[0]

    async def work(
        self,
        *,
        on_step: Callable[[Shard], None],
        on_loop: Callable[[Loop], None],
        on_end: Callable[[Job, Path | None], None],
        on_halt: Callable[[HalfrateError], None],
        drain: bool,
    ) -> None:
        ended: list[str] = []
        later: dict[str, asyncio.Task[None]] = {}

        def stepped(shard: Shard) -> None:
            on_step(shard)
            if shard.state not in MOVING:
                ended.append(shard.job_id)

        def end(job_id: str) -> None:
            if not self._site.depot.afar:
                self._end(job_id, on_end, on_halt)
            elif job_id not in later:
                # Its files may have to be brought first.
                later[job_id] = asyncio.create_task(asyncio.to_thread(self._end, job_id, on_end, on_halt))

        worker = Worker(
            self._store,
            self._site,
            self._clock,
            self._owner.name,
            on_step=stepped,
            on_halt=on_halt,
            patience=_PATIENCE,
        )
        loop = Loop(self._store, worker, self._clock, self._owner, self._documented)
        on_loop(loop)

        looked = -math.inf

        def concluded() -> bool:
            nonlocal looked
            for job_id in [job_id for job_id, task in later.items() if task.done()]:
                later.pop(job_id).result()
            while ended:
                end(ended.pop())
            now = self._clock.now()
            if now - looked >= _LEFT_OPEN:
                # Whoever has ended the last shard of a job may have died before it could conclude it.
                looked = now
                for job_id in self._store.settled_jobs():
                    end(job_id)
            return False

        policy = Policy(uploads_file=True, create_timeout=_LONGEST_CREATE)
        try:
            await loop.run(policy, enough=concluded, wait_for_more=not drain)
        finally:
            concluded()
            await asyncio.gather(*later.values())
            await self._site.disconnect_all()

    def _end(
        self,
        job_id: str,
        on_end: Callable[[Job, Path | None], None],
        on_halt: Callable[[HalfrateError], None],
    ) -> None:
        """Conclude a job of which no shard goes on, and write its output."""
        if any(shard.state in MOVING for shard in self._store.shards(job_id)):
            return
        self._site.forget(job_id)
        job = self._control.conclude(job_id)
        try:
            path = None if job.fetched or job.state is JobState.PAUSED else self._outputs.deliver_own(job_id)
        except HalfrateError as error:
            # The answers are kept; `halfrate results` writes them elsewhere.
            on_halt(error)
            path = None
        on_end(job, path)

    def _documented(self) -> list[Quota]:
        """Limits that providers document, for the accounts that are in use."""
        return documented(self._site.accounts())


def _to_submit(shards: Iterable[Shard]) -> bool:
    return any(shard.state in {State.PLANNED, State.UPLOADED, State.SUBMITTING} for shard in shards)

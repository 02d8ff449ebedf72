"""Carrying out what the life cycle decides: one command, one event, one commit.

`Worker.advance` may be run twice for the same shard, or stop anywhere: every step either changes nothing at
the provider, or is preceded by a commit that tells the next worker to look before it acts.
"""

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from halfrate.base.clock import Clock
from halfrate.base.errors import HalfrateError, OutcomeUnknown, ProviderError, Refused, StorageError
from halfrate.base.ids import row_prefix
from halfrate.blobs.files import JobFiles
from halfrate.core import lifecycle as life
from halfrate.core.job import Job
from halfrate.core.lifecycle import Policy, Shard, Trouble
from halfrate.engine.collecting import Collecting, fetch, write_again
from halfrate.providers.base import Adapter, BatchView, Intent
from halfrate.rows.collect import Check
from halfrate.store.store import Fenced, Store

_R = TypeVar("_R")
_LEASE_MARGIN = 120.0
_UPLOAD = 3600.0
"""Seconds that a slow line is given for a request file, before another worker begins the upload anew."""
_SOON = 0.0
"""After what a person has to mend: the loop ends, and the next one is to try it at once."""


def lease(policy: Policy) -> float:
    """Seconds for which a claimed shard is its worker's: longer than the longest wait for a paid call, so
    that nobody looks for a batch while the call that makes it may still be on its way."""
    return policy.send_within + policy.create_timeout + _LEASE_MARGIN


class Site(Protocol):
    """What a worker needs to know about jobs: their records, files, adapters and terms."""

    def job(self, job_id: str) -> Job: ...

    def files(self, job_id: str) -> JobFiles: ...

    def adapter(self, account: str) -> Adapter: ...

    def policy(self, job: Job) -> Policy: ...

    def check(self, job: Job) -> Check | None: ...


class Worker:
    """Steps shards. `on_step` hears every shard that was saved; `on_halt` what a person has to mend."""

    def __init__(
        self,
        store: Store,
        site: Site,
        clock: Clock,
        owner: str,
        *,
        on_step: Callable[[Shard], None] = lambda _: None,
        on_halt: Callable[[HalfrateError], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._site = site
        self._clock = clock
        self._owner = owner
        self._on_step = on_step
        self._on_halt = on_halt
        # Parsing results is work for one core: doing several shards at once gains nothing and takes memory.
        self._one_at_a_time = asyncio.Semaphore(1)

    async def advance(self, shard: Shard) -> None:
        """Do one thing for a claimed shard, and give it back."""
        job = self._site.job(shard.job_id)
        policy = self._site.policy(job)
        try:
            match life.decide(shard, policy):
                case life.Upload():
                    await self._upload(shard, job, policy)
                case life.Create():
                    await self._create(shard, job, policy)
                case life.Find():
                    await self._find(shard, job, policy)
                case life.Poll():
                    await self._poll(shard, policy)
                case life.CancelBatch(batch_id, twin):
                    await self._cancel(shard, policy, batch_id, twin=twin)
                case life.Collect():
                    async with self._one_at_a_time:
                        await self._collect(shard, job, policy)
                case life.CleanUp(strays):
                    await self._clean_up(shard, job, policy, strays=strays)
                case life.Abandon():
                    await self._save(life.apply(shard, life.Abandoned(), policy, self._clock.now()))
                case life.Rest():
                    await self._in_thread(self._store.release, shard, self._owner, shard.next_at)
        except Fenced:
            # Somebody else has stepped this shard since. What they know is newer than what we know.
            return
        except (StorageError, OSError) as error:
            # The loop stops now; whoever attaches once it is mended does not have to wait.
            await self._in_thread(
                self._store.release, shard, self._owner, self._clock.now() + policy.backoff_first
            )
            self._on_halt(error if isinstance(error, HalfrateError) else _disk(error))

    # ------------------------------------------------------------ steps

    async def _upload(self, shard: Shard, job: Job, policy: Policy) -> None:
        intent = await self._intent(shard, job)
        meant = life.apply(shard, life.UploadMeant(), policy, self._clock.now())
        lease_until = self._clock.now() + lease(policy) + _UPLOAD
        shard = await self._in_thread(self._store.save, meant, self._owner, lease_until=lease_until)
        try:
            file_id = await self._adapter(shard).upload(intent)
        except Refused as refusal:
            if refusal.credentials:
                back = life.CreateRefused(_trouble(refusal), passing=True, retry_after=_SOON)
                await self._step(shard, back, policy)
                self._on_halt(refusal)
                return
            event: life.Event = life.CreateRefused(_trouble(refusal), refusal.passing, refusal.retry_after)
            if refusal.status >= 500:
                # The file may have been taken in all the same.
                event = life.StepFailed(_trouble(refusal), refusal.retry_after)
            await self._step(shard, event, policy)
        except ProviderError as error:
            await self._step(shard, life.StepFailed(_trouble(error)), policy)
        else:
            await self._step(shard, life.Uploaded(file_id), policy)

    async def _create(self, shard: Shard, job: Job, policy: Policy) -> None:
        adapter = self._adapter(shard)
        intent = await self._intent(shard, job)
        now = self._clock.now()
        meant = life.apply(shard, life.IntentMade(), policy, now)
        lease_until = now + lease(policy)
        alone = not adapter.capabilities.echoes_tag
        saved = await self._in_thread(self._store.save_intent, meant, self._owner, lease_until, alone=alone)
        if saved is None:
            await self._in_thread(self._store.release, shard, self._owner, now + policy.backoff_first)
            return
        self._on_step(saved)
        in_time = functools.partial(self._in_time, now, policy)
        try:
            view = await adapter.create(msgspec.structs.replace(intent, in_time=in_time))
        except Refused as refusal:
            if refusal.credentials:
                back = life.CreateRefused(_trouble(refusal), passing=True, retry_after=_SOON)
                await self._step(saved, back, policy)
                self._on_halt(refusal)
                return
            gone = refusal.status in {400, 404} and "file" in str(refusal).lower() and bool(intent.file_id)
            event = life.CreateRefused(
                _trouble(refusal), refusal.passing, refusal.retry_after, file_gone=gone
            )
            await self._step(saved, event, policy)
        except OutcomeUnknown as error:
            await self._step(saved, life.CreateUnknown(_trouble(error)), policy)
        else:
            await self._step(saved, life.Created(view.batch_id, view.status), policy)

    def _in_time(self, meant_at: float, policy: Policy) -> bool:
        return abs(self._clock.now() - meant_at) < policy.send_within

    async def _find(self, shard: Shard, job: Job, policy: Policy) -> None:
        adapter = self._adapter(shard)
        others: tuple[str, ...] = ()
        if not adapter.capabilities.echoes_tag:
            others = await self._in_thread(self._store.known_batches, shard.account, besides=shard.id)
        intent = await self._intent(shard, job, past=(*shard.refs.past, *others))
        try:
            seen = await adapter.find(intent, self._clock.now())
        except ProviderError as error:
            # A look-up that failed says nothing about the batch: it is not "absent".
            await self._failed(shard, policy, error)
            return
        if seen.found:
            await self._step(shard, life.Found(seen.found), policy)
        elif seen.held is not None:
            await self._step(shard, life.Held(Trouble("held", seen.held)), policy)
        else:
            await self._step(shard, life.Absent(), policy)

    async def _poll(self, shard: Shard, policy: Policy) -> None:
        batch_id = shard.refs.batch_id or ""
        try:
            view = await self._adapter(shard).poll(batch_id)
        except Refused as refusal:
            if refusal.status == 404:
                text = (
                    f"The provider does not know batch {batch_id}. It was not sent again, because it may be "
                    "running under another key or project, and would be paid for twice."
                )
                await self._step(shard, life.BatchMissing(Trouble("batch_missing", text)), policy)
                return
            await self._failed(shard, policy, refusal)
        except ProviderError as error:
            await self._failed(shard, policy, error)
        else:
            event = life.Polled(
                status=view.status,
                ended=view.ended,
                rows_finished=view.rows_finished,
                queue_full=view.queue_full,
            )
            await self._step(shard, event, policy)

    async def _cancel(self, shard: Shard, policy: Policy, batch_id: str, *, twin: bool) -> None:
        try:
            await self._adapter(shard).cancel(batch_id)
        except ProviderError as error:
            await self._failed(shard, policy, error)
        else:
            await self._step(shard, life.CancelSent(batch_id, twin=twin), policy)

    async def _collect(self, shard: Shard, job: Job, policy: Policy) -> None:
        adapter = self._adapter(shard)
        files = self._site.files(job.id)
        views: list[BatchView] = []
        fetched: list[list[Path]] = []
        try:
            for batch_id in shard.refs.batches:
                view = await adapter.poll(batch_id)
                if not view.ended:
                    trouble = Trouble(
                        "twin_open", f"batch {batch_id} is still ending; its rows are waited for"
                    )
                    await self._step(shard, life.StepFailed(trouble, policy.poll_first), policy)
                    return
                views.append(view)
                first = sum(map(len, fetched))
                fetched.append(await fetch(adapter, view, files, shard, first))
        except ProviderError as error:
            await self._failed(shard, policy, error)
            return
        reader = Collecting(shard, job, files, adapter, self._site.check(job))
        done = await self._in_thread(reader.run, views, fetched)
        if isinstance(done, life.Foreign | life.StepFailed):
            await self._step(shard, done, policy)
            return
        collection, event = done
        now = self._clock.now()
        after = life.apply(shard, event, policy, now)
        saved = await self._in_thread(
            self._store.save_collected, after, self._owner, shard.attempt, collection, now
        )
        self._on_step(saved)

    async def _clean_up(self, shard: Shard, job: Job, policy: Policy, *, strays: bool) -> None:
        adapter = self._adapter(shard)
        try:
            found = await adapter.strays(shard.tag) if strays else ()
            await adapter.clean_up(tuple(dict.fromkeys((*shard.refs.leftovers, *found))))
        except ProviderError as error:
            await self._failed(shard, policy, error)
            return
        files = self._site.files(job.id)
        if shard.attempt > 1:
            files.requests(shard.number, shard.attempt).unlink(missing_ok=True)
        if shard.counts.succeeded == shard.rows:
            files.requests(shard.number).unlink(missing_ok=True)
        await self._step(shard, life.Cleaned(), policy)

    # ------------------------------------------------------------ parts of steps

    async def _intent(self, shard: Shard, job: Job, past: tuple[str, ...] = ()) -> Intent:
        files = self._site.files(job.id)
        path = files.requests(shard.number, shard.attempt)
        if shard.attempt > 1 and not path.exists():
            await self._in_thread(write_again, shard, job, files, self._adapter(shard))
        return Intent(
            tag=shard.tag,
            endpoint=job.spec.endpoint,
            requests=path,
            rows=shard.rows_left,
            file_id=shard.refs.file_id,
            made_at=shard.intent_at,
            past=past,
            row_prefix=row_prefix(shard.id, shard.attempt),
        )

    async def _failed(self, shard: Shard, policy: Policy, error: ProviderError) -> None:
        if isinstance(error, Refused) and error.credentials:
            await self._halted(shard, policy, error)
            return
        wait = error.retry_after if isinstance(error, Refused) else None
        await self._step(shard, life.StepFailed(_trouble(error), wait), policy)

    async def _halted(self, shard: Shard, policy: Policy, refusal: Refused) -> None:
        """A key that is refused is for a person to mend. The shard stays as it is."""
        await self._step(shard, life.StepFailed(_trouble(refusal), _SOON), policy)
        self._on_halt(refusal)

    async def _step(self, shard: Shard, event: life.Event, policy: Policy) -> None:
        await self._save(life.apply(shard, event, policy, self._clock.now()))

    async def _save(self, shard: Shard) -> None:
        self._on_step(await self._in_thread(self._store.save, shard, self._owner))

    def _adapter(self, shard: Shard) -> Adapter:
        return self._site.adapter(shard.account)

    async def _in_thread(self, call: Callable[..., _R], *args: object, **options: object) -> _R:
        return await asyncio.to_thread(functools.partial(call, *args, **options))


def _trouble(error: ProviderError) -> Trouble:
    code = (error.code or str(error.status)) if isinstance(error, Refused) else "unknown"
    return Trouble(code, str(error))


def _disk(error: OSError) -> StorageError:
    where = f" ({error.filename})" if error.filename else ""
    return StorageError(
        f"This machine could not write a file{where}: {error.strerror or error}. What the provider finished is "
        "safe there and paid for once; mend this and attach to the job again."
    )

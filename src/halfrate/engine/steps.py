"""Carrying out what the life cycle decides: one command, one event, one commit.

`Worker.advance` may be run twice for the same shard, or stop anywhere: every step either changes nothing at
the provider, or is preceded by a commit that tells the next worker to look before it acts.
"""

import asyncio
import functools
import itertools
import re
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from halfrate.base.clock import Clock
from halfrate.base.errors import (
    HalfrateError,
    IllegalStep,
    OutcomeUnknown,
    ProviderError,
    Refused,
    StorageError,
    UsageError,
)
from halfrate.base.ids import row_prefix
from halfrate.base.results import MAY_BE_PAID, RESULTS_GONE, Kind
from halfrate.base.types import Framing
from halfrate.blobs.files import JobFiles
from halfrate.core import lifecycle as life
from halfrate.core import pacing
from halfrate.core.admission import Fit, Quota, QuotaKind, Refusal, fit
from halfrate.core.breaker import tripped
from halfrate.core.job import Job
from halfrate.core.lifecycle import Policy, Shard, Trouble
from halfrate.engine.collecting import Collecting, fetch, write_again
from halfrate.engine.hold import held
from halfrate.engine.realtime import Patience, Realtime, Tally, Work
from halfrate.providers.base import Adapter, BatchView, Blame, CallRefused, Intent, Tier
from halfrate.rows.collect import Check
from halfrate.rows.journal import Copy, Journal, JournalInUse
from halfrate.rows.requests import request_lines
from halfrate.store.connector import CommitUnknown
from halfrate.store.store import Fenced, Span, Store

_R = TypeVar("_R")
_LEASE_MARGIN = 120.0
_PAY_AGAIN = Patience(pay_again=True)
"""A row whose reply was lost is called again: it is wanted now, and what it may have cost is in the ledger."""
_RATES: Final[Mapping[pacing.Kind, QuotaKind]] = {
    "requests": "rpm",
    "tokens": "tpm",
    "input": "itpm",
    "output": "otpm",
}
_FILE: Final = re.compile(r"\bfiles?\b|file_id", re.IGNORECASE)
"""In a refused create: it is about the request file, which may only be slow to appear."""
_TELLING = 20
"""Fewer rows say nothing about how fast real time is."""
_SOON = 0.0
"""After what a person has to mend, where the loop ends with it: the next one is to try at once."""


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
    """Steps shards.

    `on_step` hears every shard that was saved; `on_halt` what a person has to mend. `patience`: seconds after which
    a shard that waits for a person is tried again, for a worker that goes on with others meanwhile.
    """

    def __init__(
        self,
        store: Store,
        site: Site,
        clock: Clock,
        owner: str,
        *,
        on_step: Callable[[Shard], None] = lambda _: None,
        on_halt: Callable[[HalfrateError], None] = lambda _: None,
        patience: float | None = None,
        realtime: Realtime | None = None,
    ) -> None:
        self._store = store
        self.site = site
        self._clock = clock
        self._owner = owner
        self._on_step = on_step
        self._on_halt = on_halt
        self._patience = patience
        self._realtime = realtime or Realtime(clock)
        self.replan = False
        """A shard has come to where its deadline says how it goes on."""
        self._answering: dict[str, tuple[str, asyncio.Event]] = {}
        self._mended = _SOON if patience is None else patience
        # Parsing results is work for one core: doing several shards at once gains nothing and takes memory.
        self._one_at_a_time = asyncio.Semaphore(1)

    async def advance(self, shard: Shard, until: float) -> None:
        """Do one thing for a claimed shard, and give it back. `until`: when the lease ends that it was claimed with."""
        job = self.site.job(shard.job_id)
        policy = self.site.policy(job)
        try:
            await self._carry_out(life.decide(shard, policy), shard, job, policy, until)
        except Fenced:
            # Somebody else has stepped this shard since. What they know is newer than what we know.
            return
        except (StorageError, OSError) as error:
            # The loop stops now; whoever attaches once it is mended does not have to wait.
            due = self._clock.now() + policy.backoff_first
            if await self._in_thread(self._store.release, shard, self._owner, due):
                self._on_halt(error if isinstance(error, HalfrateError) else _disk(error))
            # Else this process was held up: the shard is another's, who may be done with it, and with its files.
        except UsageError as error:
            # An account that is not set up here, a file of the job that is not there.
            due = self._clock.now() + (policy.backoff_first if self._patience is None else self._patience)
            if not await self._in_thread(self._store.release, shard, self._owner, due):
                return
            if self._patience is None:
                raise
            self._on_halt(error)

    async def _carry_out(
        self, command: life.Command, shard: Shard, job: Job, policy: Policy, until: float
    ) -> None:
        match command:
            case life.Upload():
                await self._upload(shard, job, policy)
            case life.Create():
                await self._create(shard, job, policy)
            case life.Find():
                await self._find(shard, job, policy)
            case life.Poll():
                await self._poll(shard, job, policy)
            case life.CancelBatch(batch_id, twin):
                await self._cancel(shard, policy, batch_id, twin=twin)
            case life.Collect():
                async with self._one_at_a_time:
                    await self._collect(shard, job, policy, until)
            case life.CleanUp(strays):
                await self._clean_up(shard, job, policy, strays=strays)
            case life.Answer(stop):
                await self._answer(shard, job, policy, until, stop=stop)
            case life.GoRealtime() | life.CutDown() | life.LeaveOut() | life.Abandon():
                await self._step(shard, _here(command), policy)
            case life.Rest():
                await self._in_thread(self._store.release, shard, self._owner, shard.next_at)

    def answers_in(self, shard_id: str) -> str | None:
        """The tier in which this worker is running a shard's rows now, if it is."""
        running = self._answering.get(shard_id)
        return running[0] if running is not None else None

    def stop_answering(self, shard_id: str | None = None) -> None:
        """Let no further row of a shard, or of any, be called; what is under way is waited for."""
        for name, (_, stop) in self._answering.items():
            if shard_id in {None, name}:
                stop.set()

    # ------------------------------------------------------------ steps

    async def _upload(self, shard: Shard, job: Job, policy: Policy) -> None:
        intent = await self._intent(shard, job)
        meant = life.apply(shard, life.UploadMeant(), policy, self._clock.now())
        span = lease(policy)
        lease_until = self._clock.now() + span
        shard = await self._in_thread(self._store.save, meant, self._owner, lease_until=lease_until)
        try:
            # A large file over a slow line outlasts the lease.
            async with held(self._store, shard, self._owner, self._clock, lease_until, span):
                file_id = await self._adapter(shard).upload(intent)
        except Refused as refusal:
            if refusal.credentials:
                back = life.CreateRefused(_trouble(refusal), passing=True, retry_after=self._mended)
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
            try:
                await self._step(shard, life.Uploaded(file_id), policy)
            except Fenced:
                # Another worker has uploaded these rows meanwhile, and may be done with them: nobody else would ever
                # delete this file.
                with suppress(ProviderError):
                    await self._adapter(shard).clean_up((file_id,))
                raise

    async def _create(self, shard: Shard, job: Job, policy: Policy) -> None:
        adapter = self._adapter(shard)
        intent = await self._intent(shard, job)
        now = self._clock.now()
        meant = life.apply(shard, life.IntentMade(_tokens(shard, intent.requests)), policy, now)
        lease_until = now + lease(policy)
        alone = not adapter.capabilities.echoes_tag
        try:
            saved = await self._in_thread(
                self._store.save_intent, meant, self._owner, lease_until, alone=alone
            )
        except CommitUnknown as error:
            # Nothing leaves. Was the intent kept all the same, everybody would wait for as long as a create can be on
            # its way, and for Anthropic every job of the account.
            unsent = life.CreateRefused(Trouble("storage", str(error)), passing=True)
            take_back = functools.partial(_without_intent, intent=meant, event=unsent, policy=policy, now=now)
            await self._in_thread(self._store.change, shard.id, take_back)
            raise
        if saved is None:
            await self._in_thread(
                self._store.release, shard, self._owner, now + await self._turn(shard, policy)
            )
            return
        self._on_step(saved)
        in_time = functools.partial(self._in_time, now, policy)
        try:
            view = await adapter.create(msgspec.structs.replace(intent, in_time=in_time))
        except Refused as refusal:
            if refusal.credentials:
                back = life.CreateRefused(_trouble(refusal), passing=True, retry_after=self._mended)
                await self._step(saved, back, policy)
                self._on_halt(refusal)
                return
            if refusal.queue_full:
                await self._no_room(saved, job, policy, _trouble(refusal), refusal)
                return
            gone = refusal.status in {400, 404} and bool(_FILE.search(str(refusal))) and bool(intent.file_id)
            event = life.CreateRefused(
                _trouble(refusal), refusal.passing, refusal.retry_after, file_gone=gone
            )
            await self._step_or_stop(saved, event, policy)
        except StorageError as error:
            # The rows cannot be read here: no whole request has left, and nothing of it takes effect.
            unread = Trouble("storage", str(error))
            await self._step(saved, life.CreateRefused(unread, passing=True), policy)
            self._on_halt(error)
        except OutcomeUnknown as error:
            await self._step(saved, life.CreateUnknown(_trouble(error)), policy)
        else:
            await self._step(saved, life.Created(view.batch_id, view.status, view.accepted), policy)

    async def _turn(self, shard: Shard, policy: Policy) -> float:
        """Seconds until another look at whether the account's open intent is settled: more, the longer it takes."""
        other = await self._in_thread(self._store.open_intent, shard.account)
        since = other.intent_at if other is not None else None
        age = self._clock.now() - since if since is not None else 0.0
        return min(policy.backoff_most, max(policy.backoff_first, age / 10))

    def _in_time(self, meant_at: float, policy: Policy) -> bool:
        return abs(self._clock.now() - meant_at) < policy.send_within

    async def _find(self, shard: Shard, job: Job, policy: Policy) -> None:
        adapter = self._adapter(shard)
        others: tuple[str, ...] = ()
        if not adapter.capabilities.echoes_tag:
            others = await self._in_thread(self._store.known_batches, shard.account, besides=shard.id)
        intent = await self._intent(shard, job, past=(*shard.refs.past, *others))
        asked_at = self._clock.now()
        try:
            seen = await adapter.find(intent, asked_at)
        except ProviderError as error:
            # A look-up that failed says nothing about the batch: it is not "absent".
            await self._failed(shard, policy, error)
            return
        if seen.found:
            await self._step(shard, life.Found(seen.found, asked_at), policy)
        elif seen.held is not None:
            await self._step(shard, life.Held(Trouble("held", seen.held)), policy)
        else:
            await self._step(shard, life.Absent(asked_at), policy)

    async def _poll(self, shard: Shard, job: Job, policy: Policy) -> None:
        batch_id = shard.refs.batch_id or ""
        asked_at = self._clock.now()
        try:
            view = await self._adapter(shard).poll(batch_id, cancelled=shard.cancelled_at is not None)
        except Refused as refusal:
            if refusal.status == 404:
                text = (
                    f"The provider does not know batch {batch_id}. It was not sent again, because it may be "
                    "running under another key or project, and would be paid for twice."
                )
                await self._step(shard, life.BatchMissing(Trouble("batch_missing", text), asked_at), policy)
                return
            await self._failed(shard, policy, refusal)
        except ProviderError as error:
            await self._failed(shard, policy, error)
        else:
            if view.queue_full:
                text = "the provider's queue for this model is full; waiting for room"
                await self._no_room(shard, job, policy, Trouble("queue_full", text), view)
                return
            event = life.Polled(
                status=view.status,
                ended=view.ended,
                rows_finished=view.rows_finished,
                accepted=view.accepted,
            )
            await self._step(shard, event, policy)
            if view.ended and view.failure is None:
                await self._note_end(shard)
            if view.accepted and not shard.accepted:
                await self._in_thread(self._store.note_accepted, shard)

    async def _note_end(self, shard: Shard) -> None:
        """Remember how long a batch took, or its cancel."""
        now = self._clock.now()
        since = shard.cancelled_at if shard.cancelled_at is not None else shard.submitted_at
        if since is None:
            return
        kind = "batch" if shard.cancelled_at is None else "settle"
        span = Span(kind=kind, at=now, seconds=max(0.0, now - since), rows=shard.sending)
        await self._in_thread(self._store.add_span, shard, span)
        if shard.cancelled_at is not None and shard.submitted_at is not None:
            lived = max(0.0, shard.cancelled_at - shard.submitted_at)
            cut = Span(kind="batch", at=now, seconds=lived, rows=shard.sending, over=False)
            await self._in_thread(self._store.add_span, shard, cut)

    async def _no_room(
        self, shard: Shard, job: Job, policy: Policy, trouble: Trouble, said: Refused | BatchView
    ) -> None:
        """Learn from a refusal for want of room, and go on with what has some."""
        now = self._clock.now()
        asked = said.retry_after if isinstance(said, Refused) else None
        wait = max(policy.quota_wait, asked or 0.0)
        longest = max(policy.quota_most, wait)
        refusal = await self._in_thread(self._store.note_refusal, shard, now, wait, longest, said.queue_limit)
        requests = self.site.files(job.id).requests(shard.number, shard.attempt)
        known = None
        if refusal.most is not None:
            if self.site.files(job.id).depot.afar:
                # It was another machine that wrote them, perhaps.
                await self._intent(shard, job)
            framing = self._adapter(shard).capabilities.framing
            known = await self._in_thread(_fit, shard, requests, framing, refusal)
        event = life.NoRoom(trouble=trouble, wait=refusal.until - now, alone=refusal.alone, fit=known)
        await self._step_or_stop(shard, event, policy)

    async def _step_or_stop(self, shard: Shard, event: life.Event, policy: Policy) -> None:
        """Step a shard after a refusal; delete its request file where nothing goes on after it."""
        after = life.apply(shard, event, policy, self._clock.now())
        await self._save(after)
        if after.state is life.State.STOPPED and after.refs.file_id is not None:
            # Nothing of it runs, and nobody may ever come back for it. If it cannot be deleted now, `retry` tries.
            with suppress(ProviderError):
                await self._adapter(shard).clean_up((*after.refs.leftovers, after.refs.file_id))

    async def _cancel(self, shard: Shard, policy: Policy, batch_id: str, *, twin: bool) -> None:
        try:
            await self._adapter(shard).cancel(batch_id)
        except ProviderError as error:
            await self._failed(shard, policy, error)
        else:
            await self._step(shard, life.CancelSent(batch_id, twin=twin), policy)

    async def _answer(self, shard: Shard, job: Job, policy: Policy, until: float, *, stop: bool) -> None:
        """Run the attempt's rows in real time, until all are answered or somebody wants it to end.

        That the journal can be had says only that nobody else writes it now. Another may have taken the shard since it
        was claimed, been done with it, and have let go of the journal: no row is called once the lease may be over.
        """
        files = self.site.files(job.id)
        adapter = self._adapter(shard)
        intent = await self._intent(shard, job)
        prefix = row_prefix(shard.id, shard.attempt)
        work = Work(
            account=shard.account,
            model=shard.model,
            endpoint=job.spec.endpoint,
            params=job.spec.params,
            options=job.spec.options,
            tier=_tier(shard.tier),
            requests=intent.requests,
            rows=shard.sending,
            framing=adapter.capabilities.framing,
            envelope=adapter.envelope(job.spec.endpoint),
            row_prefix=prefix,
            first_row=shard.first_row,
            most_a_minute=await self._in_thread(self._most_a_minute, shard),
        )
        ending = asyncio.Event()
        if stop:
            ending.set()
        self._answering[shard.id] = (shard.tier, ending)
        told = _Once(lambda: self._note_limits(shard))
        span = lease(policy)
        try:
            async with held(self._store, shard, self._owner, self._clock, until, span, ending.set) as hold:
                copies = await self._in_thread(_copies, files, shard) if files.depot.afar else None
                journal = await self._in_thread(
                    Journal,
                    files.results(shard.number, shard.attempt, 0),
                    files.marks(shard.number, shard.attempt),
                    rows=shard.rows,
                    first_row=shard.first_row,
                    row_prefix=prefix,
                    copies=copies,
                )
                with journal:
                    tally = await self._realtime.run(
                        work,
                        journal,
                        adapter,
                        patience=_PAY_AGAIN,
                        stop=ending,
                        in_time=hold.in_time,
                        on_durable=told.set,
                    )
        except JournalInUse as error:
            # Whoever held the shard before is not dead yet, and may have calls under way.
            await self._step(shard, life.StepFailed(Trouble("journal_in_use", str(error))), policy)
            return
        finally:
            self._answering.pop(shard.id, None)
            await told.done()
        await self._note_pace(shard, tally)
        await self._note_limits(shard)
        await self._after_run(shard, policy, tally)

    def _most_a_minute(self, shard: Shard) -> int | None:
        """Calls a minute that a person allows, for this model or for all of the account."""
        known = self._store.limits(shard.account, shard.model)
        return min((q.most for q, by in known if by == "set" and q.kind == "rpm"), default=None)

    async def _note_limits(self, shard: Shard) -> None:
        """Remember what replies said is allowed, and plan with it."""
        now = self._clock.now()
        for kind, most in self._realtime.limits(shard.account, shard.model).items():
            quota = Quota(account=shard.account, model=shard.model, kind=_RATES[kind], most=most)
            await self._in_thread(self._store.set_quota, quota, now, "told")
        self.replan = True

    async def _after_run(self, shard: Shard, policy: Policy, tally: Tally) -> None:
        halted = tally.halted
        trouble = _trouble_of(halted) if halted is not None else None
        wait = (halted.retry_after or 0.0) if isinstance(halted, Refused) else 0.0
        if isinstance(halted, Refused) and halted.credentials:
            wait = self._mended
        left = tally.unsent + tally.in_doubt
        # A deadline's ladder has other tiers to offer; a job that asked for this one has not.
        hopeless = (
            shard.tier == policy.tier and isinstance(halted, CallRefused) and halted.blame is Blame.TIER
        )
        event = life.Answered(left, trouble, wait, tally.doubts, hopeless=hopeless)
        await self._step(shard, event, policy)
        if isinstance(halted, Refused) and halted.credentials:
            self._on_halt(halted)

    async def _note_pace(self, shard: Shard, tally: Tally) -> None:
        done = tally.answered + tally.failed
        if done >= _TELLING and tally.seconds > 0:
            span = Span(kind=shard.tier, at=self._clock.now(), seconds=tally.seconds, rows=done)
            await self._in_thread(self._store.add_span, shard, span)

    async def _collect(self, shard: Shard, job: Job, policy: Policy, until: float) -> None:
        # A long download, or a long file, must not outlast the lease: another worker would begin it anew.
        async with held(self._store, shard, self._owner, self._clock, until, lease(policy)):
            await self._collect_held(shard, job, policy)

    async def _collect_held(self, shard: Shard, job: Job, policy: Policy) -> None:
        adapter = self._adapter(shard)
        files = self.site.files(job.id)
        views: list[BatchView] = []
        fetched: list[list[Path]] = []
        try:
            for batch_id in shard.refs.batches:
                view = await adapter.poll(batch_id, cancelled=shard.cancelled_at is not None)
                if not view.ended:
                    text = f"batch {batch_id} is still ending; its rows are waited for"
                    wait = life.poll_delay(self._since_end(shard), policy)
                    await self._step(shard, life.StepFailed(Trouble("twin_open", text), wait), policy)
                    return
                views.append(view)
            for index, view in enumerate(views):
                first = sum(map(len, fetched))
                views[index], paths = await self._fetch(adapter, view, files, shard, first, policy)
                fetched.append(paths)
        except ProviderError as error:
            await self._failed(shard, policy, error)
            return
        if shard.tier != "batch":
            number, attempt = shard.number, shard.attempt
            if files.depot.afar:
                fetched = [await self._in_thread(files.all_results, number, attempt)]
            else:
                fetched = [files.all_results(number, attempt)]
            views = [_realtime_view(shard)]
        reader = Collecting(shard, job, files, adapter, self.site.check(job))
        done = await self._in_thread(reader.run, views, fetched)
        if isinstance(done, life.Foreign | life.StepFailed):
            await self._step(shard, done, policy)
            return
        collection, event = done
        if files.depot.afar:
            await self._keep_afar(shard, files, fetched, policy)
        now = self._clock.now()
        after = life.apply(shard, event, policy, now)
        # What rows cost whose results cannot be read any more is not known, and not nothing.
        unread = sum(rows for why, rows in collection.errors if why == RESULTS_GONE)
        saved = await self._in_thread(
            self._store.save_collected,
            after,
            self._owner,
            shard.attempt,
            collection,
            now,
            doubts=shard.doubts + unread,
            tier=shard.tier,
        )
        self._on_step(saved)
        if shard.tier == "batch" and shard.ended_at is not None and collection.counts.succeeded:
            span = Span(kind="harvest", at=now, seconds=max(0.0, now - shard.ended_at), rows=shard.sending)
            await self._in_thread(self._store.add_span, shard, span)
        why = None if job.keep_going else tripped(collection, shard.sending)
        if why is not None:
            await self._hold_back(job.id, why)

    async def _keep_afar(
        self, shard: Shard, files: JobFiles, fetched: list[list[Path]], policy: Policy
    ) -> None:
        """Put what was collected into the depot, unless another has done so since."""
        until = self._clock.now() + lease(policy)
        if not await self._in_thread(self._store.extend, shard, self._owner, until):
            raise Fenced
        results = list(itertools.chain.from_iterable(fetched))
        journalled = shard.tier not in {"batch", life.NOT_SENT}
        keep = files.keep_journalled if journalled else files.keep_collected
        await self._in_thread(keep, shard.number, shard.attempt, results)

    async def _fetch(
        self, adapter: Adapter, view: BatchView, files: JobFiles, shard: Shard, first: int, policy: Policy
    ) -> tuple[BatchView, list[Path]]:
        """Download a batch's result files; those that were deleted at the provider are done without, at last."""
        try:
            return view, await fetch(adapter, view, files, shard, first)
        except Refused as refusal:
            if refusal.status != 404 or self._since_end(shard) <= policy.missing_grace:
                raise
        paths: list[Path] = []
        for name in view.files:
            one = msgspec.structs.replace(view, files=(name,))
            try:
                paths += await fetch(adapter, one, files, shard, first + len(paths))
            except Refused as refusal:
                if refusal.status != 404:
                    raise
        # A worker that was held up finds nothing either, where another has collected and tidied up. It must not
        # write that over what the other found.
        until = self._clock.now() + lease(policy)
        if not await self._in_thread(self._store.extend, shard, self._owner, until):
            raise Fenced
        return msgspec.structs.replace(view, absent=Kind.FAILED, absent_because=RESULTS_GONE), paths

    def _since_end(self, shard: Shard) -> float:
        now = self._clock.now()
        return now - (shard.ended_at if shard.ended_at is not None else now)

    async def _hold_back(self, job_id: str, why: str) -> None:
        """Send nothing more of a job. What is with the provider already is waited for: it may be paid."""
        # In another process somebody may have said since that it is to go on all the same.
        job = await self._in_thread(self._store.job, job_id)
        if job is not None and job.keep_going:
            return

        def paused(shard: Shard) -> Shard | None:
            if shard.state not in life.MOVING or shard.paused:
                return None
            return life.apply(shard, life.PauseAsked(why), Policy(uploads_file=True), self._clock.now())

        for shard in await self._in_thread(self._store.shards, job_id):
            await self._in_thread(self._store.change, shard.id, paused)

    async def _clean_up(self, shard: Shard, job: Job, policy: Policy, *, strays: bool) -> None:
        adapter = self._adapter(shard)
        try:
            found = await adapter.strays(shard.tag) if strays else ()
            await adapter.clean_up(tuple(dict.fromkeys((*shard.refs.leftovers, *found))))
        except ProviderError as error:
            await self._failed(shard, policy, error)
            return
        files = self.site.files(job.id)
        if shard.attempt > 1:
            files.requests(shard.number, shard.attempt).unlink(missing_ok=True)
        if shard.counts.succeeded == shard.rows:
            first = files.requests(shard.number)
            if files.depot.afar:
                await self._in_thread(files.depot.drop, first)
            first.unlink(missing_ok=True)
        await self._step(shard, life.Cleaned(), policy)

    # ------------------------------------------------------------ parts of steps

    async def _intent(self, shard: Shard, job: Job, past: tuple[str, ...] = ()) -> Intent:
        files = self.site.files(job.id)
        path = files.requests(shard.number, shard.attempt)
        if files.depot.afar and shard.attempt == 1:
            await self._in_thread(files.depot.bring, path)
        elif shard.attempt > 1 and not path.exists():
            await self._in_thread(write_again, shard, job, files, self._adapter(shard))
        return Intent(
            tag=shard.tag,
            endpoint=job.spec.endpoint,
            model=shard.model,
            params=job.spec.params,
            options=job.spec.options,
            requests=path,
            rows=shard.sending,
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
        await self._step(shard, life.StepFailed(_trouble(refusal), self._mended), policy)
        self._on_halt(refusal)

    async def _step(self, shard: Shard, event: life.Event, policy: Policy) -> None:
        await self._save(life.apply(shard, event, policy, self._clock.now()))

    async def _save(self, shard: Shard) -> None:
        saved = await self._in_thread(self._store.save, shard, self._owner)
        if saved.state in life.WAITING and self.site.job(saved.job_id).deadline is not None:
            self.replan = True
        self._on_step(saved)

    def _adapter(self, shard: Shard) -> Adapter:
        return self.site.adapter(shard.account)

    async def _in_thread(self, call: Callable[..., _R], *args: object, **options: object) -> _R:
        return await asyncio.to_thread(functools.partial(call, *args, **options))


def _copies(files: JobFiles, shard: Shard) -> tuple[Copy, Copy]:
    """Where the replies and the marks of an attempt in real time are copied to."""
    number, attempt = shard.number, shard.attempt
    return files.depot.tail(files.results(number, attempt, 0)), files.depot.tail(files.marks(number, attempt))


def _tokens(shard: Shard, requests: Path) -> int | None:
    """What the provider will count for the rows of a request file, roughly: their part of the shard's, by bytes.

    None where the file cannot be looked at: whether it is still needed is the adapter's to say.
    """
    try:
        size_bytes = requests.stat().st_size
    except OSError:
        return None
    return shard.tokens * size_bytes // max(1, shard.bytes)


def _fit(shard: Shard, requests: Path, framing: Framing, refusal: Refusal) -> Fit | None:
    """How the batch of a request file compares with its queue; None where the file is gone."""
    a_byte = shard.tokens / max(1, shard.bytes)
    rows = itertools.chain.from_iterable(request_lines(requests, framing))
    try:
        return fit(map(len, rows), a_byte, refusal)
    except FileNotFoundError:
        return None


def _without_intent(
    stored: Shard, *, intent: Shard, event: life.CreateRefused, policy: Policy, now: float
) -> Shard | None:
    """A shard whose `intent` was kept, after which nothing was sent; None where it was not kept."""
    kept = stored.version == intent.version + 1 and stored.intent_at == intent.intent_at
    return life.apply(stored, event, policy, now) if kept and stored.state is intent.state else None


class _Once:
    """Starts something at the first call, and is waited for."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._start = start
        self._task: asyncio.Task[None] | None = None

    def set(self, _: int) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._start())

    async def done(self) -> None:
        if self._task is not None:
            await self._task


def _here(command: life.GoRealtime | life.CutDown | life.LeaveOut | life.Abandon) -> life.Event:
    """What becomes of a command that is carried out by recording it."""
    match command:
        case life.GoRealtime(tier):
            return life.SendNow(tier)
        case life.CutDown(rows):
            return life.Cut(rows)
        case life.LeaveOut():
            return life.LeftOut()
        case life.Abandon():
            return life.Abandoned()


def _tier(name: str) -> Tier:
    match name:
        case "flex" | "standard" | "priority":
            return name
        case _:
            raise IllegalStep(f"{name!r} is no tier in which rows run in real time")


def _realtime_view(shard: Shard) -> BatchView:
    """An attempt in real time, as the end of a batch: rows without a line were not called, or are in doubt; or none of
    them was to be sent."""
    if shard.tier == life.NOT_SENT:
        why = shard.trouble.message if shard.trouble is not None else "not sent: too few rows for a batch"
        absent = Kind.FAILED_PASSING if shard.status == life.NO_ROOM else Kind.FAILED
        return BatchView(batch_id="", status=shard.status, ended=True, absent=absent, absent_because=why)
    return BatchView(
        batch_id="",
        status=shard.tier,
        ended=True,
        rows_finished=0,
        absent=Kind.CANCELLED if shard.left_early else Kind.FAILED,
        absent_because="" if shard.left_early else MAY_BE_PAID,
    )


def _trouble_of(error: HalfrateError) -> Trouble:
    return _trouble(error) if isinstance(error, ProviderError) else Trouble("halted", str(error))


def _trouble(error: ProviderError) -> Trouble:
    code = (error.code or str(error.status)) if isinstance(error, Refused) else "unknown"
    return Trouble(code, str(error))


def _disk(error: OSError) -> StorageError:
    where = f" ({error.filename})" if error.filename else ""
    return StorageError(
        f"This machine could not read or write a file{where}: {error.strerror or error}. What the provider finished is "
        "safe there and paid for once; mend this and attach to the job again."
    )

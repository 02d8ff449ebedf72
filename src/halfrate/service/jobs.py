"""Jobs: submit, run, look at, cancel, try again, deliver, account for."""

import asyncio
import filecmp
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from halfrate.base.clock import Clock, SystemClock
from halfrate.base.errors import HalfrateError, OverBudget, SettingsError, StorageError, UsageError
from halfrate.base.ids import row_prefix
from halfrate.base.results import Kind
from halfrate.base.types import Outcome, OutputFormat, RequestSpec, Usage
from halfrate.blobs.depot import UNRECORDED, AnyDepot, Depot
from halfrate.blobs.files import JobFiles
from halfrate.core import finish
from halfrate.core import lifecycle as life
from halfrate.core.admission import Quota, QuotaKind
from halfrate.core.budgets import Budget, OnBudget, Standing, Terms, check_budget, check_job
from halfrate.core.caching import Hits
from halfrate.core.deadlines import Send, plan
from halfrate.core.estimates import Sample
from halfrate.core.finish import Finish
from halfrate.core.job import Forecast, Job, JobState
from halfrate.core.lifecycle import LIVE, MOVING, Policy, Shard, State
from halfrate.core.planning import forecast
from halfrate.engine.collecting import outcomes_of, slots_left
from halfrate.engine.loop import Loop
from halfrate.engine.owner import Owner
from halfrate.engine.steps import Worker
from halfrate.engine.watch import beliefs, job_view
from halfrate.providers.base import Account, Adapter, place_of
from halfrate.providers.registry import account_of, adapter_class, decoder
from halfrate.rows.collect import Check, RecordFormat
from halfrate.rows.output import ShardView, Snapshot, write_output
from halfrate.rows.records import record_decoder
from halfrate.rows.results import ResultRecord, iter_results
from halfrate.service.answers import schema_check
from halfrate.service.costs import CostLine, grouped
from halfrate.service.depots import depot_at
from halfrate.service.drafts import Ask, Draft, Drafter, unwritable
from halfrate.service.forecasts import Score, cache_hits, expected, samples, scores
from halfrate.service.home import Home
from halfrate.service.prices import TIERS
from halfrate.service.report import Prospect, Report
from halfrate.store.connector import CommitUnknown
from halfrate.store.store import Fenced, Guard, Store

if TYPE_CHECKING:
    from halfrate.rows.raw import RawShard
    from halfrate.service.calls import Bookkeeper
    from halfrate.service.keys import Keys
    from halfrate.service.urgency import Urgency
    from halfrate.service.webhooks import Webhooks
    from halfrate.store.deferred import DeferredStore
    from halfrate.store.surfaces import Held, SurfaceStore


_PATIENCE = 300.0
"""Seconds after which a worker tries again what a person has to mend."""
_LEFT_OPEN = 10.0
"""Seconds between two looks for jobs of which nothing goes on, and which nobody has concluded."""
_ALIVE = 60.0
"""Seconds for which a process of another machine is taken to live that was heard of."""
_LONGEST_CREATE = 600.0
"""The longest wait for a paid call of any provider, which a lease has to outlast."""


class Service:
    """One installation at work. Use as a context manager."""

    def __init__(self, home: Home, clock: Clock | None = None) -> None:
        self.home = home
        self.clock: Clock = clock or SystemClock()
        home.create()
        self._store = Store.open(home.database)
        try:
            self.depot = self._depot()
        except BaseException:
            self._store.close()
            raise
        self._owner = Owner(home.workers, alone=not self.depot.afar)
        self._adapters: dict[str, Adapter] = {}
        self._jobs: dict[str, Job] = {}
        self._checks: dict[str, Check] = {}

    def __enter__(self) -> Self:
        try:
            self._owner.__enter__()
        except StorageError:
            self._store.close()
            raise
        self._remove_old_drafts()
        return self

    def __exit__(self, *exc: object) -> None:
        self._owner.__exit__(*exc)
        self._store.close()

    # ------------------------------------------------------------ before anything is sent

    def draft(self, ask: Ask) -> Draft:
        """Read, check and encode the whole input. Raises UsageError; nothing is sent or recorded."""
        drafter = Drafter(self.home, self._owner.name, self.clock.now, self._samples, self._hits)
        return drafter.draft(ask, self._connect)

    def _samples(self, spec: RequestSpec) -> list[Sample]:
        """What earlier jobs took that asked the same, or else what others of the same model did."""
        return samples(self._store, spec)

    def _hits(self, job: Job) -> Hits:
        """How often rows of a model were seen to find what others had put into its cache."""
        return cache_hits(self._store, job)

    def tier_forecasts(self, draft: Draft) -> dict[str, Forecast]:
        """What a job should cost in each tier whose price is known, from the cheapest on."""
        job = draft.job
        known = self._samples(job.spec)
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

    def unfinished_twin(self, draft: Draft) -> Job | None:
        """An open job that asks the same of the same input, byte for byte."""
        job = draft.job
        mine = JobFiles(draft.folder).snapshot(job.input_format)
        for other in self._store.twins_of(job.spec_hash, job.input_size):
            theirs = self.files(other.id).snapshot(other.input_format)
            if self.depot.bring(theirs) and filecmp.cmp(mine, theirs, shallow=False):
                return other
        return None

    def prospect(self, draft: Draft) -> Prospect | None:
        """How the job would begin, and how its deadline would stand. None without a deadline."""
        job, now = draft.job, self.clock.now()
        if job.deadline is None:
            return None
        believed = beliefs(self._store, self, job, now)
        view = job_view(job, draft.shards, now)
        steps = plan(view, believed).steps
        sent = {shard.id: step.tier for shard in draft.shards if isinstance(step := steps[shard.id], Send)}
        rows = sum(shard.rows for shard in draft.shards if shard.id in sent)
        return Prospect(finish.forecast(view, believed), rows, next(iter(sent.values()), None))

    def submit(self, draft: Draft, *, on_budget: OnBudget = "refuse", held: "Held | None" = None) -> Job:
        """Record the job. From here on it is carried through, by this process or by another.

        Raises OverBudget, and then discards the draft. `on_budget`: whether a job that would cross a budget is taken
        on all the same, and sent as far as the budget allows. `held`: the batch of the gateway that the job is of, as
        this process holds it; Fenced, and no job, if it does not any more, or if the job is there already.
        """
        job = draft.job
        if not job.fetched:
            job = msgspec.structs.replace(job, output=str(_output_place(job)))
        files = self.home.files(job.id, self.depot)
        began = self.clock.now()
        try:
            self._put_afar(draft, files, held)
        except (HalfrateError, Fenced):
            draft.discard()
            raise

        def put() -> None:
            """Give the draft's files their place."""
            if held is not None:
                # What a process left that died before it had recorded the job. Nobody else can be about to do so now.
                files.remove()
            draft.folder.rename(files.folder)

        guard = Guard(held, self.owner, put) if held is not None else None
        if guard is None:
            put()
        try:
            self._check_put(began)
            self._store.add_job(job, draft.shards, on_budget=on_budget, guard=guard)
        except CommitUnknown:
            # The job may be there, and would need its files.
            raise
        except (HalfrateError, Fenced, OSError):
            # In a batch's job's place another may have put its files by now: whoever holds the batch clears it.
            if held is None:
                files.remove()
                with suppress(StorageError):
                    self.depot.drop_folder(files.folder)
            draft.discard()
            raise
        return job

    def _put_afar(self, draft: Draft, files: JobFiles, held: "Held | None") -> None:
        """Put a draft's files into the depot under its job's name; Fenced where another process makes the job."""
        if not self.depot.afar:
            return
        if held is not None:
            until = self.clock.now() + _ALIVE
            if not self._store.surfaces.extend_batch(held, self.owner, until):
                raise Fenced(held.batch.id)
        self.depot.put_folder(draft.folder, files.folder)

    def _check_put(self, began: float) -> None:
        """Raises StorageError where files have been in the depot for so long that a sweep may take them for nobody's.
        `began`: before the first of them was put."""
        if self.depot.afar and self.clock.now() - began > UNRECORDED / 2:
            raise StorageError(
                "Putting the job's files into the depot took half a day. Nothing was sent; try it again."
            )

    # ------------------------------------------------------------ running

    async def run(
        self,
        job_id: str,
        *,
        on_step: Callable[[Shard], None] = lambda _: None,
        on_loop: Callable[[Loop], None] = lambda _: None,
        check: Check | None = None,
        until_submitted: bool = False,
    ) -> None:
        """Work on a job until no row of it is waiting, or until the loop is stopped.

        `on_loop` receives the loop, for `stop()`. `until_submitted`: end as soon as every batch is with its
        provider. Raises what only a person can mend (a refused key, a full disk); the job goes on from there.
        """
        job = self.job(job_id)
        account = self._account(job.account)
        if check is not None:
            self._checks[job_id] = check
        halts: list[HalfrateError] = []
        self._wake(job_id)
        shards = {shard.id: shard for shard in self._store.shards(job_id)}

        def halted(error: HalfrateError) -> None:
            halts.append(error)
            loop.stop()

        def stepped(shard: Shard) -> None:
            shards[shard.id] = shard
            on_step(shard)

        worker = Worker(self._store, self, self.clock, self._owner.name, on_step=stepped, on_halt=halted)
        loop = Loop(self._store, worker, self.clock, self._owner, self._documented)
        on_loop(loop)
        try:
            await loop.run(
                self.policy(job),
                job_id=job_id,
                enough=lambda: until_submitted and not _to_submit(shards.values()),
            )
        finally:
            adapter = self._adapters.pop(account.name, None)
            if adapter is not None:
                await adapter.close()
        if halts:
            raise halts[0]

    async def work(
        self,
        *,
        on_step: Callable[[Shard], None] = lambda _: None,
        on_loop: Callable[[Loop], None] = lambda _: None,
        on_end: Callable[[Job, Path | None], None] = lambda _job, _path: None,
        on_halt: Callable[[HalfrateError], None] = lambda _: None,
        drain: bool = False,
    ) -> None:
        """Work on every job of this home until the loop is stopped, and write the outputs of those that end.

        Several processes may do so at once. `on_end`: a job that ended or was paused, and where its output is.
        `on_halt`: what a person has to mend before one of the jobs can go on. `drain`: end when nothing is left.
        """
        ended: list[str] = []
        later: dict[str, asyncio.Task[None]] = {}

        def stepped(shard: Shard) -> None:
            on_step(shard)
            if shard.state not in MOVING:
                ended.append(shard.job_id)

        def end(job_id: str) -> None:
            if not self.depot.afar:
                self._end(job_id, on_end, on_halt)
            elif job_id not in later:
                # Its files may have to be brought first.
                later[job_id] = asyncio.create_task(asyncio.to_thread(self._end, job_id, on_end, on_halt))

        worker = Worker(
            self._store,
            self,
            self.clock,
            self._owner.name,
            on_step=stepped,
            on_halt=on_halt,
            patience=_PATIENCE,
        )
        loop = Loop(self._store, worker, self.clock, self._owner, self._documented)
        on_loop(loop)

        looked = -math.inf

        def concluded() -> bool:
            nonlocal looked
            for job_id in [job_id for job_id, task in later.items() if task.done()]:
                later.pop(job_id).result()
            while ended:
                end(ended.pop())
            now = self.clock.now()
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
            for name in list(self._adapters):
                await self._adapters.pop(name).close()

    def _end(
        self,
        job_id: str,
        on_end: Callable[[Job, Path | None], None],
        on_halt: Callable[[HalfrateError], None],
    ) -> None:
        """Conclude a job of which no shard goes on, and write its output."""
        if any(shard.state in MOVING for shard in self._store.shards(job_id)):
            return
        self._jobs.pop(job_id, None)
        job = self.conclude(job_id)
        try:
            path = None if job.fetched or job.state is JobState.PAUSED else self.deliver_own(job_id)
        except HalfrateError as error:
            # The answers are kept; `halfrate results` writes them elsewhere.
            on_halt(error)
            path = None
        on_end(job, path)

    # Site: what the engine's worker asks for.

    def job(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            job = self._store.job(job_id)
            if job is None:
                raise UsageError(f"There is no job {job_id!r}. `halfrate jobs` lists them.")
            self._jobs[job_id] = job
        return job

    def files(self, job_id: str) -> JobFiles:
        files = self.home.files(job_id, self.depot)
        files.ready()
        return files

    def adapter(self, account: str) -> Adapter:
        adapter = self._adapters.get(account)
        if adapter is None:
            adapter = self._adapters[account] = self._connect(self._account(account))
        return adapter

    def policy(self, job: Job) -> Policy:
        facts = adapter_class(job.spec.provider).capabilities
        rescued = job.deadline is not None and job.rescue and facts.rescues
        oversized = "realtime" if rescued else job.small_tails
        return self.home.policy(facts, job.max_attempts, job.tier, job.small_tails, oversized)

    def check(self, job: Job) -> Check | None:
        check = self._checks.get(job.id)
        if check is None and job.spec.schema is not None:
            check = self._checks[job.id] = schema_check(job.spec.schema)
        return check

    # ------------------------------------------------------------ looking

    def find(self, name: str) -> Job:
        """The job with this id, or whose id begins with it. Raises UsageError."""
        if self._store.job(name) is not None:
            return self.job(name)
        ids = self._store.jobs_starting(name) if name else []
        if len(ids) == 1:
            return self.job(ids[0])
        if ids:
            raise UsageError(f"{name!r} begins the ids of several jobs: {', '.join(ids)}.")
        raise UsageError(f"There is no job {name!r}. `halfrate jobs` lists them.")

    def jobs(self, limit: int | None = None) -> list[Job]:
        return self._store.jobs(limit=limit)

    def shards(self, job_id: str) -> list[Shard]:
        return self._store.shards(job_id)

    def report(self, job_id: str, *, reasons: bool = True) -> Report:
        """What the store and the ledger know of a job. `reasons`: why rows failed, read from their outcomes."""
        job = self._store.job(job_id) or self.job(job_id)
        shards = self._store.shards(job_id)
        lines = self._store.ledger(job_id)
        collections = [found for _, _, found in self._store.collections(job_id)]
        line = lines[0] if lines else None
        realtime = [line for line in self._store.ledger(job_id, by="tier") if line.key != "batch"]
        rescue_costs = [line.cost for line in realtime]
        errors = self._reasons(job, shards) if reasons else {}
        settled = [shard for shard in shards if shard.state not in LIVE]
        cancelled = sum(_never_run(shard) for shard in settled if shard.state is State.DONE)
        refused = [shard for shard in settled if shard.state is State.STOPPED and _never_run(shard)]
        for shard in refused:
            text = _not_run_because(shard)
            errors[text] = errors.get(text, 0) + _never_run(shard)
        unsent = sum(map(_never_run, refused))
        done = sum(shard.counts.settled for shard in settled) + cancelled + unsent
        return Report(
            job=job,
            succeeded=sum(shard.counts.succeeded for shard in shards),
            failed=sum(shard.counts.failed for shard in settled) + unsent,
            expired=sum(shard.counts.expired for shard in settled),
            cancelled=sum(shard.counts.cancelled for shard in settled) + cancelled,
            waiting=job.rows - done,
            rescued=sum(line.rows for line in realtime),
            rescue_cost=None if None in rescue_costs else sum(cost or 0 for cost in rescue_costs),
            usage=line.usage if line is not None else Usage(),
            cost=line.cost if line is not None else 0,
            realtime_cost=line.realtime_cost if line is not None else 0,
            uncached_cost=line.uncached_cost if line is not None else 0,
            waste=line.waste if line is not None else 0,
            doubts=line.doubts if line is not None else 0,
            errors=tuple(sorted(errors.items(), key=lambda item: -item[1])),
            duplicates=sum(c.duplicates for c in collections),
            unknown_lines=sum(c.unknown for c in collections),
            malformed_lines=sum(c.malformed for c in collections),
            attempts=max((shard.try_number for shard in shards), default=1),
            paused=sum(shard.paused for shard in shards if shard.state in LIVE),
            paused_because=next(
                (s.paused_because for s in shards if s.paused_because and s.state in LIVE), None
            ),
            stopped=tuple(dict.fromkeys(_reason(s) for s in shards if s.state is State.STOPPED)),
        )

    def forecast(self, job_id: str) -> Finish | None:
        """When a job should be finished if something works on it; None if nothing of it goes on by itself, or
        its account is not set up here."""
        job = self.job(job_id)
        shards = self._store.shards(job_id)
        if not any(shard.state in MOVING for shard in shards):
            return None
        now = self.clock.now()
        try:
            believed = beliefs(self._store, self, job, now)
        except SettingsError:
            return None
        return finish.forecast(job_view(job, shards, now), believed)

    def costs(
        self,
        job_id: str | None = None,
        *,
        by: Sequence[str] = ("job",),
        since: float = 0.0,
        until: float = math.inf,
    ) -> list[CostLine]:
        """Payments from `since` until before `until` (seconds since 1970), added up by names of `costs.KEYS` or of
        tags. Days and months are UTC's."""
        spent = self._store.spent(job_id=job_id, since=since, until=until)
        jobs = self._store.paid_jobs() if job_id is None else [self.job(job_id)]
        return grouped(spent, by, {job.id: job for job in jobs})

    def cost_forecast(self, job_id: str) -> Forecast:
        """What a job should come to, as far as its own rows have taught that by now."""
        return expected(self._store, self._store.job(job_id) or self.job(job_id))

    def forecast_scores(self, since: float = 0.0) -> list[Score]:
        """What was forecast for jobs that ended since then (seconds since 1970), and what came of it; newest first."""
        return scores(self._store, since)

    # ------------------------------------------------------------ acting

    def cancel(self, job_id: str) -> int:
        """Ask for the end of whatever of a job is not finished; the number of shards that concerns."""
        return self._change(job_id, _cancelled)

    def pause(self, job_id: str) -> int:
        """Send nothing more of a job for now; the number of batches that concerns. What is sent goes on."""
        changed = self._change(job_id, _paused)
        if changed:
            self._save(msgspec.structs.replace(self.job(job_id), state=JobState.PAUSED))
        return changed

    def resume(self, job_id: str, *, keep_going: bool = False) -> int:
        """Go on with a paused job; the number of batches that concerns.

        `keep_going`: from now on also when most rows of a batch fail.
        """
        changed = self._change(job_id, _resumed)
        job = msgspec.structs.replace(self.job(job_id), keep_going=keep_going or self.job(job_id).keep_going)
        if changed:
            self._save(msgspec.structs.replace(job, state=JobState.OPEN))
        return changed

    def retry(self, job_id: str) -> int:
        """Send the rows again that did not succeed; the number of shards that concerns."""
        job = self.job(job_id)
        files = self.files(job_id)

        def again(shard: Shard, now: float, policy: Policy) -> Shard | None:
            if shard.state is State.STOPPED:
                return life.apply(shard, life.Resumed(), policy, now)
            if shard.state is not State.DONE:
                return None
            rows = len(slots_left(shard, files))
            return life.apply(shard, life.Resumed(rows), policy, now) if rows else None

        changed = self._change(job_id, again)
        if changed:
            self._save(msgspec.structs.replace(job, state=JobState.OPEN, finished_at=None))
        return changed

    def deliver(self, job_id: str, target: Path | None, form: OutputFormat | None = None) -> Path:
        """Write the output file, complete or not at all. Rows that are still to come say so."""
        job = self.job(job_id)
        path = target if target is not None else self.output_path(job)
        self.check_target(path)
        write_output(
            self._snapshot(job),
            self._views(job),
            path,
            form or job.output_format,
            job.names,
            unknown_record=self._unknown_record(job),
        )
        return path

    def deliver_own(self, job_id: str) -> Path:
        """Write the job's own output: where, and in the form, that it was asked for in."""
        job = self.job(job_id)
        return self.deliver_raw(job_id, self.output_path(job)) if job.raw else self.deliver(job_id, None)

    def results(self, job_id: str) -> Iterator[ResultRecord]:
        """What is known of every row, in order."""
        job = self.job(job_id)
        return iter_results(self._views(job), job.names, unknown_record=self._unknown_record(job))

    def tiers(self, job_id: str) -> dict[int, str]:
        """The tiers of the rows that were answered in real time, by their numbers; all others were in a batch."""
        from halfrate.service.tiers import tiers

        job = self.job(job_id)
        if all(line.key == "batch" for line in self._store.ledger(job_id, by="tier")):
            return {}
        return tiers(job, self._store.shards(job_id), self.files(job_id))

    def urgency(self) -> "Urgency":
        """Whether single calls can wait for a batch."""
        from halfrate.service.urgency import Urgency

        return Urgency(self._store, self, self.clock)

    def check_depot(self) -> None:
        """See that the depot can be used, if there is one, before anything is taken on. Raises SettingsError where it
        is that of another database, StorageError where it cannot be written to and read from."""
        if isinstance(self.depot, Depot):
            self.depot.check()

    def tidy(self) -> None:
        """Where there is a depot: let go of copies of its files that nobody asks for, and of files of jobs that were
        never recorded. To be called now and then; looks at all of the depot's jobs."""
        if isinstance(self.depot, Depot):
            from halfrate.service.tidying import Tidier

            Tidier(self._store, self.home, self.depot).sweep(self.clock.now())

    def beat(self) -> None:
        """Have other machines know that this process lives. To be called every few seconds, where there is a depot."""
        now = self.clock.now()
        self._store.processes.beat(self.owner, now, now + _ALIVE)

    def gone(self, owner: str, since: float) -> bool:
        """Whether a process of this name is there no more, or has lost its place: one of another machine is taken to be
        if it has not been heard of for a minute. `since`: when it was there at least."""
        if owner == self.owner:
            return False
        if self._owner.proven_dead(owner):
            return True
        if not self.depot.afar:
            return False
        return max(self._store.processes.alive_until(owner), since + _ALIVE) < self.clock.now()

    def deliver_raw(self, job_id: str, target: Path) -> Path:
        """Write the provider's own result objects, under the user's ids, in input order; for a batch file of
        OpenAI's or Anthropic's those that they would give, whichever provider ran it."""
        job = self.job(job_id)
        self.check_target(target)
        from halfrate.rows.raw import write_raw
        from halfrate.rows.sources import asked_url, native_bodies
        from halfrate.service.rendering import rendering

        spec, snapshot = job.spec, self._snapshot(job)
        endpoint = spec.endpoint
        if spec.native == "openai" and asked_url(snapshot.path).endswith("/responses"):
            endpoint = "responses"
        form, render = rendering(
            spec.native, decoder(spec.provider), int(job.created_at), endpoint, spec.endpoint
        )
        looks_back = render is not None and endpoint in {"responses", "embeddings"}
        write_raw(
            snapshot,
            self._raw_shards(job),
            target,
            form,
            id_column=job.spec.id_column,
            render=render,
            requests=native_bodies(snapshot.path) if looks_back else None,
        )
        return target

    def output_path(self, job: Job) -> Path:
        """Where the output goes unless another place is named, settled when the job was submitted."""
        return Path(job.output) if job.output is not None else Path(f"answers-{job.id}.{job.output_format}")

    def conclude(self, job_id: str) -> Job:
        """Record that a job has ended, if it has."""
        job = self.job(job_id)
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
        return self._save(msgspec.structs.replace(job, state=state, finished_at=self.clock.now()))

    def hint(self, account: str, batch_id: str) -> bool:
        """Something was heard of a batch (a webhook, say): it is looked at now. Whether one of ours waited for that.

        What was heard is not believed: it may be early, late, doubled or made up. The provider's own answer counts.
        """
        return self._store.hint(account, batch_id, self.clock.now())

    def quotas(self) -> list[tuple[Quota, str]]:
        """The limits of providers' queues that are known, each with who says so: "set", "told" or "documented"."""
        known = self._store.quotas()
        places = {(quota.account, quota.model, quota.kind) for quota, _ in known}
        facts = [
            quota for quota in self._documented() if (quota.account, quota.model, quota.kind) not in places
        ]
        return [*known, *((quota, "documented") for quota in facts)]

    def set_quota(self, model: str, kind: QuotaKind, most: int | None) -> bool:
        """Set a limit for PROVIDER/MODEL, or for all models of PROVIDER; None forgets it. Whether one was known."""
        provider, _, name = model.partition("/")
        account = account_of(provider).name
        if most is None:
            return self._store.drop_quota(account, name, kind)
        self._store.set_quota(Quota(account=account, model=name, kind=kind, most=most), self.clock.now())
        return True

    def budgets(self) -> list[Standing]:
        """How the budgets stand now."""
        return self._store.standings(self.clock.now())

    def check_budgets(self, draft: Draft, *, on_budget: OnBudget = "refuse") -> list[Standing]:
        """How the budgets stand that a job would be under, without it. Raises OverBudget as `submit` would, and then
        discards the draft: nobody should be asked about what will be refused."""
        found = self._store.standings(self.clock.now(), Terms.of(draft.job))
        try:
            for one in found:
                stakes = [shard.stake for shard in draft.shards]
                check_job(one, draft.job.held, stakes, on_budget, hoped=draft.job.cache.hoped)
        except OverBudget:
            draft.discard()
            raise
        return found

    def held_by(self, job_id: str) -> list[Standing]:
        """Budgets for which a job waits: `promised` is what is at work now."""
        return self._store.held_by(self.job(job_id), self.clock.now())

    def set_budget(self, budget: Budget) -> None:
        """Raises UsageError for what is no budget."""
        check_budget(budget)
        self._store.set_budget(budget)

    def drop_budget(self, budget: Budget) -> bool:
        """Forget the budget of this scope and period; whether there was one."""
        return self._store.drop_budget(budget)

    @property
    def surfaces(self) -> "SurfaceStore":
        """What the gateway remembers."""
        return self._store.surfaces

    @property
    def deferred(self) -> "DeferredStore":
        """Calls of the gateway that can wait."""
        return self._store.deferred

    @property
    def owner(self) -> str:
        """What this process is called where it holds something."""
        return self._owner.name

    def has(self, job_id: str) -> bool:
        """Whether there is a job of that id."""
        return self._store.job(job_id) is not None

    @functools.cached_property
    def keys(self) -> "Keys":
        """Keys of the gateway. Other commands do not import them."""
        from halfrate.service.keys import Keys

        return Keys(self._store.surfaces, self.clock)

    @functools.cached_property
    def webhooks(self) -> "Webhooks":
        """Who is told of the ends of batches and jobs. Other commands do not import it."""
        from halfrate.service.webhooks import Webhooks

        return Webhooks(self._store.webhooks, self.clock, self.owner)

    def bookkeeper(self, folder: Path) -> "Bookkeeper":
        """Who brings the calls in real time into the ledger that were logged in a folder."""
        from halfrate.service.calls import Bookkeeper

        return Bookkeeper(self._store.calls, folder)

    # ------------------------------------------------------------ parts

    def _documented(self) -> list[Quota]:
        """Limits that providers document, for the accounts that are in use."""
        names = {job.account for job in self._jobs.values()}
        facts = {name: adapter_class(place_of(name).provider).capabilities for name in names}
        return [
            Quota(account=name, kind="creates", most=fact.creates_per_hour)
            for name, fact in sorted(facts.items())
            if fact.creates_per_hour is not None
        ]

    def _depot(self) -> AnyDepot:
        """Raises SettingsError where the files of this database are in a depot that nobody named."""
        processes = self._store.processes
        if self.home.depot is not None and self.home.database.startswith("sqlite:"):
            raise SettingsError(
                "HALFRATE_DEPOT is for machines that share a database, and there is none: set HALFRATE_DATABASE to a "
                "PostgreSQL server's too. Nothing was changed."
            )
        if self.home.depot is None and self.home.server is not None:
            known = processes.depot()
            if known is not None:
                raise SettingsError(
                    f"The files of this database are in {known}, and without them jobs would seem to lack their "
                    "answers. Set HALFRATE_DEPOT to that place, or to where they were moved. Nothing was changed."
                )
        return depot_at(self.home.depot, self.home.root, processes.own_id, processes.note_depot)

    def _connect(self, account: Account) -> Adapter:
        return adapter_class(account.provider)(account)

    def _account(self, name: str) -> Account:
        """The account that owns a job's batches. Another place or provider would not know them."""
        place = place_of(name)
        account = account_of(place.named)
        if account.name == name:
            return account
        facts = adapter_class(place.provider).capabilities
        lost = "nothing was sent or lost."
        if place_of(account.name)[:2] != place[:2]:
            raise SettingsError(
                f"This job's batches belong to the account {place.named!r} of {facts.title} at {place.base_url}. "
                f"That name means {account.provider} at {account.base_url} now. Give the account its name back in the "
                f"settings to go on with the job; {lost}"
            )
        if place.label or not facts.url_variable or facts.url_path:
            raise SettingsError(
                f"This job's batches are at {place.base_url}, and the account {place.named!r} is at "
                f"{account.base_url} now. Set its URL, project and region as they were to go on with the job; {lost}"
            )
        raise SettingsError(
            f"This job's batches are at {place.base_url}, and {facts.url_variable} now says {account.base_url}. "
            f"Set {facts.url_variable}={place.base_url} to go on with it; {lost}"
        )

    def _save(self, job: Job) -> Job:
        self._store.save_job(job, self.clock.now())
        self._jobs[job.id] = job
        return job

    def _change(self, job_id: str, step: Callable[..., Shard | None]) -> int:
        policy = self.policy(self.job(job_id))
        now = self.clock.now()
        changed = 0
        for shard in self._store.shards(job_id):
            if self._store.change(shard.id, functools.partial(step, now=now, policy=policy)) is not None:
                changed += 1
        return changed

    def _views(self, job: Job) -> list[ShardView]:
        files = self.files(job.id)
        return [
            ShardView(shard.first_row, shard.rows, tuple(files.all_outcomes(shard.number, shard.attempt)))
            for shard in self._store.shards(job.id)
        ]

    def _reasons(self, job: Job, shards: list[Shard]) -> dict[str, int]:
        """Why rows failed, as they stand now, and how many rows each reason holds for."""
        decode = record_decoder(job.names)
        found: dict[str, int] = {}
        for shard in shards:
            if shard.state in LIVE or shard.counts.succeeded == shard.counts.settled:
                continue
            with outcomes_of(shard, self.files(job.id)) as outcomes:
                for slot, kind in enumerate(outcomes.kinds()):
                    if kind not in {Kind.UNKNOWN, Kind.SUCCEEDED}:
                        error = decode(outcomes.records(slot, slot + 1, b"")[0]).error or "no reason given"
                        found[error] = found.get(error, 0) + 1
        return found

    def _wake(self, job_id: str) -> None:
        """Try now what waits after a failure: whoever starts a run has perhaps just mended what was wrong."""
        now = self.clock.now()

        def due(shard: Shard) -> Shard | None:
            waiting = shard.state in MOVING and shard.trouble is not None and shard.next_at > now
            return msgspec.structs.replace(shard, next_at=now) if waiting else None

        for shard in self._store.shards(job_id):
            self._store.change(shard.id, due)

    def _raw_shards(self, job: Job) -> "list[RawShard]":
        from halfrate.rows.raw import RawAttempt, RawShard

        adapter = decoder(job.spec.provider)
        files = self.files(job.id)
        return [
            RawShard(
                shard.first_row,
                shard.rows,
                tuple(
                    RawAttempt(
                        adapter.line_reader(job.spec.endpoint, row_prefix(shard.id, attempt)).general,
                        tuple(files.all_results(shard.number, attempt)),
                        files.outcomes(shard.number, attempt),
                    )
                    for attempt in range(1, shard.attempt + 1)
                    if self.depot.bring(files.outcomes(shard.number, attempt))
                ),
            )
            for shard in self._store.shards(job.id)
        ]

    def _unknown_record(self, job: Job) -> bytes:
        """What to write of rows that no attempt knows."""
        form = RecordFormat(job.names)
        shards = self._store.shards(job.id)
        if any(shard.state in LIVE and not shard.cancel_requested for shard in shards):
            return form.failed(Outcome.WAITING, "this row's outcome is still to come")
        stopped = next((shard for shard in shards if shard.state is State.STOPPED), None)
        if stopped is not None:
            return form.failed(Outcome.FAILED, _not_run_because(stopped))
        return form.failed(Outcome.CANCELLED, "this row was not run")

    def _snapshot(self, job: Job) -> Snapshot:
        path = self.depot.need(self.files(job.id).snapshot(job.input_format))
        return Snapshot(path, job.input_format, job.spec.native)

    def check_target(self, path: Path) -> None:
        """Raises SettingsError where no file of this name can be made."""
        problem = unwritable(path)
        if problem is not None:
            raise SettingsError(f"{problem} The answers are kept; name another place with -o.")

    def _remove_old_drafts(self) -> None:
        """Drafts of processes that died while they read their input: nothing of them was ever sent."""
        for folder in (self.home.root / "jobs").glob("draft-*"):
            owner = folder.name.removeprefix("draft-").rpartition("-")[0]
            if self._owner.proven_dead(owner):
                JobFiles(folder).remove()


def _reason(shard: Shard) -> str:
    return shard.trouble.message if shard.trouble is not None else "refused"


def _not_run_because(shard: Shard) -> str:
    return f"not run: {_reason(shard)}"


def _output_place(job: Job) -> Path:
    """The output's absolute path: the one asked for, else one beside nothing of the user's that is there already."""
    if job.output is not None:
        return Path(job.output).absolute()
    stem = "" if job.input_name in {"standard input", "rows"} else f"{Path(job.input_name).stem}."
    ending = "raw.jsonl" if job.raw else job.output_format
    plain = Path(f"{stem}answers.{ending}").absolute()
    return plain.with_name(f"{stem}answers-{job.id}.{ending}") if plain.exists() else plain


def _to_submit(shards: Iterable[Shard]) -> bool:
    return any(shard.state in {State.PLANNED, State.UPLOADED, State.SUBMITTING} for shard in shards)


def _never_run(shard: Shard) -> int:
    """Rows of a finished shard that no attempt knows: it was cancelled, or refused, before they were run."""
    return shard.rows - shard.counts.settled


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

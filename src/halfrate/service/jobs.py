"""Jobs: submit, run, look at, cancel, try again, deliver, account for.

`Service` is what is called from outside. What it does beyond submitting is in modules of its own: `site` looks jobs up,
`running` works on them, `control` changes what is to become of them, `reporting` says how they stand, `outputs` writes
what came of them, and `limits` says what may be sent.
"""

import filecmp
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from halfrate.base.clock import Clock, SystemClock
from halfrate.base.errors import HalfrateError, SettingsError, StorageError, UsageError
from halfrate.base.types import OutputFormat
from halfrate.blobs.depot import UNRECORDED, Depot
from halfrate.blobs.files import JobFiles
from halfrate.core import finish
from halfrate.core.admission import Quota, QuotaKind
from halfrate.core.budgets import Budget, OnBudget, Standing, check_budget
from halfrate.core.deadlines import Send, plan
from halfrate.core.finish import Finish
from halfrate.core.job import Forecast, Job
from halfrate.core.lifecycle import MOVING, Shard
from halfrate.engine.loop import Loop
from halfrate.engine.owner import Owner
from halfrate.engine.watch import beliefs, job_view
from halfrate.rows.collect import Check
from halfrate.rows.results import ResultRecord
from halfrate.service import limits, reporting
from halfrate.service.control import Control
from halfrate.service.costs import CostLine, grouped
from halfrate.service.depots import depot_of
from halfrate.service.drafts import Ask, Draft, Drafter
from halfrate.service.forecasts import Score, by_tier, cache_hits, expected, samples, scores
from halfrate.service.home import Home
from halfrate.service.outputs import Outputs, new_output_path
from halfrate.service.report import Prospect, Report
from halfrate.service.running import Runner
from halfrate.service.site import JobSite, connect
from halfrate.store.connector import CommitUnknown
from halfrate.store.store import Fenced, Guard, Store

if TYPE_CHECKING:
    from halfrate.service.calls import Bookkeeper
    from halfrate.service.keys import Keys
    from halfrate.service.urgency import Urgency
    from halfrate.service.webhooks import Webhooks
    from halfrate.store.deferred import DeferredStore
    from halfrate.store.surfaces import Held, SurfaceStore


_ALIVE = 60.0
"""Seconds for which a process of another machine is taken to live that was heard of."""


class Service:
    """One installation at work: what every face of halfrate calls. Use as a context manager."""

    def __init__(self, home: Home, clock: Clock | None = None) -> None:
        self.home = home
        self.clock: Clock = clock or SystemClock()
        home.create()
        self._store = Store.open(home.database)
        try:
            self.depot = depot_of(home, self._store.processes)
        except BaseException:
            self._store.close()
            raise
        self._owner = Owner(home.workers, alone=not self.depot.afar)
        self._site = JobSite(home, self._store, self.depot)
        self._control = Control(self._store, self._site, self.clock)
        self._outputs = Outputs(self._store, self._site)
        self._runner = Runner(self._store, self._site, self.clock, self._owner, self._control, self._outputs)

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
        known = functools.partial(samples, self._store)
        hits = functools.partial(cache_hits, self._store)
        return Drafter(self.home, self._owner.name, self.clock.now, known, hits).draft(ask, connect)

    def tier_forecasts(self, draft: Draft) -> dict[str, Forecast]:
        """What a job should cost in each tier whose price is known, from the cheapest on."""
        return by_tier(self._store, draft.job)

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
        believed = beliefs(self._store, self._site, job, now)
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
            job = msgspec.structs.replace(job, output=str(new_output_path(job)))
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
        await self._runner.run(
            job_id, on_step=on_step, on_loop=on_loop, check=check, until_submitted=until_submitted
        )

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
        await self._runner.work(on_step=on_step, on_loop=on_loop, on_end=on_end, on_halt=on_halt, drain=drain)

    # ------------------------------------------------------------ looking

    def job(self, job_id: str) -> Job:
        """Raises UsageError where there is none."""
        return self._site.job(job_id)

    def has(self, job_id: str) -> bool:
        """Whether there is a job of that id."""
        return self._store.job(job_id) is not None

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

    def files(self, job_id: str) -> JobFiles:
        return self._site.files(job_id)

    def report(self, job_id: str, *, reasons: bool = True) -> Report:
        """What the store and the ledger know of a job. `reasons`: why rows failed, read from their outcomes."""
        job = self._store.job(job_id) or self.job(job_id)
        return reporting.report(self._store, self._site, job, reasons=reasons)

    def forecast(self, job_id: str) -> Finish | None:
        """When a job should be finished if something works on it; None if nothing of it goes on by itself, or
        its account is not set up here."""
        job = self.job(job_id)
        shards = self._store.shards(job_id)
        if not any(shard.state in MOVING for shard in shards):
            return None
        now = self.clock.now()
        try:
            believed = beliefs(self._store, self._site, job, now)
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
        return self._control.cancel(job_id)

    def pause(self, job_id: str) -> int:
        """Send nothing more of a job for now; the number of batches that concerns. What is sent goes on."""
        return self._control.pause(job_id)

    def resume(self, job_id: str, *, keep_going: bool = False) -> int:
        """Go on with a paused job; the number of batches that concerns.

        `keep_going`: from now on also when most rows of a batch fail.
        """
        return self._control.resume(job_id, keep_going=keep_going)

    def retry(self, job_id: str) -> int:
        """Send the rows again that did not succeed; the number of shards that concerns."""
        return self._control.retry(job_id)

    def conclude(self, job_id: str) -> Job:
        """Record that a job has ended, if it has."""
        return self._control.conclude(job_id)

    def hint(self, account: str, batch_id: str) -> bool:
        """Something was heard of a batch (a webhook, say): it is looked at now. Whether one of ours waited for that.

        What was heard is not believed: it may be early, late, doubled or made up. The provider's own answer counts.
        """
        return self._store.hint(account, batch_id, self.clock.now())

    # ------------------------------------------------------------ delivering

    def deliver(self, job_id: str, target: Path | None, form: OutputFormat | None = None) -> Path:
        """Write the output file, complete or not at all. Rows that are still to come say so."""
        return self._outputs.deliver(job_id, target, form)

    def deliver_own(self, job_id: str) -> Path:
        """Write the job's own output: where, and in the form, that it was asked for in."""
        return self._outputs.deliver_own(job_id)

    def deliver_raw(self, job_id: str, target: Path) -> Path:
        """Write the provider's own result objects, under the user's ids, in input order; for a batch file of
        OpenAI's or Anthropic's those that they would give, whichever provider ran it."""
        return self._outputs.deliver_raw(job_id, target)

    def results(self, job_id: str) -> Iterator[ResultRecord]:
        """What is known of every row, in order."""
        return self._outputs.results(job_id)

    def tiers(self, job_id: str) -> dict[int, str]:
        """The tiers of the rows that were answered in real time, by their numbers; all others were in a batch."""
        return self._outputs.tiers(job_id)

    # ------------------------------------------------------------ processes

    @property
    def owner(self) -> str:
        """What this process is called where it holds something."""
        return self._owner.name

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

    # ------------------------------------------------------------ limits and budgets

    def quotas(self) -> list[tuple[Quota, str]]:
        """The limits of providers' queues that are known, each with who says so: "set", "told" or "documented"."""
        return limits.known_quotas(self._store, self._site.accounts())

    def set_quota(self, model: str, kind: QuotaKind, most: int | None) -> bool:
        """Set a limit for PROVIDER/MODEL, or for all models of PROVIDER; None forgets it. Whether one was known."""
        return limits.set_quota(self._store, model, kind, most, self.clock.now())

    def budgets(self) -> list[Standing]:
        """How the budgets stand now."""
        return self._store.standings(self.clock.now())

    def check_budgets(self, draft: Draft, *, on_budget: OnBudget = "refuse") -> list[Standing]:
        """How the budgets stand that a job would be under, without it. Raises OverBudget as `submit` would, and then
        discards the draft: nobody should be asked about what will be refused."""
        return limits.check_budgets(self._store, draft, on_budget, self.clock.now())

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

    # ------------------------------------------------------------ the gateway

    @property
    def surfaces(self) -> "SurfaceStore":
        """What the gateway remembers."""
        return self._store.surfaces

    @property
    def deferred(self) -> "DeferredStore":
        """Calls of the gateway that can wait."""
        return self._store.deferred

    def urgency(self) -> "Urgency":
        """Whether single calls can wait for a batch."""
        from halfrate.service.urgency import Urgency

        return Urgency(self._store, self._site, self.clock)

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

    def _remove_old_drafts(self) -> None:
        """Drafts of processes that died while they read their input: nothing of them was ever sent."""
        for folder in (self.home.root / "jobs").glob("draft-*"):
            owner = folder.name.removeprefix("draft-").rpartition("-")[0]
            if self._owner.proven_dead(owner):
                JobFiles(folder).remove()

"""One run from one seed: what may go wrong is drawn, jobs are carried through it, and every promise is checked."""

import asyncio
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from halfrate.base import ids
from halfrate.base.errors import HalfrateError, UsageError
from halfrate.base.results import RESULTS_GONE
from halfrate.core.budgets import Budget
from halfrate.core.job import Job
from halfrate.core.lifecycle import LIVE, Shard, State
from halfrate.emulator import CacheModel, Emulator, Limits, Pace, WebhookTarget
from halfrate.providers.registry import adapter_class
from halfrate.rows.journal import Journal
from halfrate.service.drafts import Ask
from halfrate.service.home import Home, Timing
from halfrate.service.jobs import Service

from ..service.providers import MODELS as EVERY_MODEL
from ..service.providers import write_settings
from .machine import EPOCH, PROCESS, Machine, Process, VirtualLoop, crash_points
from .network import Network

MODELS = (
    "openai/gpt-4.1-mini",
    "openai/gpt-5-mini",
    "openai/text-embedding-3-small",
    "anthropic/claude-haiku-4-5",
)
CACHING = (
    "openai/gpt-5-mini",
    "openai/gpt-5.6-luna",
    "anthropic/claude-sonnet-4-5",
    "anthropic/claude-sonnet-4-6",
)
SHARED = "Whatever is asked is answered in a few words, and without a preface. " * 150
"""About 2,600 tokens, which every row of a job has."""
OTHERS = tuple(
    model
    for provider, model in EVERY_MODEL.items()
    # Cloud storage is reached through a library with a network of its own, which cannot be put into virtual time.
    if provider not in {"openai", "anthropic", "vertex", "bedrock"}
)
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
BASE = _MEMORY if os.access(_MEMORY, os.W_OK) else None

FAULTS = (
    "row-error:rate=0.2,status=429",
    "row-error:rate=0.2,status=500",
    "row-error:rate=0.1,status=400,sticky=true",
    "row-missing:rate=0.1",
    "row-duplicate:rate=0.3",
    "row-unknown:rate=0.3",
    "row-both-files:rate=0.3",
    "row-status-zero:rate=0.1",
    "row-null-error:rate=0.1",
    "row-refusal:rate=0.1",
    "row-unicode:rate=0.5",
    "row-malformed:rate=0.1",
    "row-no-id:rate=0.1",
    "no-shuffle",
    "last-line-cut",
    "batch-expire:times=2,done=0.5",
    "batch-expire:times=1,done=0.3,at=window",
    "batch-expire:times=1,done=0",
    "batch-fail:times=1,line=1",
    "batch-stuck:seconds=20000,times=2",
    "status-unknown:seconds=900,times=2",
    "counts-wrong:times=2,provider=openai",
    "all-rows-fail:times=1,status=500",
    "cancel-ignored:times=1",
    "cancel-race:times=1",
    "cancel-absent:times=1",
    "create-lost:times=1",
    "create-lost:rate=0.5,times=3",
    "create-error:times=2,status=500",
    "create-error:times=1,status=502",
    "create-refused:times=2,status=503",
    "create-refused:times=3,status=429,retry_after=30",
    "create-slow:times=1,seconds=4000",
    "create-slow:times=1,seconds=50",
    "poll-error:times=5,status=500",
    "rate-limit:on=any,times=6,retry_after=7",
    "rate-limit:on=download,times=3",
    "download-truncated:times=3",
    "upload-reset:times=2",
    "list-stale:seconds=40",
    "not-found-after-create:seconds=30",
    "file-not-ready:seconds=60",
    "queue-full:times=3",
    "queue-full:mode=create,times=2",
    "realtime-error:rate=0.3,status=500",
    "realtime-burst:times=2,seconds=60",
    "realtime-lost:times=1",
    "realtime-cut:times=1",
    "flex-unavailable:rate=0.5",
    "tier-changed:rate=0.5",
    "webhook-lost:rate=0.5",
    "webhook-duplicate:rate=0.5",
    "webhook-early:rate=0.5,seconds=30",
    "webhook-late:rate=0.5,seconds=4000",
    "webhook-replay:rate=0.5",
)
UNREADABLE = ("row-malformed", "row-no-id")
"""Rows that were billed and cannot be read: what they cost is not known to us."""


class Broken(AssertionError):
    """A promise was not kept."""


class Outcome(msgspec.Struct):
    """What a run came to."""

    seed: int
    rows: int
    faults: tuple[str, ...]
    crashes: Counter[str]
    points: Counter[str]
    virtual_seconds: float
    trace: list[str]
    broken: str | None = None


class Plan:
    """What a seed stands for. `long`: of each job, rows with so many words; a queue of 400 tokens cannot take them all.

    `others`: the same, at providers other than OpenAI and Anthropic. `money`: the same,
    under a budget that most jobs have to wait for, and with prompts that are kept in the providers' caches."""

    def __init__(self, seed: int, *, others: bool = False, money: bool = False) -> None:
        rng = self.rng = random.Random(f"plan {seed}")
        self.faults = tuple(rng.sample(FAULTS, rng.choice([0, 1, 1, 2, 3, 5, 8])))
        self.crashes = rng.choice([0, 1, 2, 4, 8])
        self.reach = rng.choice([70, 70, 300, 1200])
        self.lossy = rng.choice([0, 0, 0, 0.02, 0.1])
        self.outages = [
            (start := rng.uniform(0, 5_000), start + 10 ** rng.uniform(1, 4))
            for _ in range(rng.choice([0, 0, 1, 2]))
        ]
        self.pace = Pace(
            validate=rng.uniform(0, 60),
            queue=rng.uniform(0, 600),
            per_1000_rows=rng.choice([10, 10_000, 1_000_000]),
            finalize=rng.uniform(0, 60),
            cancel=rng.uniform(0, 120),
        )
        self.shard_rows = rng.choice([3, 5, 8, 20])
        self.limits = Limits(openai_enqueued_tokens=rng.choice([None, None, None, 400]))
        self.jobs = [
            (rng.choice(MODELS), rng.randint(1, 25), rng.choice([1, 1, 1, 2, 3]))
            for _ in range(rng.choice([1, 1, 2, 3]))
        ]
        self.cancel_at = [rng.uniform(0, 20_000) if rng.random() < 0.15 else None for _ in self.jobs]
        self.attempts = rng.choice([1, 3, 8])
        self.doubled = rng.choice([0, 0, 0, 0, 0, 0.4])
        self.nap = rng.choice([60.0, 300.0, 3600.0])
        self.poll_most = rng.choice([60.0, 600.0, 3600.0])
        self.pause_at = [rng.uniform(0, 10_000) if rng.random() < 0.15 else None for _ in self.jobs]
        self.retry_at = [rng.uniform(0, 90_000) if rng.random() < 0.15 else None for _ in self.jobs]
        self.breaker_rows = rng.choice([50, 50, 50, 4])
        self.queue_rows = rng.choice([500_000, 500_000, 500_000, 12])
        self.limits = msgspec.structs.replace(self.limits, anthropic_queue_rows=self.queue_rows)
        self.patience = rng.random()
        self.webhooks = rng.random() < 0.5
        self.deadlines = [EPOCH + 10 ** rng.uniform(2, 5) if rng.random() < 0.3 else None for _ in self.jobs]
        # Drawn apart, so that a seed stands for the same plan otherwise. So are those below.
        dice = random.Random(f"long rows {seed}")
        self.long: list[dict[int, int]] = [{} for _ in self.jobs]
        if self.limits.openai_enqueued_tokens is not None and not money and dice.random() < 0.2:
            self.long = [
                {
                    dice.randrange(rows): round(10 ** dice.uniform(2, 3.5))
                    for _ in range(dice.choice([0, 1, 1, 3]))
                }
                for _, rows, _ in self.jobs
            ]
        if others:
            pick = random.Random(f"others {seed}")
            self.jobs = [(pick.choice(OTHERS), rows, count) for _, rows, count in self.jobs]
        self.money: Money | None = None
        if money:
            draw = random.Random(f"money {seed}")
            self.jobs = [(draw.choice(CACHING), rows, count) for _, rows, count in self.jobs]
            if self.limits.openai_enqueued_tokens is not None:
                # Each row is longer here than that queue.
                self.limits = msgspec.structs.replace(self.limits, openai_enqueued_tokens=12_000)
            self.money = Money(
                tight=10 ** draw.uniform(-0.5, 0.7),
                cache=[draw.choice(["auto", "auto", "1h", "off"]) for _ in self.jobs],
                hits=draw.choice([0.0, 0.5, 1.0]),
                within=draw.random() < 0.3,
                plain=draw.random() < 0.5,
                documents=draw.choice([0, 0, 1, 2]),
                common=draw.random() < 0.5,
            )
            if self.money.documents:
                # Caches in which what some rows share is kept, and time for a batch that goes first.
                self.money = msgspec.structs.replace(self.money, cache=["auto"] * len(self.jobs), plain=False)
                self.jobs = [(draw.choice(CACHING[2:]), rows, count) for _, rows, count in self.jobs]
                self.deadlines = [None] * len(self.jobs)
                self.shard_rows = draw.choice([8, 20])


class Money(msgspec.Struct, frozen=True):
    """What is drawn besides where money is what a run is about.

    `tight`: the budget of a day, in parts of what the first job should cost. `cache`: what each job asks for. `hits`:
    how often a row finds what another has written, those of its own batch among them if `within`. `plain`: nobody has
    a cache, so that a batch costs no more than it should. `documents`: how many there are that rows ask about, each of
    which some rows have in common; `common`: beside a text that all have.
    """

    tight: float
    cache: list[str]
    hits: float
    within: bool
    plain: bool
    documents: int
    common: bool


def run(seed: int, *, others: bool = False, money: bool = False) -> Outcome:
    """Carry out one run. What was broken, if anything, is in the outcome."""
    plan = Plan(seed, others=others, money=money)
    folder = Path(tempfile.mkdtemp(prefix="halfrate-simulation-", dir=BASE))
    try:
        with ExitStack() as stack:
            return Run(plan, seed, folder, stack).carry_out()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _small_shards(rows: int, models: Iterable[str]) -> Generator[None]:
    with ExitStack() as stack:
        for provider in sorted({model.partition("/")[0] for model in models}):
            adapter = adapter_class(provider)
            limits = msgspec.structs.replace(adapter.capabilities.limits, rows=rows)
            facts = msgspec.structs.replace(adapter.capabilities, limits=limits)
            stack.enter_context(patch.object(adapter, "capabilities", facts))
        yield


def _job_ids(seed: int) -> Iterator[str]:
    rng = random.Random(f"ids {seed}")
    while True:
        yield "".join(rng.choice(ids._ALPHABET) for _ in range(10))


def _tokens(seed: int) -> Callable[[], str]:
    rng = random.Random(f"tokens {seed}")
    return lambda: rng.randbytes(4).hex()


JOURNALS: dict[str, list[Journal]] = {}
"""What each process has open, so that its death can close it."""


def _noted(original: Callable[..., None]) -> Callable[..., None]:
    def opened(self: Journal, *args: Any, **options: Any) -> None:
        process = PROCESS.get(None)
        if process is not None:
            JOURNALS.setdefault(process.name, []).append(self)
        original(self, *args, **options)

    return opened


class _EmulatorClock:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return EPOCH + self._loop.time()


class Run:
    def __init__(self, plan: Plan, seed: int, folder: Path, stack: ExitStack) -> None:
        self.plan = plan
        self.seed = seed
        self.folder = folder
        self.home = Home(root=folder / "home", timing=Timing(poll_most=plan.poll_most))
        self.loop = VirtualLoop()
        stack.callback(self.loop.close)
        self.machine = Machine(self.loop, seed, self.home.root / "jobs", plan.reach)
        self.emulator = stack.enter_context(
            Emulator(
                seed=seed,
                clock=_EmulatorClock(self.loop),
                faults=plan.faults,
                pace=plan.pace,
                limits=plan.limits,
                cache=CacheModel(hit_rate=plan.money.hits, within_batch=plan.money.within)
                if plan.money is not None and not plan.money.plain
                else None,
                webhooks=(WebhookTarget("http://ours.test", "a secret"),) if plan.webhooks else (),
            )
        )
        network = Network(
            self.machine, self.emulator, lossy=plan.lossy, doubled=plan.doubled, outages=plan.outages
        )
        found = self.emulator.environment("http://emulator.test")
        keys = {name: value for variables in found.values() for name, value in variables.items()}
        keys |= {
            "OPENAI_BASE_URL": "http://openai.test/v1",
            "OPENAI_API_KEY": "key-1",
            "ANTHROPIC_BASE_URL": "http://anthropic.test",
            "ANTHROPIC_API_KEY": "key-1",
            "HALFRATE_SETTINGS": str(write_settings(folder)),
        }
        self.stop = 0
        names = _job_ids(seed)
        stack.enter_context(patch.dict(os.environ, keys))
        stack.enter_context(patch("halfrate.service.drafts.new_job_id", lambda: next(names)))
        stack.enter_context(patch("halfrate.engine.owner.new_token", _tokens(seed)))
        stack.enter_context(network.installed())
        stack.enter_context(crash_points())
        stack.enter_context(patch("halfrate.engine.loop._LONGEST_NAP", plan.nap))
        stack.enter_context(patch("halfrate.core.breaker._ROWS", plan.breaker_rows))
        # Whoever waits for room, or for tomorrow's money, would look for it many thousand times.
        look = 30.0 if plan.money is None else 600.0
        stack.enter_context(patch("halfrate.store.store._LOOK_AGAIN", look))
        stack.enter_context(patch.object(Journal, "__init__", _noted(Journal.__init__)))
        stack.callback(JOURNALS.clear)
        stack.enter_context(_small_shards(plan.shard_rows, (model for model, _, _ in plan.jobs)))

    def carry_out(self) -> Outcome:
        jobs = [self._submit(number, model, rows) for number, (model, rows, _) in enumerate(self.plan.jobs)]
        self.jobs = jobs
        self.accounts = {job.account for job in jobs}
        broken: str | None = None
        self.machine.crashes_left = self.plan.crashes
        try:
            self.loop.run_until_complete(self._carry(jobs))
            self.loop.run_until_complete(asyncio.sleep(4 * 86_400))
            self._check(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what matters
            broken = f"{type(error).__name__}: {error}"
        return Outcome(
            seed=self.seed,
            rows=sum(job.rows for job in jobs),
            faults=self.plan.faults,
            crashes=self.machine.crashed,
            points=self.machine.reached,
            virtual_seconds=self.loop.time(),
            trace=self.machine.trace,
            broken=broken,
        )

    def _submit(self, number: int, model: str, rows: int) -> Job:
        table = self.folder / f"rows-{number}.jsonl"
        long = self.plan.long[number]
        questions = (f"{number}: what is {n}?" + " really" * long.get(n, 0) for n in range(rows))
        documents = self.plan.money.documents if self.plan.money is not None else 0
        about = [{"document": f"Document {k}. {SHARED}"} for k in range(documents)] or [{}]
        asked = ({"n": n, "q": q, **about[n % len(about)]} for n, q in enumerate(questions))
        table.write_text("".join(json.dumps(row) + "\n" for row in asked))
        with Service(self.home, Process(self.machine, "submit")) as service:
            ask = Ask(
                input=table,
                model=model,
                prompt="{document} {q}" if documents else "{q}",
                max_attempts=self.plan.attempts,
                deadline=self.plan.deadlines[number],
            )
            if self.plan.money is not None:
                return self._submit_under_a_budget(service, ask, number, self.plan.money)
            return service.submit(service.draft(ask))

    def _submit_under_a_budget(self, service: Service, ask: Ask, number: int, money: Money) -> Job:
        cache = "off" if money.plain else "auto" if ask.deadline is not None else money.cache[number]
        asked = {"system": SHARED if money.common or not money.documents else None, "tags": {"team": "ours"}}
        try:
            draft = service.draft(msgspec.structs.replace(ask, **asked, cache=cache))
        except UsageError:
            # Marks that would cost more than they save are refused.
            draft = service.draft(msgspec.structs.replace(ask, **asked))
        most = max(shard.stake or 0 for shard in draft.shards)
        if not number:
            self.stop = max(most, round((draft.job.forecast.cost or 0) * money.tight))
        self.stop = max(self.stop, most)
        service.set_budget(Budget(name="team", value="ours", period="day", stop=self.stop))
        return service.submit(draft, on_budget="wait")

    async def _carry(self, jobs: list[Job]) -> None:
        workers = [
            self._keep_running(job)
            for job, (_, _, count) in zip(jobs, self.plan.jobs, strict=True)
            for _ in range(count)
        ]
        cancels = [
            self._cancel(job, at) for job, at in zip(jobs, self.plan.cancel_at, strict=True) if at is not None
        ]
        pauses = [
            self._pause(job, at) for job, at in zip(jobs, self.plan.pause_at, strict=True) if at is not None
        ]
        retries = [
            self._retry(job, at) for job, at in zip(jobs, self.plan.retry_at, strict=True) if at is not None
        ]
        postman = self.loop.create_task(self._deliver_webhooks())
        await asyncio.gather(*workers, *cancels, *pauses, *retries)
        postman.cancel()
        # A retry may have come when all were done.
        await asyncio.gather(*(self._keep_running(job) for job in jobs))

    async def _keep_running(self, job: Job) -> None:
        """As somebody who attaches again, some time after the process has died or given up."""
        rng = self.machine.random
        while self._live(job):
            process = self.machine.process()
            self.machine.say(f"{process.name} attaches to {job.id}")
            end = process.start(lambda p=process: self._attach(p, job))
            death = self.loop.create_task(process.dead.wait())
            await asyncio.wait({end, death}, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                death.cancel()
                error = end.exception()
                if error is not None and not isinstance(error, HalfrateError):
                    raise error
                if error is not None:
                    self.machine.say(f"{process.name} gave up: {error}")
            await asyncio.sleep(10 ** rng.uniform(-1, 4))
            self._decide_on_a_pause(job)

    def _decide_on_a_pause(self, job: Job) -> None:
        """As somebody who finds a job held back: going on, or giving it up."""
        with Service(self.home, Process(self.machine, "user")) as service:
            if not any(shard.state is State.PAUSED for shard in service.shards(job.id)):
                return
            if self.plan.patience < 0.7:
                self.machine.say(f"{job.id} is resumed by its user")
                service.resume(job.id, keep_going=True)
            else:
                self.machine.say(f"{job.id} is given up by its user")
                service.cancel(job.id)

    async def _attach(self, process: Process, job: Job) -> None:
        service = Service(self.home, process)

        journals = JOURNALS.setdefault(process.name, [])

        def died() -> None:
            # What the kernel does: locks and connections of a dead process are closed, nothing is tidied up.
            lock = service._owner._file
            if lock is not None:
                lock.close()
            service._store.close()
            for journal in journals:
                journal.close()

        process.on_death = died
        with service:
            await service.run(job.id, on_step=lambda shard: self._note(process, shard))
            service.conclude(job.id)

    def _note(self, process: Process, shard: Shard) -> None:
        trouble = f" ({shard.trouble.code})" if shard.trouble is not None else ""
        self.machine.say(f"{process.name} {shard.tag} is {shard.state}{trouble}")

    async def _deliver_webhooks(self) -> None:
        """As a server that listens for events, and passes on what each is about."""
        while self.plan.webhooks:
            await asyncio.sleep(20.0)
            for webhook in self.emulator.due_webhooks():
                batch_id = json.loads(webhook.body)["data"]["id"]
                with Service(self.home, Process(self.machine, "listen")) as service:
                    taken = any(service.hint(name, batch_id) for name in self.accounts)
                self.machine.say(
                    f"an event of {batch_id}: {'look at it' if taken else 'nothing waits for it'}"
                )

    async def _cancel(self, job: Job, at: float) -> None:
        await asyncio.sleep(at)
        with Service(self.home, Process(self.machine, "cancel")) as service:
            self.machine.say(f"{job.id} is cancelled by its user")
            service.cancel(job.id)

    async def _pause(self, job: Job, at: float) -> None:
        await asyncio.sleep(at)
        with Service(self.home, Process(self.machine, "pause")) as service:
            self.machine.say(f"{job.id} is paused by its user")
            service.pause(job.id)

    async def _retry(self, job: Job, at: float) -> None:
        await asyncio.sleep(at)
        with Service(self.home, Process(self.machine, "retry")) as service:
            self.machine.say(f"{job.id} is tried again by its user")
            service.retry(job.id)

    def _live(self, job: Job) -> bool:
        with Service(self.home, Process(self.machine, "look")) as service:
            return any(shard.state in LIVE for shard in service.shards(job.id))

    # ------------------------------------------------------------ promises

    def _check(self, jobs: list[Job]) -> None:
        self.emulator.advance()
        meter = self.emulator.meter.snapshot(ids=True)
        paid: int | None = 0
        doubts = 0
        with Service(self.home, Process(self.machine, "check")) as service:
            for job in jobs:
                service.conclude(job.id)
                report = service.report(job.id)
                doubts += report.doubts
                paid = None if paid is None or report.cost is None else paid + report.cost
                _demand(report.waiting == 0, f"{report.waiting} rows of {job.id} still wait")
                total = report.succeeded + report.failed + report.expired + report.cancelled
                _demand(total == job.rows, f"{job.id} has {job.rows} rows and {total} outcomes")
                self._check_rows(service, job, report.succeeded)
        if self.plan.money is not None:
            self._check_budget()
        again = [key for key, count in meter["billed_by_fingerprint"].items() if count > 1]
        # What something on the way sends twice is paid for twice; it is in the ledger then, as waste.
        unreadable = any(fault.startswith(UNREADABLE) for fault in self.plan.faults)
        # Rows whose results cannot be read are sent again only when their user insists.
        insisted = unreadable and any(self.plan.retry_at)
        # A call in real time that was under way at a kill may have been billed unseen: then it is in the ledger.
        more = sum(meter["billed_by_fingerprint"][key] - 1 for key in again)
        _demand(
            self.plan.doubled or insisted or more <= doubts,
            f"{len(again)} rows were billed twice, and {doubts} calls were in doubt",
        )
        if not unreadable and not doubts:
            _demand(paid == meter["picodollars"], f"the ledger says {paid}, the meter {meter['picodollars']}")
        elif paid is not None:
            _demand(paid <= meter["picodollars"], f"the ledger says {paid}, the meter {meter['picodollars']}")
        ended = sum(meter[f"batches_{end}"] for end in ("completed", "failed", "cancelled", "expired"))
        _demand(
            ended == meter["batches_created"], f"{meter['batches_created'] - ended} batches are still at work"
        )
        # While the provider cannot be reached nothing can be deleted there; such files expire by themselves.
        _demand(
            self.plan.outages or meter["files_stored"] == 0,
            f"{meter['files_stored']} files are left at the provider",
        )

    def _check_budget(self) -> None:
        """No day was dearer than a day may be. What is run in real time for a deadline's sake is not held against it,
        and answers may be longer than was expected: not here, where they are short. A budget goes by what is expected,
        and where rows do not find what others have written each writes it again, at twice the price of input."""
        assert self.plan.money is not None
        most = self.stop if self.plan.money.plain else 20 * self.stop
        with Service(self.home, Process(self.machine, "check")) as service:
            lines = service.costs(by=("day", "kind", "tier"))
        days: Counter[str] = Counter()
        for line in lines:
            day, kind, tier = line.keys
            if (kind, tier) == ("rows", "batch"):
                days[day] += line.cost or 0
        for day, paid in days.items():
            _demand(paid <= most, f"{paid} was paid on {day}, and {self.stop} is what a day may cost")

    def _check_rows(self, service: Service, job: Job, succeeded: int) -> None:
        path = service.deliver(job.id, self.folder / "out.jsonl", "jsonl")
        rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().split("\n") if line]
        _demand(
            [row["n"] for row in rows] == list(range(job.rows)), f"rows of {job.id} are lost or out of order"
        )
        answered = [row for row in rows if row["status"] == "succeeded"]
        _demand(len(answered) == succeeded, f"{job.id} counts {succeeded} answers and writes {len(answered)}")
        gone = [row for row in rows if row["error"] == RESULTS_GONE]
        _demand(not gone, f"results of {len(gone)} rows of {job.id} were deleted, and nobody else does that")
        refused = any(fault.startswith("row-refusal") for fault in self.plan.faults)
        empty = [row for row in answered if row["answer"] is None and not refused]
        _demand(not empty, f"{len(empty)} answers of {job.id} are empty")
        given_up = any(self.plan.cancel_at) or (any(self.plan.pause_at) and self.plan.patience >= 0.7)
        if not self.plan.faults and not given_up:
            long = self._too_long(job)
            # Whose rows fail is held back, and may be given up.
            lost = [row for row in rows if row["status"] != "succeeded" and row["n"] not in long]
            _demand(
                not lost or (long and self.plan.patience >= 0.7),
                f"{len(lost)} rows of {job.id} failed, and nothing was wrong",
            )

    def _too_long(self, job: Job) -> set[int]:
        """Rows of a job that may not fit the queue of their model."""
        number = next(at for at, known in enumerate(self.jobs) if known.id == job.id)
        # The emulator counts a token for four characters.
        most = 4 * (self.plan.limits.openai_enqueued_tokens or 0) // len(" really")
        return {n for n, words in self.plan.long[number].items() if words > 0.9 * most}


def _demand(kept: object, otherwise: str) -> None:
    if not kept:
        raise Broken(otherwise)

"""Rounds: jobs are carried by real processes that are struck at random instants, and every promise is checked.

A round is drawn from a seed and a number: which job, how many workers, what strikes and when. The plan can be
played again; what the processes make of it depends on the machine.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from unittest.mock import patch

import msgspec

from halfrate.base.errors import HalfrateError
from halfrate.engine.steps import lease
from halfrate.providers.registry import adapter_class
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.store.store import Store

from ..store.databases import PostgresDatabase
from ..store.wire import Wire
from .processes import Process, command, script, wait_until
from .stage import FAMILIES, ROWS, Line, Stage, written

_LIMIT = 90.0
"""Seconds after which a round hangs."""
_RUN = 1.8
"""About how many seconds a worker needs for a job that nobody disturbs, the start of Python included."""
_OVER = {"done", "stopped"}
_ENDS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)


class Tally(msgspec.Struct):
    """What a round, or many, came to."""

    rounds: int = 0
    failed: int = 0
    """Rounds in which a promise was not kept."""
    strikes: Counter[str] = msgspec.field(default_factory=Counter[str])
    lost: int = 0
    billed_again: int = 0
    seconds: float = 0.0
    broken: list[str] = msgspec.field(default_factory=list[str])

    def add(self, other: "Tally") -> None:
        self.rounds += other.rounds
        self.failed += other.failed
        self.strikes += other.strikes
        self.lost += other.lost
        self.billed_again += other.billed_again
        self.seconds += other.seconds
        self.broken += other.broken


class Round:
    """One round on a stage: its dice, its folder, its jobs and what happened."""

    def __init__(
        self, stage: Stage, seed: str, *, postgres: bool = False, speeds: dict[str, float] | None = None
    ) -> None:
        self.stage = stage
        self.seed = seed
        self.dice = random.Random(seed)
        self.tally = Tally(rounds=1)
        self.folder = Path(tempfile.mkdtemp(prefix="round-", dir=stage.folder))
        self.family = self.dice.choice(FAMILIES)
        # Anthropic's job is one batch, and two of an account are what workers can get in each other's way with.
        self.jobs = 1 if self.family == "openai" else self.dice.choice((1, 2))
        for number in range(self.jobs):
            stage.right(self.family, number)
        self.speed = 1.0 if speeds is None else speeds[self.family]
        self.provider = stage.provider(self.speed)
        self.provider.reset()
        self.env = stage.environment(self.folder / "home", self.provider.url, self.speed)
        if postgres:
            self.env["HALFRATE_DATABASE"] = PostgresDatabase(stage.server).url
        self._started = time.monotonic()
        self._processes = 0

    # ------------------------------------------------------------ processes

    def start(self, words: list[str]) -> Process:
        self._processes += 1
        said = self.folder / f"process-{self._processes}.log"
        return Process(words, said, self.env)

    def struck(self, what: str) -> None:
        self.tally.strikes[what] += 1

    def check_time(self) -> None:
        if time.monotonic() - self._started > _LIMIT:
            raise TimeoutError("the round does not come to an end")

    # ------------------------------------------------------------ jobs

    def output(self, number: int) -> Path:
        return self.folder / f"out-{number}.jsonl"

    def submit(self) -> list[str]:
        """Record the jobs, and send nothing; their ids."""
        with patch.dict(os.environ, self.env, clear=True), Service(Home.from_environment()) as service:
            return [
                service.submit(service.draft(self.stage.ask(self.family, number, self.output(number)))).id
                for number in range(self.jobs)
            ]

    def store(self) -> Store:
        home = Home.from_environment(self.env)
        home.create()
        return Store.open(home.database)

    def over(self, store: Store, jobs: list[str]) -> bool:
        with contextlib.suppress(HalfrateError):
            return all(shard.state.value in _OVER for job in jobs for shard in store.shards(job))
        return False

    # ------------------------------------------------------------ what must hold

    def check(self, jobs: list[str]) -> None:
        """Write every output once more, undisturbed, and compare all that can be compared."""
        demand = self.demand
        for number, job in enumerate(jobs):
            with self.start(command("attach", job, "-o", str(self.output(number)), "--json")) as process:
                code, said = process.result(_LIMIT)
                demand(code == 0, f"attach ends with {code}: {process.last_words()}")
                demand(code != 0 or json.loads(said)["succeeded"] == ROWS, f"not every row succeeded: {said}")
            found = written(self.output(number))
            right = self.stage.right(self.family, number)
            lost = set(right.splitlines()) - set(found.splitlines())
            self.tally.lost += len(lost)
            demand(not lost, f"{len(lost)} rows of job {number} are lost: {sorted(lost)[:2]}")
            demand(found == right, f"the output of job {number} is not an undisturbed run's")
        meter = self.provider.meter()
        again = sum(count - 1 for count in meter["billed_by_fingerprint"].values())
        self.tally.billed_again += again
        demand(not again, f"{again} rows were billed twice")
        rows = ROWS * len(jobs)
        demand(meter["rows_billed"] == rows, f"{meter['rows_billed']} rows were billed, not {rows}")
        with closing(self.store()) as store:
            costs = [line.cost for line in store.ledger()]
            paid = None if None in costs else sum(cost or 0 for cost in costs)
            owners = store.owners()
        demand(paid == meter["picodollars"], f"the ledger says {paid}, the meter {meter['picodollars']}")
        demand(not owners, f"shards are still held by {owners}")
        ended = sum(meter[f"batches_{end}"] for end in ("completed", "failed", "cancelled", "expired"))
        at_work = meter["batches_created"] - ended
        demand(not at_work, f"{at_work} batches are still at work")
        demand(not meter["files_stored"], f"{meter['files_stored']} files are left at the provider")
        for said in self.folder.glob("process-*.log"):
            text = said.read_text(errors="replace")
            demand("Traceback" not in text, f"a process was taken by surprise: {text[-1500:]}")

    def demand(self, kept: object, otherwise: str) -> None:
        if not kept:
            self.tally.broken.append(f"round {self.seed} ({self.family}): {otherwise}")


# ---------------------------------------------------------------- workers


def attach(job: str) -> list[str]:
    return command("attach", job, "--json")


def shared_out(round_: Round, jobs: list[str], count: int) -> list[list[str]]:
    """Commands of `count` workers: of the home, or of one job each, and then no fewer than there are jobs."""
    if round_.dice.random() < 0.5:
        return [command("worker", "--drain")] * count
    return [attach(jobs[number % len(jobs)]) for number in range(max(count, len(jobs)))]


class Slot:
    """A place for a worker: whoever dies in it is followed by another."""

    def __init__(self, round_: Round, words: list[str]) -> None:
        self._round = round_
        self._words = words
        self._again_at = 0.0
        self.process: Process | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.code is None

    @property
    def age(self) -> float:
        return time.monotonic() - self.process.started if self.process is not None else 0.0

    def keep(self) -> None:
        """See that somebody works here, a little after the last one ended."""
        if self.running or time.monotonic() < self._again_at:
            return
        if self.process is not None:
            # 1: it could not go on, as when its database is away; somebody starts it again.
            self._round.demand(
                self.process.code in {0, 1, -signal.SIGKILL},
                f"a worker ends with {self.process.code}: {self.process.last_words()}",
            )
            self.process.end()
            self.process = None
            self._again_at = time.monotonic() + self._round.dice.uniform(0, 0.3)
            return
        self.process = self._round.start(self._words)

    def strike(self) -> bool:
        return self.process is not None and self.process.kill()

    def end(self) -> None:
        if self.process is not None:
            self.process.end()


Strike = Callable[[list[Slot], Store], str | None]
"""Does something to somebody; what it did, or None where there was nobody to do it to."""


def intent_is_open(store: Store, seconds: float = 0.0) -> bool:
    """Wait for the moment at which everything hangs by a thread: a create is about to be sent, or on its way."""
    give_up = time.monotonic() + seconds
    while True:
        with contextlib.suppress(HalfrateError):
            states = {shard.state.value for job in store.jobs() for shard in store.shards(job.id)}
            if "submitting" in states:
                return True
            if states and not states & {"planned", "uploaded"}:
                return False
        if time.monotonic() >= give_up:
            return False


def kill_any(slots: list[Slot], dice: random.Random) -> str | None:
    # A process that has only begun to import what it needs is not worth it.
    ripe = [slot for slot in slots if slot.running and slot.age > 0.1]
    return "worker SIGKILL" if ripe and dice.choice(ripe).strike() else None


def kill_a_worker(dice: random.Random) -> Strike:
    def strike(slots: list[Slot], store: Store) -> str | None:
        if dice.random() < 0.6 and intent_is_open(store, 1.0):
            # The create is still here, on its way, or answered and not yet recorded.
            time.sleep(dice.uniform(0, 0.02))
        what = kill_any(slots, dice)
        return f"{what} at an intent" if what and intent_is_open(store) else what

    return strike


def work(
    round_: Round,
    jobs: list[str],
    workers: list[list[str]],
    strikes: list[Strike],
    *,
    first: tuple[float, float] = (0.2, _RUN),
) -> None:
    """Keep the workers going until their jobs are over, while one strike after the other falls."""
    left = list(strikes)
    next_at = time.monotonic() + round_.dice.choice((first[0], round_.dice.uniform(*first)))
    slots = [Slot(round_, words) for words in workers]
    with closing(round_.store()) as store:
        try:
            while not round_.over(store, jobs):
                round_.check_time()
                for slot in slots:
                    slot.keep()
                if left and time.monotonic() >= next_at:
                    what = left[0](slots, store)
                    if what is not None:
                        left.pop(0)
                        round_.struck(what)
                        next_at = time.monotonic() + round_.dice.uniform(0.1, 1.0)
                time.sleep(0.01)
            for slot in slots:
                # Nothing is left to do: whoever still runs finds that out, and goes.
                wait_until("a worker goes when its job is over", 30.0, lambda slot=slot: not slot.running)
        finally:
            for slot in slots:
                slot.end()


# ---------------------------------------------------------------- kinds of rounds


def run_killed(stage: Stage, seed: str) -> Round:
    """`halfrate run` is killed, and gone on with by `attach`, or by the same command line."""
    round_ = Round(stage, seed)
    round_.jobs = 1
    dice = round_.dice
    again = command("run", *stage.words(round_.family, 0), "-o", str(round_.output(0)), "--yes", "--json")
    words = again
    with closing(round_.store()) as store:
        for _ in range(dice.randint(1, 3)):
            with round_.start(words) as process:
                if dice.random() < 0.4:
                    time.sleep(dice.uniform(0.15, _RUN))
                elif intent_is_open(store, _RUN):
                    time.sleep(dice.uniform(0, 0.02))
                if process.kill():
                    where = " at an intent" if intent_is_open(store) else ""
                    round_.struck(f"{'run' if words is again else 'attach'} SIGKILL{where}")
            jobs = store.jobs()
            if not jobs:
                continue
            # The same command line goes on with what is unfinished, and starts anew what is finished.
            words = attach(jobs[0].id)
            if jobs[0].state.value == "open" and dice.random() < 0.3:
                words = again
        with round_.start(words) as process:
            code, _ = process.result(_LIMIT)
            round_.demand(code == 0, f"it ends with {code}: {process.last_words()}")
        jobs = [job.id for job in store.jobs()]
    round_.demand(len(jobs) == 1, f"there are {len(jobs)} jobs")
    same = written(round_.output(0)) == stage.right(round_.family, 0)
    round_.demand(same, "its own output is not an undisturbed run's")
    round_.check(jobs)
    return round_


def one_worker(stage: Stage, seed: str) -> Round:
    """One worker on an SQLite home, killed and started again."""
    return _workers(Round(stage, seed), 1)


def three_workers(stage: Stage, seed: str) -> Round:
    """Three workers at once on an SQLite home."""
    return _workers(Round(stage, seed), 3)


def _workers(round_: Round, count: int) -> Round:
    jobs = round_.submit()
    strikes = [kill_a_worker(round_.dice)] * round_.dice.randint(1, 2 + count)
    work(round_, jobs, shared_out(round_, jobs, count), strikes)
    round_.check(jobs)
    return round_


SPEEDS = {"openai": 80.0, "anthropic": 300.0}
"""How much faster the hours of a worker pass that is to be outwaited. A lease is then some seconds."""


def frozen_worker(stage: Stage, seed: str) -> Round:
    """A worker is stopped for longer than its lease while another goes on, and then wakes up."""
    round_ = Round(stage, seed, speeds=SPEEDS)
    dice = round_.dice
    policy = Home.from_environment(round_.env).policy(adapter_class(round_.family).capabilities, 5)
    span = lease(policy) / round_.speed
    jobs = round_.submit()
    workers = [script("hasty_worker", job, *round_.provider.hours) for job in jobs for _ in range(2)]
    thawing: list[threading.Timer] = []

    def holds(worker: Process, store: Store) -> bool:
        return any(f"-{worker.pid}-" in owner for owner in store.owners())

    def freeze(slots: list[Slot], store: Store) -> str | None:
        ripe = [slot.process for slot in slots if slot.process is not None and slot.running]
        if len(ripe) < 2 or any(timer.is_alive() for timer in thawing):
            return None
        victim = dice.choice(ripe)
        if not holds(victim, store):
            return None
        # In the middle of what it does with its shard, if it has not given it back just now.
        time.sleep(dice.choice((0, 0, dice.uniform(0, 0.01))))
        victim.send(signal.SIGSTOP)
        if not holds(victim, store):
            victim.send(signal.SIGCONT)
            return None
        timer = threading.Timer(span * dice.uniform(1.1, 1.4), victim.send, (signal.SIGCONT,))
        thawing.append(timer)
        timer.start()
        return "worker SIGSTOP"

    try:
        strikes: list[Strike] = [freeze]
        if dice.random() < 0.5:
            strikes.append(kill_a_worker(dice))
        work(round_, jobs, workers, strikes, first=(0.3, 0.9))
    finally:
        for timer in thawing:
            timer.join()
    round_.check(jobs)
    return round_


def provider_hangs(stage: Stage, seed: str) -> Round:
    """The provider is stopped where it is, for a while; workers are killed meanwhile."""
    round_ = Round(stage, seed)
    dice = round_.dice
    # What it had taken in before it hung takes effect when it wakes up: the settle delay is to be longer.
    round_.env["HALFRATE_SETTLE"] = "5"
    jobs = round_.submit()

    def hang(slots: list[Slot], store: Store) -> str:
        if dice.random() < 0.5:
            # The create, or its reply, may be what it holds on to.
            intent_is_open(store, 1.0)
        round_.provider.process.send(signal.SIGSTOP)
        try:
            if not intent_is_open(store, dice.uniform(0.05, 0.5)):
                time.sleep(dice.uniform(0, 0.3))
            if dice.random() < 0.7 and (what := kill_a_worker(dice)(slots, store)):
                round_.struck(what)
            time.sleep(dice.uniform(0.1, 0.9))
        finally:
            round_.provider.process.send(signal.SIGCONT)
        return "provider SIGSTOP"

    count = dice.choice((1, 2, 3))
    work(round_, jobs, shared_out(round_, jobs, count), [hang] * dice.randint(1, 2))
    round_.check(jobs)
    return round_


def line_cut(stage: Stage, seed: str) -> Round:
    """What passes the provider's bytes on is killed, with every connection, and comes back."""
    round_ = Round(stage, seed)
    dice = round_.dice
    with Line(round_.provider, round_.folder) as line:
        round_.env |= {
            name: value.replace(round_.provider.url, line.url)
            for name, value in round_.env.items()
            if name.endswith("_BASE_URL")
        }
        jobs = round_.submit()

        def cut(slots: list[Slot], store: Store) -> str:
            if dice.random() < 0.5:
                intent_is_open(store, 0.5)
            line.cut()
            if dice.random() < 0.4 and (what := kill_a_worker(dice)(slots, store)):
                round_.struck(what)
            time.sleep(dice.uniform(0, 0.5))
            line.mend()
            return "line SIGKILL"

        count = dice.choice((1, 2, 3))
        work(round_, jobs, shared_out(round_, jobs, count), [cut] * dice.randint(1, 4))
        round_.check(jobs)
    return round_


def on_postgres(stage: Stage, seed: str) -> Round:
    """Three workers on PostgreSQL; they are killed, and so is PostgreSQL, or stopped, or its line cut at a commit."""
    round_ = Round(stage, seed, postgres=True)
    dice, server = round_.dice, stage.server
    jobs = round_.submit()

    def restart(slots: list[Slot], store: Store) -> str:
        if dice.random() < 0.3:
            intent_is_open(store, 0.5)
        end = dice.choice(_ENDS)
        server.stop(end)
        time.sleep(dice.uniform(0, 0.5))
        server.start()
        return f"PostgreSQL {end.name}"

    def hang(slots: list[Slot], store: Store) -> str:
        server.freeze()
        try:
            # It answers nobody now, ourselves included.
            time.sleep(dice.uniform(0.1, 0.6))
            if dice.random() < 0.5 and (what := kill_any(slots, dice)):
                round_.struck(what)
            time.sleep(dice.uniform(0.1, 0.6))
        finally:
            server.thaw()
        return "PostgreSQL SIGSTOP"

    with ExitStack() as stack:
        if dice.random() < 0.5:
            stack.enter_context(_commits_cut(round_))
        strikes: list[Strike] = [
            dice.choice((kill_a_worker(dice), kill_a_worker(dice), restart, restart, hang))
            for _ in range(dice.randint(2, 5))
        ]
        work(round_, jobs, shared_out(round_, jobs, 3), strikes)
    round_.check(jobs)
    return round_


@contextlib.contextmanager
def _commits_cut(round_: Round) -> Generator[None]:
    """Some commits of the workers are never answered: some of those had been made, some had not."""
    straight = round_.env["HALFRATE_DATABASE"]
    dice = random.Random(f"commits {round_.seed}")
    left = dice.randint(1, 6)

    def cut() -> str | None:
        nonlocal left
        where = dice.choice(("before", "after", *[None] * 20))
        if where is None or left == 0:
            return None
        left -= 1
        round_.struck("COMMIT cut")
        return where

    with Wire(round_.stage.server.port) as wire:
        wire.cut_commits = cut
        round_.env["HALFRATE_DATABASE"] = wire.url(straight)
        try:
            yield
        finally:
            round_.env["HALFRATE_DATABASE"] = straight


KINDS: dict[str, Callable[[Stage, str], Round]] = {
    "run": run_killed,
    "1 worker": one_worker,
    "3 workers": three_workers,
    "frozen": frozen_worker,
    "provider": provider_hangs,
    "line": line_cut,
    "postgres": on_postgres,
}


def play(stage: Stage, kind: str, seed: str) -> Tally:
    """One round, whatever becomes of it. What is left of a broken one stays in a folder that the tally names."""
    started = time.monotonic()
    try:
        tally = KINDS[kind](stage, seed).tally
    except (TimeoutError, HalfrateError, RuntimeError, AssertionError, OSError) as error:
        tally = Tally(rounds=1, broken=[f"round {seed}: {type(error).__name__}: {error}"])
    tally.seconds = time.monotonic() - started
    tally.failed = int(bool(tally.broken))
    for folder in stage.folder.glob("round-*"):
        if tally.broken:
            kept = Path(tempfile.mkdtemp(prefix="halfrate-kill-broken-"))
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            tally.broken.append(f"what is left of round {seed} is in {kept}")
        shutil.rmtree(folder, ignore_errors=True)
    return tally

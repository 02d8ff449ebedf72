"""One life cycle for the batch jobs of providers whose states differ in their names.

    validating -> failed
    validating -> running -> finalizing -> completed
                  running -> expired
    validating, running, finalizing -> cancelling -> cancelled (completed, when the cancel came too late)

Rows that have finished are delivered and billed however a job ends; of the others there is no line.
"""

import random
from abc import ABC, abstractmethod
from array import array
from pathlib import Path
from typing import ClassVar, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._prices import Tokens, cost
from halfrate.emulator._quirks import Quirks, injected
from halfrate.emulator._rows import (
    Answered,
    Ask,
    Lines,
    RowPlan,
    Rows,
    Schedule,
    active_row_faults,
    broken,
    plan_row,
)
from halfrate.emulator._settings import DAY
from halfrate.emulator._wire import ApiError, Document

Phase: TypeAlias = Literal[
    "validating", "running", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"
]
LIVE: Final = frozenset({"validating", "running", "finalizing", "cancelling"})


class Job(msgspec.Struct, kw_only=True):
    """A job as every provider has one."""

    id: str
    project: str
    created_at: float
    validated_at: float
    expires_at: float
    rows: Rows
    schedule: Schedule
    quirks: Quirks
    problems: list[str] = []
    """What is wrong with the input: a job that has any fails when it is validated."""
    phase: Phase = "validating"
    started_at: float | None = None
    finalizing_at: float | None = None
    cancelling_at: float | None = None
    ended_at: float | None = None
    races_cancel: bool = False
    succeeded: int = 0
    failed: int = 0
    tokens: Tokens = Tokens()
    picodollars: int = 0
    output: Lines | None = None
    errors: Lines | None = None

    @property
    def live(self) -> bool:
        return self.phase in LIVE

    @property
    def counted(self) -> tuple[int, int]:
        """(succeeded, failed) as the provider says they are."""
        if self.quirks.counts_wrong:
            return self.failed, self.succeeded + 1
        return self.succeeded, self.failed

    def waiting(self, now: float) -> bool:
        """Whether it is accepted, and none of its rows has been begun."""
        return self.phase == "running" and now < self.schedule.starts_at

    def strange(self, now: float) -> str | None:
        """The status nobody has heard of, while a fault shows one."""
        return self.quirks.strange_status if now < self.quirks.strange_until else None


class Row(msgspec.Struct, frozen=True):
    """A line of the input: its id, and what is asked of the model, as it was sent."""

    id: str | None
    raw: bytes
    part: int = 0
    """Which of several input files it came from."""


class Result(msgspec.Struct, frozen=True):
    """What came of a row: the answer or the error, and what faults do to its line."""

    row: Row
    plan: RowPlan
    answered: Answered | None = None
    error: ApiError | None = None
    picodollars: int = 0


JobT = TypeVar("JobT", bound=Job)


class Jobs(ABC, Generic[JobT]):
    """The jobs of one provider, and their way from creation to the end."""

    provider: ClassVar[str]
    id_key: ClassVar[str] = "custom_id"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._jobs: dict[str, JobT] = {}
        self._live: dict[str, JobT] = {}

    @abstractmethod
    def read(self, job: JobT, line: bytes) -> Row:
        """Read a line that has been checked."""

    @abstractmethod
    def answer(self, job: JobT, row: Row, ask: Ask) -> Answered:
        """What the model answers; ApiError for any status but 200."""

    @abstractmethod
    def line(self, job: JobT, result: Result) -> Document:
        """The result line of a row."""

    def ended(self, job: JobT, at: float) -> None:
        """A job has come to its end, and its lines are complete: let its files appear."""

    def count_end(self, job: JobT) -> None:
        """Let the meter know."""
        self._context.meter.ended(job.phase)

    def keep(self, job: JobT) -> None:
        self._jobs[job.id] = self._live[job.id] = job
        self._context.meter.batches_created[self.provider] += 1

    def advance(self, now: float) -> None:
        """Bring every job that is not finished up to `now`."""
        for job in list(self._live.values()):
            phase = ""
            while phase != job.phase:
                phase = job.phase
                self._step(job, now)
            if not job.live:
                del self._live[job.id]

    def cancel(self, job: JobT, now: float) -> None:
        """Ask a live job to stop; asking twice changes nothing."""
        faults = self._context.faults
        if job.phase == "cancelling" or faults.strike("cancel-ignored", self.provider, job.id):
            return
        sound = not job.problems
        job.races_cancel = sound and faults.strike("cancel-race", self.provider, job.id) is not None
        if job.races_cancel and job.started_at is None:
            self._start(job, now)
        job.phase, job.cancelling_at = "cancelling", now

    def timing(self, job_id: str, quirks: Quirks, total: int, now: float, hours: float = 24.0) -> "Timing":
        """When a new job does what. `Pace.window` stands for 24 hours: other windows are in proportion."""
        pace = self._context.pace
        order = list(range(total))
        if quirks.shuffled:
            random.Random(f"{self._context.seed}:{job_id}").shuffle(order)
        deadline = now + pace.window * hours * 3_600 / DAY
        starts_at = now + pace.validate + pace.queue + quirks.stuck_seconds
        schedule = Schedule.plan(total, starts_at, pace.per_1000_rows / 1000, deadline, quirks)
        return Timing(now + pace.validate, deadline, array("I", order), schedule)

    def _step(self, job: JobT, now: float) -> None:
        pace = self._context.pace
        match job.phase:
            case "validating" if now >= job.validated_at:
                if job.problems:
                    self._end(job, "failed", job.validated_at)
                else:
                    self._start(job, job.validated_at)
                    job.phase = "running"
            case "running":
                self._run(job, job.schedule.rows_at(now), now)
                ends_at = max(job.schedule.ends_at, job.validated_at)
                if now >= ends_at and job.schedule.expires:
                    self._end(job, "expired", ends_at)
                elif now >= ends_at:
                    job.phase, job.finalizing_at = "finalizing", ends_at
            case "finalizing" if now >= (due := (job.finalizing_at or now) + pace.finalize):
                self._end(job, "completed", due)
            case "cancelling" if now >= (due := (job.cancelling_at or now) + pace.cancel):
                if job.races_cancel:
                    self._run(job, job.rows.total, due)
                self._end(job, "completed" if job.races_cancel else "cancelled", due)
            case _:
                pass

    def _start(self, job: JobT, at: float) -> None:
        self._context.meter.received(job.rows.total)
        job.started_at = at

    def _end(self, job: JobT, phase: Phase, at: float) -> None:
        job.phase, job.ended_at = phase, at
        for lines in (job.output, job.errors):
            if lines is not None:
                lines.flush()
                lines.cut(job.quirks.cut_bytes)
        if job.quirks.no_files:
            for lines in (job.output, job.errors):
                if lines is not None:
                    self._context.spool.drop(lines.path)
            job.output = job.errors = None
        self.ended(job, at)
        self._context.spool.drop(job.rows.path)
        self.count_end(job)

    def _run(self, job: JobT, upto: int, now: float) -> None:
        active = active_row_faults(self._context.faults)
        for line in job.rows.take(upto):
            self._run_row(job, self.read(job, line), active, now)
        for lines in (job.output, job.errors):
            if lines is not None:
                lines.flush()

    def _run_row(self, job: JobT, row: Row, active: list[str], now: float) -> None:
        body: Document = msgspec.json.decode(row.raw)
        mark, about = fingerprint(self.asked(job, body)), f"{job.id}:{row.id}"
        faults = self._context.faults
        plan = plan_row(faults, active, self.provider, about, (mark, row.raw)) if active else RowPlan()
        if job.quirks.all_rows_status is not None:
            plan.error_status = job.quirks.all_rows_status
        if plan.missing:
            job.failed += 1
            return
        try:
            if plan.fails:
                raise injected(plan.error_status or 0)
            ask = Ask(job.project, now, about, job.id, plan.twist, self.provider)
            answered = self.answer(job, row, ask)
        except ApiError as error:
            job.failed += 1
            self._write(job, Result(row, plan, error=error))
            return
        tokens = answered.tokens
        paid = cost(answered.model, "batch", tokens)
        batch_id = self.batch_id(job)
        charge = Charge(now, self.provider, "batch", answered.model, tokens, batch_id, row.id or "", mark)
        self._context.meter.bill(charge)
        job.succeeded += 1
        job.tokens = plus(job.tokens, tokens)
        job.picodollars += paid
        self._write(job, Result(row, plan, answered, None, paid))

    def batch_id(self, job: JobT) -> str:
        """The id that a job's rows are billed under."""
        return job.id

    def asked(self, job: JobT, body: Document) -> Document:
        """All that a row asks for: its body, and what the job says for every row."""
        return body

    def _write(self, job: JobT, result: Result) -> None:
        plan, line = result.plan, self.line(job, result)
        failed = result.error is not None
        if plan.no_id:
            line.pop(self.id_key, None)
        for _ in range(plan.copies):
            self.add(job, line, result.row, failed=failed, malformed=plan.malformed)
        if plan.stranger:
            stranger = {**line, self.id_key: self._context.new_id("stranger-")}
            self.add(job, stranger, result.row, failed=failed)
        if plan.both_files:
            again = Result(result.row, plan, error=injected(500)) if result.error is None else result
            self.add(job, self.line(job, again), result.row, failed=not failed)

    def add(self, job: JobT, line: Document, row: Row, *, failed: bool, malformed: bool = False) -> None:
        """Append a line to the results, or to the errors of a job that keeps those apart."""
        lines = job.errors if failed else job.output
        if lines is None:
            lines = Lines(self._context.spool.new())
            if failed:
                job.errors = lines
            else:
                job.output = lines
        encoded = msgspec.json.encode(line) + b"\n"
        lines.add(broken(encoded) if malformed else encoded)


class Timing(msgspec.Struct, frozen=True):
    """When a job does what, and in which order its rows finish."""

    validated_at: float
    expires_at: float
    order: "array[int]"
    schedule: Schedule


class Input(msgspec.Struct):
    """Lines on disk, one for each row: where each begins, and what is wrong with them."""

    path: Path
    offsets: "array[int]"
    problems: list[str] = []


def plus(one: Tokens, other: Tokens) -> Tokens:
    return Tokens(
        one.input + other.input,
        one.cached + other.cached,
        one.write_5m + other.write_5m,
        one.write_1h + other.write_1h,
        one.output + other.output,
    )

"""One life cycle for the batch jobs of providers whose states differ in their names.

    validating -> failed
    validating -> running -> finalizing -> completed
                  running -> expired
    validating, running, finalizing -> cancelling -> cancelled (completed, when the cancel came too late)

Rows that have finished are delivered and billed however a job ends; of the others there is no line, unless a provider
writes one that says so.
"""

from abc import ABC, abstractmethod
from array import array
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._prices import Tokens, cost
from halfrate.emulator._quirks import Quirks, bend_create, injected, refuse_create
from halfrate.emulator._routes import Call
from halfrate.emulator._rows import (
    Answered,
    Ask,
    Lines,
    RowPlan,
    Rows,
    Schedule,
    active_row_faults,
    finishing_order,
    first_row_at,
    plan_row,
)
from halfrate.emulator._wire import ApiError, Document, Response, json_response, read_document

Phase: TypeAlias = Literal[
    "validating", "running", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"
]
LIVE: Final = frozenset({"validating", "running", "finalizing", "cancelling"})


class NewJob(msgspec.Struct, kw_only=True):
    """What is known of a job from its creation on."""

    id: str
    project: str
    created_at: float
    validated_at: float
    expires_at: float
    rows: Rows
    schedule: Schedule
    quirks: Quirks
    problems: list[Any]
    """What is wrong with the input, as the provider says it: a job that has any fails when it is validated."""


class Job(NewJob, kw_only=True):
    """A job as every provider has one."""

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
        return self.quirks.counted(self.succeeded, self.failed)

    def waiting(self, now: float) -> bool:
        """Whether it is accepted, and none of its rows has been begun."""
        return self.phase == "running" and now < self.schedule.starts_at

    def strange(self, now: float) -> str | None:
        """The status nobody has heard of, while a fault shows one."""
        return self.quirks.strange(now)


class Input(msgspec.Struct):
    """Lines on disk, one for each row: where each begins, and what is wrong with them."""

    path: Path
    offsets: "array[int]"
    problems: list[Any] = []


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

    provider: str
    id_key: ClassVar[str] = "custom_id"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._jobs: dict[str, JobT] = {}
        self._live: dict[str, JobT] = {}

    @abstractmethod
    def read(self, job: JobT, line: bytes) -> Row:
        """Read a line that has been checked."""

    @abstractmethod
    def answer(self, job: JobT, body: Document, ask: Ask) -> Answered:
        """What the model answers to all that a row asks for; ApiError for any status but 200."""

    @abstractmethod
    def line(self, job: JobT, result: Result) -> Document:
        """The result line of a row."""

    def validated(self, job: JobT) -> None:
        """A job is about to start: what speaks against it now goes to its problems."""

    def closing(self, job: JobT) -> None:
        """A job is about to end, as its phase says: write the lines that it still lacks."""

    def ended(self, job: JobT, at: float) -> None:
        """A job has come to its end, and its lines are complete: let its files appear."""

    def count_end(self, job: JobT) -> None:
        """Let the meter know."""
        self._context.meter.ended(job.phase)

    async def read_create(self, call: Call) -> tuple[Call, Document, str]:
        """Read a create call: (the call at the time of its last byte, its body, the attempt)."""
        body = await read_document(call.request)
        return msgspec.structs.replace(call, now=self._context.clock.now()), body, self.attempt_create()

    def attempt_create(self) -> str:
        """Count a create call, and give it a number. ApiError where a fault refuses it."""
        self._context.meter.creates_received += 1
        about = self._context.attempt()
        refuse_create(self._context.faults, self.provider, about)
        return about

    def create_reply(self, about: str, document: Document) -> Response:
        """The reply to a create call, if no fault hides it."""
        return bend_create(self._context.faults, self.provider, about, json_response(document))

    def begin(
        self,
        call: Call,
        job_id: str,
        source: Input,
        quirks: Quirks,
        *,
        hours: float = 24.0,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """The fields of a NewJob: what the job does when. `Pace.window` stands for 24 hours: other windows are in
        proportion.

        Args:
            deadline: when rows stop being run, where that is not at the end of the window.
        """
        pace, now, total = self._context.pace, call.now, len(source.offsets)
        expires_at = now + pace.window * hours / 24
        order = finishing_order(f"{self._context.seed}:{job_id}", total, quirks)
        deadline = expires_at if deadline is None else deadline
        starts_at = first_row_at(pace, now, quirks)
        made = NewJob(
            id=job_id,
            project=call.project,
            created_at=now,
            validated_at=now + pace.validate,
            expires_at=expires_at,
            rows=Rows(source.path, source.offsets, order),
            schedule=Schedule.plan(total, starts_at, pace.per_1000_rows / 1000, deadline, quirks),
            quirks=quirks,
            problems=source.problems,
        )
        return msgspec.structs.asdict(made)

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

    def _step(self, job: JobT, now: float) -> None:
        pace = self._context.pace
        match job.phase:
            case "validating" if now >= job.validated_at:
                self.validated(job)
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
        self.closing(job)
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
        body = self.asked(job, msgspec.json.decode(row.raw))
        mark, about = fingerprint(body), f"{job.id}:{row.id}"
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
            answered = self.answer(job, body, ask)
        except ApiError as error:
            job.failed += 1
            self._write(job, Result(row, plan, error=error))
            return
        tokens = answered.tokens
        paid = cost(answered.model, "batch", tokens)
        batch_id = self.batch_id(job)
        charge = Charge(
            now, self.provider, "batch", answered.model, tokens, batch_id, row.id or "", mark, job.project
        )
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
        if plan.both_files and (again := self.again(job, result, line)) is not None:
            self.add(job, again, result.row, failed=not failed)

    def again(self, job: JobT, result: Result, line: Document) -> Document | None:
        """The line of a row that a fault puts into the other file too; None where there is no other."""
        if result.error is None:
            result = Result(result.row, result.plan, error=injected(500))
        return self.line(job, result)

    def add(self, job: JobT, line: Document, row: Row, *, failed: bool, malformed: bool = False) -> None:
        """Append a line to the results, or to the errors of a job that keeps those apart."""
        lines = job.errors if failed else job.output
        if lines is None:
            lines = Lines(self._context.spool.new())
            if failed:
                job.errors = lines
            else:
                job.output = lines
        lines.add_document(line, malformed=malformed)


def plus(one: Tokens, other: Tokens) -> Tokens:
    return Tokens(
        one.input + other.input,
        one.cached + other.cached,
        one.write_5m + other.write_5m,
        one.write_1h + other.write_1h,
        one.output + other.output,
        one.audio + other.audio,
        one.audio_cached + other.audio_cached,
    )

"""Batches of the gateway's surfaces, carried from what a caller asks to files that it can fetch.

A record says how far a batch has come (`core.surface`). The keeper takes those that are due, does one step of each, and
puts them back: a process that dies leaves nothing that another cannot go on with. The rows themselves are jobs like all
others; what the keeper adds stands before them and behind them.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.errors import HalfrateError, InputError, OverBudget, StorageError, StoreBusy, UsageError
from halfrate.base.ids import new_id, new_job_id
from halfrate.base.types import Endpoint, Usage
from halfrate.core.job import Job, JobState
from halfrate.core.keys import Key, Surface
from halfrate.core.surface import (
    OUTPUT_LIFE,
    BatchCounts,
    BatchPart,
    BatchState,
    LineFault,
    StoredFile,
    SurfaceBatch,
)
from halfrate.rows.batch_input import Checked, check_batch_input, split_by_model
from halfrate.rows.batch_output import Fate, split_results
from halfrate.service.drafts import Ask, Draft, NamedInput
from halfrate.service.jobs import Service
from halfrate.service.models import resolve
from halfrate.service.report import Report
from halfrate.service.shelf import Shelf
from halfrate.store.store import Fenced
from halfrate.store.surfaces import Held, Page

URLS: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
"""What a batch of OpenAI's can ask here."""
BATCH_OUTPUT: Final = "batch_output"
_MOST_ROWS: Final = 1_000_000
_LEASE: Final = 60.0
_LOOK: Final = 1.0
_LONGEST_LOOK: Final = 15.0
_LATER: Final = 30.0
_REPEATED: Final = 600.0
"""Seconds within which a call that its client says it repeats is held to be the same call."""
_ENDED: Final = frozenset({JobState.DONE, JobState.CANCELLED, JobState.STOPPED})


class BatchAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for. `deadline`: seconds since 1970; `output_life`: seconds that its results are kept."""

    file: StoredFile
    url: str
    window: str = "24h"
    metadata: dict[str, str] | None = None
    tags: dict[str, str] = {}
    deadline: float | None = None
    output_life: float = OUTPUT_LIFE


class CannotCancel(Exception):
    """The batch has come too far."""

    def __init__(self, batch: SurfaceBatch) -> None:
        super().__init__(batch.id)
        self.batch = batch


class Keeper:
    """Makes batches and carries them on. Its methods wait for the disk, but for `run`: call them in threads.

    `say` receives what somebody who runs the gateway should know: an event and what it is about.
    """

    def __init__(
        self,
        service: Service,
        shelf: Shelf,
        say: Callable[[str, str, str], None] = lambda _event, _batch, _why: None,
    ) -> None:
        self._service = service
        self._shelf = shelf
        self._say = say
        self._store = service.surfaces
        self._owner = service.owner
        self._look = asyncio.Event()
        self._stopped = False
        self._running: asyncio.AbstractEventLoop | None = None
        self.submitted: Callable[[], None] = lambda: None
        """Called, in any thread, when there is a new job to work on."""

    # ------------------------------------------------------------ what callers ask

    def create(self, key: Key, ask: BatchAsk, *, repeated: bool = False) -> SurfaceBatch | None:
        """Take a batch on; None where its input file has gone. `repeated`: the client says that it repeats a call.

        A batch that such a call finds made already is what it gets: a create whose reply was lost buys nothing twice.
        """
        now = self._service.clock.now()
        digest = _digest(key, ask)
        if repeated:
            twins = self._store.twins(key.team, digest, now - _REPEATED)
            if twins:
                return twins[0]
        batch = SurfaceBatch(
            id=new_id("batch_"),
            team=key.team,
            key_id=key.id,
            surface="openai",
            times={BatchState.VALIDATING.value: now},
            endpoint=URLS[ask.url],
            url=ask.url,
            input_file=ask.file.id,
            window=ask.window,
            metadata=ask.metadata,
            tags={**(ask.metadata or {}), **ask.tags, **key.all_tags},
            models=key.models,
            deadline=ask.deadline,
            output_life=ask.output_life,
            digest=digest,
        )
        source = self._shelf.content(ask.file)
        if source is None:
            return None
        self._shelf.places.begin_batch(batch.id, source)
        self._store.add_batch(batch)
        self._rouse()
        return batch

    def file(self, team: str, file_id: str) -> StoredFile | None:
        """A file of a team that a batch could be made from."""
        return self._store.file(team, file_id)

    def find(self, team: str, surface: Surface, batch_id: str) -> SurfaceBatch | None:
        """A batch as it stands, with its rows counted."""
        found = self._store.batch(team, surface, batch_id)
        return self._counted(found) if found is not None else None

    def page(self, team: str, surface: Surface, *, after: str, limit: int) -> Page:
        """Batches of a team, the newest first. Raises NoSuchCursor."""
        page = self._store.batches(team, surface, after=after, limit=limit)
        return Page(list(map(self._counted, page.items)), page.more)

    def cancel(self, team: str, surface: Surface, batch_id: str) -> SurfaceBatch | None:
        """Ask for the end of a batch; None if there is none. Raises CannotCancel."""
        now = self._service.clock.now()

        def asked(batch: SurfaceBatch) -> SurfaceBatch | None:
            if batch.state is BatchState.CANCELLING:
                return None
            if batch.ended or batch.state is BatchState.FINALIZING:
                raise CannotCancel(batch)
            return batch.moved(BatchState.CANCELLING, now)

        batch = self._store.change_batch(team, surface, batch_id, now, asked)
        self._rouse()
        return self._counted(batch) if batch is not None else None

    def wake(self, job: Job) -> None:
        """A job has ended; if a batch waits for it, that is looked at now."""
        batch_id = job.tags.get("batch")
        if batch_id is not None:
            self._store.wake_batch(batch_id, self._service.clock.now())
            self._rouse()

    # ------------------------------------------------------------ carrying them on

    async def run(self) -> None:
        """Carry batches on until `stop`, and to the end of the steps under way. Many processes may do so at once."""
        clock = self._service.clock
        self._running = asyncio.get_running_loop()
        while not self._stopped:
            self._look.clear()
            held = await asyncio.to_thread(self._store.claim_batches, self._owner, clock.now(), _LEASE)
            await asyncio.gather(*map(self._carry, held))
            if held:
                continue
            due = await asyncio.to_thread(self._store.next_batch)
            nap = _LOOK if due is None else min(max(due - clock.now(), 0.0), _LOOK)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), nap)

    def stop(self) -> None:
        """Have `run` end. To be called in its event loop."""
        self._stopped = True
        self._look.set()

    def _rouse(self) -> None:
        """Have `run` look now, whichever thread this is."""
        if self._running is not None and not self._running.is_closed():
            self._running.call_soon_threadsafe(self._look.set)

    async def _carry(self, held: Held) -> None:
        """One step of a batch, which is kept for as long as that takes."""
        step = asyncio.create_task(asyncio.to_thread(self.step, held))
        while not (await asyncio.wait({step}, timeout=_LEASE / 3))[0]:
            until = self._service.clock.now() + _LEASE
            await asyncio.to_thread(self._store.extend_batch, held, self._owner, until)
        await step

    def step(self, held: Held) -> None:
        """Do what is next for a batch, and put it back."""
        now = self._service.clock.now()
        batch = held.batch
        files: tuple[StoredFile, ...] = ()
        next_at: float | None = now
        try:
            match batch.state:
                case BatchState.VALIDATING:
                    batch = self._planned(batch) if not batch.parts else self._submitted(held)
                case BatchState.IN_PROGRESS:
                    batch, next_at = self._watched(batch)
                case BatchState.FINALIZING | BatchState.CANCELLING:
                    batch, next_at, files = self._finished(batch)
                case _:
                    next_at = None
        except Fenced:
            # A caller cancelled it meanwhile; whoever takes it next sees that.
            return
        except (StorageError, StoreBusy) as error:
            self._say("batch waits", batch.id, str(error))
            next_at = now + _LATER
        saved = self._store.save_batch(held, self._owner, batch, None if batch.ended else next_at, files)
        if saved and batch.ended:
            self._shelf.places.drop_batch(batch.id)

    def _planned(self, batch: SurfaceBatch) -> SurfaceBatch:
        """Look through the input and settle which jobs are to be made of it."""
        now = self._service.clock.now()
        source = self._shelf.places.batch(batch.id) / "input.jsonl"
        checked = check_batch_input(source, batch.url, most_rows=_MOST_ROWS)
        parts, faults = _parts(batch, checked)
        if faults:
            return batch.moved(BatchState.FAILED, now, faults=faults)
        # The jobs have their names before they are made: whoever has to do it again makes none twice.
        return msgspec.structs.replace(batch, parts=parts, counts=BatchCounts(total=checked.rows))

    def _submitted(self, held: Held) -> SurfaceBatch:
        """Make the jobs, all or none of those that there are not yet."""
        batch = held.batch
        now = self._service.clock.now()
        left = [part for part in batch.parts if not self._service.has(part.job_id)]
        drafts: list[Draft] = []
        try:
            inputs = self._inputs(batch)
            # One by one, so that those that were made are known when one cannot be.
            drafts.extend(self._service.draft(self._ask(batch, part, inputs[part.asked])) for part in left)
            while drafts:
                self._service.submit(drafts.pop(0), held=held)
            self.submitted()
        except UsageError as error:
            return batch.moved(BatchState.FAILED, now, faults=(_fault(error),))
        finally:
            for draft in drafts:
                draft.discard()
        return batch.moved(BatchState.IN_PROGRESS, now)

    def _inputs(self, batch: SurfaceBatch) -> dict[str, Path]:
        """The rows of each part, in a file: the input itself where all of it asks one model by its own name."""
        folder = self._shelf.places.batch(batch.id)
        source = folder / "input.jsonl"
        names = {part.asked: part.model.partition("/")[2] for part in batch.parts}
        if len(names) == 1 and all(asked == name for asked, name in names.items()):
            return dict.fromkeys(names, source)
        places = {asked: folder / f"rows-{number}.jsonl" for number, asked in enumerate(names)}
        split_by_model(source, lambda asked: (places[asked], names[asked]))
        return places

    def _ask(self, batch: SurfaceBatch, part: BatchPart, rows: Path) -> Ask:
        return Ask(
            input=NamedInput(rows, batch.input_file),
            job_id=part.job_id,
            model=part.model,
            tags={**batch.tags, "batch": batch.id},
            deadline=batch.deadline,
            fetched=True,
        )

    def _raw(self, batch: SurfaceBatch, part: BatchPart) -> Path:
        return self._shelf.places.batch(batch.id) / f"raw-{batch.parts.index(part)}.jsonl"

    def _watched(self, batch: SurfaceBatch) -> tuple[SurfaceBatch, float]:
        """See whether the jobs have ended."""
        now = self._service.clock.now()
        reports = [self._service.report(part.job_id, reasons=False) for part in batch.parts]
        for report in reports:
            if report.job.state is JobState.PAUSED and report.paused_because:
                # Most of its rows fail. Nobody is here to say that it should go on all the same: the rest is not sent,
                # and the caller reads why.
                self._service.cancel(report.job.id)
        if all(report.job.state in _ENDED for report in reports):
            return batch.moved(BatchState.FINALIZING, now), now
        age = now - batch.created_at
        return batch, now + min(_LOOK + age / 60.0, _LONGEST_LOOK)

    def _finished(self, batch: SurfaceBatch) -> tuple[SurfaceBatch, float | None, tuple[StoredFile, ...]]:
        """Put the results where the caller fetches them, once nothing of the batch is at work any more."""
        now = self._service.clock.now()
        cancelled = batch.state is BatchState.CANCELLING
        parts = [part for part in batch.parts if self._service.has(part.job_id)]
        reports = [self._service.report(part.job_id, reasons=False) for part in parts]
        running = [report.job.id for report in reports if report.job.state not in _ENDED]
        if running:
            for job_id in running if cancelled else ():
                self._service.cancel(job_id)
            return batch, now + _LOOK, ()
        answers, errors, counts = self._results(batch, list(zip(parts, reports, strict=True)))
        files = tuple(file for file in (answers, errors) if file is not None)
        state = BatchState.COMPLETED
        if cancelled:
            state = BatchState.CANCELLED
        elif any(report.expired for report in reports):
            state = BatchState.EXPIRED
        ended = batch.moved(
            state,
            now,
            counts=counts,
            usage=_usage(reports),
            output_file=answers.id if answers is not None else None,
            error_file=errors.id if errors is not None else None,
        )
        return ended, None, files

    def _results(
        self, batch: SurfaceBatch, parts: Sequence[tuple[BatchPart, Report]]
    ) -> tuple[StoredFile | None, StoredFile | None, BatchCounts]:
        """The files of answers and of errors, None for one that would be empty, and how many rows are in each."""
        results: list[tuple[Path, Fate]] = []
        for part, report in parts:
            raw = self._raw(batch, part)
            if not raw.exists():
                self._service.deliver_raw(part.job_id, raw)
            results.append((raw, _fate(batch, report)))
        if not results:
            return None, None, batch.counts
        answers, errors = (self._described(batch, kind) for kind in ("output", "error"))
        places = self._shelf.places
        split = split_results(results, places.file(answers.id), places.file(errors.id), name=batch.id)
        kept: list[StoredFile | None] = []
        for file, rows in ((answers, split.answered), (errors, split.failed)):
            if rows:
                size = places.file(file.id).stat().st_size
                kept.append(msgspec.structs.replace(file, bytes=size))
            else:
                places.drop_file(file.id)
                kept.append(None)
        total = batch.counts.total or split.answered + split.failed
        return kept[0], kept[1], BatchCounts(total, split.answered, split.failed)

    def _described(self, batch: SurfaceBatch, kind: str) -> StoredFile:
        now = self._service.clock.now()
        # Whoever has to do it again writes the same files.
        mark = hashlib.blake2b(f"{batch.id} {kind}".encode(), digest_size=12).hexdigest()
        return StoredFile(
            id=f"file-{mark}",
            team=batch.team,
            filename=f"{batch.id}_{kind}.jsonl",
            purpose=BATCH_OUTPUT,
            bytes=0,
            created_at=now,
            expires_at=now + batch.output_life,
        )

    def _counted(self, batch: SurfaceBatch) -> SurfaceBatch:
        """A batch with its rows as they stand now."""
        if batch.ended or batch.state is BatchState.VALIDATING:
            return batch
        reports = [
            self._service.report(part.job_id, reasons=False)
            for part in batch.parts
            if self._service.has(part.job_id)
        ]
        succeeded = sum(report.succeeded for report in reports)
        failed = sum(report.failed + report.expired + report.cancelled for report in reports)
        counts = BatchCounts(batch.counts.total, succeeded, failed)
        return msgspec.structs.replace(batch, counts=counts, usage=_usage(reports))


def _parts(batch: SurfaceBatch, checked: Checked) -> tuple[tuple[BatchPart, ...], tuple[LineFault, ...]]:
    """A job for each model that the rows name, and what stands against it."""
    faults = list(checked.faults)
    parts: list[BatchPart] = []
    allowed = Key(id="", digest="", name="", team="", created_at=0.0, models=batch.models)
    for rows in checked.models:
        try:
            model = resolve(rows.name)
        except HalfrateError as error:
            faults.append(LineFault("model_not_found", str(error), rows.line, "body.model"))
            continue
        if not allowed.allows(model):
            message = f"The key of this batch may not ask the model '{rows.name}'."
            faults.append(LineFault("model_not_allowed", message, rows.line, "body.model"))
            continue
        parts.append(BatchPart(new_job_id(), model, rows.name, rows.rows))
    return tuple(parts), tuple(faults)


def _fault(error: UsageError) -> LineFault:
    """Why a batch cannot be run, for its caller."""
    if isinstance(error, OverBudget):
        return LineFault("budget_exceeded", str(error))
    if isinstance(error, InputError):
        return LineFault("invalid_request", str(error), error.line, error.column)
    return LineFault("invalid_request", str(error))


def _fate(batch: SurfaceBatch, report: Report) -> Fate:
    """What is said of rows that were not run."""
    if batch.state is BatchState.CANCELLING:
        return Fate("batch_cancelled", "The batch was cancelled before this request was run.")
    why = report.paused_because or next(iter(report.stopped), "") or "the job was stopped"
    return Fate("not_run", f"This request was not run: {why}")


def _usage(reports: Sequence[Report]) -> Usage:
    names = Usage.__struct_fields__
    return Usage(*(sum(getattr(report.usage, name) for report in reports) for name in names))


def _digest(key: Key, ask: BatchAsk) -> str:
    """Names what was asked, and by whom."""
    asked = [key.id, ask.file.id, ask.url, ask.window, ask.metadata, ask.tags]
    return hashlib.blake2b(msgspec.json.encode(asked), digest_size=16).hexdigest()

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
from typing import Any, Final

import msgspec

from halfrate.base.errors import StorageError, StoreBusy, UsageError
from halfrate.base.ids import new_id
from halfrate.base.types import Endpoint, Usage
from halfrate.blobs.shelves import Incoming
from halfrate.core.job import Job, JobState
from halfrate.core.keys import Key, Surface
from halfrate.core.surface import (
    MESSAGES_LIFE,
    OUTPUT_LIFE,
    BatchCounts,
    BatchPart,
    BatchState,
    BatchSurface,
    LineFault,
    StoredFile,
    SurfaceBatch,
)
from halfrate.rows.message_input import keep_requests
from halfrate.service.anthropic_form import AnthropicForm
from halfrate.service.calls_form import CallsForm
from halfrate.service.drafts import Ask, Draft, NamedInput
from halfrate.service.forms import Form, Ran, Say, fault_of
from halfrate.service.jobs import Service
from halfrate.service.openai_form import OpenAIForm
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
_NAMELESS: Final = "the batch"
"""What an input is called that came with its call."""
_LEASE: Final = 60.0
_LOOK: Final = 1.0
_LONGEST_LOOK: Final = 15.0
_LATER: Final = 30.0
_REPEATED: Final = 600.0
"""Seconds within which a call that its client says it repeats is held to be the same call."""
_READS_INPUT: Final = frozenset(BatchState) - {BatchState.IN_PROGRESS}
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


class MessagesAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller of Anthropic's surface asks for, beside the requests.

    `body_digest` names the whole body of the call. `options`: those of Anthropic's accounts, such as its version.
    """

    body_digest: str
    tags: dict[str, str] = {}
    deadline: float | None = None
    options: dict[str, str] = {}


class CannotCancel(Exception):
    """The batch has come too far."""

    def __init__(self, batch: SurfaceBatch) -> None:
        super().__init__(batch.id)
        self.batch = batch


class Keeper:
    """Makes batches and carries them on. Its methods wait for the disk, but for `run`: call them in threads.

    `say` receives what somebody who runs the gateway should know: an event and what it is about. `failed` receives a
    defect that a batch met, and the batch's id; without it `run` ends with that.
    """

    def __init__(
        self,
        service: Service,
        shelf: Shelf,
        say: Say = lambda _event, _batch, _why: None,
        failed: Callable[[Exception, str], None] | None = None,
    ) -> None:
        self._service = service
        self._shelf = shelf
        self._say = say
        self._failed = failed
        self._store = service.surfaces
        self._forms: dict[BatchSurface, Form] = {
            "openai": OpenAIForm(shelf.places, say),
            "anthropic": AnthropicForm(shelf.places, say),
            "calls": CallsForm(service, shelf.places, self._answered),
        }
        self._owner = service.owner
        self._look = asyncio.Event()
        self._stopped = False
        self._running: asyncio.AbstractEventLoop | None = None
        self.submitted: Callable[[], None] = lambda: None
        """Called, in any thread, when there is a new job to work on."""
        self.answered: Callable[[Sequence[str]], None] = lambda _: None
        """Called, in any thread, with the ids of calls that could wait and have been answered."""

    # ------------------------------------------------------------ what callers ask

    def create(self, key: Key, ask: BatchAsk, *, repeated: bool = False) -> SurfaceBatch | None:
        """Take a batch on; None where its input file has gone. `repeated`: the client says that it repeats a call.

        A batch that such a call finds made already is what it gets: a create whose reply was lost buys nothing twice.
        """
        now = self._service.clock.now()
        digest = _digest(key, ask.file.id, ask.url, ask.window, ask.metadata, ask.tags)
        twin = self._twin(key, digest) if repeated else None
        if twin is not None:
            return twin
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
        self._begin(batch, source)
        return batch

    def create_messages(
        self, key: Key, ask: MessagesAsk, body: Incoming, *, repeated: bool = False
    ) -> SurfaceBatch:
        """Take a batch on whose requests came with the call: `body` is all of that. `repeated` as for `create`.

        Raises InputError for what Anthropic would refuse at the call itself.
        """
        digest = _digest(key, ask.body_digest, ask.tags, ask.options)
        twin = self._twin(key, digest) if repeated else None
        if twin is not None:
            return twin
        kept = self._shelf.incoming()
        try:
            rows = keep_requests(body.path, kept.write)
            # Made durable where it is: the batch gives it a second name.
            kept.keep(kept.path)
            batch = SurfaceBatch(
                id=new_id("msgbatch_"),
                team=key.team,
                key_id=key.id,
                surface="anthropic",
                times={BatchState.VALIDATING.value: self._service.clock.now()},
                endpoint="messages",
                url="/v1/messages",
                tags={**ask.tags, **key.all_tags},
                models=key.models,
                deadline=ask.deadline,
                options=ask.options,
                output_life=MESSAGES_LIFE,
                digest=digest,
                counts=BatchCounts(total=rows),
            )
            self._begin(batch, kept.path)
        finally:
            kept.close()
        return batch

    def _twin(self, key: Key, digest: str) -> SurfaceBatch | None:
        """The newest batch that was asked for just now, in the same words."""
        twins = self._store.twins(key.team, digest, self._service.clock.now() - _REPEATED)
        return self._counted(twins[0]) if twins else None

    def _answered(self, call_ids: Sequence[str]) -> None:
        self.answered(call_ids)

    def _begin(self, batch: SurfaceBatch, source: Path) -> None:
        self._shelf.places.begin_batch(batch.id, source)
        self._store.add_batch(batch)
        self.rouse()

    def file(self, team: str, file_id: str) -> StoredFile | None:
        """A file of a team that a batch could be made from."""
        return self._store.file(team, file_id)

    def find(self, team: str, surface: Surface, batch_id: str) -> SurfaceBatch | None:
        """A batch as it stands, with its rows counted."""
        found = self._store.batch(team, surface, batch_id)
        return self._counted(found) if found is not None else None

    def page(self, team: str, surface: Surface, *, after: str = "", before: str = "", limit: int) -> Page:
        """Batches of a team, the newest first: behind `after`, or next in front of `before`. Raises NoSuchCursor."""
        page = self._store.batches(team, surface, after=after, before=before, limit=limit)
        return Page(list(map(self._counted, page.items)), page.more)

    def cancel(self, team: str, surface: Surface, batch_id: str) -> SurfaceBatch | None:
        """Ask for the end of a batch; None if there is none. Raises CannotCancel."""
        now = self._service.clock.now()

        def asked(batch: SurfaceBatch) -> SurfaceBatch | None:
            if batch.state is BatchState.CANCELLING:
                return None
            # Anthropic's callers do not see that it is finalizing.
            late = batch.state is BatchState.FINALIZING and batch.surface == "openai"
            if batch.ended or late:
                raise CannotCancel(batch)
            return batch.moved(BatchState.CANCELLING, now)

        batch = self._store.change_batch(team, surface, batch_id, now, asked)
        self.rouse()
        return self._counted(batch) if batch is not None else None

    def results(self, batch: SurfaceBatch) -> Path | None:
        """Where the results of an Anthropic batch are; None if it has none, or not any more."""
        file = self._store.results_file(batch.team, batch.output_file) if batch.output_file else None
        if file is None or self._service.clock.now() >= (file.expires_at or 0.0):
            return None
        return self._shelf.content(file)

    def delete(self, batch: SurfaceBatch) -> bool:
        """Forget a message batch that has ended, and its results; whether there was one."""
        if not self._store.drop_batch(batch.team, "anthropic", batch.id):
            return False
        for file_id in (batch.output_file, batch.error_file):
            if file_id is not None:
                self._shelf.drop(batch.team, file_id)
        return True

    def wake(self, job: Job) -> None:
        """A job has ended; if a batch waits for it, that is looked at now."""
        batch_id = job.tags.get("batch")
        if batch_id is not None:
            self._store.wake_batch(batch_id, self._service.clock.now())
            self.rouse()

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

    def rouse(self) -> None:
        """Have `run` look now, whichever thread this is."""
        if self._running is not None and not self._running.is_closed():
            self._running.call_soon_threadsafe(self._look.set)

    async def _carry(self, held: Held) -> None:
        """One step of a batch, which is kept for as long as that takes."""
        step = asyncio.create_task(asyncio.to_thread(self.step, held))
        while not (await asyncio.wait({step}, timeout=_LEASE / 3))[0]:
            until = self._service.clock.now() + _LEASE
            await asyncio.to_thread(self._store.extend_batch, held, self._owner, until)
        try:
            await step
        except Exception as error:
            # A defect that one batch meets must not keep all others from going on. It is tried again when its lease
            # is over.
            if self._failed is None:
                raise
            self._failed(error, held.batch.id)

    def step(self, held: Held) -> None:
        """Do what is next for a batch, and put it back."""
        now = self._service.clock.now()
        batch = held.batch
        files: tuple[StoredFile, ...] = ()
        next_at: float | None = now
        try:
            self._shelf.places.ready_batch(batch.id)
            if batch.state in _READS_INPUT:
                self._shelf.places.bring_input(batch.id, gathered=batch.surface == "calls")
            match batch.state:
                case BatchState.GATHERING:
                    batch = self._planned(batch)
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
        except (StorageError, StoreBusy, OSError) as error:
            # What is wrong with the disk here is for whoever runs the gateway; the batch goes on when it is mended.
            self._say("batch waits", batch.id, str(error))
            next_at = now + _LATER
        saved = self._store.save_batch(held, self._owner, batch, None if batch.ended else next_at, files)
        if saved and batch.ended:
            self._shelf.drop_batch(batch.id)

    def _planned(self, batch: SurfaceBatch) -> SurfaceBatch:
        """Look through the input and settle which jobs are to be made of it."""
        # The jobs have their names before they are made: whoever has to do it again makes none twice.
        return self._form(batch).planned(batch, self._folder(batch), self._service.clock.now())

    def _submitted(self, held: Held) -> SurfaceBatch:
        """Make the jobs that there are not yet: all or none of them where the surface wants it so."""
        batch = held.batch
        now = self._service.clock.now()
        made = [part for part in batch.parts if self._service.has(part.job_id)]
        left = [part for part in batch.parts if part.fault is None and part not in made]
        faults: dict[str, LineFault] = {}
        drafts: list[Draft] = []
        try:
            inputs = self._form(batch).inputs(batch, self._folder(batch))
            # One by one, so that those that were made are known when one cannot be.
            for part in left:
                try:
                    drafts.append(self._drafted(batch, part, inputs[part.asked]))
                except UsageError as error:
                    faults[part.job_id] = self._fault(batch, error)
            whole = not (self._form(batch).partial or made)
            # A job that was made may be paid for already: from the first on the others are tried alone.
            while drafts and not (whole and faults):
                draft = drafts.pop(0)
                try:
                    self._service.submit(draft, held=held)
                    whole = False
                except UsageError as error:
                    faults[draft.job.id] = self._fault(batch, error)
        finally:
            for draft in drafts:
                draft.discard()
        if whole and faults:
            return batch.moved(BatchState.FAILED, now, faults=tuple(faults.values()))
        self.submitted()
        parts = tuple(
            msgspec.structs.replace(part, fault=faults.get(part.job_id, part.fault)) for part in batch.parts
        )
        return batch.moved(BatchState.IN_PROGRESS, now, parts=parts)

    def _drafted(self, batch: SurfaceBatch, part: BatchPart, rows: Path) -> Draft:
        """A part's job, without rows that cannot be run where they can be left out. Raises UsageError."""
        while True:
            try:
                return self._service.draft(self._form(batch).asked(self._ask(batch, part, rows), part))
            except UsageError as error:
                if not self._form(batch).left_out(batch, self._folder(batch), error):
                    raise

    def _fault(self, batch: SurfaceBatch, error: UsageError) -> LineFault:
        """Why a job cannot be made, for its caller. What that leaves out is said to whoever runs the gateway."""
        fault = fault_of(error)
        if fault.message != str(error):
            self._say("job refused", batch.id, str(error))
        return fault

    def _ask(self, batch: SurfaceBatch, part: BatchPart, rows: Path) -> Ask:
        return Ask(
            input=NamedInput(rows, batch.input_file or _NAMELESS),
            job_id=part.job_id,
            model=part.model,
            tags={**batch.tags, "batch": batch.id},
            deadline=batch.deadline,
            options=self._form(batch).options(batch, part),
            fetched=True,
        )

    def _form(self, batch: SurfaceBatch) -> Form:
        return self._forms[batch.surface]

    def _folder(self, batch: SurfaceBatch) -> Path:
        return self._shelf.places.batch(batch.id)

    def _raw(self, batch: SurfaceBatch, part: BatchPart) -> Path:
        return self._folder(batch) / f"raw-{batch.parts.index(part)}.jsonl"

    def _watched(self, batch: SurfaceBatch) -> tuple[SurfaceBatch, float]:
        """See whether the jobs have ended."""
        now = self._service.clock.now()
        reports = [
            self._service.report(part.job_id, reasons=False) for part in batch.parts if part.fault is None
        ]
        for report in reports:
            if report.job.state is JobState.PAUSED and report.paused_because:
                # Most of its rows fail. Nobody is here to say that it should go on all the same: the rest is not sent,
                # and the caller reads why. What a row's error says may repeat what was sent, and stays out of the log.
                self._say("job held back", batch.id, report.paused_because.partition(": ")[0])
                self._service.cancel(report.job.id)
        if all(report.job.state in _ENDED for report in reports):
            for why in (why for report in reports for why in report.stopped):
                self._say("job stopped", batch.id, why)
            return batch.moved(BatchState.FINALIZING, now), now
        batch = self._form(batch).progress(batch, self._folder(batch), reports)
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
        ran = [Ran(part, self._raw(batch, part), report) for part, report in zip(parts, reports, strict=True)]
        for one in ran:
            if not one.raw.exists():
                self._service.deliver_raw(one.part.job_id, one.raw)
        results = self._form(batch).results(batch, self._folder(batch), ran, now)
        self._shelf.places.depot.put(*(self._shelf.places.file(file.id) for file in results.files))
        state = BatchState.COMPLETED
        if cancelled:
            state = BatchState.CANCELLED
        elif any(report.expired for report in reports):
            state = BatchState.EXPIRED
        ended = batch.moved(
            state,
            now,
            counts=results.counts,
            usage=_usage(reports),
            output_file=results.output,
            error_file=results.errors,
        )
        return ended, None, results.files

    def _counted(self, batch: SurfaceBatch) -> SurfaceBatch:
        """A batch with its rows as they stand now."""
        if batch.ended or batch.state is BatchState.VALIDATING or not self._form(batch).shows_progress:
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


def _usage(reports: Sequence[Report]) -> Usage:
    names = Usage.__struct_fields__
    return Usage(*(sum(getattr(report.usage, name) for report in reports) for name in names))


def _digest(key: Key, *asked: Any) -> str:
    """Names what was asked, and by whom."""
    return hashlib.blake2b(msgspec.json.encode([key.id, *asked]), digest_size=16).hexdigest()

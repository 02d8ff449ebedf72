"""The end of an attempt: results fetched whole, read once, and made durable before anything is deleted."""

import asyncio
from pathlib import Path

from halfrate.base.disk import sync_folder
from halfrate.base.ids import row_prefix
from halfrate.base.results import FINAL, Collection, Kind
from halfrate.base.types import Counts
from halfrate.blobs.files import JobFiles, temporary
from halfrate.core import lifecycle as life
from halfrate.core.job import Job
from halfrate.core.lifecycle import Shard, Trouble
from halfrate.core.pricing import JobPricing
from halfrate.providers.base import Adapter, BatchView
from halfrate.rows.collect import Check, Collector, RecordFormat
from halfrate.rows.leads import leaders_of
from halfrate.rows.outcomes import OutcomeWriter, ShardOutcomes
from halfrate.rows.requests import rewrite

_SUSPICIOUS_TRIES = 3


async def fetch(adapter: Adapter, view: BatchView, files: JobFiles, shard: Shard, first: int) -> list[Path]:
    """Download a batch's result files; each gets its own name only when it is complete."""

    def target(index: int) -> Path:
        return temporary(files.results(shard.number, shard.attempt, first + index))

    fetched = await adapter.fetch(view, target)

    def keep() -> list[Path]:
        paths: list[Path] = []
        for index, path in enumerate(fetched):
            final = files.results(shard.number, shard.attempt, first + index)
            path.replace(final)
            paths.append(final)
        sync_folder(files.folder)
        return paths

    return await asyncio.to_thread(keep)


class Collecting:
    """Reads the fetched results of one attempt. Runs in a thread; touches files of this attempt only."""

    def __init__(
        self, shard: Shard, job: Job, files: JobFiles, adapter: Adapter, check: Check | None
    ) -> None:
        self._shard = shard
        self._job = job
        self._files = files
        self._adapter = adapter
        self._check = check

    def run(
        self, views: list[BatchView], fetched: list[list[Path]]
    ) -> tuple[Collection, life.Collected] | life.Foreign | life.StepFailed:
        """Write the outcome file; what was collected, or why it cannot be taken as it is."""
        shard = self._shard
        sent = slots_to_send(shard, self._files)
        path = self._files.outcomes(shard.number, shard.attempt)
        with OutcomeWriter(path, shard.rows) as writer:
            collector = Collector(
                writer,
                self._adapter.line_reader(self._job.spec.endpoint, row_prefix(shard.id, shard.attempt)),
                JobPricing(self._job.prices),
                RecordFormat(self._job.names),
                first_row=shard.first_row,
                sent=None if shard.attempt == 1 else frozenset(sent),
                check=self._check,
                tier_of=None if shard.tier == "batch" else self._adapter.tier_of,
            )
            for number, paths in enumerate(fetched):
                for result in paths:
                    collector.read(result, twin=number)
            problem = self._problem(collector, views, fetched)
            if problem is not None:
                return problem
            for view in views:
                self._refused_lines(collector, view, sent)
            collection = collector.finish(*self._absent(views))
            writer.commit()
        leftovers = tuple(dict.fromkeys(item for view in views for item in view.leftovers))
        counts = self._counts(collection)
        too_much = views[0].failure is not None or views[0].absent is Kind.EXPIRED
        return collection, life.Collected(counts, collection.unsettled, leftovers, too_much)

    def _problem(
        self, collector: Collector, views: list[BatchView], fetched: list[list[Path]]
    ) -> life.Foreign | life.StepFailed | None:
        seen = collector.recognised
        trusted = self._shard.refs.adopted and not self._adapter.capabilities.echoes_tag
        if trusted and not seen and collector.unknown and not collector.nameless:
            return life.Foreign()
        finished = max((view.rows_finished for view in views), default=0)
        if any(fetched) and seen < min(finished, self._shard.sending) and not self._looked_again():
            # Rows that are there and were not seen would be paid for again: look again before believing it.
            text = f"the results name {seen:,} rows where the provider finished {finished:,}; fetching them again"
            return life.StepFailed(Trouble("results_short", text))
        return None

    def _looked_again(self) -> bool:
        """Whether results that seemed short have been fetched anew, often enough to believe them."""
        trouble = self._shard.trouble
        return (
            trouble is not None and trouble.code == "results_short" and self._shard.tries >= _SUSPICIOUS_TRIES
        )

    def _refused_lines(self, collector: Collector, view: BatchView, sent: range | list[int]) -> None:
        """Rows of a batch that was refused in validation: those at fault are final, the others go again."""
        for line, message in view.line_errors:
            if 1 <= line <= len(sent):
                collector.settle(sent[line - 1], Kind.FAILED, message)

    def _absent(self, views: list[BatchView]) -> tuple[Kind, str]:
        main = views[0]
        if main.failure is not None:
            code, message = main.failure
            # A row that makes its provider fail the whole batch is found by sending ever fewer at a time.
            alone = self._shard.sending == 1 and self._shard.setbacks > 0
            kind = Kind.FAILED if main.hopeless or alone else Kind.FAILED_PASSING
            if main.line_errors and not main.hopeless:
                return Kind.FAILED_PASSING, "not run: the batch was refused because of other rows in it"
            return kind, f"{code}: {message}"
        texts = {
            Kind.EXPIRED: "the batch's window ended before this row was run",
            Kind.CANCELLED: "the batch was cancelled before this row was run",
        }
        if main.absent_because:
            return main.absent, main.absent_because
        return main.absent, texts.get(main.absent, "the provider's results do not mention this row")

    def _counts(self, collection: Collection) -> Counts:
        shard = self._shard
        if shard.attempt == 1:
            return collection.counts
        with outcomes_of(shard, self._files) as outcomes:
            return count_kinds(outcomes.kinds().tobytes())


def count_kinds(kinds: bytes) -> Counts:
    """How many rows stand how, from a kind a byte."""
    return Counts(
        succeeded=kinds.count(Kind.SUCCEEDED),
        failed=kinds.count(Kind.FAILED) + kinds.count(Kind.FAILED_PASSING) + kinds.count(Kind.MISSING),
        expired=kinds.count(Kind.EXPIRED),
        cancelled=kinds.count(Kind.CANCELLED),
    )


def outcomes_of(shard: Shard, files: JobFiles) -> ShardOutcomes:
    """A shard's outcomes as they stand."""
    return ShardOutcomes(files.all_outcomes(shard.number, shard.attempt), shard.rows)


def slots_to_send(shard: Shard, files: JobFiles) -> range | list[int]:
    """The rows of the current attempt, as slots of the shard, ascending: all, those that go first to warm the cache, or
    of what earlier attempts left as many as the attempt takes, those first whose turn was longest ago."""
    if shard.attempt == 1:
        return range(shard.rows)
    if shard.leading:
        return leaders_of(files.depot.need(files.leaders(shard.number)), shard.leaders)[: shard.sending]
    before = [files.outcomes(shard.number, attempt) for attempt in range(1, shard.attempt)]
    # A retry by the user sends rows again that were refused for good before it, and only then.
    since = [path for path in before[shard.insist_from - 1 :] if files.depot.bring(path)]
    with ShardOutcomes(since, shard.rows) as outcomes:
        tried = outcomes.kinds()
        turns = outcomes.turns()
    with ShardOutcomes([path for path in before if files.depot.bring(path)], shard.rows) as outcomes:
        kinds = outcomes.kinds()
    final = {int(kind) for kind in FINAL}
    left = [
        slot
        for slot, (kind, newest) in enumerate(zip(kinds, tried, strict=True))
        if kind != Kind.SUCCEEDED and newest not in final
    ]
    if len(left) > shard.sending:
        # Where batches came to nothing, the row that is at fault is looked for among the same rows, ever fewer of them.
        last = [bool(turn) for turn in turns] if shard.setbacks else turns
        left.sort(key=lambda slot: (last[slot], slot))
        left = sorted(left[: shard.sending])
    return left


def slots_left(shard: Shard, files: JobFiles) -> list[int]:
    """The rows of a shard that have not succeeded, after all of its attempts."""
    with outcomes_of(shard, files) as outcomes:
        return [slot for slot, kind in enumerate(outcomes.kinds()) if kind != Kind.SUCCEEDED]


def write_again(shard: Shard, job: Job, files: JobFiles, adapter: Adapter) -> None:
    """Write the request file of a later attempt from the first one's."""
    target = files.requests(shard.number, shard.attempt)
    draft = temporary(target)
    rewrite(
        files.depot.need(files.requests(shard.number)),
        draft,
        framing=adapter.capabilities.framing,
        envelope=adapter.envelope(job.spec.endpoint),
        old_prefix=row_prefix(shard.id, 1),
        new_prefix=row_prefix(shard.id, shard.attempt),
        first_row=shard.first_row,
        keep=slots_to_send(shard, files),
    )
    draft.replace(target)
    sync_folder(files.folder)

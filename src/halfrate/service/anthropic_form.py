"""Batches in Anthropic's form: requests that came with the call, and one file of results.

A batch of which something cannot be run does not fail: its other rows are run, and those that cannot be are errored,
as Anthropic's own are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.ids import new_job_id
from halfrate.base.types import Capabilities
from halfrate.blobs.shelves import Shelves
from halfrate.core.surface import (
    MESSAGES_OUTPUT,
    BatchCounts,
    BatchPart,
    BatchState,
    LineFault,
    SurfaceBatch,
)
from halfrate.providers.registry import adapter_class, split_model
from halfrate.rows.message_input import Place, Request, models_of, split_requests
from halfrate.rows.message_output import CANCELED, errored, gather_results
from halfrate.service.forms import (
    NotAskable,
    Ran,
    Results,
    Say,
    WholeForm,
    file_of_results,
    model_for,
    not_run_because,
)
from halfrate.service.translating import translation_fault

_MOST_MODELS: Final = 20
"""Each is a job, and an open file while the rows are set apart."""


class AnthropicForm(WholeForm):
    """See `Form`."""

    partial = True
    shows_progress = False

    def __init__(self, places: Shelves, say: Say) -> None:
        self._places = places
        self._say = say

    def planned(self, batch: SurfaceBatch, folder: Path, now: float) -> SurfaceBatch:
        models = models_of(folder / "input.jsonl", _MOST_MODELS)
        parts = tuple(_part(batch, name, rows, self._say) for name, rows in models.items())
        if all(part.fault is not None for part in parts):
            return batch.moved(BatchState.IN_PROGRESS, now, parts=parts)
        return msgspec.structs.replace(batch, parts=parts)

    def inputs(self, batch: SurfaceBatch, folder: Path) -> dict[str, Path]:
        source = folder / "input.jsonl"
        places = {
            part.asked: Place(
                folder / f"rows-{number}.jsonl", part.model.partition("/")[2], translation_fault(part.model)
            )
            for number, part in enumerate(batch.parts)
            if part.fault is None
        }
        if len(places) == 1:
            ((asked, place),) = places.items()
            whole = batch.parts[0].rows == batch.counts.total
            if whole and place.name == asked and place.fault is None:
                return {asked: source}
        split_requests(source, places)
        return {asked: place.path for asked, place in places.items()}

    def options(self, batch: SurfaceBatch, part: BatchPart) -> dict[str, str]:
        """Versions and betas are Anthropic's: nobody else knows of them."""
        return batch.options if _facts(part.model).native_form == "anthropic" else {}

    def results(self, batch: SurfaceBatch, folder: Path, ran: Sequence[Ran], now: float) -> Results:
        cancelled = batch.state is BatchState.CANCELLING
        asked = frozenset(one.part.asked for one in ran)
        checks = {part.asked: translation_fault(part.model) for part in batch.parts if part.model}
        faults = {part.asked: _refused(part.fault) for part in batch.parts if part.fault is not None}
        beyond = errored(f"model: the requests of a batch may name {_MOST_MODELS} models")

        def unasked(request: Request) -> bytes | None:
            if request.fault:
                return errored(request.fault)
            check = checks.get(request.model)
            # What cannot be asked of it was left out of the job, and is found once more to be said here.
            why = check(request.params) if check is not None else ""
            if why:
                return errored(why)
            if request.model in asked:
                return None
            if request.model in faults:
                return faults[request.model]
            return CANCELED if cancelled else beyond

        file = file_of_results(
            batch, "results", prefix="results", purpose=MESSAGES_OUTPUT, made_at=batch.created_at
        )
        place = self._places.file(file.id)
        found = [(one.raw, CANCELED if cancelled else _not_run(one)) for one in ran]
        tally = gather_results(found, folder / "input.jsonl", unasked, place)
        file = msgspec.structs.replace(file, bytes=place.stat().st_size)
        counts = BatchCounts(
            batch.counts.total, tally.succeeded, tally.errored, tally.canceled, tally.expired
        )
        return Results((file,), counts, file.id, None)


def _part(batch: SurfaceBatch, name: str, rows: int, say: Say) -> BatchPart:
    """The job of the rows that ask a model, or why there will be none."""
    try:
        model = model_for(batch, name, say)
    except NotAskable as error:
        return BatchPart("", "", name, rows, LineFault(error.code, str(error)))
    return BatchPart(new_job_id(), model, name, rows)


def _facts(model: str) -> Capabilities:
    """What the provider of ACCOUNT/MODEL can do. Raises UsageError where there is none."""
    return adapter_class(split_model(model)[1]).capabilities


def _refused(fault: LineFault) -> bytes:
    # What is not set up here is no fault of the request's.
    kind = "api_error" if fault.code == "model_unavailable" else "invalid_request_error"
    return errored(fault.message, kind)


def _not_run(one: Ran) -> bytes:
    return errored(not_run_because(one.report), "api_error")

"""Batches in OpenAI's form: files of lines, and two files of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.ids import new_job_id
from halfrate.blobs.shelves import Shelves
from halfrate.core.surface import (
    BATCH_OUTPUT,
    BatchCounts,
    BatchPart,
    BatchState,
    LineFault,
    StoredFile,
    SurfaceBatch,
)
from halfrate.rows.batch_input import Checked, check_batch_input, split_by_model
from halfrate.rows.batch_output import Fate, split_results, write_not_run
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

_MOST_ROWS: Final = 1_000_000
_CANCELLED: Final = Fate("batch_cancelled", "The batch was cancelled before this request was run.")


class OpenAIForm(WholeForm):
    """See `Form`. A batch of which anything cannot be run fails, and nothing of it is sent."""

    partial = False
    shows_progress = True

    def __init__(self, places: Shelves, say: Say) -> None:
        self._places = places
        self._say = say

    def planned(self, batch: SurfaceBatch, folder: Path, now: float) -> SurfaceBatch:
        checked = check_batch_input(folder / "input.jsonl", batch.url, most_rows=_MOST_ROWS)
        parts, faults = _parts(batch, checked, self._say)
        if faults:
            return batch.moved(BatchState.FAILED, now, faults=faults)
        return msgspec.structs.replace(batch, parts=parts, counts=BatchCounts(total=checked.rows))

    def inputs(self, batch: SurfaceBatch, folder: Path) -> dict[str, Path]:
        """The input itself where all of it asks one model by its own name."""
        source = folder / "input.jsonl"
        names = {part.asked: part.model.partition("/")[2] for part in batch.parts}
        if len(names) == 1 and all(asked == name for asked, name in names.items()):
            return dict.fromkeys(names, source)
        places = {asked: folder / f"rows-{number}.jsonl" for number, asked in enumerate(names)}
        split_by_model(source, lambda asked: (places[asked], names[asked]))
        return places

    def options(self, batch: SurfaceBatch, part: BatchPart) -> dict[str, str]:
        return batch.options

    def results(self, batch: SurfaceBatch, folder: Path, ran: Sequence[Ran], now: float) -> Results:
        cancelled = batch.state is BatchState.CANCELLING
        found = [(one.raw, _CANCELLED if cancelled else _not_run(one)) for one in ran]
        made = {one.part.job_id for one in ran}
        for number, part in enumerate(batch.parts):
            if part.job_id not in made:
                raw = folder / f"raw-{number}.jsonl"
                write_not_run(folder / "input.jsonl", part.asked, raw)
                fault = part.fault
                found.append((raw, _CANCELLED if fault is None else Fate(fault.code, fault.message)))
        if not found:
            return Results((), batch.counts, None, None)
        answers, errors = (
            file_of_results(batch, kind, prefix="file", purpose=BATCH_OUTPUT, made_at=now)
            for kind in ("output", "error")
        )
        places = self._places
        split = split_results(found, places.file(answers.id), places.file(errors.id), name=batch.id)
        kept: list[StoredFile | None] = []
        for file, rows in ((answers, split.answered), (errors, split.failed)):
            if rows:
                size = places.file(file.id).stat().st_size
                kept.append(msgspec.structs.replace(file, bytes=size))
            else:
                places.drop_file(file.id)
                kept.append(None)
        total = batch.counts.total or split.answered + split.failed
        return Results(
            tuple(file for file in kept if file is not None),
            BatchCounts(total, split.answered, split.failed),
            *(None if file is None else file.id for file in kept),
        )


def _parts(
    batch: SurfaceBatch, checked: Checked, say: Say
) -> tuple[tuple[BatchPart, ...], tuple[LineFault, ...]]:
    """A job for each model that the rows name, and what stands against it."""
    faults = list(checked.faults)
    parts: list[BatchPart] = []
    for rows in checked.models:
        try:
            model = model_for(batch, rows.name, say)
        except NotAskable as error:
            faults.append(LineFault(error.code, str(error), rows.line, "body.model"))
        else:
            parts.append(BatchPart(new_job_id(), model, rows.name, rows.rows))
    return tuple(parts), tuple(faults)


def _not_run(one: Ran) -> Fate:
    return Fate("not_run", not_run_because(one.report))

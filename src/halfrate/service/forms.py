"""What the keeper of batches asks of a surface: how it reads an input, and what it makes of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from halfrate.base.errors import HalfrateError, InputError, OverBudget, UsageError
from halfrate.core.keys import Key
from halfrate.core.surface import BatchCounts, BatchPart, LineFault, StoredFile, SurfaceBatch
from halfrate.service.models import resolve
from halfrate.service.report import Report


class Ran(NamedTuple):
    """A job of a batch that has ended, and the file of its rows' results."""

    part: BatchPart
    raw: Path
    report: Report


class Results(msgspec.Struct, frozen=True):
    """What a batch came to. `files`: those to be recorded; `output` and `errors`: which of them is which."""

    files: tuple[StoredFile, ...]
    counts: BatchCounts
    output: str | None
    errors: str | None


class Form(Protocol):
    """A surface. `folder` is a batch's own, which holds its `input.jsonl`.

    `partial`: rows are run even where others of their batch cannot be. `shows_progress`: callers see rows counted
    before the batch has ended.
    """

    partial: bool
    shows_progress: bool

    def planned(self, batch: SurfaceBatch, folder: Path, now: float) -> SurfaceBatch:
        """The batch with its parts settled, or in the state to which it comes without any."""
        ...

    def inputs(self, batch: SurfaceBatch, folder: Path) -> dict[str, Path]:
        """The rows of each part in a file, by what they call their model."""
        ...

    def options(self, batch: SurfaceBatch, part: BatchPart) -> dict[str, str]:
        """Those of a batch's options that are for the account that runs a part of it."""
        ...

    def results(self, batch: SurfaceBatch, folder: Path, ran: Sequence[Ran], now: float) -> Results:
        """Write the results of a batch of which nothing is at work any more. It may have been done before."""
        ...


class NotAskable(Exception):
    """A model that a batch cannot ask. `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def model_for(batch: SurfaceBatch, name: str) -> str:
    """ACCOUNT/MODEL for what the rows of a batch call a model. Raises NotAskable."""
    try:
        model = resolve(name)
    except HalfrateError as error:
        raise NotAskable("model_not_found", str(error)) from None
    allowed = Key(id="", digest="", name="", team="", created_at=0.0, models=batch.models)
    if not allowed.allows(model):
        raise NotAskable("model_not_allowed", f"The key of this batch may not ask the model '{name}'.")
    return model


def fault_of(error: UsageError) -> LineFault:
    """Why rows cannot be run, for their caller."""
    if isinstance(error, OverBudget):
        return LineFault("budget_exceeded", str(error))
    if isinstance(error, InputError):
        return LineFault("invalid_request", str(error), error.line, error.column)
    return LineFault("invalid_request", str(error))


def not_run_because(report: Report) -> str:
    """What is said of rows that a job left unrun."""
    why = report.paused_because or next(iter(report.stopped), "") or "the job was stopped"
    return f"This request was not run: {why}"

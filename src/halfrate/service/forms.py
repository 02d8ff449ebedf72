"""What the keeper of batches asks of a surface: how it reads an input, and what it makes of results.

Callers read here what their batches come to. What the gateway's own settings, accounts and budgets have to do with that
is for whoever runs it, and is said to nobody else.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

from halfrate.base.errors import InputError, OverBudget, SettingsError, UsageError
from halfrate.core.job import JobState
from halfrate.core.keys import Key
from halfrate.core.surface import BatchCounts, BatchPart, LineFault, StoredFile, SurfaceBatch
from halfrate.providers.registry import split_model
from halfrate.service.drafts import Ask
from halfrate.service.models import resolve
from halfrate.service.report import Report

Say: TypeAlias = Callable[[str, str, str], None]
"""Receives what somebody who runs the gateway should know: an event, the batch, and why."""

_OVER_BUDGET: Final = (
    "A budget that covers this call is spent, or too small for it. Nothing was sent, and nothing costs money. Whoever "
    "runs the gateway can raise it."
)
_NOT_SET_UP: Final = (
    "The gateway is not set up for this now. Nothing was sent, and nothing costs money. Whoever runs the gateway finds "
    "why in its log."
)


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

    def asked(self, ask: Ask, part: BatchPart) -> Ask:
        """What is asked of the service for a part, on the terms of the surface."""
        ...

    def left_out(self, batch: SurfaceBatch, folder: Path, error: UsageError) -> bool:
        """Leave the row out that keeps a job from being made, where the surface has a way to say so to its caller;
        whether that was done."""
        ...

    def progress(self, batch: SurfaceBatch, folder: Path, reports: Sequence[Report]) -> SurfaceBatch:
        """The batch with what has come of it so far, where callers are given that before its end."""
        ...

    def results(self, batch: SurfaceBatch, folder: Path, ran: Sequence[Ran], now: float) -> Results:
        """Write the results of a batch of which nothing is at work any more. It may have been done before."""
        ...


class WholeForm:
    """What is alike on surfaces that give out the results of a batch when all of it has ended."""

    def asked(self, ask: Ask, part: BatchPart) -> Ask:
        return ask

    def left_out(self, batch: SurfaceBatch, folder: Path, error: UsageError) -> bool:
        return False

    def progress(self, batch: SurfaceBatch, folder: Path, reports: Sequence[Report]) -> SurfaceBatch:
        return batch


class NotAskable(Exception):
    """A model that a batch cannot ask. `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def model_for(batch: SurfaceBatch, name: str, say: Say) -> str:
    """ACCOUNT/MODEL for what the rows of a batch call a model. Raises NotAskable."""
    try:
        model = _known(name)
    except SettingsError as error:
        say("model unavailable", batch.id, str(error))
        raise NotAskable(*for_callers(error)) from None
    allowed = Key(id="", digest="", name="", team="", created_at=0.0, models=batch.models)
    if not allowed.allows(model):
        raise NotAskable("model_not_allowed", f"The key of this batch may not ask the model '{name}'.")
    return model


def _known(name: str) -> str:
    """Raises NotAskable for a model that there is not, and SettingsError where nobody can say."""
    try:
        model = resolve(name)
    except SettingsError:
        raise
    except UsageError as error:
        raise NotAskable("model_not_found", str(error)) from None
    try:
        split_model(model)
    except SettingsError:
        raise
    except UsageError:
        # That text lists the providers that there are, those of the settings file among them.
        raise NotAskable("model_not_found", f"Nobody here has the model '{name}'.") from None
    return model


def for_callers(error: UsageError) -> tuple[str, str]:
    """What callers are told of an error: a word for programs, and a text. It is `str(error)` unless that is for whoever
    runs the gateway alone."""
    match error:
        case OverBudget():
            return "budget_exceeded", _OVER_BUDGET
        case SettingsError():
            return "model_unavailable", _NOT_SET_UP
        case _:
            return "invalid_request", str(error)


def fault_of(error: UsageError) -> LineFault:
    """Why rows cannot be run, for their caller."""
    code, message = for_callers(error)
    if isinstance(error, InputError):
        return LineFault(code, message, error.line, error.column)
    return LineFault(code, message)


def not_run_because(report: Report) -> str:
    """What is said of rows of which a job has no result.

    What providers say of a whole batch may name the gateway's accounts and buckets: it is not repeated.
    """
    match report.job.state:
        case JobState.STOPPED:
            return (
                "This request has no result: its provider refused a batch, or does not know it any more. Whoever runs "
                "the gateway finds why in its log."
            )
        case JobState.CANCELLED:
            return (
                "This request was not run: its job was ended before that, because most rows of a batch failed, or by "
                "whoever runs the gateway."
            )
        case _:
            return "This request has no result: it could not be sent, or its provider gave none."


def file_of_results(
    batch: SurfaceBatch, kind: str, *, prefix: str, purpose: str, made_at: float
) -> StoredFile:
    """A file of a batch's results that is still to be written: whoever has to do it again writes the same file."""
    mark = hashlib.blake2b(f"{batch.id} {kind}".encode(), digest_size=12).hexdigest()
    return StoredFile(
        id=f"{prefix}-{mark}",
        team=batch.team,
        filename=f"{batch.id}_{kind}.jsonl",
        purpose=purpose,
        bytes=0,
        created_at=made_at,
        expires_at=made_at + batch.output_life,
    )

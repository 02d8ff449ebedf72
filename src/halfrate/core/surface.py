"""What a caller of the gateway sees instead of jobs: files, uploads in parts, and batches. Pure.

A batch of a surface is one job for each model that its rows name. Its states are OpenAI's:

    gathering -> validating                                  calls of the gateway's callers are still coming in
    validating -> failed                                     the input cannot be run; nothing was sent
    validating -> in_progress -> finalizing -> completed
                                 finalizing -> expired       some rows found no time at their provider, try after try
    validating, in_progress -> cancelling -> cancelled       what is finished is delivered

Anthropic's surface shows the same batches in words of its own: none of them fails there, its rows do; and one can be
cancelled until it has ended, so also while it is finalizing. Calls that can wait (`core.deferral`) are gathered into
batches that no caller sees; they alone are gathering before anything else. A record says how far a batch has come, and
whoever finds it goes on from there: nothing depends on the process that did the last step.
"""

import enum
from typing import Any, Final, Literal, TypeAlias

import msgspec

from halfrate.base.errors import IllegalStep
from halfrate.base.types import Endpoint, Usage
from halfrate.core.keys import Surface

BatchSurface: TypeAlias = Surface | Literal["calls"]
"""Whose API a batch was made by; "calls": by the gateway itself, of calls that can wait."""
OUTPUT_LIFE: Final = 30 * 86_400.0
BATCH_OUTPUT: Final = "batch_output"
"""The purpose of files of results of OpenAI batches."""
MESSAGES_LIFE: Final = 29 * 86_400.0
"""Seconds from the creation of an Anthropic batch for which its results are kept, as Anthropic does."""
MESSAGES_OUTPUT: Final = "message_batch_results"
"""The purpose of files of those results. Callers of OpenAI's files never see them."""
UPLOAD_LIFE: Final = 3_600.0
"""Seconds within which an upload in parts has to be completed."""


class BatchState(enum.StrEnum):
    GATHERING = "gathering"
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


SHOWN: Final = tuple(state for state in BatchState if state is not BatchState.GATHERING)
"""The states that callers see: what is gathered is no batch of theirs."""
ENDED: Final = frozenset({BatchState.FAILED, BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED})
_STEPS: Final[dict[BatchState, frozenset[BatchState]]] = {
    BatchState.GATHERING: frozenset({BatchState.VALIDATING}),
    BatchState.VALIDATING: frozenset({BatchState.FAILED, BatchState.IN_PROGRESS, BatchState.CANCELLING}),
    BatchState.IN_PROGRESS: frozenset({BatchState.FINALIZING, BatchState.CANCELLING}),
    BatchState.FINALIZING: frozenset({BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLING}),
    BatchState.CANCELLING: frozenset({BatchState.CANCELLED}),
    BatchState.FAILED: frozenset(),
    BatchState.COMPLETED: frozenset(),
    BatchState.EXPIRED: frozenset(),
    BatchState.CANCELLED: frozenset(),
}


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a team. Saved: a field may be added, never renamed."""

    id: str
    team: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None = None


class Part(msgspec.Struct, frozen=True):
    id: str
    bytes: int


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that comes in parts. `status` is pending, completed or cancelled; one that is late is expired."""

    id: str
    team: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    life: float | None = None
    """Seconds that the file is kept, once it is one."""
    status: str = "pending"
    parts: tuple[Part, ...] = ()
    file: StoredFile | None = None

    def standing(self, now: float) -> str:
        late = self.status == "pending" and now >= self.created_at + UPLOAD_LIFE
        return "expired" if late else self.status


class LineFault(msgspec.Struct, frozen=True):
    """Why an input cannot be run. `line`: of the file, from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchPart(msgspec.Struct, frozen=True):
    """The rows of a batch that ask one model: a job. `model` is ACCOUNT/MODEL, `asked` what the rows call it.

    `fault`: why there is no such job, where the rest of the batch is run without it.
    """

    job_id: str
    model: str
    asked: str
    rows: int
    fault: LineFault | None = None


class BatchCounts(msgspec.Struct, frozen=True):
    """Rows by how they ended. On Anthropic's surface `failed` leaves out those that were canceled or expired."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0


class SurfaceBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as a caller made it. Saved: a field may be added, never renamed.

    `times`: when it came to each state, seconds since 1970. `input_file`: the file it was made from, "" where its rows
    came with the call. `tags` go on its jobs; `deadline` and `options` are theirs. `digest` names what was asked, so
    that a call that is repeated can be told from a second batch.
    """

    id: str
    team: str
    key_id: str
    surface: BatchSurface
    state: BatchState = BatchState.VALIDATING
    times: dict[str, float]
    endpoint: Endpoint
    url: str
    input_file: str = ""
    window: str = "24h"
    metadata: dict[str, str] | None = None
    tags: dict[str, str] = {}
    models: tuple[str, ...] = ()
    """Patterns of models that its key may ask."""
    deadline: float | None = None
    options: dict[str, str] = {}
    output_life: float = OUTPUT_LIFE
    """Seconds that its results are kept."""
    digest: str = ""
    parts: tuple[BatchPart, ...] = ()
    faults: tuple[LineFault, ...] = ()
    output_file: str | None = None
    error_file: str | None = None
    counts: BatchCounts = BatchCounts()
    usage: Usage | None = None
    extra: dict[str, Any] = {}

    @property
    def created_at(self) -> float:
        return min(self.times.values())

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def at(self, state: BatchState) -> float | None:
        """When it came to a state; None if it did not."""
        return self.times.get(state)

    def moved(self, state: BatchState, now: float, **changes: Any) -> "SurfaceBatch":
        """The batch one step on. Raises IllegalStep for one that there is not."""
        if state not in _STEPS[self.state]:
            raise IllegalStep(f"a batch that is {self.state} does not become {state}")
        return msgspec.structs.replace(self, state=state, times={**self.times, state.value: now}, **changes)

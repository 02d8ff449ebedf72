"""What a provider's adapter is: facts about it, and the verbs that its protocol needs.

An adapter is a class with a `capabilities` record and the methods below, registered under its provider's name
in the entry point group `halfrate.providers`. It holds no state of a job: everything it is told comes in as a
frozen value, and everything it learns goes out as one.

Only `create` may cost money. It sends one request, once, without any retry, and every way in which it can
end is one of three: it returns, it raises `Refused` (nothing was started), or it raises `OutcomeUnknown`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from halfrate.base.results import Kind, LineReader
from halfrate.base.types import Capabilities, Endpoint, Envelope, RequestSpec


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A provider with credentials. The key lives in memory alone: it is left out of every repr."""

    provider: str
    base_url: str
    key: str

    @property
    def name(self) -> str:
        """What the store knows it by: batches belong to an account for ever."""
        return f"{self.provider}@{self.base_url}"

    def __repr__(self) -> str:
        return f"Account({self.name})"


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """One submission, as the adapter needs to know it."""

    tag: str
    endpoint: Endpoint
    requests: Path
    rows: int
    file_id: str | None = None
    made_at: float | None = None
    past: tuple[str, ...] = ()
    """Batches that are known not to be the one looked for."""
    row_prefix: str = ""
    in_time: Callable[[], bool] = lambda: True
    """Whether this process may still send the create: to be asked at the last moment before it leaves."""


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as its provider describes it.

    `files`: result files, in the provider's terms; `line_errors`: (line of the request file from 1, message)
    of a batch refused in validation; `failure`: why the whole batch failed, with the provider's code.
    """

    batch_id: str
    status: str
    ended: bool
    rows_finished: int = 0
    queue_full: bool = False
    absent: Kind = Kind.MISSING
    """What a row is that the result files do not name."""
    files: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    failure: tuple[str, str] | None = None
    hopeless: bool = False
    """The failure lies in what was asked: asking again would fail again."""
    line_errors: tuple[tuple[int, str], ...] = ()


class Lookup(msgspec.Struct, frozen=True):
    """What a search for a lost batch gave: batches that are ours, or candidates that cannot be told yet."""

    found: tuple[str, ...] = ()
    held: str | None = None


Progress: TypeAlias = Callable[[int], None]
"""Called with bytes moved since the last call."""


class Adapter(Protocol):
    """A provider's dialect. See the module's text for what `create` must keep."""

    capabilities: Capabilities

    def __init__(self, account: Account) -> None: ...

    # Pure: encoding and decoding.

    def envelope(self, endpoint: Endpoint) -> Envelope:
        """What stands around the id and the body of one row."""
        ...

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        """The body of a table's row, before and after the prompt (a JSON string). Raises UsageError."""
        ...

    def line_reader(self, endpoint: Endpoint, row_prefix: str) -> LineReader:
        """A reader of result lines whose ids begin with `row_prefix`."""
        ...

    # Safe to repeat.

    async def upload(self, intent: Intent) -> str:
        """Put the request file at the provider; its id there."""
        ...

    async def find(self, intent: Intent, now: float) -> Lookup:
        """Batches made by an earlier create of this intent. Raises ProviderError when it could not look."""
        ...

    async def poll(self, batch_id: str) -> BatchView: ...

    async def fetch(self, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        """Download every result file completely, to `targets(n)`. Raises ProviderError if one is cut short."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """Ask for a cancel. A batch that has ended already is no error."""
        ...

    async def clean_up(self, leftovers: tuple[str, ...]) -> None:
        """Delete files at the provider. What is gone already is no error."""
        ...

    async def strays(self, tag: str) -> tuple[str, ...]:
        """Request files at the provider whose names carry this tag. Raises ProviderError when it could not look."""
        ...

    async def close(self) -> None: ...

    # The paid call.

    async def create(self, intent: Intent) -> BatchView:
        """Ask for the batch, once."""
        ...

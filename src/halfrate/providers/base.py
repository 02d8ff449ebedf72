"""What a provider's adapter is: facts about it, and the verbs that its protocol needs.

An adapter is a class with a `capabilities` record and the methods below, registered under its provider's name
in the entry point group `halfrate.providers`. It holds no state of a job: everything it is told comes in as a
frozen value, and everything it learns goes out as one.

Only `create` and `call` may cost money. Each sends one request, once, without any retry, and every way in which
it can end is one of three: it returns, it raises `Refused` (nothing was started), or it raises `OutcomeUnknown`.
"""

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

from halfrate.base.errors import Refused
from halfrate.base.results import Kind, LineReader
from halfrate.base.types import Capabilities, Endpoint, Envelope, RequestSpec, Translated
from halfrate.core.pacing import Window

if TYPE_CHECKING:
    # It imports a client for HTTP, which those who only know an account's name do without.
    from halfrate.providers.answers import Answer


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A provider with credentials. The key lives in memory alone: it is left out of every repr.

    `base_url`: where the paths of the account's API begin, its project and region included. `settings`: what the
    provider's capabilities name as such. `label`: the user's own name for it, "" where the environment makes it.
    """

    provider: str
    base_url: str
    key: str
    label: str = ""
    key_variable: str = ""
    """Where the key was found: a token and a key of one provider may be sent in different headers."""
    settings: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """What the store knows it by: batches belong to an account for ever."""
        place = f"{self.provider}@{self.base_url}"
        return f"{self.label}={place}" if self.label else place

    def __repr__(self) -> str:
        return f"Account({self.name})"


class Place(NamedTuple):
    """The parts of an account's name."""

    label: str
    provider: str
    base_url: str

    @property
    def named(self) -> str:
        """What stands before a model to mean this account."""
        return self.label or self.provider


def place_of(account: str) -> Place:
    """An account's name, taken apart."""
    head, _, url = account.partition("@")
    label, _, provider = head.rpartition("=")
    return Place(label, provider, url)


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """One submission, as the adapter needs to know it."""

    tag: str
    endpoint: Endpoint
    model: str = ""
    """As the account names it; "" for rows of several models, where the provider allows that."""
    params: dict[str, Any] = {}
    """Fields of the body that the user set: where the provider has them once for the whole batch, they go there."""
    options: dict[str, str] = {}
    """What was chosen of the provider's own options."""
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
    accepted: bool = True
    """The provider has let it into its queue, or further."""
    queue_full: bool = False
    queue_limit: int | None = None
    """How many tokens that queue takes, where the provider says it."""
    absent: Kind = Kind.MISSING
    """What a row is that the result files do not name."""
    absent_because: str = ""
    """Why, where that is known better than from `absent`."""
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

Tier: TypeAlias = Literal["standard", "flex", "priority"]
"""How a realtime call is to be served, and so what it costs. `standard` leaves the choice to the project's own
settings at the provider, as a call that names no tier does."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One row, to be run in real time.

    `row_id`: its id in the request file; `body`: what stands there between the parts of the envelope, untouched.
    `timeout`: seconds for each wait on the network, None for the provider's own measure.
    """

    endpoint: Endpoint
    model: str = ""
    params: dict[str, Any] = {}
    options: dict[str, str] = {}
    """As in `Intent`."""
    row_id: str
    body: bytes
    tier: Tier = "standard"
    timeout: float | None = None
    in_time: Callable[[], bool] = lambda: True
    """Whether this process may still send it: to be asked at the last moment before it leaves."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was answered, and is paid for.

    `line`: the reply as a line of the provider's own batch results, ending in a newline; the body stands in it as
    it came, but for line breaks between its parts. `tier`: the one that it was really served in, which may be
    another than was asked for and is what it is billed as. `windows`: what remains of the account's budgets.
    """

    line: bytes
    tier: str
    windows: tuple[Window, ...] = ()


class Blame(enum.Enum):
    """What a refused call lies in, and so what would help."""

    ROW = "row"
    """What the row asks for: it would be refused again."""
    LOAD = "load"
    """Too much at once, by this account or by all: fewer calls, later."""
    FAULT = "fault"
    """The provider's own passing fault: the same call again."""
    TIER = "tier"
    """The tier: this model or project is not served in it. Every other row would be refused alike."""
    ACCOUNT = "account"
    """The key, the credit or the address: a person has to mend that. Every other row would be refused alike."""


class CallRefused(Refused):
    """A realtime call that the provider answered with an error: the row was not run, and costs nothing.

    Attributes:
        line: the error as a line of the provider's own batch results, ending in a newline.
        blame: what it lies in.
        windows: what remains of the account's budgets, as far as the reply says.
    """

    def __init__(
        self,
        message: str,
        *,
        line: bytes,
        blame: Blame,
        status: int,
        code: str = "",
        retry_after: float | None = None,
        windows: tuple[Window, ...] = (),
    ) -> None:
        super().__init__(message, status=status, code=code, retry_after=retry_after)
        self.line = line
        self.blame = blame
        self.windows = windows


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """Where calls of one endpoint go in the provider's own form, and what their heads must hold.

    `model`: what the model is called in a body. `asks_usage`: a stream says what it used only if the request asks for
    that (OpenAI's `stream_options`).
    """

    url: str
    path: str
    headers: tuple[tuple[str, str], ...]
    model: str
    asks_usage: bool = False

    def __repr__(self) -> str:
        return f"Passage({self.url}{self.path})"


@runtime_checkable
class Passes(Protocol):
    """An adapter of which calls can be passed on."""

    def passage(self, endpoint: Endpoint, model: str) -> Passage | None:
        """Where calls go that are in this provider's own form; None for an endpoint that it has no such calls of."""
        ...


StreamForm: TypeAlias = Literal["openai", "anthropic", "gemini"]
"""Whose events a stream is made of: OpenAI's chat completions, Anthropic's Messages, Gemini's streamGenerateContent."""


class Streaming(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose answer comes piece by piece, as it is to be sent: once, to `path` behind `url`.

    `form`: what its events are made of. `secret`: what stands in the headers that nobody may see.
    """

    url: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    form: StreamForm
    secret: str

    def __repr__(self) -> str:
        return f"Streaming({self.url}{self.path})"


@runtime_checkable
class Streams(Protocol):
    """An adapter of which answers can be had piece by piece, in events that can be translated."""

    async def streaming(self, call: Call) -> Streaming | None:
        """A call of which the answer is to come so; None where it cannot. Nothing is sent.

        Raises UsageError for what `call` would not send either, Refused or SettingsError where there are no
        credentials.
        """
        ...

    def understood(self, call: Call, answer: "Answer") -> Reply:
        """An answer to it that is no stream, an error most likely, as `call` understands it. Raises as `call` does."""
        ...


class Adapter(Protocol):
    """A provider's dialect. See the module's text for what `create` and `call` must keep."""

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

    def tiers(self, endpoint: Endpoint) -> tuple[Tier, ...]:
        """The tiers that realtime calls of an endpoint can be asked for in; none where there are no such calls.
        Whether a model is served in them is for the provider to say."""
        ...

    def tier_of(self, line: bytes) -> str:
        """The tier that a realtime call was served and billed in, read from its result line. Not for lines of a
        batch, which may say otherwise and are billed as a batch."""
        ...

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        """A request in OpenAI's form, as this provider takes it for `model`. Raises Untranslatable for a field that has
        no equivalent. Only asked for endpoints that the provider translates, and for chats where it takes them as they
        are."""
        ...

    def to_openai(self, line: bytes, created: int, endpoint: Translated) -> dict[str, Any] | None:
        """The answer in a result line in OpenAI's form: a chat completion, or a list of embeddings; None where the line
        holds none."""
        ...

    # Safe to repeat.

    async def upload(self, intent: Intent) -> str:
        """Put the request file at the provider; its id there."""
        ...

    async def find(self, intent: Intent, now: float) -> Lookup:
        """Batches made by an earlier create of this intent. Raises ProviderError when it could not look."""
        ...

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        """How a batch stands. `cancelled`: its cancel was accepted before; where a cancel deletes a batch, the provider
        may know it no longer."""
        ...

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

    # The paid calls.

    async def create(self, intent: Intent) -> BatchView:
        """Ask for the batch, once."""
        ...

    async def call(self, call: Call) -> Reply:
        """Run one row in real time, once.

        Raises CallRefused where the provider answered with an error, Refused where nothing left this machine,
        OutcomeUnknown where the row may have been run and billed all the same.
        """
        ...

"""The values that cross from one layer to another. All are frozen; none does anything."""

import enum
from typing import Any, Literal

import msgspec

Endpoint = Literal["chat", "responses", "embeddings", "messages"]
"""What a row asks for. `chat`, `responses` and `embeddings` are OpenAI's, `messages` is Anthropic's."""

InputFormat = Literal["jsonl", "csv", "tsv", "parquet"]
OutputFormat = Literal["jsonl", "csv", "parquet"]
NativeForm = Literal["openai", "anthropic"]


class Outcome(enum.StrEnum):
    """What became of a row."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INVALID = "invalid"
    WAITING = "waiting"
    """None yet: only in results that are looked at before the job's end."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one batch may hold at a provider, before our headroom."""

    rows: int
    bytes: int
    row_bytes: int
    embedding_inputs: int | None = None


class Framing(msgspec.Struct, frozen=True):
    """How rows stand in one request file: `head + separator.join(rows) + tail`."""

    head: bytes
    separator: bytes
    tail: bytes


class Envelope(msgspec.Struct, frozen=True):
    """A row as sent: `before + <row id> + between + <body> + after`."""

    before: bytes
    between: bytes
    after: bytes


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider can do, so that nothing above the adapters asks for its name."""

    provider: str
    title: str
    endpoints: tuple[Endpoint, ...]
    native_form: NativeForm
    limits: Limits
    framing: Framing
    uploads_file: bool
    """A batch is created from a file uploaded before; otherwise the create call carries the rows."""
    echoes_tag: bool
    """The listing shows our tag handle; otherwise one intent at a time per account, matched by count."""
    one_model_per_batch: bool
    create_timeout: float
    """Seconds after which a create without a reply counts as unknown."""
    key_variables: tuple[str, ...]
    creates_per_hour: int | None = None
    url_variable: str
    default_url: str


class Template(msgspec.Struct, frozen=True):
    """A prompt: `literals[0] + columns[0] + literals[1] + ... + literals[-1]`."""

    literals: tuple[str, ...]
    columns: tuple[str, ...]


class RequestSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What every row of a job asks for. Saved with the job: a field may be added, never renamed."""

    provider: str
    model: str
    endpoint: Endpoint
    prompt: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    schema: dict[str, Any] | None = None
    params: dict[str, Any] = {}
    native: NativeForm | None = None
    """The input is a batch file of this form, and its bodies go through untouched."""
    id_column: str | None = None
    allow_empty: bool = False


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one row, or of many added up.

    `input` counts uncached input alone, whatever the provider's own convention, so that the kinds add up
    to what was read without counting a token twice.
    """

    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    """Part of `output`, shown for information."""

    @property
    def total_input(self) -> int:
        return self.input + self.cached + self.write_5m + self.write_1h


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Picodollars per token. None means unknown, which is never zero."""

    input: int | None = None
    cached: int | None = None
    write_5m: int | None = None
    write_1h: int | None = None
    output: int | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of requests with more than `above` input tokens. Judged for each request, never on a sum."""

    above: int
    rates: Rates


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs in one tier on one day."""

    model: str
    tier: str
    rates: Rates
    steps: tuple[Step, ...] = ()
    since: str | None = None
    source: str = ""


class JobPrices(msgspec.Struct, frozen=True):
    """The prices that a job was planned with, and keeps: model -> price, by tier. None: unknown."""

    batch: dict[str, Price | None]
    standard: dict[str, Price | None]
    flex: dict[str, Price | None] = {}


class Counts(msgspec.Struct, frozen=True):
    """How the rows of a shard stand after the newest attempt."""

    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0

    @property
    def settled(self) -> int:
        return self.succeeded + self.failed + self.expired + self.cancelled

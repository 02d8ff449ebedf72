"""The values that cross from one layer to another. All are frozen; none does anything."""

import enum
from typing import Any, Literal

import msgspec

Endpoint = Literal["chat", "responses", "embeddings", "messages", "generate"]
"""What a row asks for. `chat`, `responses` and `embeddings` are OpenAI's, `messages` is Anthropic's, `generate` is
Google's generateContent; `embeddings` of others are asked for in their own form."""

Translated = Literal["chat", "embeddings"]
"""Endpoints of OpenAI's whose requests are put into the forms of others."""

InputFormat = Literal["jsonl", "csv", "tsv", "parquet"]
OutputFormat = Literal["jsonl", "csv", "parquet"]
NativeForm = Literal["openai", "anthropic", "gemini", "vertex", "bedrock", "rows"]
"""Forms of batch file. `rows` are lines of `{custom_id, body}`, which name neither a model nor what they ask for."""
Adoption = Literal["metadata", "name", "id", "file", "count"]
"""By what a batch is found again whose create got no reply: metadata of ours, a name of ours, an id that we choose,
the file that it was made from, or its time and number of rows alone."""


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
    row_inputs: int | None = None
    """Texts that one row may ask to embed."""


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
    inside: str = ""
    """The field of the body that the id stands in, where it stands inside the body: `before` opens the body then, and
    what follows `between` is the rest of it. No body may bring such a field along."""


class RawForm(msgspec.Struct, frozen=True):
    """How a provider's own result lines name their rows, and what is written for a row that has none.

    `not_run`: what follows the id in such a line, to its end.
    """

    id_field: str = "custom_id"
    not_run: bytes = (
        b',"response":null,"error":{"code":"not_run","message":"the provider gave no result for this row"}}\n'
    )


class Setting(msgspec.Struct, frozen=True):
    """What an account needs to be told beside its key: a project, a region, a bucket.

    It stands under `name` in the account's settings, or in the first of `variables` that is set.
    """

    name: str
    help: str
    variables: tuple[str, ...] = ()
    default: str | None = None
    """None: there is no account without it."""


class Option(msgspec.Struct, frozen=True):
    """Something about a whole job that a provider lets one choose: `--option name=value`."""

    name: str
    help: str
    choices: tuple[str, ...] = ()


class CacheRules(msgspec.Struct, frozen=True, kw_only=True):
    """What can be done about a provider's prompt cache.

    `marks`: what rows share is cached where a mark in the request says so, and for how long. `cut`: what stands in the
    JSON of a request between two pieces of one text, %s for how long the first is kept; "" where only whole texts are
    marked. `key`: the field of a request that brings those with the same value to the same cache, "" where there is
    none. `least`: patterns of models and how many tokens a part must have at least to be cached; the last is every
    model's.
    """

    marks: bool = False
    cut: str = ""
    key: str = ""
    least: tuple[tuple[str, int], ...] = (("", 0),)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider can do, so that nothing above the adapters asks for its name.

    What is left out is as with most: a batch of one model, made of a file of lines that was uploaded before, found
    again by a name of ours, done within a day, at half the price.
    """

    provider: str
    title: str
    endpoints: tuple[Endpoint, ...]
    """The first is what is asked for unless told otherwise."""

    # The account.
    key_variables: tuple[str, ...]
    needs_key: bool = True
    url_variable: str
    default_url: str
    url_path: str = ""
    """What stands between the account's URL and its batches, settings in braces: an account is a place."""
    settings: tuple[Setting, ...] = ()
    options: tuple[Option, ...] = ()

    # Rows.
    native_form: NativeForm | None
    """The form of batch file that goes through untouched; None: there is none that could."""
    translates: tuple[Translated, ...] = ()
    """Endpoints of OpenAI's whose requests can be put into this provider's own form, and its answers back."""
    framing: Framing = Framing(b"", b"\n", b"\n")
    raw: RawForm = RawForm()

    # Batches.
    batches: bool = True
    """Whether there are batches at all. Without, rows are run in real time."""
    limits: Limits
    least_rows: int = 1
    """Fewer rows than that make no batch."""
    one_model_per_batch: bool = True
    uploads_file: bool = True
    """A batch is created from a file uploaded before; otherwise the create call carries the rows."""
    create_timeout: float = 120.0
    """Seconds after which a create without a reply counts as unknown."""
    creates_per_hour: int | None = None
    windows: tuple[str, ...] = ("24h",)
    """How long a batch may take, as the provider has it; the first is what is asked for unless told otherwise."""
    adoption: Adoption
    echoes_tag: bool = True
    """The listing shows our tag handle; otherwise one intent at a time per account, matched by count."""
    kept: str = ""
    """How long results are kept at the provider, for people."""
    rescues: bool = True
    """Whether a row of a batch can be run in real time as it is: same account, same model."""

    # Money.
    discount: str = "50 %"
    """Off the price of real time, for people: what a model costs stands in the price book."""
    region_in_url: str = ""
    """Where an account's requests are run, if that has a price of its own: the group of this in the account's URL."""
    region_field: str = ""
    """The field of a request that says so. What it was billed as stands in the result."""
    cache_stacks: bool | None = None
    """Whether cached tokens are cheaper still in a batch. None: the provider does not say, or it differs."""
    cache: CacheRules = CacheRules()


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
    head: str = ""
    """How the prompt begins for every row, where that is marked for the provider's cache."""
    lead: str = ""
    """How long the cache keeps the beginnings that some rows share with some others, as "1h"; "" where none is marked.
    """
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    schema: dict[str, Any] | None = None
    params: dict[str, Any] = {}
    options: dict[str, str] = {}
    """What was chosen of the provider's options."""
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
    audio_input: int = 0
    """Part of `input`, as `audio_cached` is of `cached`, and the following are of `output`."""
    audio_cached: int = 0
    audio_output: int = 0
    image_output: int = 0

    @property
    def total_input(self) -> int:
        return self.input + self.cached + self.write_5m + self.write_1h


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Picodollars per token. None means unknown, which is never zero.

    A model with no rate for audio at all does not price it apart: it costs what text does. The same of images.
    """

    input: int | None = None
    cached: int | None = None
    write_5m: int | None = None
    write_1h: int | None = None
    output: int | None = None
    audio_input: int | None = None
    audio_cached: int | None = None
    audio_output: int | None = None
    image_output: int | None = None

    @property
    def audio_apart(self) -> bool:
        rates = (self.audio_input, self.audio_cached, self.audio_output)
        return any(rate is not None for rate in rates)


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
    regions: dict[str, "Price"] = {}
    """What it costs where a result says that it was run elsewhere: the name of the place -> its price."""


class JobPrices(msgspec.Struct, frozen=True):
    """The prices that a job was planned with, and keeps: model -> price, by tier. None: unknown."""

    batch: dict[str, Price | None]
    standard: dict[str, Price | None]
    flex: dict[str, Price | None] = {}
    priority: dict[str, Price | None] = {}

    def of(self, tier: str) -> dict[str, Price | None]:
        """The prices in one tier; none at all for a tier that nobody here knows."""
        match tier:
            case "batch" | "standard" | "flex" | "priority":
                return getattr(self, tier)
            case _:
                return {}


class Counts(msgspec.Struct, frozen=True):
    """How the rows of a shard stand after the newest attempt."""

    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0

    @property
    def settled(self) -> int:
        return self.succeeded + self.failed + self.expired + self.cancelled

"""A job's record: what was asked, on what terms, and where it stands."""

import enum
from typing import Any

import msgspec

from halfrate.base.types import InputFormat, JobPrices, OutputFormat, RequestSpec
from halfrate.core.caching import CachePlan
from halfrate.core.estimates import Basis
from halfrate.core.lifecycle import SmallTails


class JobState(enum.StrEnum):
    OPEN = "open"
    """Rows are still to come, or the output is still to be written."""
    DONE = "done"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    """Nothing more is sent until `halfrate resume`."""
    STOPPED = "stopped"
    """Refused in a way that time does not cure; `halfrate retry` goes on where it stopped."""


class Forecast(msgspec.Struct, frozen=True):
    """What was expected before anything was sent. Money in picodollars, None where a price is unknown.

    Nine times in ten the cost should lie between `cost_low` and `cost_high`. `basis`: what that was learned from.
    """

    input_tokens: int
    output_tokens: int
    cost: int | None
    realtime_cost: int | None
    cost_low: int | None = None
    cost_high: int | None = None
    basis: Basis = "nothing"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created_at: float
    state: JobState = JobState.OPEN
    account: str
    spec: RequestSpec
    spec_hash: str
    input_name: str
    input_format: InputFormat
    input_size: int
    rows: int
    request_bytes: int
    text_bytes: float = 0.0
    """Bytes of the requests, without what the provider's format puts around them; 0 in records from before."""
    counted_tokens: int | None = None
    """Of the requests, where they were counted with the model's vocabulary."""
    prompt_hash: str = ""
    """Names what is asked of a row; "" where each row says that itself."""
    cache: CachePlan = CachePlan()
    """What is done about the provider's prompt cache."""
    names: dict[str, str] = {}
    """Our output columns that had to be renamed, because the input has them already."""
    prices: JobPrices
    forecast: Forecast
    tags: dict[str, str] = {}
    deadline: float | None = None
    rescue: bool = True
    """Whether rows may be run in real time, at its price, for the deadline's sake."""
    keep_going: bool = False
    """Whether more is sent although most rows of a batch failed."""
    priority: int = 0
    """One more gets twice the share of a queue that others wait for as well."""
    tier: str = "batch"
    """How its rows are served: as a batch, or in a tier of real time."""
    small_tails: SmallTails = "fail"
    """What becomes of rows that are left over and too few for a batch."""
    max_attempts: int = 5
    output: str | None = None
    output_format: OutputFormat = "jsonl"
    raw: bool = False
    """Whether the output is the provider's own result objects."""
    fetched: bool = False
    """Whether whoever made it fetches the results, so that no output is written."""
    finished_at: float | None = None
    note: str | None = None
    extra: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """The name of the account, before the model: how the job is asked for, and shown."""
        head, _, _ = self.account.partition("@")
        label, _, provider = head.rpartition("=")
        return f"{label or provider}/{self.spec.model or '*'}"

    @property
    def held(self) -> int | None:
        """What budgets set aside for it, picodollars; None where a price is unknown."""
        return None if self.forecast.cost is None else self.forecast.cost + self.cache.hoped

    @property
    def team(self) -> str:
        """Whose share of a queue the job's batches count against."""
        return self.tags.get("team", "")

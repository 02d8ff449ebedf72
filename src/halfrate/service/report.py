"""How a job ended, or how far it is, as every face shows it."""

import msgspec

from halfrate.base.types import Usage
from halfrate.core.finish import Finish
from halfrate.core.job import Job


class Prospect(msgspec.Struct, frozen=True):
    """How a job with a deadline would begin."""

    finish: Finish
    at_once: int
    """Rows that would go out in real time at once, because the deadline is too near for a batch, or they are few."""
    tier: str | None
    """In which tier."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended, or how far it is. Money in picodollars, None where a price is unknown."""

    job: Job
    succeeded: int
    failed: int
    expired: int
    cancelled: int
    waiting: int
    """Rows whose outcome is still to come."""
    rescued: int
    """Rows that were answered, and paid, in real time."""
    rescue_cost: int | None
    """What of `cost` was paid for them."""
    usage: Usage
    cost: int | None
    realtime_cost: int | None
    uncached_cost: int | None
    """What it would have cost without the provider's cache."""
    waste: int | None
    doubts: int
    """Calls in real time that may have been billed unseen."""
    errors: tuple[tuple[str, int], ...]
    duplicates: int
    unknown_lines: int
    malformed_lines: int
    attempts: int
    paused: int = 0
    """Batches that are held back, or will be before they are sent again."""
    paused_because: str | None = None
    stopped: tuple[str, ...] = ()

    @property
    def saved(self) -> int | None:
        if self.cost is None or self.realtime_cost is None:
            return None
        return self.realtime_cost - self.cost

    @property
    def cache_saved(self) -> int | None:
        """What caching saved beside that: less than nothing where it cost more."""
        return (
            self.uncached_cost - self.cost
            if self.uncached_cost is not None and self.cost is not None
            else None
        )

    @property
    def unsuccessful(self) -> int:
        return self.job.rows - self.succeeded

"""How a job ended, or how far it is, as every face shows it."""

import msgspec

from halfrate.base.types import Usage
from halfrate.core.job import Job


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended, or how far it is. Money in picodollars, None where a price is unknown."""

    job: Job
    succeeded: int
    failed: int
    expired: int
    cancelled: int
    waiting: int
    """Rows whose outcome is still to come."""
    usage: Usage
    cost: int | None
    realtime_cost: int | None
    waste: int | None
    errors: tuple[tuple[str, int], ...]
    duplicates: int
    unknown_lines: int
    malformed_lines: int
    attempts: int
    stopped: tuple[str, ...] = ()

    @property
    def saved(self) -> int | None:
        if self.cost is None or self.realtime_cost is None:
            return None
        return self.realtime_cost - self.cost

    @property
    def unsuccessful(self) -> int:
        return self.job.rows - self.succeeded

"""What every part of the world shares: time, chance, faults, limits, the meter, the disk."""

import random
import uuid
from datetime import UTC, datetime

from halfrate.emulator._bigquery_store import Tables
from halfrate.emulator._cache import PromptCache
from halfrate.emulator._clock import Clock
from halfrate.emulator._exports import Exports
from halfrate.emulator._faults import FaultBook
from halfrate.emulator._gcs_store import Buckets
from halfrate.emulator._meter import Meter
from halfrate.emulator._settings import CacheModel, Limits, Pace
from halfrate.emulator._spool import Spool
from halfrate.emulator._webhooks import Outbox, WebhookTarget


class Context:
    """Shared state. Made anew by a reset, except for the clock, the faults and the meter."""

    def __init__(
        self,
        seed: int,
        clock: Clock,
        pace: Pace,
        limits: Limits,
        *,
        cache: CacheModel | None,
        spool: Spool,
        s3: str | None = None,
    ) -> None:
        self.seed = seed
        self.clock = clock
        self.pace = pace
        self.limits = limits
        self.random = random.Random(seed)
        self.faults = FaultBook(seed)
        self.meter = Meter()
        self.exports = Exports(self.meter, seed)
        self.cache = PromptCache(cache, self.faults)
        self.spool = spool
        self.outbox = Outbox(self.faults)
        self.buckets = Buckets(spool, self.meter)
        self.tables = Tables(spool)
        self.s3_buckets = Buckets(spool, self.meter)
        self.s3_url = s3
        """Where the S3 is that Bedrock reads and writes; None: the emulator's own."""
        self._serial = 0
        # Polling more often must not change the ids of what is made, so replies draw theirs elsewhere.
        self._replies = random.Random(f"{seed}:replies")

    def new_id(self, prefix: str) -> str:
        """An id in the provider's style: its prefix and 24 hexadecimal digits."""
        return f"{prefix}{self.random.getrandbits(96):024x}"

    def new_uuid(self) -> str:
        """An id for the providers that have UUIDs."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def reply_id(self) -> str:
        """The id of one reply, for its header."""
        return f"req_{self._replies.getrandbits(96):024x}"

    def add_target(self, target: WebhookTarget) -> None:
        self.outbox.targets.append(target)

    def attempt(self) -> str:
        """A new number at every call: makes each try of the same call a draw of its own."""
        self._serial += 1
        return str(self._serial)


def timestamp(seconds: float | None) -> int | None:
    """Unix seconds as OpenAI writes them."""
    return None if seconds is None else int(seconds)


def rfc3339(seconds: float | None) -> str | None:
    """A time as Anthropic writes it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

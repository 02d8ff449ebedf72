"""The prompt caches: which part of a prompt was read from a cache, which part was written to one."""

from hashlib import blake2b

from halfrate.emulator._faults import FaultBook
from halfrate.emulator._settings import CacheModel


class PromptCache:
    """Prefixes that are warm, until when, and which batch warmed them."""

    def __init__(self, model: CacheModel | None, faults: FaultBook) -> None:
        self.model = model
        self._draws = faults
        self._warm: dict[bytes, tuple[float, str]] = {}

    def key(self, *parts: str) -> bytes:
        return blake2b("\x00".join(parts).encode(), digest_size=16).digest()

    def hit(self, key: bytes, now: float, batch_id: str, about: str) -> bool:
        """Whether a row finds that prefix."""
        found = self._warm.get(key)
        if self.model is None or found is None or found[0] < now:
            return False
        if batch_id and found[1] == batch_id and not self.model.within_batch:
            return False
        return self._draws.draw(f"cache:{about}") < self.model.hit_rate

    def write(self, key: bytes, now: float, ttl: float, batch_id: str) -> None:
        """Warm a prefix. The batch that warmed it first stays its owner for as long as it is warm."""
        found = self._warm.get(key)
        still_warm = found is not None and found[0] >= now
        self._warm[key] = (now + ttl, found[1] if found is not None and still_warm else batch_id)

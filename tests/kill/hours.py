"""Hours that pass faster than the wall's, for every process that is given the same numbers."""

import asyncio
import time


class Hours:
    """A clock for workers and for their provider. It showed the wall's time at `since`."""

    def __init__(self, speed: str, since: str) -> None:
        self._speed = float(speed)
        self._since = float(since)

    def now(self) -> float:
        return self._since + (time.time() - self._since) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)

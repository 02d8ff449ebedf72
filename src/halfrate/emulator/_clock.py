"""Clocks. The world reads time through `now()` and nothing else, so a day can pass between two requests."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where the world gets its time from: float unix seconds."""

    def now(self) -> float: ...


class AdjustableClock(Clock, Protocol):
    """A clock that can be moved forward by hand (`POST /emulator/clock`)."""

    def advance(self, seconds: float) -> None: ...


class ScaledClock:
    """Runs `speed` times as fast as the wall clock; `advance` jumps ahead."""

    def __init__(self, speed: float = 1.0, *, start: float | None = None) -> None:
        if speed <= 0:
            raise ValueError(f"a clock's speed must be above 0, not {speed}")
        self.speed = speed
        self._started = time.monotonic()
        self._offset = time.time() if start is None else start

    def now(self) -> float:
        return self._offset + (time.monotonic() - self._started) * self.speed

    def advance(self, seconds: float) -> None:
        _refuse_backwards(seconds)
        self._offset += seconds


class RealClock(ScaledClock):
    """The wall clock, with a hand to move it forward."""

    def __init__(self) -> None:
        super().__init__(1.0)


class ManualClock:
    """Stands still until somebody advances it: for tests and simulations in virtual time."""

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        _refuse_backwards(seconds)
        self._now += seconds


def _refuse_backwards(seconds: float) -> None:
    if seconds < 0:
        raise ValueError(f"time goes forward only: cannot advance by {seconds} seconds")

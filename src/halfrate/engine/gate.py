"""Where realtime calls wait until a pacer lets them go."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from halfrate.base.clock import Clock
from halfrate.base.errors import Refused
from halfrate.core.pacing import Load, Pacer, Ticket


class Gate:
    """The one way out for calls to one model of one account; they leave in the order in which they came to it."""

    def __init__(self, pacer: Pacer, clock: Clock) -> None:
        self.pacer = pacer
        self._clock = clock
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()

    async def enter(self, load: Load, most: float) -> Ticket:
        """Wait until a call may leave. Raises Refused if that is longer than `most` seconds off."""
        async with self._turn:
            while True:
                delay = self.pacer.delay(self._clock.now(), load)
                if delay == 0:
                    return self.pacer.sent(self._clock.now(), load)
                if delay is not None and delay > most:
                    raise Refused(
                        f"The provider takes no more calls for {delay:,.0f} s. The rows that are left were not sent.",
                        status=429,
                        retry_after=delay,
                    )
                self._news.clear()
                await _first(self._news.wait(), None if delay is None else self._clock.sleep(delay))

    def ended(self) -> None:
        """A call has ended: there is room, or news."""
        self._news.set()


async def _first(one: Coroutine[Any, Any, Any], other: Coroutine[Any, Any, Any] | None) -> None:
    """Wait for whichever comes first; the other is cancelled."""
    if other is None:
        await one
        return
    tasks = {asyncio.ensure_future(one), asyncio.ensure_future(other)}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

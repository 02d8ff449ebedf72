"""Keeping a claimed shard for longer than a lease: for work whose end nobody can foresee."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from halfrate.base.clock import Clock
from halfrate.base.errors import HalfrateError
from halfrate.core.lifecycle import Shard
from halfrate.store.store import Store


class Hold:
    """A shard that is being kept. `until`: when its lease ends; `lost`: it is somebody else's by now."""

    def __init__(self, clock: Clock, until: float) -> None:
        self.lost = asyncio.Event()
        self._clock = clock
        self.until = until

    def in_time(self) -> bool:
        """Whether nobody else can have taken the shard yet."""
        return not self.lost.is_set() and self._clock.now() < self.until


@asynccontextmanager
async def held(
    store: Store,
    shard: Shard,
    owner: str,
    clock: Clock,
    until: float,
    span: float,
    on_lost: Callable[[], None] = lambda: None,
) -> AsyncGenerator[Hold]:
    """Renew a shard's lease again and again, for `span` seconds each time, until the block ends.

    `until`: when the lease ends that it has. That is to come from whoever took it: this process may have been stopped
    since then. `on_lost` is called once if renewing fails. A process that was stopped meanwhile learns from
    `Hold.in_time` that its time may be over, whatever the renewing has come to.
    """
    hold = Hold(clock, until)

    async def renew() -> None:
        while True:
            await clock.sleep(span / 4)
            later = clock.now() + span
            try:
                kept = await asyncio.to_thread(store.extend, shard, owner, later)
            except HalfrateError:
                # The database is busy or away: the lease still runs, and the next try may be in time.
                continue
            if not kept:
                hold.lost.set()
                on_lost()
                return
            hold.until = later

    renewing = asyncio.create_task(renew())
    try:
        yield hold
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)

"""Callers who wait on the line for calls that are still to be answered."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.types import Receive

from halfrate.base.errors import HalfrateError
from halfrate.gateway.logs import Lasting
from halfrate.store.deferred import DeferredStore

_LOOK: Final = 1.0
"""Seconds between two looks for calls that other processes have answered."""
_OVERLAP: Final = 10.0
"""Seconds by which clocks, and commits, may be late."""
_ME: Final = "line"
"""Who meets a trouble here, beside those who meet it elsewhere."""


class Line:
    """Wakes who waits, whichever process has answered."""

    def __init__(self, store: DeferredStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._waiting

    def join(self, call_id: str) -> "asyncio.Future[None]":
        """To be woken when the call has ended. `leave` it in any case."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(call_id, []).append(future)
        return future

    def leave(self, call_id: str, future: "asyncio.Future[None]") -> None:
        found = self._waiting.get(call_id, [])
        if future in found:
            found.remove(future)
        if not found:
            self._waiting.pop(call_id, None)
        future.cancel()

    def ended(self, call_ids: Sequence[str]) -> None:
        """Calls have ended. May be called from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake, tuple(call_ids))

    async def run(self, trouble: Lasting) -> None:
        """Look for what other processes have answered, until cancelled."""
        self._loop = asyncio.get_running_loop()
        since = self._now()
        while True:
            await asyncio.sleep(_LOOK)
            if not self._waiting:
                trouble.passed(_ME)
                since = self._now()
                continue
            try:
                now = self._now()
                self._wake(await asyncio.to_thread(self._store.ended_since, since - _OVERLAP))
                since = now
                trouble.passed(_ME)
            except HalfrateError as error:
                trouble.met(str(error), _ME)

    def _wake(self, call_ids: Sequence[str]) -> None:
        for call_id in call_ids:
            for future in self._waiting.get(call_id, ()):
                if not future.done():
                    future.set_result(None)


async def unless_gone(receive: Receive, waited: "Awaitable[None]") -> bool:
    """Wait for something; False where the caller hangs up before it comes."""
    gone = asyncio.ensure_future(_hung_up(receive))
    come = asyncio.ensure_future(waited)
    try:
        await asyncio.wait({gone, come}, return_when=asyncio.FIRST_COMPLETED)
        return come.done()
    finally:
        gone.cancel()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

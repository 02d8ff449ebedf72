"""Small writes to many connections, one behind the other at the end of a turn of the event loop.

A write wakes up whoever waits for it, and to wake somebody up costs several times what it takes to write. Of writes
that follow each other at once the first alone has to: the others find their readers at work. A gateway that has many
calls under way therefore keeps what it writes in a turn until all of that turn's work is done. One that has few writes
at once, as nothing is to be won by waiting.
"""

import asyncio
import weakref
from typing import Final

_FEW: Final = 4
"""Calls under way, up to which each is written at once."""


class Outbox:
    """Of one event loop. Used from its thread alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes, under_way: int) -> None:
        """Write soon, or at once where few calls are under way. What is written to one transport leaves in order."""
        waiting = self._waiting
        if waiting:
            waiting.append((transport, data))
        elif under_way > _FEW and (loop := self._loop()) is not None:
            waiting.append((transport, data))
            loop.call_soon(self.flush)
        else:
            transport.write(data)

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)


_outboxes: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox]] = weakref.WeakKeyDictionary()


def outbox_of(loop: asyncio.AbstractEventLoop) -> Outbox:
    """The outbox of an event loop."""
    found = _outboxes.get(loop)
    if found is None:
        found = _outboxes[loop] = Outbox(loop)
    return found

"""The gateway's log: one line of JSON a call, with nothing in it that was sent or answered."""

import json
import sys
import traceback
from collections.abc import Sequence
from typing import IO, Any, Final

import msgspec

from halfrate.base.clock import Clock

_SAID_EVERY: Final = 60.0
"""Seconds between two lines about one trouble."""


class Log:
    """Writes lines. No header, no body, no query string: a key could stand in any of them."""

    def __init__(self, clock: Clock, stream: IO[str] | None = None, *, quiet: bool = False) -> None:
        self._clock = clock
        self._stream = stream
        self.quiet = quiet

    def call(
        self,
        *,
        method: str,
        path: str,
        status: int,
        seconds: float,
        request_id: str,
        key: str,
        route: Sequence[str] = (),
    ) -> None:
        """A call that was answered. `route`: which models were tried for it, and with what result."""
        if not self.quiet:
            self._write(
                event="call",
                method=method,
                path=path,
                status=status,
                ms=round(seconds * 1_000, 1),
                request_id=request_id,
                key=key,
                **({"route": route} if route else {}),
            )

    def say(self, event: str, **facts: Any) -> None:
        """Something that somebody who runs the gateway should know."""
        self._write(event=event, **facts)

    def failed(self, error: BaseException, request_id: str) -> None:
        """A defect of ours: where it was raised. What an error says may repeat what was sent, and stays out."""
        frames = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        self._write(event="defect", kind=type(error).__name__, at=frames[-8:], request_id=request_id)

    def _write(self, **facts: Any) -> None:
        line = msgspec.json.encode({"at": round(self._clock.now(), 3), **facts})
        if not line.isascii():
            # A path may hold what steers a terminal, or what some readers take for the end of a line.
            line = json.dumps(msgspec.json.decode(line), separators=(",", ":")).encode()
        stream = self._stream or sys.stderr
        stream.write(line.decode() + "\n")
        stream.flush()


class Lasting:
    """A trouble that is met again and again: said when it begins, then once a minute at most, and when it is over.

    What comes and goes within a minute is one trouble. For one event loop.

    Args:
        event: what is said of it.
        over: what is said when nobody meets it any more.
    """

    def __init__(self, log: Log, clock: Clock, event: str, over: str) -> None:
        self._log = log
        self._clock = clock
        self._event = event
        self._over = over
        self._meeting: set[str] = set()
        self._said_at = -_SAID_EVERY
        self._told = False

    def met(self, why: str, who: str = "") -> None:
        """Somebody has met it, and will try again."""
        self._meeting.add(who)
        now = self._clock.now()
        if now - self._said_at >= _SAID_EVERY:
            self._said_at, self._told = now, True
            self._log.say(self._event, why=why)

    def passed(self, who: str = "") -> None:
        """Somebody who may have met it does not meet it now."""
        self._meeting.discard(who)
        if self._told and not self._meeting:
            self._told = False
            self._log.say(self._over)

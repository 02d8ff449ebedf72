"""The door: every call is let in or turned away here, before anything of it is read.

A key comes as `Authorization: Bearer` or as `x-api-key`. What was found good is remembered for a few seconds, so that a
busy caller does not cost a look into the database each time; a key that is revoked is turned away within that time by
every process.
"""

import asyncio
import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from halfrate.base.errors import HalfrateError
from halfrate.core.keys import Key, Surface
from halfrate.gateway.errors import ApiError, as_api_error, error_response
from halfrate.gateway.logs import Log
from halfrate.gateway.webhooks import PLACE

_REMEMBERED: Final = 5.0
"""Seconds."""
_MOST_REMEMBERED: Final = 10_000
_OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
_OPENAI_ALONE: Final = (
    "/v1/batches",
    "/v1/chat/",
    "/v1/embeddings",
    "/v1/files",
    "/v1/responses",
    "/v1/uploads",
)
"""How addresses begin that Anthropic's API does not have here."""
_MINUTE: Final = 60.0


class Door:
    """ASGI middleware: request ids, keys, rates, and how many calls are served at a time.

    Args:
        authenticate: the key that a text presents, or None. Called in a thread.
        most: how many calls are served at a time; more are turned away with 429 while there is memory to do so.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticate: Callable[[str], Key | None],
        log: Log,
        *,
        most: int = 20_000,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._log = log
        self._most = most
        self._now = now
        self._inside = 0
        # Ids of calls are counted on from something that no other process has.
        self._mark = secrets.token_hex(8)
        self._calls = itertools.count(1)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._allowances: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        headers = dict(scope["headers"])
        surface = surface_of(path, headers)
        request_id = f"req_{self._mark}{next(self._calls):08x}"
        scope["halfrate.surface"] = surface
        scope["halfrate.request_id"] = request_id
        scope["halfrate.headers"] = headers
        mark = (b"request-id" if surface == "anthropic" else b"x-request-id", request_id.encode())

        def answer(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                scope["halfrate.status"] = message["status"]
                message["headers"] = [*message.get("headers", ()), mark]
            return send(message)

        started = self._now()
        self._inside += 1
        try:
            # Providers have no key: what they send is signed.
            if path not in _OPEN and not path.startswith(PLACE):
                try:
                    known = await self._let_in(headers, surface, started)
                except (ApiError, HalfrateError) as error:
                    # Before anything of the body was read.
                    await error_response(self._refusal(error, request_id), scope)(scope, receive, answer)
                    return
                scope["halfrate.key"] = known.key
                scope["halfrate.tags"] = known.tags
            await self._app(scope, receive, answer)
        finally:
            self._inside -= 1
            if not self._log.quiet:
                self._tell(scope, scope.get("halfrate.status") or 500, self._now() - started)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        key: Key | None = scope.get("halfrate.key")
        self._log.call(
            method=scope["method"],
            path=scope["path"],
            status=status,
            seconds=seconds,
            request_id=scope["halfrate.request_id"],
            key=key.id if key is not None else "",
            route=scope.get("halfrate.route", ()),
        )

    async def _let_in(self, headers: Mapping[bytes, bytes], surface: Surface, now: float) -> "_Known":
        if self._inside > self._most:
            message = f"The gateway serves {self._most:,} calls at a time, and no more now. Try again."
            raise ApiError(429, message, code="overloaded", headers={"retry-after": "1"})
        raw = _raw(headers)
        known = self._known.get(raw)
        if known is None or now >= known.until:
            known = await self._looked_up(raw, presented(headers))
        key = known.key
        # What is halfrate's own opens to all, and shows those alone that they may see.
        if surface != "admin" and not key.opens(surface):
            message = f"This key does not open the {surface} API; it opens {', '.join(key.surfaces)}."
            raise ApiError(403, message, code="surface_not_allowed")
        if key.requests_per_minute is not None:
            self._count(key, key.requests_per_minute)
        return known

    def _refusal(self, error: ApiError | HalfrateError, request_id: str) -> ApiError:
        if isinstance(error, ApiError):
            return error
        self._log.say("unable", why=str(error), request_id=request_id)
        return as_api_error(error)

    async def _looked_up(self, raw: bytes, text: str) -> "_Known":
        """What is known of the key that came with a call. Raises ApiError where it is none. `raw`: as of `_raw`."""
        if not text:
            message = (
                "No key came with the call. Send `Authorization: Bearer hr_...` or `x-api-key: hr_...`; "
                "`halfrate keys create NAME` makes one."
            )
            raise ApiError(401, message, code="invalid_api_key")
        now = self._now()
        key = await asyncio.to_thread(self._authenticate, text)
        if key is None:
            self._known.pop(raw, None)
            message = "The key that came with the call is none of this gateway's, or not any more."
            raise ApiError(401, message, code="invalid_api_key")
        known = _Known(key, key.all_tags, now + _REMEMBERED)
        # What the header says has to be the key, and not only to stand before another that does.
        if text.encode("latin-1") in raw:
            self._known[raw] = known
            self._known.move_to_end(raw)
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _count(self, key: Key, most: int) -> None:
        """Take one call of what the key may make in a minute, which comes back evenly over the minute."""
        now = self._now()
        left, at = self._allowances.get(key.id, (float(most), now))
        left = min(float(most), left + (now - at) * most / _MINUTE)
        if left < 1:
            self._allowances[key.id] = (left, now)
            wait = max(1, round((1 - left) * _MINUTE / most))
            message = f"This key may make {most:,} calls a minute. Try again in {wait} s."
            raise ApiError(429, message, code="rate_limit_exceeded", headers={"retry-after": str(wait)})
        self._allowances[key.id] = (left - 1, now)


class _Known(msgspec.Struct, frozen=True):
    """A key that was found good; `tags`: what is booked of it."""

    key: Key
    tags: dict[str, str]
    until: float

    def __repr__(self) -> str:
        return f"_Known({self.key.id})"


def surface_of(path: str, headers: Mapping[bytes, bytes]) -> Surface:
    """Whose API a call speaks. What both have is told apart by the header that Anthropic's clients always send.

    What is OpenAI's alone stays so whatever the headers say: a key that does not open it would else.
    """
    if path.startswith("/v1/halfrate"):
        return "admin"
    if path.startswith("/v1/messages"):
        return "anthropic"
    if path.startswith(_OPENAI_ALONE) or b"anthropic-version" not in headers:
        return "openai"
    return "anthropic"


def _raw(headers: Mapping[bytes, bytes]) -> bytes:
    """The key that a call came with, as it was written, and in which of the two headers."""
    own = headers.get(b"x-api-key")
    return b"k" + own if own else b"a" + headers.get(b"authorization", b"")


def presented(headers: Mapping[bytes, bytes]) -> str:
    """The key that a call came with, "" where there is none."""
    own = headers.get(b"x-api-key", b"").strip()
    if own:
        return own.decode("latin-1")
    kind, _, rest = headers.get(b"authorization", b"").partition(b" ")
    return rest.strip().decode("latin-1") if kind.lower() == b"bearer" else ""

"""Webhooks that providers send: hints that a batch has ended, so that it is looked at now and not at its next turn.

They come without a key of halfrate's: who they are from is proved by their signature. An account for which no secret
is set is answered like one that there is not. Of what an event says only the batch that it names is heeded, and nothing
goes into a log.

OpenAI: webhooks guide and SDK (2026). Gemini: webhooks guide (2026), the form with a shared secret; the form with a
signed token for single batches is not taken.
"""

import asyncio
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from halfrate.base.errors import UsageError
from halfrate.core.webhooks import ended_batch, read_secret, verified
from halfrate.gateway.calls import read_body, reply
from halfrate.gateway.errors import ApiError
from halfrate.providers.registry import account_of
from halfrate.service.jobs import Service

PLACE: Final = "/v1/halfrate/webhooks/"
"""What lies behind it takes no key."""
_VARIABLES: Final = {"openai": "OPENAI_WEBHOOK_SECRET", "gemini": "GEMINI_WEBHOOK_SECRET"}
_ACCOUNT: Final = re.compile(r"[a-z0-9._-]{1,64}")
_BODY_BYTES: Final = 64 << 10
_BODY_SECONDS: Final = 10.0
_MOST_READING: Final = 64
"""Calls whose bodies are read at a time: anybody can begin one."""
_MOST_REMEMBERED: Final = 10_000
_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


class ProviderWebhooks:
    """Takes events in.

    Args:
        hinted: called when a batch is to be looked at.
    """

    def __init__(
        self, service: Service, hinted: Callable[[], None], environ: Mapping[str, str] | None = None
    ) -> None:
        self._service = service
        self._hinted = hinted
        self._environ = os.environ if environ is None else environ
        self._reading = 0
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def openai(self, request: Request) -> Response:
        return await self._take(request, "openai")

    async def gemini(self, request: Request) -> Response:
        return await self._take(request, "gemini")

    async def _take(self, request: Request, provider: str) -> Response:
        label: str = request.path_params["account"]
        secrets = read_secret(self._environ.get(_variable(provider, label), ""))
        account = await asyncio.to_thread(_account, provider, label) if secrets else None
        if account is None:
            raise ApiError(404, "There is no such webhook here.", code="unknown_webhook")
        message_id, timestamp, signatures = (request.headers.get(name, "") for name in _HEADERS)
        if not (message_id and timestamp and signatures):
            raise _unsigned()
        body = await self._read(request)
        now = self._service.clock.now()
        if not verified(secrets, message_id, timestamp, signatures, body, now):
            raise _unsigned()
        if (account, message_id) not in self._seen:
            await self._heed(account, ended_batch(body))
            # Only now: what could not be heeded is sent again, and then it should be.
            self._remember((account, message_id))
        return reply({"received": True})

    async def _read(self, request: Request) -> bytes:
        if self._reading >= _MOST_READING:
            raise ApiError(
                429, "Too many calls at a time. Try again.", code="overloaded", headers={"retry-after": "1"}
            )
        self._reading += 1
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await read_body(request, _BODY_BYTES)
        except TimeoutError:
            raise ApiError(408, f"The body did not come within {_BODY_SECONDS:g} s.") from None
        finally:
            self._reading -= 1

    async def _heed(self, account: str, batch_id: str) -> None:
        if not batch_id:
            return
        # Gemini's guide shows ids without what stands before them in its API.
        names = [batch_id] if "/" in batch_id else [batch_id, f"batches/{batch_id}"]
        for name in names:
            if await asyncio.to_thread(self._service.hint, account, name):
                self._hinted()
                return

    def _remember(self, message: tuple[str, str]) -> None:
        self._seen[message] = None
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)


def _variable(provider: str, label: str) -> str:
    """Where an account's secret stands: OPENAI_WEBHOOK_SECRET, or for `eu` of the settings OPENAI_WEBHOOK_SECRET_EU."""
    if not _ACCOUNT.fullmatch(label):
        return ""
    own = "" if label == provider else "_" + re.sub(r"[^a-z0-9]", "_", label).upper()
    return _VARIABLES[provider] + own


def _account(provider: str, label: str) -> str | None:
    """What the store calls an account; None where it is none of this provider's, or is not set up."""
    try:
        account = account_of(label)
    except UsageError:
        return None
    return account.name if account.provider == provider else None


def _unsigned() -> ApiError:
    return ApiError(401, "The signature is not this account's, or too old.", code="invalid_signature")

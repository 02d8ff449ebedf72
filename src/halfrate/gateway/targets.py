"""Where calls in real time can go: from the name of a model to an account of a provider, and connections to it."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from halfrate.base.errors import HalfrateError, UsageError
from halfrate.base.types import Endpoint
from halfrate.core.routing import Route
from halfrate.gateway.upstream import Upstream, encoded
from halfrate.providers.accounts import load_settings
from halfrate.providers.base import Account, Adapter, Passage, Passes, Streaming
from halfrate.providers.connections import proxy_for
from halfrate.providers.registry import account_of, adapter_class, split_model
from halfrate.providers.speaking import form_of, spoken
from halfrate.service.models import resolve

K = TypeVar("K")
V = TypeVar("V")

_REMEMBERED: Final = 10.0
"""Seconds after which an account is looked up again: the settings file may have changed."""
_MOST_REMEMBERED: Final = 4_096
_ALWAYS: Final = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))


class Way:
    """How calls of one endpoint go to a place as they came."""

    def __init__(self, passage: Passage, upstream: Upstream, key: str) -> None:
        self.passage = passage
        self.upstream = upstream
        self.path = passage.path.encode()
        self._headers = tuple((name.lower().encode(), value.encode()) for name, value in passage.headers)
        self._key = key.encode()
        self._heads: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}

    def head(self, given: tuple[tuple[bytes, bytes], ...]) -> bytes:
        """The headers of a call, with those that its caller gave in place of the usual ones. Raises NotSent."""
        head = self._heads.get(given)
        if head is None:
            named = {name for name, _ in given}
            usual = (pair for pair in self._headers if pair[0] not in named)
            head = encoded((*usual, *given, *_ALWAYS))
            _remember(self._heads, given, head)
        return head

    def __repr__(self) -> str:
        return f"Way({self.passage})"

    def without_key(self, text: bytes) -> bytes:
        """What a provider says, which may repeat the key that it was sent."""
        return text.replace(self._key, b"***") if self._key else text


class Target(msgspec.Struct, frozen=True):
    """One model at one account, as calls of one endpoint reach it.

    `model`: ACCOUNT/MODEL as callers see it; `account`: as the ledger names it; `name`: as the account names the model.
    `way`: None where calls have to be translated; `spoken`: what they are put to then. `upstream`: connections to where
    a translated answer comes from piece by piece; it gives None for a place that is reached by a proxy.
    """

    model: str
    account: str
    provider: str
    name: str
    title: str
    adapter: Adapter
    shown: bytes
    """`model`, as it stands in a header."""
    upstream: Callable[[str], Upstream | None]
    spoken: Endpoint
    way: Way | None = None
    callers_key: bool = False
    """Whether the provider's key is the caller's own."""

    def __repr__(self) -> str:
        return f"Target({self.model})"


class NoTarget(Exception):
    """A model that is not to be reached. `code` is a word for programs, `str(error)` for callers; `told` is for whoever
    runs the gateway, "" where that is nothing new."""

    def __init__(self, code: str, message: str, told: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.told = told


class Targets:
    """Everything that can be reached, with the connections there."""

    def __init__(self) -> None:
        self._upstreams: dict[str, Upstream] = {}
        self._adapters: dict[tuple[str, str], Adapter] = {}
        self._models: dict[str, tuple[str, float]] = {}
        self._found: dict[tuple[str, Endpoint], tuple[Target, float]] = {}
        self._routes: tuple[dict[str, Route], float] = ({}, 0.0)
        self._named: dict[tuple[str, Endpoint], tuple[Target, float]] = {}

    def known(self, name: str, endpoint: Endpoint) -> Target | None:
        """Where calls of what callers call so went a moment ago; None where that has to be looked up."""
        known = self._named.get((name, endpoint))
        return known[0] if known is not None and time.monotonic() < known[1] else None

    def note(self, name: str, endpoint: Endpoint, target: Target) -> None:
        """What callers call so is this, for a while."""
        _remember(self._named, (name, endpoint), (target, time.monotonic() + _REMEMBERED))

    async def route(self, name: str) -> Route | None:
        """The route that callers call so; None where it is none, but a model. Raises NoTarget."""
        now = time.monotonic()
        routes, until = self._routes
        if now >= until:
            try:
                routes = (await asyncio.to_thread(load_settings)).routes
            except HalfrateError as error:
                message = "The gateway is not set up for this now."
                raise NoTarget("model_unavailable", message, str(error)) from None
            self._routes = (routes, now + _REMEMBERED)
        return routes.get(name)

    async def model(self, name: str) -> str:
        """ACCOUNT/MODEL for what a caller calls a model. Raises NoTarget."""
        now = time.monotonic()
        known = self._models.get(name)
        if known is not None and now < known[1]:
            return known[0]
        try:
            model = await asyncio.to_thread(resolve, name)
        except HalfrateError as error:
            message = f"The model '{name[:256]}' does not exist, or this gateway does not know it."
            raise NoTarget("model_not_found", message, str(error)) from None
        _remember(self._models, name, (model, now + _REMEMBERED))
        return model

    async def find(self, model: str, endpoint: Endpoint, provider_key: str = "") -> Target:
        """Where calls of ACCOUNT/MODEL go. Raises NoTarget."""
        now = time.monotonic()
        if not provider_key:
            known = self._found.get((model, endpoint))
            if known is not None and now < known[1]:
                return known[0]
        try:
            account, name = await asyncio.to_thread(_account, model, provider_key)
            target = self._target(account, model, name, endpoint, callers_key=bool(provider_key))
        except HalfrateError as error:
            message = f"The model '{model}' cannot be asked here now: its account is not set up."
            raise NoTarget("model_unavailable", message, str(error)) from None
        if not provider_key:
            _remember(self._found, (model, endpoint), (target, now + _REMEMBERED))
        return target

    async def close(self) -> None:
        """Hang up on everybody."""
        for upstream in self._upstreams.values():
            upstream.close()
        adapters = list(self._adapters.values())
        self._adapters.clear()
        for adapter in adapters:
            await adapter.close()

    def _target(
        self, account: Account, model: str, name: str, endpoint: Endpoint, *, callers_key: bool
    ) -> Target:
        adapter = self._adapter(account, callers_key=callers_key)
        passage = adapter.passage(endpoint, name) if isinstance(adapter, Passes) else None
        facts = adapter.capabilities
        own = spoken(facts, form_of(endpoint))
        if passage is None and (own is None or not adapter.tiers(own)):
            raise NoTarget("unsupported_endpoint", f"{facts.title} has no {endpoint} for '{model}'.")
        target = Target(
            model=model,
            account=account.name,
            provider=facts.provider,
            name=name,
            title=facts.title,
            adapter=adapter,
            shown=model.encode("ascii", "replace"),
            upstream=self._direct,
            spoken=own or endpoint,
            callers_key=callers_key,
        )
        if passage is None:
            return target
        way = Way(passage, self._upstream(passage.url), account.key)
        return msgspec.structs.replace(target, way=way)

    def _adapter(self, account: Account, *, callers_key: bool) -> Adapter:
        """One for each account, so that it keeps its connections. What came with a caller's own key is kept no longer
        than its call."""
        kind = adapter_class(account.provider)
        if callers_key:
            return kind(account)
        place = (account.name, account.key)
        adapter = self._adapters.get(place)
        if adapter is None:
            adapter = self._adapters[place] = kind(account)
        return adapter

    def _direct(self, url: str) -> Upstream | None:
        # The adapters' own client knows proxies, and this one does not: there answers come whole, as ever.
        return None if proxy_for(urlsplit(url)) is not None else self._upstream(url)

    def _upstream(self, url: str) -> Upstream:
        upstream = self._upstreams.get(url)
        if upstream is None:
            upstream = self._upstreams[url] = Upstream(url)
        return upstream


def head_of(streaming: Streaming) -> bytes:
    """The headers of a call that asks for a stream. Raises NotSent."""
    given = ((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in streaming.headers)
    return encoded((*given, *_ALWAYS))


def _account(model: str, provider_key: str) -> tuple[Account, str]:
    """The account of ACCOUNT/MODEL, with a caller's own key for it if there is one; and the model's name there."""
    label, provider, name = split_model(model)
    if not provider_key:
        return account_of(label), name
    given = load_settings().accounts.get(label)
    facts = adapter_class(provider).capabilities
    named = given.key_variable if given is not None else None
    variable = named or next(iter(facts.key_variables), "")
    if not variable:
        raise UsageError(f"{facts.title} takes no key that could come with a call.")
    # The caller's key stands where the gateway's own would, and no other of the gateway's own is seen.
    environ = {key: value for key, value in os.environ.items() if key not in facts.key_variables}
    return account_of(label, {**environ, variable: provider_key}), name


def _remember(places: dict[K, V], key: K, value: V) -> None:
    if len(places) >= _MOST_REMEMBERED:
        places.clear()
    places[key] = value

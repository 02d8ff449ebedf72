"""Models as callers of the gateway name them, and which there are."""

import functools
from typing import Final

import msgspec

from halfrate.base.errors import HalfrateError, UsageError
from halfrate.providers.accounts import Settings, load_settings
from halfrate.providers.registry import account_of, provider_behind, provider_names
from halfrate.service.prices import MAKERS, named_model, price_book

_LONGEST: Final = 256


class Offer(msgspec.Struct, frozen=True):
    """A model that can be asked. `model` is ACCOUNT/MODEL, `name` the shortest that means it."""

    model: str
    name: str
    provider: str
    over: tuple[str, ...] = ()
    """The models of a route, which is called by a name of its own."""


def resolve(name: str) -> str:
    """ACCOUNT/MODEL for what a caller calls a model: that itself, or a bare name whose maker the price book knows.

    Raises UsageError for a name that nobody knows.
    """
    if not name.isprintable() or len(name) > _LONGEST:
        raise UsageError(
            "There is no model of that name: it is too long, or has characters that no name has."
        )
    before, slash, rest = name.partition("/")
    if slash and rest and provider_behind(before) in provider_names():
        return name
    provider, model = _named(name)
    return f"{_account_for(provider)}/{model}"


def offers() -> list[Offer]:
    """Models of the accounts that are set up here and that have a price, by name."""
    settings = load_settings()
    by_provider: dict[str, list[str]] = {}
    for provider, model in price_book().models():
        by_provider.setdefault(provider, []).append(model)
    # Whose a bare name is: its maker's, the first of those who have it.
    makers = {model: provider for provider in reversed(MAKERS) for model in by_provider.get(provider, ())}
    found: list[Offer] = []
    for account in dict.fromkeys([*by_provider, *settings.accounts]):
        if not _set_up(account):
            continue
        provider = provider_behind(account, settings)
        own = _account_for(provider) == account
        for model in by_provider.get(provider, ()):
            bare = own and makers.get(model) == provider and _named(model)[0] == provider
            found.append(Offer(f"{account}/{model}", model if bare else f"{account}/{model}", provider))
    return sorted([*found, *_routes(settings)], key=lambda offer: offer.name)


def _routes(settings: Settings) -> list[Offer]:
    found: list[Offer] = []
    for name, route in settings.routes.items():
        try:
            found.append(Offer(name, name, "halfrate", tuple(map(resolve, route.models))))
        except UsageError:
            # It names a model that nobody knows: a call says so.
            continue
    return found


def _account_for(provider: str) -> str:
    """The account that a bare name means: the environment's, else the first of the settings file."""
    if _set_up(provider):
        return provider
    accounts = load_settings().accounts.items()
    return next((label for label, given in accounts if given.provider == provider), provider)


def _set_up(account: str) -> bool:
    try:
        account_of(account)
    except HalfrateError:
        return False
    return True


@functools.lru_cache(4_096)
def _named(name: str) -> tuple[str, str]:
    """(provider, model) of a bare name. Whose a name is does not change while a process runs. Raises UsageError."""
    return named_model(name, price_book())

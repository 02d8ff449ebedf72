"""From a provider's name to its adapter and its account."""

import functools
import importlib
import os
from collections.abc import Mapping
from typing import Final, cast

from halfrate.base.errors import SettingsError, UsageError
from halfrate.providers.base import Account, Adapter

GROUP: Final = "halfrate.providers"

_OWN: Final = {
    "anthropic": ("halfrate.providers.anthropic", "Anthropic"),
    "openai": ("halfrate.providers.openai", "OpenAI"),
}


def provider_names() -> list[str]:
    """Every provider that is installed, in alphabetical order."""
    from importlib.metadata import entry_points

    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))})


@functools.cache
def adapter_class(provider: str) -> type[Adapter]:
    """The adapter registered as `provider`. Raises UsageError for a name that nothing is registered as."""
    own = _OWN.get(provider)
    if own is not None:
        # The entry points of all installed packages take longer to read than our own module takes to import.
        module, name = own
        return cast("type[Adapter]", getattr(importlib.import_module(module), name))
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=provider):
        found: type[Adapter] = point.load()
        return found
    raise UsageError(
        f"There is no provider {provider!r}. Installed: {', '.join(provider_names())}. "
        "A model is written PROVIDER/MODEL, as in openai/gpt-4.1-mini."
    )


def decoder(provider: str) -> Adapter:
    """An adapter that understands what the provider sent, and never calls it: no key is needed for that."""
    kind = adapter_class(provider)
    return kind(Account(provider=provider, base_url=kind.capabilities.default_url, key=""))


def split_model(name: str) -> tuple[str, str]:
    """`openai/gpt-4.1-mini` -> ("openai", "gpt-4.1-mini"). Raises UsageError."""
    provider, slash, model = name.partition("/")
    if not slash or not provider or not model:
        raise UsageError(
            f"{name!r} is not a model. Write PROVIDER/MODEL, as in openai/gpt-4.1-mini or "
            "anthropic/claude-haiku-4-5."
        )
    adapter_class(provider)
    return provider, model


def account_of(provider: str, environ: Mapping[str, str] | None = None) -> Account:
    """The account that the environment describes, by the official SDKs' own variables.

    Raises SettingsError where no key is set.
    """
    environ = os.environ if environ is None else environ
    facts = adapter_class(provider).capabilities
    key = next((environ[name].strip() for name in facts.key_variables if environ.get(name, "").strip()), None)
    if key is None:
        raise SettingsError(
            f"There is no key for {facts.title}. Set {' or '.join(facts.key_variables)}, or try it without a "
            f"key: `halfrate emulate` starts a stand-in and prints the variables to set."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"The key in {facts.key_variables[0]} holds characters that no key has.")
    url = environ.get(facts.url_variable, "").strip() or facts.default_url
    return Account(provider=provider, base_url=url.rstrip("/"), key=key)

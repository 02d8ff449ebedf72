"""From a name before a model to its adapter and its account."""

import functools
import importlib
import os
from collections.abc import Mapping
from typing import Final, cast

from halfrate.base.errors import UsageError
from halfrate.providers.accounts import ProviderSettings, Settings, account_from, load_settings
from halfrate.providers.base import Account, Adapter

GROUP: Final = "halfrate.providers"

_OWN: Final = {
    "anthropic": ("halfrate.providers.anthropic", "Anthropic"),
    "azure": ("halfrate.providers.azure", "Azure"),
    "bedrock": ("halfrate.providers.bedrock", "Bedrock"),
    "cohere": ("halfrate.providers.cohere", "Cohere"),
    "deepinfra": ("halfrate.providers.dialects", "DeepInfra"),
    "doubleword": ("halfrate.providers.dialects", "Doubleword"),
    "fireworks": ("halfrate.providers.fireworks", "Fireworks"),
    "gemini": ("halfrate.providers.gemini", "Gemini"),
    "groq": ("halfrate.providers.dialects", "Groq"),
    "mistral": ("halfrate.providers.mistral", "Mistral"),
    "moonshot": ("halfrate.providers.dialects", "Moonshot"),
    "novita": ("halfrate.providers.dialects", "Novita"),
    "openai": ("halfrate.providers.openai", "OpenAI"),
    "openai-compatible": ("halfrate.providers.compatible", "Compatible"),
    "qwen": ("halfrate.providers.dialects", "Qwen"),
    "together": ("halfrate.providers.together", "Together"),
    "vertex": ("halfrate.providers.vertex", "Vertex"),
    "voyage": ("halfrate.providers.voyage", "Voyage"),
    "xai": ("halfrate.providers.xai", "XAI"),
    "zhipu": ("halfrate.providers.dialects", "Zhipu"),
}


def provider_names() -> list[str]:
    """Every provider that there is: ours, those of installed packages, those of the settings file."""
    from importlib.metadata import entry_points

    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP)), *load_settings().providers})


def adapter_class(provider: str) -> type[Adapter]:
    """The adapter registered as `provider`. Raises UsageError for a name that nothing is registered as."""
    found = _installed(provider)
    if found is not None:
        return found
    given = load_settings().providers.get(provider)
    if given is not None:
        return _described(provider, given)
    raise UsageError(
        f"There is no provider {provider!r}. There are {', '.join(provider_names())}. "
        "A model is written PROVIDER/MODEL, as in openai/gpt-4.1-mini."
    )


@functools.cache
def _installed(provider: str) -> type[Adapter] | None:
    own = _OWN.get(provider)
    if own is not None:
        # The entry points of all installed packages take longer to read than our own module takes to import.
        module, name = own
        return cast("type[Adapter]", getattr(importlib.import_module(module), name))
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=provider):
        found: type[Adapter] = point.load()
        return found
    return None


def _described(provider: str, given: ProviderSettings) -> type[Adapter]:
    from halfrate.providers.compatible import described

    return described(provider, given)


def decoder(provider: str) -> Adapter:
    """An adapter that understands what the provider sent, and never calls it: no key is needed for that."""
    kind = adapter_class(provider)
    return kind(Account(provider=provider, base_url="http://localhost", key=""))


def split_model(name: str) -> tuple[str, str, str]:
    """`openai/gpt-4.1-mini` -> ("openai", "openai", "gpt-4.1-mini"): the account, its provider, the model.

    The account is a label of the settings file, or a provider's name. Raises UsageError.
    """
    account, slash, model = name.partition("/")
    if not slash or not account or not model:
        raise UsageError(
            f"{name!r} is not a model. Write PROVIDER/MODEL, as in openai/gpt-4.1-mini or "
            "anthropic/claude-haiku-4-5."
        )
    provider = provider_behind(account)
    adapter_class(provider)
    return account, provider, model


def provider_behind(account: str, settings: Settings | None = None) -> str:
    """The provider of an account that is named before a model."""
    given = (settings or load_settings()).accounts.get(account)
    return given.provider if given is not None else account


def account_of(name: str, environ: Mapping[str, str] | None = None) -> Account:
    """The account of that name: a label of the settings file, or a provider's name for what the environment
    describes. Raises SettingsError where no key is set."""
    environ = os.environ if environ is None else environ
    settings = load_settings(environ)
    given = settings.accounts.get(name)
    facts = adapter_class(given.provider if given is not None else name).capabilities
    return account_from(facts, environ, name if given is not None else "", given)

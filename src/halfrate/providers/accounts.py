"""Accounts: from a name before a model to a provider, a place and a key.

The environment describes one account of each provider, by the official SDKs' own variables. A settings file describes
more, and providers that nobody here has heard of. Keys stand in neither: the file names the variables that hold them.
"""

import os
import string
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.base.errors import SettingsError
from halfrate.base.types import Capabilities
from halfrate.core.routing import Route, fault_in
from halfrate.providers.base import Account

VARIABLE: Final = "HALFRATE_SETTINGS"
_NAME_CHARACTERS: Final = frozenset(string.ascii_lowercase + string.digits + "-_.")


class AccountSettings(msgspec.Struct, frozen=True):
    """An account of the settings file. What stands there beside these is for the provider to understand."""

    provider: str
    key_variable: str | None = None
    base_url: str | None = None
    more: dict[str, str] = {}


class PriceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dollars for a million tokens in real time, of one model."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    batch_input: Decimal | None = None
    batch_output: Decimal | None = None
    batch_cached: Decimal | None = None


class ProviderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider of the settings file: one more that speaks OpenAI's dialect."""

    base_url: str
    title: str | None = None
    key_variable: str | None = None
    """None: no key is sent."""
    endpoints: tuple[str, ...] = ("chat",)
    batches: bool = True
    rows: int = 49_000
    megabytes: int = 95
    row_megabytes: int | None = None
    windows: tuple[str, ...] = ("24h",)
    discount: float | None = None
    """Share of the price of real time that a batch does not cost: 0.5 is half."""
    metadata: bool = True
    rows_name_url: bool = True
    answer_limit: str = "max_tokens"
    creates_per_hour: int | None = None
    prices: dict[str, PriceSettings] = {}


class Settings(msgspec.Struct, frozen=True):
    """What the settings file says."""

    path: Path | None = None
    accounts: dict[str, AccountSettings] = {}
    providers: dict[str, ProviderSettings] = {}
    prices: dict[str, dict[str, PriceSettings]] = {}
    """provider -> model -> a price of the user's own, before any of the price book."""
    routes: dict[str, Route] = {}
    """What callers of the gateway may ask instead of a model."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accounts: dict[str, dict[str, Any]] = {}
    providers: dict[str, ProviderSettings] = {}
    prices: dict[str, dict[str, PriceSettings]] = {}
    routes: dict[str, Route] = {}


def entries(settings: Settings, provider: str) -> dict[str, dict[str, dict[str, str]]]:
    """The prices that the settings give for a provider, as the price book has them: model -> tier -> kind of token ->
    dollars a million."""
    given = settings.providers.get(provider)
    prices = {**(given.prices if given is not None else {}), **settings.prices.get(provider, {})}
    found: dict[str, dict[str, dict[str, str]]] = {}
    for model, price in prices.items():
        standard = {"input": price.input, "output": price.output}
        if price.cached is not None:
            standard["cached"] = price.cached
        tiers = {"standard": {kind: str(value) for kind, value in standard.items()}}
        batch = _batch(given, price)
        if batch:
            tiers["batch"] = batch
        found[model] = tiers
    return found


def _batch(given: ProviderSettings | None, price: PriceSettings) -> dict[str, str]:
    if price.batch_input is not None and price.batch_output is not None:
        rates = {"input": price.batch_input, "output": price.batch_output}
        if price.batch_cached is not None:
            rates["cached"] = price.batch_cached
    elif given is not None and given.discount is not None and given.batches:
        share = 1 - Decimal(str(given.discount))
        rates = {"input": price.input * share, "output": price.output * share}
        if price.cached is not None:
            # Whether the two discounts add up is not known: the dearer of both is what is counted with.
            rates["cached"] = price.cached
    else:
        return {}
    return {kind: f"{value:f}" for kind, value in rates.items()}


def settings_path(environ: Mapping[str, str]) -> Path:
    """HALFRATE_SETTINGS, else `$XDG_CONFIG_HOME/halfrate/settings.toml`, else `~/.config/halfrate/settings.toml`."""
    named = environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "halfrate" / "settings.toml"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings file, understood. None of its own: no settings. Raises SettingsError for one that makes no sense."""
    environ = os.environ if environ is None else environ
    path = settings_path(environ)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if environ.get(VARIABLE):
            raise SettingsError(
                f"{VARIABLE} names {path}, and there is no such file. Nothing was sent."
            ) from None
        return Settings()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}). Nothing was sent.") from error
    # Most have no such file, and reading none should cost nothing.
    import tomllib

    try:
        raw = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML: {error}. Nothing was sent.") from error
    try:
        found = msgspec.convert(raw, _File, strict=False)
        accounts = {name: _account(given) for name, given in found.accounts.items()}
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {error}. Nothing was sent.") from error
    for name in (*accounts, *found.providers):
        if not name or not set(name) <= _NAME_CHARACTERS:
            raise SettingsError(
                f"{path}: {name!r} cannot be a name before a model. Take small letters, digits, dots and hyphens."
            )
    for name, route in found.routes.items():
        wrong = fault_in(route)
        if wrong or not name or not set(name) <= _NAME_CHARACTERS:
            raise SettingsError(f"{path}: the route {name!r}: {wrong or 'that is no name of a model'}.")
    return Settings(path, accounts, found.providers, found.prices, found.routes)


def _account(given: Mapping[str, Any]) -> AccountSettings:
    if "key" in given:
        raise msgspec.ValidationError(
            "a key does not belong into a file: name the variable that holds it, as key_variable = 'MY_KEY'"
        )
    known = {"provider", "key_variable", "base_url"}
    more = {name: value for name, value in given.items() if name not in known}
    return msgspec.convert({**{k: v for k, v in given.items() if k in known}, "more": more}, AccountSettings)


def account_from(
    facts: Capabilities, environ: Mapping[str, str], label: str = "", given: AccountSettings | None = None
) -> Account:
    """The account that the environment describes, or one of the settings file (`label`, `given`).

    Raises SettingsError where something is missing: a key, a project, a bucket.
    """
    named = given.key_variable if given is not None else None
    variables = (named,) if named else facts.key_variables
    found = next((name for name in variables if environ.get(name, "").strip()), "")
    key = environ[found].strip() if found else ""
    if not key and (facts.needs_key or named):
        raise SettingsError(
            f"There is no key for {label or facts.title}. Set {' or '.join(variables)}, or try it without a "
            f"key: `halfrate emulate` starts a stand-in and prints the variables to set."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"The key in {found} holds characters that no key has.")
    settings = _settings(facts, environ, label, given)
    url = given.base_url if given is not None and given.base_url else None
    if url is None and given is None:
        url = environ.get(facts.url_variable, "").strip() or None
    if url is None:
        url = facts.default_url
    if not url:
        raise SettingsError(f"Where is {label or facts.title}? Set {facts.url_variable}. Nothing was sent.")
    try:
        place = (url.rstrip("/") + facts.url_path).format_map(settings)
    except (KeyError, ValueError, IndexError):
        raise SettingsError(f"The base URL {url!r} for {label or facts.title} is not a URL.") from None
    return Account(
        provider=facts.provider,
        base_url=place,
        key=key,
        label=label,
        key_variable=found,
        settings=settings,
    )


def _settings(
    facts: Capabilities, environ: Mapping[str, str], label: str, given: AccountSettings | None
) -> dict[str, str]:
    more = given.more if given is not None else {}
    known = {setting.name for setting in facts.settings}
    for name in more:
        if name not in known:
            words = ", ".join(sorted(known | {"provider", "key_variable", "base_url"}))
            raise SettingsError(f"The account {label!r} sets {name!r}, and {facts.title} knows {words}.")
    found: dict[str, str] = {}
    for setting in facts.settings:
        value = more.get(setting.name) or next(
            (environ[name].strip() for name in setting.variables if environ.get(name, "").strip()), None
        )
        if value is None:
            value = setting.default
        if value is None:
            words = " or ".join(setting.variables)
            raise SettingsError(
                f"{label or facts.title} needs to know {setting.help}. Set {words}, or `{setting.name}` in the "
                "account's settings. Nothing was sent."
            )
        found[setting.name] = value
    return found

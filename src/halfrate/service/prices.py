"""The price book as one user has it: what ships, the settings file's prices, and those that were set by command."""

import datetime
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.errors import SettingsError, UsageError
from halfrate.base.types import Capabilities, JobPrices, Price, RequestSpec
from halfrate.prices.book import Entry, EntryPrice, PriceBook, PriceList, checked, load_book
from halfrate.providers.accounts import Settings, entries, load_settings, settings_path
from halfrate.providers.registry import adapter_class, provider_behind, provider_names

TIERS: Final = ("batch", "flex", "standard", "priority")
"""From the cheapest on."""
MAKERS: Final = (
    "openai",
    "anthropic",
    "gemini",
    "mistral",
    "xai",
    "moonshot",
    "zhipu",
    "qwen",
    "cohere",
    "voyage",
)
"""Whose model a name is, that names no provider: its maker's before those of others who serve it."""


def prices_path(environ: Mapping[str, str] | None = None) -> Path:
    """`prices.json`, beside the settings file."""
    return settings_path(os.environ if environ is None else environ).with_name("prices.json")


def price_book() -> PriceBook:
    """Raises SettingsError where a file of the user's makes no sense."""
    settings = load_settings()
    book = load_book()
    given = _of_settings(settings)
    if given.models:
        book = book.below(given)
    own = own_prices()
    return book.below(own) if own.models else book


def _of_settings(settings: Settings) -> PriceList:
    providers = {*settings.prices, *(name for name, given in settings.providers.items() if given.prices)}
    models = tuple(
        Entry(provider, model, prices=tuple(EntryPrice(tier, rates) for tier, rates in tiers.items()))
        for provider in sorted(providers)
        for model, tiers in entries(settings, provider).items()
    )
    return _sound(PriceList(models, source=str(settings.path)), settings.path)


def own_prices() -> PriceList:
    """What `halfrate price set` has written."""
    path = prices_path()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return PriceList(())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}). Nothing was sent.") from error
    try:
        return _sound(msgspec.json.decode(raw, type=PriceList), path)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} is no price list: {error}. Nothing was sent.") from error


def _sound(listed: PriceList, path: Path | None) -> PriceList:
    for entry in listed.models:
        try:
            checked(entry)
        except ValueError as error:
            raise SettingsError(
                f"{path}: {entry.provider}/{entry.model}: {error}. Nothing was sent."
            ) from error
    return listed


def set_price(
    provider: str,
    model: str,
    tier: str,
    rates: dict[str, str],
    *,
    since: str | None = None,
    source: str = "",
    region: str = "",
) -> Path:
    """Note a price of the user's own, instead of another of the same model, tier, region and first day. Where it was
    written.

    Raises UsageError for what is no price.
    """
    price = EntryPrice(tier, rates, since=since, source=source or f"set on {today()}", region=region)
    try:
        checked(Entry(provider, model, prices=(price,)))
    except ValueError as error:
        raise UsageError(f"{error}. Nothing was changed.") from error
    return _kept(provider, model, (tier, since, region), price)


def forget_price(provider: str, model: str, tier: str, since: str | None = None, *, region: str = "") -> Path:
    """Forget one that was set. Raises UsageError where there is none."""
    own = own_prices()
    known = [price for entry in own.models if _is(entry, provider, model) for price in entry.prices]
    which = (tier, since, region)
    if not any(_which(price) == which for price in known):
        raise UsageError(f"No price of {provider}/{model} was set in tier {tier}. Nothing was changed.")
    return _kept(provider, model, which, None)


def _which(price: EntryPrice) -> tuple[str, str | None, str]:
    return (price.tier, price.since, price.region)


def _is(entry: Entry, provider: str, model: str) -> bool:
    return (entry.provider, entry.model) == (provider, model)


def _kept(provider: str, model: str, which: tuple[str, str | None, str], price: EntryPrice | None) -> Path:
    own = own_prices()
    # What a person wrote into the file besides, as other names of a model, stays as it is.
    entry = next((one for one in own.models if _is(one, provider, model)), Entry(provider, model))
    others = tuple(one for one in own.models if one is not entry)
    kept = tuple(known for known in entry.prices if _which(known) != which)
    if price is not None:
        kept = (*kept, price)
    models = (*others, msgspec.structs.replace(entry, prices=kept)) if kept else others
    path = prices_path()
    text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(own, models=models)), indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        new.write_bytes(text + b"\n")
        new.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}). Nothing was changed.") from error
    return path


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def job_prices(
    provider: str, models: Iterable[str], day: str, served: str | None = None, region: str = ""
) -> JobPrices:
    """What the book says of these models on `day`, in every tier.

    `served`: the model that is behind their names, where those are the user's own. `region`: where they are run.
    """
    book = price_book()
    asked = list(models)
    tables = [
        {model: book.find(provider, served or model, tier, day, region) for model in asked}
        for tier in ("batch", "standard", "flex", "priority")
    ]
    return JobPrices(*tables)


def region_of(base_url: str, spec: RequestSpec, facts: Capabilities) -> str:
    """Where a job's requests are run, if they are run in one place that may have its own price; "" for anywhere."""
    asked = spec.params.get(facts.region_field) if facts.region_field else None
    if isinstance(asked, str) and asked != "global":
        return asked
    found = re.search(facts.region_in_url, base_url) if facts.region_in_url else None
    return found[1] if found is not None else ""


def named_model(name: str, book: PriceBook) -> tuple[str, str]:
    """(provider, model) of `openai/gpt-4.1-mini`, of an account's model, or of a bare name that the book knows.

    Raises UsageError where there is no such thing.
    """
    before, slash, rest = name.partition("/")
    if slash and rest:
        provider = provider_behind(before)
        if provider in provider_names() or any(provider == known for known, _ in book.models()):
            return provider, rest
    others = sorted({provider for provider, _ in book.models()} - set(MAKERS))
    for provider in (*MAKERS, *others):
        if book.name(provider, name) is not None:
            return provider, name
    raise UsageError(f"Nobody here knows a model {name!r}.{_like(name, book)}")


def _like(
    name: str, book: PriceBook, otherwise: str = " Write PROVIDER/MODEL, as in openai/gpt-4.1-mini."
) -> str:
    import difflib  # for a mistake alone: a run imports this module as well

    known = [f"{provider}/{model}" for provider, model in book.models() if provider in MAKERS]
    near = difflib.get_close_matches(name, [*known, *(one.partition("/")[2] for one in known)], 3, 0.6)
    return f" The price book has {', '.join(near)}." if near else otherwise


def tier_prices(book: PriceBook, provider: str, model: str, day: str, region: str = "") -> dict[str, Price]:
    """The prices of a model on a day by tier, from the cheapest tier on. Raises UsageError where there are none."""
    found = {
        tier: price for tier in TIERS if (price := book.find(provider, model, tier, day, region)) is not None
    }
    if not found:
        raise UsageError(
            f"The price of {provider}/{model} is unknown on {day}.{_like(model, book, '')} "
            f"`halfrate price set {provider}/{model}` notes one of your own."
        )
    return found


def stacks(provider: str) -> bool | None:
    """Whether the provider says that cached tokens are cheaper still in a batch."""
    try:
        return adapter_class(provider).capabilities.cache_stacks
    except UsageError:
        return None

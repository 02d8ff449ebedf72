"""Bills from the providers' admin APIs, page by page, as they answer them.

OpenAI: `GET {base}/organization/costs`, `.../usage/completions` and `.../usage/embeddings`, unix seconds, `group_by[]`,
pages by `next_page` (openai 3.52). Anthropic: `GET {base}/v1/organizations/cost_report` and
`.../usage_report/messages`, RFC 3339 (Admin API, 2026). Both want a key of their own, which no error and no log
repeats. Nothing here costs anything, and what fails in passing is asked again.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from halfrate.base.errors import InputError, OutcomeUnknown, ProviderError, Refused, SettingsError
from halfrate.bills.detect import PAGES, Bill, of_pages
from halfrate.bills.forms import Page
from halfrate.providers.http import Http

_TIMEOUT: Final = 60.0
_MOST_PAGES: Final = 10_000
_DAY: Final = 86_400
_COMPARED: Final = "Nothing was compared."


class _Api(msgspec.Struct, frozen=True):
    """One provider's admin API. `reports`: what to ask for: name, path, what to group by."""

    title: str
    key_variable: str
    url_variable: str
    default_url: str
    headers: Callable[[str], dict[str, str]]
    bounds: tuple[str, str]
    instant: Callable[[int], str]
    reports: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]


def _rfc3339(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


_APIS: Final = {
    "openai": _Api(
        "OpenAI",
        "OPENAI_ADMIN_KEY",
        "OPENAI_BASE_URL",
        "https://api.openai.com/v1",
        lambda key: {"Authorization": f"Bearer {key}"},
        ("start_time", "end_time"),
        str,
        {
            "cost": (("/organization/costs", ("project_id", "line_item")),),
            "usage": (
                ("/organization/usage/completions", ("project_id", "model", "batch", "service_tier")),
                ("/organization/usage/embeddings", ("project_id", "model")),
            ),
        },
    ),
    "anthropic": _Api(
        "Anthropic",
        "ANTHROPIC_ADMIN_KEY",
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com",
        lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"},
        ("starting_at", "ending_at"),
        _rfc3339,
        {
            "cost": (("/v1/organizations/cost_report", ("workspace_id", "description")),),
            "usage": (
                ("/v1/organizations/usage_report/messages", ("workspace_id", "model", "service_tier")),
            ),
        },
    ),
}
PROVIDERS: Final = tuple(_APIS)


def live_bills(
    provider: str, basis: str, first: int, end: int, *, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Bill]]:
    """What `provider` says of the days from `first` until before `end` (since 1970): of each report its name and bill.

    A bill is to be read before the next is asked for. `basis`: "cost" or "usage". Raises SettingsError without an admin
    key, ProviderError where it is not taken or the provider does not answer. Not for use within an event loop.
    """
    api = _APIS[provider]
    environ = os.environ if environ is None else environ
    key = environ.get(api.key_variable, "").strip()
    if not key:
        raise SettingsError(
            f"{api.title} shows its bills to admin keys alone. Set {api.key_variable}, or give its export as a file. "
            f"{_COMPARED}"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"The key in {api.key_variable} holds characters that no key has. {_COMPARED}")
    http = Http(
        environ.get(api.url_variable, "").strip() or api.default_url,
        {**api.headers(key), "Accept": "application/json"},
        api.title,
    )
    with asyncio.Runner() as runner:
        try:
            for path, groups in api.reports[basis]:
                query = [
                    (api.bounds[0], api.instant(first * _DAY)),
                    (api.bounds[1], api.instant(end * _DAY)),
                    ("bucket_width", "1d"),
                    *(("group_by[]", group) for group in groups),
                ]
                name = f"{api.title} {path.removeprefix('/v1').removeprefix('/')}"
                forms = [form for form in PAGES if form.providers == (provider,) and form.basis == basis]
                yield name, of_pages(name, _pages(runner, http, api, path, query), forms)
        finally:
            runner.run(http.close())


def _pages(
    runner: asyncio.Runner, http: Http, api: _Api, path: str, query: list[tuple[str, str]]
) -> Iterator[tuple[None, Page]]:
    """Page after page, until there is none."""
    decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
    cursor = ""
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        asked = [*query, ("page", cursor)] if cursor else query
        try:
            raw = runner.run(http.ask("GET", f"{path}?{urlencode(asked)}", timeout=_TIMEOUT))
            page = decoder.decode(raw)
        except Refused as refusal:
            hint = ""
            if refusal.credentials:
                hint = f" {api.key_variable} has to hold an admin key; an ordinary key sees no bills."
            raise ProviderError(f"{str(refusal).rstrip('.')}.{hint} {_COMPARED}") from refusal
        except OutcomeUnknown as trouble:
            raise ProviderError(f"{str(trouble).rstrip('.')}. {_COMPARED}") from trouble
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProviderError(
                f"{api.title} sent a report that cannot be read ({error}). {_COMPARED}"
            ) from error
        yield None, page
        following: object = page.get("next_page")
        if not page.get("has_more") or not isinstance(following, str) or following in seen:
            return
        cursor = following
        seen.add(cursor)
    raise InputError(
        f"{api.title} goes on for more than {_MOST_PAGES:,} pages. Ask for fewer days. {_COMPARED}"
    )

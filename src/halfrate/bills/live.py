"""Bills from the providers' admin APIs, page by page, as they answer them.

OpenAI: `GET {base}/organization/costs`, `.../usage/completions` and `.../usage/embeddings`, unix seconds, `group_by[]`,
pages by `next_page` (openai 3.52). Anthropic: `GET {base}/v1/organizations/cost_report` and
`.../usage_report/messages`, RFC 3339 (Admin API, 2026). Both want a key of their own, which no error and no log
repeats. Nothing here costs anything, and what fails in passing is asked again.
"""

import http.client
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from halfrate.base.errors import InputError, ProviderError, Refused, SettingsError
from halfrate.base.version import VERSION
from halfrate.bills.detect import PAGES, Bill, of_pages
from halfrate.bills.forms import Page

_TRIES: Final = 4
_TIMEOUT: Final = 60.0
_LARGEST: Final = 64 << 20
_MOST_PAGES: Final = 10_000
_PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_WAIT: Final = 60.0
_DAY: Final = 86_400


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

    `basis`: "cost" or "usage". Raises SettingsError without an admin key, Refused where it is not taken or the
    provider cannot be asked.
    """
    api = _APIS[provider]
    environ = os.environ if environ is None else environ
    key = environ.get(api.key_variable, "").strip()
    if not key:
        raise SettingsError(
            f"{api.title} shows its bills to admin keys alone. Set {api.key_variable}, or give its export as a file. "
            "Nothing was compared."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"The key in {api.key_variable} holds characters that no key has.")
    client = _Client(api, environ.get(api.url_variable, "").strip() or api.default_url, key)
    for path, groups in api.reports[basis]:
        query = [
            (api.bounds[0], api.instant(first * _DAY)),
            (api.bounds[1], api.instant(end * _DAY)),
            ("bucket_width", "1d"),
            *(("group_by[]", group) for group in groups),
        ]
        name = f"{api.title} {path.removeprefix('/v1').removeprefix('/')}"
        forms = [form for form in PAGES if form.providers == (provider,) and form.basis == basis]
        yield name, of_pages(name, client.pages(path, query), forms)


class _Client:
    """Asks one API for pages."""

    def __init__(self, api: _Api, base: str, key: str) -> None:
        parts = urlsplit(base)
        try:
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.username or parts.password:
            raise SettingsError(f"{api.url_variable} is no URL that {api.title} could answer at.")
        self._api = api
        self._parts = parts
        self._key = key
        self._headers = {
            "User-Agent": f"halfrate/{VERSION}",
            "Accept": "application/json",
            **api.headers(key),
        }

    def pages(self, path: str, query: list[tuple[str, str]]) -> Iterator[tuple[None, Page]]:
        """Page after page, until there is none."""
        decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
        cursor = ""
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            asked = [*query, ("page", cursor)] if cursor else query
            raw = self._ask(path, asked)
            try:
                page = decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ProviderError(
                    f"{self._api.title} sent a report that cannot be read ({error})."
                ) from error
            yield None, page
            following: object = page.get("next_page")
            if not page.get("has_more") or not isinstance(following, str) or following in seen:
                return
            cursor = following
            seen.add(cursor)
        raise InputError(
            f"{self._api.title} goes on for more than {_MOST_PAGES:,} pages. Ask for fewer days."
        )

    def _ask(self, path: str, query: list[tuple[str, str]]) -> bytes:
        wait = 0.5
        for attempt in range(1, _TRIES + 1):
            try:
                status, raw, after = self._get(path, query)
            except (OSError, http.client.HTTPException) as error:
                if attempt == _TRIES:
                    what = str(error) or type(error).__name__
                    raise ProviderError(
                        f"{self._api.title} cannot be asked at {self._parts.netloc}: {what}. Nothing was compared."
                    ) from error
            else:
                if status < 300:
                    return raw
                if status not in _PASSING or attempt == _TRIES or (after or 0) > _LONGEST_WAIT:
                    raise self._refusal(status, raw)
                wait = after if after is not None else wait
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
        raise AssertionError("unreachable")

    def _get(self, path: str, query: list[tuple[str, str]]) -> tuple[int, bytes, float | None]:
        connection = _connection(self._parts)
        target = f"{self._parts.path.rstrip('/')}{path}?{urlencode(query)}"
        try:
            connection.request("GET", target, headers=self._headers)
            response = connection.getresponse()
            raw = response.read(_LARGEST)
            if response.length:
                raise http.client.IncompleteRead(raw, response.length)
            return response.status, raw, _seconds(response.getheader("retry-after"))
        finally:
            connection.close()

    def _refusal(self, status: int, raw: bytes) -> ProviderError:
        said = _message(raw).replace(self._key, "[key]")
        hint = ""
        if status in {401, 403}:
            hint = f" {self._api.key_variable} has to hold an admin key; an ordinary key sees no bills."
        return Refused(
            f"{self._api.title} answered {status}: {said or 'no reason given'}.{hint} Nothing was compared.",
            status=status,
        )


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    from urllib.request import getproxies, proxy_bypass

    host, port, secure = parts.hostname or "", parts.port, parts.scheme == "https"
    named = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    proxy = urlsplit(named if "//" in named else f"//{named}") if named else None
    where = (proxy.hostname, proxy.port or 8080) if proxy is not None and proxy.hostname else (host, port)
    if not secure:
        # Through a proxy the whole URL would have to be named: plain HTTP is for an emulator on this machine.
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    connection = http.client.HTTPSConnection(
        where[0] or "", where[1], timeout=_TIMEOUT, context=ssl.create_default_context()
    )
    if where != (host, port):
        connection.set_tunnel(host, port or 443)
    return connection


def _message(raw: bytes) -> str:
    try:
        found = msgspec.json.decode(raw, type=_Told).error.message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = ""
    return found[:500].strip().rstrip(".")


class _Why(msgspec.Struct, frozen=True):
    message: str = ""


class _Told(msgspec.Struct, frozen=True):
    error: _Why = _Why()


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None

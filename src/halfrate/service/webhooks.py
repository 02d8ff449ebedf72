"""Webhooks: who is told of the ends of batches and jobs, what was told, and telling it again.

A webhook's secret is derived from its id and a key in this process's environment, and kept nowhere. No message repeats
the key, or what stands in a URL behind the host: there receivers have secrets of theirs.
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

from halfrate.base.addresses import is_host, may_reach, read_address, read_allowed
from halfrate.base.clock import Clock
from halfrate.base.errors import SettingsError, UsageError
from halfrate.base.ids import new_id
from halfrate.core.webhooks import (
    EVENTS,
    NO_TEAM,
    Delivery,
    DeliveryState,
    Webhook,
    derived_secret,
    show_secret,
)
from halfrate.store.webhooks import WebhookStore

if TYPE_CHECKING:
    from halfrate.service.deliverer import Deliverer

KEY: Final = "HALFRATE_WEBHOOK_KEY"
OLD_KEY: Final = "HALFRATE_WEBHOOK_OLD_KEY"
"""The variable of a key that was in use before: deliveries are signed with both."""
_ID_LENGTH: Final = 16
_SHORTEST_KEY: Final = 32
_FEWEST_CHARACTERS: Final = 10
"""Different ones: a random key has more, what somebody wrote in its place has not."""
_LONGEST_URL: Final = 2_000
_LONGEST_TEAM: Final = 64
_PORTS: Final = {"https": 443, "http": 80}

Resolve: TypeAlias = Callable[[str], Sequence[str]]


class Webhooks:
    """The webhooks of one installation; see `Service.webhooks`.

    `resolve` gives the addresses of a host, none where it is not known.
    """

    def __init__(
        self,
        store: WebhookStore,
        clock: Clock,
        owner: str,
        *,
        environ: Mapping[str, str] | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._environ = os.environ if environ is None else environ
        self._resolve = resolve or _addresses

    def add(
        self,
        url: str,
        *,
        team: str = NO_TEAM,
        events: Sequence[str] = (),
        allow_http: bool = False,
        allowed: Sequence[str] = (),
    ) -> tuple[Webhook, str]:
        """Have a URL told; with it, the secret by which its owner knows that it was halfrate.

        `events`: patterns as in `batch.*`, none for all; `allowed`: hosts and networks that it may be at although they
        are not public. Raises UsageError, and SettingsError where there is no key.
        """
        keys = signing_keys(self._environ)
        _check_team(team)
        _check_events(events)
        reached = tuple(map(_allowed, allowed))
        self._check_url(url, allow_http=allow_http, allowed=reached)
        webhook = Webhook(
            id=new_id("wh_")[: len("wh_") + _ID_LENGTH],
            team=team,
            url=url,
            created_at=self._clock.now(),
            events=tuple(events),
            allowed=reached,
        )
        self._store.add(webhook)
        return webhook, show_secret(derived_secret(keys[0], webhook.id))

    def all(self) -> list[Webhook]:
        """Every webhook, the oldest first."""
        return self._store.all()

    def secret(self, webhook_id: str) -> str:
        """The secret of a webhook, by the key as it is now."""
        return show_secret(derived_secret(signing_keys(self._environ)[0], self._known(webhook_id).id))

    def remove(self, webhook_id: str) -> None:
        """Tell it nothing more, and forget what it was told."""
        if not self._store.drop(webhook_id):
            raise _unknown(webhook_id)

    def enable(self, webhook_id: str) -> Webhook:
        """Tell it again, after it had said that it wants nothing more. What happened meanwhile is not told."""
        found = self._store.change(
            webhook_id, lambda webhook: msgspec.structs.replace(webhook, disabled_at=None)
        )
        if found is None:
            raise _unknown(webhook_id)
        return found

    def deliveries(
        self,
        *,
        since: float = 0.0,
        webhook_id: str = "",
        state: DeliveryState | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        """What was told or is to be, the newest first."""
        if webhook_id:
            self._known(webhook_id)
        return self._store.deliveries(since=since, webhook_id=webhook_id, state=state, limit=limit)

    def replay(
        self,
        event_id: str = "",
        *,
        since: float | None = None,
        webhook_id: str = "",
        state: DeliveryState | None = None,
    ) -> int:
        """Tell an event again, or all since a moment, under the ids that they had; how many deliveries that makes.

        What is just being sent is left alone. Raises UsageError.
        """
        if bool(event_id) == (since is not None):
            raise UsageError("Name an event, or a time since which all are sent again. Nothing was changed.")
        if webhook_id:
            disabled = self._known(webhook_id).disabled_at is not None
            if disabled:
                raise UsageError(
                    f"The webhook {webhook_id} is disabled: it answered that it wants nothing more. "
                    f"`halfrate webhooks enable {webhook_id}` comes first. Nothing was changed."
                )
        count = self._store.replay(
            self._clock.now(),
            event_id=event_id,
            since=since or 0.0,
            webhook_id=webhook_id,
            state=state,
        )
        if event_id and not count:
            raise UsageError(
                f"There is no event {event_id!r} to send again; `halfrate webhooks deliveries` names them. An event "
                "that is just being sent is left alone. Nothing was changed."
            )
        return count

    def deliverer(
        self,
        say: Callable[[str, str, str], None] = lambda _event, _webhook, _why: None,
        failed: Callable[[Exception, str], None] | None = None,
    ) -> "Deliverer":
        """What sends, to be run by whoever serves. Raises SettingsError where somebody is to be told, and there is no
        key to sign with.

        `say` receives what somebody who runs the gateway should know: an event, a webhook and why. `failed` receives a
        defect that a delivery met, and the event's id.
        """
        from halfrate.service.deliverer import Deliverer

        if self._store.all():
            signing_keys(self._environ)
        return Deliverer(
            self._store,
            self._clock,
            self._owner,
            lambda: signing_keys(self._environ),
            say,
            failed,
        )

    # ------------------------------------------------------------ parts

    def _known(self, webhook_id: str) -> Webhook:
        found = self._store.get(webhook_id)
        if found is None:
            raise _unknown(webhook_id)
        return found

    def _check_url(self, url: str, *, allow_http: bool, allowed: tuple[str, ...]) -> None:
        parts = _parts(url)
        if parts.scheme == "http" and not allow_http:
            raise UsageError(
                "The URL begins with http://: what is sent there can be read and changed on its way. Use https://, or "
                "give --allow-http. No webhook was added."
            )
        host = parts.hostname or ""
        found = [host] if read_address(host) is not None else self._resolve(host)
        for address in found:
            if not may_reach(host, address, allowed):
                where = f"{host} is" if address == host else f"{host} is at {address},"
                raise UsageError(
                    f"{where} no public address. If it is to be told all the same, give --allow-private {host}, or the "
                    "network that it is in. No webhook was added."
                )


def signing_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The key that secrets are derived from, then one that was in use before. Raises SettingsError."""
    return tuple(
        _checked_key(name, environ.get(name, "").strip())
        for name in (KEY, OLD_KEY)
        if name == KEY or environ.get(name, "").strip()
    )


def target_of(url: str) -> tuple[str, int]:
    """The host and the port of a webhook's URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _checked_key(name: str, key: str) -> str:
    if not key:
        raise SettingsError(
            f"Webhooks are signed with secrets that come from {name}, and it is not set. Set it to something random "
            "and keep it, the same for every command and gateway: `openssl rand -base64 32` makes one. Nothing was "
            "changed."
        )
    if len(key) < _SHORTEST_KEY or len(set(key)) < _FEWEST_CHARACTERS:
        raise SettingsError(
            f"{name} is too easy to guess: it takes {_SHORTEST_KEY} random characters or more. "
            "`openssl rand -base64 32` makes them. Nothing was changed."
        )
    return key


def _parts(url: str) -> SplitResult:
    """A URL, taken apart. Raises UsageError for one that nothing can be sent to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_url("It cannot be read") from None
    if not url.isascii() or not url.isprintable() or any(character in url for character in ' \\"<>^`{|}'):
        raise _no_url("It has characters that no URL has; write them as %20 and so on, and a host as xn--...")
    if len(url) > _LONGEST_URL:
        raise _no_url(f"It has {len(url):,} characters, and {_LONGEST_URL:,} are the most")
    if parts.scheme not in _PORTS:
        raise _no_url("It does not begin with https://")
    if "@" in parts.netloc:
        raise _no_url(
            "It has a user or a password in it, which are not sent; the signature says who it is from"
        )
    if parts.fragment:
        raise _no_url("It has a #, and what stands behind that is not sent")
    if port == 0 or (read_address(host) is None and not is_host(host)):
        raise _no_url("It names no host that can be reached")
    return parts


def _no_url(why: str) -> UsageError:
    return UsageError(f"A webhook cannot be at this URL. {why}. No webhook was added.")


def _unknown(webhook_id: str) -> UsageError:
    return UsageError(
        f"There is no webhook {webhook_id!r}; `halfrate webhooks list` names them. Nothing was changed."
    )


def _check_team(team: str) -> None:
    if not team.strip() or team != team.strip() or not team.isprintable() or len(team) > _LONGEST_TEAM:
        raise UsageError(f"{team!r} is no team's name. No webhook was added.")


def _check_events(patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(event, pattern) for event in EVENTS):
            raise UsageError(
                f"There is no event {pattern!r}. There are {', '.join(EVENTS)}; `batch.*` is all of one kind. No "
                "webhook was added."
            )


def _allowed(text: str) -> str:
    try:
        return read_allowed(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no host, address or network; write it as hooks.internal, 10.0.3.7 or 10.0.0.0/8. No webhook "
            "was added."
        ) from None


def _addresses(host: str) -> Sequence[str]:
    """Where a host is now, none where that is not known here."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return [str(one[4][0]) for one in found]

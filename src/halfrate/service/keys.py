"""Keys of the gateway: make, list and revoke them, and tell whose a caller presents.

The secret of a key is given once, by `create`, and kept nowhere. No message names what was presented as one.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from halfrate.base.clock import Clock
from halfrate.base.errors import UsageError
from halfrate.base.ids import new_id
from halfrate.core.keys import SURFACES, TAG, USUAL, Key, Presented, Surface, digest_of, parse_key
from halfrate.store.surfaces import SurfaceStore

TEAM: Final = "default"
"""The team of keys that are made without one."""
_ID_LENGTH: Final = 12
_SECRET_BYTES: Final = 32
_LONGEST: Final = 64
"""Characters of a name."""
_LONGEST_LIFE: Final = 3_660 * 86_400.0
"""Seconds: ten years."""
_OWN_TAGS: Final = frozenset({"team", TAG})
"""Names of tags that the key itself sets."""
_PATTERN: Final = re.compile(r"[^\s/]+/\S+")
# Who presents an id that there is not waits for the same work as who presents a wrong secret. It fits nothing.
_NOBODY: Final = Key(
    id="", digest=digest_of(secrets.token_urlsafe()), name="", team="", created_at=0.0, revoked_at=0.0
)


class Keys:
    """The keys of one installation; see `Service.keys`."""

    def __init__(self, store: SurfaceStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def create(
        self,
        name: str,
        *,
        team: str = TEAM,
        models: Sequence[str] = (),
        surfaces: Sequence[Surface] = (),
        tags: Mapping[str, str] | None = None,
        requests_per_minute: int | None = None,
        expires: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key; with it, what its callers present, which nobody can be told again.

        `models`: patterns as in `openai/*`, none for all models; `surfaces`: none for both APIs; `expires`: in so many
        seconds. Raises UsageError.
        """
        tags = dict(tags or {})
        _check_name("name", name)
        _check_name("team", team)
        _check_models(models)
        _check_surfaces(surfaces)
        _check_tags(tags)
        _check_limits(requests_per_minute, expires)
        now = self._clock.now()
        presented = Presented(new_id("")[:_ID_LENGTH], secrets.token_urlsafe(_SECRET_BYTES))
        key = Key(
            id=presented.id,
            digest=digest_of(presented.secret),
            name=name,
            team=team,
            created_at=now,
            models=tuple(models),
            surfaces=tuple(one for one in SURFACES if one in (surfaces or USUAL)),
            tags=tags,
            requests_per_minute=requests_per_minute,
            expires_at=None if expires is None else now + expires,
        )
        self._store.add_key(key)
        return key, presented.text

    def all(self) -> list[Key]:
        """Every key, the oldest first, with those that were revoked."""
        return self._store.keys()

    def revoke(self, named: str) -> Key:
        """Close what a key opens, for good; twice does no harm. Raises UsageError where it cannot be told which.

        `named`: its id, its name where one key alone has it, or all of the key, as it is found where it leaked.
        """
        key = self._named(named)
        if key.revoked_at is not None:
            return key
        revoked = msgspec.structs.replace(key, revoked_at=self._clock.now())
        self._store.save_key(revoked)
        return revoked

    def authenticate(self, text: str, now: float) -> Key | None:
        """The key that a caller presents; None where it is none of ours, or opens nothing any more."""
        presented = parse_key(text)
        if presented is None:
            return None
        key = self._store.key(presented.id) or _NOBODY
        fits = key.fits(presented.secret)
        return key if fits and key.valid(now) else None

    def authenticate_now(self, text: str) -> Key | None:
        return self.authenticate(text, self._clock.now())

    def _named(self, named: str) -> Key:
        presented = parse_key(named)
        wanted = named if presented is None else presented.id
        keys = self._store.keys()
        for key in keys:
            if key.id == wanted:
                return key
        same = [key for key in keys if key.name == wanted]
        open_ = [key for key in same if key.revoked_at is None]
        if len(open_) > 1:
            ids = ", ".join(key.id for key in open_)
            raise UsageError(
                f"{len(open_)} keys have the name {wanted!r}; name one by its id: {ids}. Nothing was changed."
            )
        if not same:
            # Part of a key, as in one that was copied badly, is part of a secret.
            what = "no such key" if wanted.startswith("hr_") else f"no key {wanted!r}"
            raise UsageError(f"There is {what}; `halfrate keys list` names them. Nothing was changed.")
        return (open_ or same)[-1]


def _check_name(what: str, text: str) -> None:
    if not text.strip():
        raise UsageError(f"The {what} of a key may not be empty. No key was made.")
    if text != text.strip() or not text.isprintable():
        raise UsageError(
            f"The {what} {text!r} of a key has characters that cannot be seen. Leave them out. No key was made."
        )
    if len(text) > _LONGEST:
        raise UsageError(
            f"The {what} {text!r} of a key has {len(text)} characters, and {_LONGEST} are the most. No key was made."
        )


def _check_models(models: Sequence[str]) -> None:
    for pattern in models:
        if not (_PATTERN.fullmatch(pattern) and pattern.isprintable()):
            raise UsageError(
                f"{pattern!r} names no model of a key; write openai/* or anthropic/claude-haiku-4-5, or leave it out "
                "for all models. No key was made."
            )


def _check_surfaces(surfaces: Sequence[str]) -> None:
    for surface in surfaces:
        if surface not in SURFACES:
            raise UsageError(
                f"{surface!r} is no surface of the gateway; there are {', '.join(SURFACES)}. No key was made."
            )


def _check_tags(tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        if name in _OWN_TAGS:
            other = "use --team" if name == "team" else "it is the key's id"
            raise UsageError(f"The tag {name!r} is set by the key itself; {other}. No key was made.")
        _check_name("tag", name)
        if not value.isprintable():
            raise UsageError(
                f"The tag {name!r} of a key has the value {value!r}, of which not all can be seen. No key was made."
            )


def _check_limits(requests_per_minute: int | None, expires: float | None) -> None:
    if requests_per_minute is not None and requests_per_minute < 1:
        raise UsageError(
            f"A key with {requests_per_minute} requests a minute could do nothing; 1 is the least. No key was made."
        )
    if expires is not None and not 0 < expires <= _LONGEST_LIFE:
        raise UsageError(
            f"A key cannot expire in {expires:g} s: it takes more than none and ten years at most. Leave it out for a "
            "key that is good until it is revoked. No key was made."
        )

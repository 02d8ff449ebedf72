"""Keys of the gateway: who may call it, for which models, and whose money that is. Pure.

A key is `hr_<id>_<secret>`: the id is public and names the key in lists and ledgers, the secret has 256 random bits and
is shown once. What is kept is a digest; for a secret that cannot be guessed a plain one is enough.
"""

import hashlib
import hmac
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

import msgspec

Surface: TypeAlias = Literal["openai", "anthropic", "admin"]
"""What of the gateway a key opens: OpenAI's API, Anthropic's, or the figures of all teams."""

SURFACES: Final[tuple[Surface, ...]] = ("openai", "anthropic", "admin")
USUAL: Final[tuple[Surface, ...]] = ("openai", "anthropic")
"""What a key opens unless it is said: not what other teams have spent."""
TAG: Final = "key"
"""The tag that every job of a key carries, with its id: budgets and costs go by it."""
_MARK: Final = "hr"
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 43


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secret. Saved: a field may be added, never renamed.

    `team`: whose files, batches and jobs it sees. `models`: patterns as in `openai/*`; none of them: all models.
    `tags` go on all that is run with it. `requests_per_minute`: None for any number.
    """

    id: str
    digest: str
    name: str
    team: str
    created_at: float
    models: tuple[str, ...] = ()
    surfaces: tuple[Surface, ...] = USUAL
    tags: dict[str, str] = {}
    requests_per_minute: int | None = None
    expires_at: float | None = None
    revoked_at: float | None = None

    @property
    def all_tags(self) -> dict[str, str]:
        """What jobs of this key are tagged with, whatever their makers say."""
        return {**self.tags, "team": self.team, TAG: self.id}

    def allows(self, model: str) -> bool:
        """Whether it may ask this model, named ACCOUNT/MODEL."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)

    def opens(self, surface: Surface) -> bool:
        return surface in self.surfaces

    def valid(self, now: float) -> bool:
        """Whether it opens anything at all now. Seconds since 1970 UTC."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def fits(self, secret: str) -> bool:
        """Whether this is its secret, without a hint at how near it came."""
        return hmac.compare_digest(self.digest, digest_of(secret))


class Presented(msgspec.Struct, frozen=True):
    """A key as a caller presents it."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        return f"{_MARK}_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"Presented({self.id})"


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_key(text: str) -> Presented | None:
    """What a caller presents as a key, or None where it cannot be one of ours."""
    mark, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if mark != _MARK or len(key_id) != _ID_LENGTH or len(secret) != _SECRET_LENGTH:
        return None
    plain = key_id.isascii() and key_id.isalnum() and secret.isascii() and secret.isprintable()
    return Presented(key_id, secret) if plain else None

"""Whether a call can wait, as its caller says it: by headers, behind the model's name, or as OpenAI's responses do."""

import datetime
import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from halfrate.base.errors import UsageError
from halfrate.core.deferral import digest_of, without_suffix
from halfrate.gateway.asking import Asked
from halfrate.gateway.errors import ApiError, invalid
from halfrate.service.deadlines import deadline_at

DEADLINE: Final = "halfrate-deadline"
BACKGROUND: Final = "halfrate-background"
IDEMPOTENCY: Final = "idempotency-key"
_DEADLINE: Final = DEADLINE.encode()
_BACKGROUND: Final = BACKGROUND.encode()
_IDEMPOTENCY: Final = IDEMPOTENCY.encode()
_REPEATED: Final = b"x-stainless-retry-count"
_LONGEST_KEY: Final = 255
_YES: Final = {b"true": True, b"1": True, b"false": False, b"0": False}

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Wish(msgspec.Struct, frozen=True):
    """`deadline`: seconds since 1970, None for at once; `background`: the caller asks for the answer later; `mark`:
    names the key by which it does so, None where it gave none; `repeated`: it says that it made this call before;
    `digest` names what was asked."""

    deadline: float | None
    background: bool
    mark: str | None
    repeated: bool
    digest: str


def wish_of(asked: Asked, headers: Mapping[bytes, bytes]) -> tuple[Asked, Wish] | None:
    """What a call says about waiting, and the call without that; None where it says nothing. Raises ApiError."""
    # Most calls say nothing, and should not pay for others that do.
    if not (
        _DEADLINE in headers
        or _BACKGROUND in headers
        or "+" in asked.model
        or (asked.endpoint == "responses" and b'"background"' in asked.body)
    ):
        return None
    model, suffix = without_suffix(asked.model)
    text = headers.get(_DEADLINE, b"").decode("latin-1").strip() or suffix
    background = _flag(headers)
    fields = _fields(asked.body)
    if asked.endpoint == "responses":
        background = bytes(fields.pop("background", b"false")) == b"true" or background
    if not text and not background:
        return None
    if suffix:
        fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if asked.provider_key:
        raise invalid(
            "A call that comes with a provider's key of its own cannot wait: such keys are kept nowhere.",
            "x-halfrate-provider-key",
        )
    wish = Wish(
        deadline=_deadline(text) if text else None,
        background=background,
        mark=_mark(headers),
        repeated=headers.get(_REPEATED, b"0") != b"0",
        digest=digest_of(asked.key.id, asked.endpoint, hashlib.blake2b(asked.body).hexdigest()),
    )
    body = msgspec.json.encode(fields)
    return msgspec.structs.replace(asked, model=model, body=body), wish


def _flag(headers: Mapping[bytes, bytes]) -> bool:
    text = headers.get(_BACKGROUND)
    if text is None:
        return False
    found = _YES.get(text.strip().lower())
    if found is None:
        raise invalid(f"Invalid header '{BACKGROUND}': expected true or false.", BACKGROUND)
    return found


def _deadline(text: str) -> float | None:
    try:
        return deadline_at(text, datetime.datetime.now(datetime.UTC))
    except UsageError as error:
        raise invalid(f"Invalid '{DEADLINE}': {error}", DEADLINE) from None


def _mark(headers: Mapping[bytes, bytes]) -> str | None:
    key = headers.get(_IDEMPOTENCY)
    if key is None:
        return None
    if not key.strip() or len(key) > _LONGEST_KEY:
        raise invalid(
            f"Invalid header '{IDEMPOTENCY}': expected 1 to {_LONGEST_KEY} characters.", IDEMPOTENCY
        )
    # What callers put there may be anything, also something of theirs that is nobody's business.
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def check_stream(asked: Asked, wish: Wish) -> None:
    """Raises ApiError for a stream that a call that waits cannot have."""
    if not asked.stream:
        return
    if wish.background:
        message = "A call in the background is answered in one piece: leave 'stream' out."
        raise ApiError(400, message, code="invalid_value", param="stream")
    if asked.endpoint not in {"chat", "messages"}:
        message = "Of calls that wait, chats and messages alone can be streamed: leave 'stream' out."
        raise ApiError(400, message, code="invalid_value", param="stream")

"""Webhooks: what others are told, how that is signed and checked, and when it is tried again. Pure.

The form is that of Standard Webhooks (specification 1.0.0): headers `webhook-id`, `webhook-timestamp` and
`webhook-signature`, the last an HMAC-SHA256 over `{id}.{timestamp}.{body}` in base64 behind `v1,`, or several of them
with spaces between. OpenAI and Gemini send theirs in it, and halfrate sends its own.
"""

import base64
import binascii
import enum
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

EVENTS: Final = (
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "job.done",
    "job.cancelled",
    "job.stopped",
    "job.paused",
    "call.completed",
    "call.failed",
    "call.cancelled",
    "response.completed",
    "response.failed",
    "response.cancelled",
)
"""All that others can be told: a batch of the gateway, a job, or a call in the background came to this state. A call of
OpenAI's responses is told of as OpenAI does."""
NO_TEAM: Final = "default"
"""Whose jobs are that carry no team: those of the team that keys are made for unless told otherwise."""
TOLERANCE: Final = 300.0
"""Seconds by which a timestamp may be off."""
RETRIES: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds from a try that failed to the next. What these add up to is three days and some hours."""
_JITTER: Final = 0.2
_LONGEST_WAIT: Final = 86_400.0
_PREFIX: Final = "whsec_"
_SHORTEST_SECRET: Final = 16
"""Bytes."""
_MOST_SIGNATURES: Final = 16
_LONGEST_ID: Final = 256
_BATCH_ENDS: Final = frozenset({"completed", "succeeded", "failed", "expired", "cancelled", "canceled"})
"""How the providers' events end that tell of the end of a batch. Their texts and their services differ in some."""


# ---------------------------------------------------------------- what is told


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is told. Saved: a field may be added, never renamed.

    `team`: whose batches and jobs; `events`: patterns as in `batch.*`, none of them: all events. `allowed`: hosts and
    networks that it may be at although they are not public.
    """

    id: str
    team: str
    url: str
    created_at: float
    events: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    disabled_at: float | None = None
    """When it said that it wants nothing more."""

    def wants(self, event: str) -> bool:
        """Whether it is told of events of this name."""
        if self.disabled_at is not None:
            return False
        return not self.events or any(fnmatchcase(event, pattern) for pattern in self.events)


class Event(msgspec.Struct, frozen=True):
    """Something that happened. `subject`: the id of the batch, job or call; `at`: seconds since 1970."""

    id: str
    type: str
    subject: str
    at: float

    def body(self) -> str:
        """What is sent: OpenAI's own form, with no more than an id, so that whoever hears of it has to look."""
        document = {
            "id": self.id,
            "object": "event",
            "created_at": int(self.at),
            "type": self.type,
            "data": {"id": self.subject},
        }
        return msgspec.json.encode(document).decode()


class DeliveryState(enum.StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to one of those who are told. Saved: a field may be added, never renamed.

    `tries`: how often it has been sent, or was about to be; `next_at`: when it is due, None once it is over.
    """

    webhook_id: str
    event_id: str
    type: str
    subject: str
    body: str
    created_at: float
    state: DeliveryState = DeliveryState.WAITING
    tries: int = 0
    next_at: float | None = None
    tried_at: float | None = None
    status: int | None = None
    """What the last try was answered with."""
    problem: str = ""
    """Why the last try got no answer."""


class Answer(msgspec.Struct, frozen=True):
    """How a try ended. `retry_after`: seconds that the other side asked for."""

    status: int | None = None
    problem: str = ""
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The other side wants nothing more, ever."""
        return self.status == 410


def tried(delivery: Delivery, answer: Answer, now: float, draw: float) -> Delivery:
    """A delivery after a try, due again or over. `draw`: a random number from 0 to 1."""
    known = msgspec.structs.replace(
        delivery, tried_at=now, status=answer.status, problem=answer.problem, next_at=None
    )
    if answer.taken:
        return msgspec.structs.replace(known, state=DeliveryState.DELIVERED)
    pause = None if answer.gone else pause_after(delivery.tries, draw)
    if pause is None:
        return msgspec.structs.replace(known, state=DeliveryState.FAILED)
    asked = min(answer.retry_after or 0.0, _LONGEST_WAIT)
    return msgspec.structs.replace(known, next_at=now + max(pause, asked))


def given_up(delivery: Delivery, why: str) -> Delivery:
    """A delivery that is over without another try."""
    return msgspec.structs.replace(delivery, state=DeliveryState.FAILED, problem=why, next_at=None)


def pause_after(tries: int, draw: float) -> float | None:
    """Seconds from the try of this number, counted from 1, to the next; None where none follows."""
    if tries > len(RETRIES):
        return None
    return RETRIES[tries - 1] * (1.0 + _JITTER * draw)


# ---------------------------------------------------------------- signatures


def derived_secret(key: str, webhook_id: str) -> bytes:
    """The secret that deliveries to a webhook are signed with. It is kept nowhere: who has the key can derive it."""
    return hmac.digest(key.encode(), f"halfrate webhook {webhook_id}".encode(), hashlib.sha256)


def show_secret(secret: bytes) -> str:
    """A secret as receivers are given it."""
    return _PREFIX + base64.b64encode(secret).decode()


def read_secret(text: str) -> tuple[bytes, ...]:
    """The secrets that a provider may mean by a text, none where it is too short to be one.

    Behind `whsec_` stands base64. Of a text without that OpenAI's client takes the characters and others take what
    they stand for: which of them is meant shows when a signature fits.
    """
    text = text.strip()
    encoded = text.removeprefix(_PREFIX)
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    plain = b"" if text.startswith(_PREFIX) else text.encode()
    return tuple(one for one in (decoded, plain) if len(one) >= _SHORTEST_SECRET)


def sign(secrets: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`, with a signature for each secret."""
    head = f"{message_id}.{timestamp}.".encode()
    return " ".join(f"v1,{_digest(secret, head + body)}" for secret in secrets)


def verified(
    secrets: Sequence[bytes], message_id: str, timestamp: str, signatures: str, body: bytes, now: float
) -> bool:
    """Whether a message was signed with one of these secrets, and just now. Headers as text in latin-1."""
    if not message_id or len(message_id) > _LONGEST_ID:
        return False
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    if abs(now - int(timestamp)) > TOLERANCE:
        return False
    head = f"{message_id}.{timestamp}.".encode("latin-1")
    expected = [f"v1,{_digest(secret, head + body)}".encode() for secret in secrets]
    fits = False
    for given in signatures.encode("latin-1").split()[:_MOST_SIGNATURES]:
        for one in expected:
            # No hint at how near it came, nor at which of them it was.
            fits |= hmac.compare_digest(one, given)
    return fits


def _digest(secret: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, message, hashlib.sha256)).decode()


# ---------------------------------------------------------------- what providers say


class _Subject(msgspec.Struct, frozen=True):
    id: str = ""


class _Told(msgspec.Struct, frozen=True):
    type: str
    data: _Subject = _Subject()


def ended_batch(body: bytes) -> str:
    """The batch of whose end a provider tells; "" where it tells of something else."""
    try:
        told = msgspec.json.decode(body, type=_Told)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    kind, _, end = told.type.lower().rpartition(".")
    return told.data.id if kind == "batch" and end in _BATCH_ENDS else ""

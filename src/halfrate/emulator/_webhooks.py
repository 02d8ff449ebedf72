"""OpenAI batch webhooks: signed per Standard Webhooks, handed out as a queue the shell delivers.

The event carries the batch's id only (OpenAI webhooks guide); headers webhook-id, webhook-timestamp and
webhook-signature, the last an HMAC-SHA256 over `{id}.{timestamp}.{body}` with the base64 key after `whsec_`.
"""

import base64
import binascii
import hashlib
import hmac

import msgspec

from halfrate.emulator._faults import FaultBook


class WebhookTarget(msgspec.Struct, frozen=True):
    """Where events go, and the secret they are signed with (`whsec_` + base64, or any text)."""

    url: str
    secret: str


class Webhook(msgspec.Struct, frozen=True):
    """One delivery that is due: POST `body` with `headers` to `url`."""

    url: str
    body: bytes
    headers: dict[str, str]
    due_at: float


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The webhook-signature header. A secret after `whsec_` that is not base64 raises ValueError."""
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error as error:
            raise ValueError(f"webhook secret: what follows whsec_ must be base64 ({error})") from None
    else:
        key = secret.encode()
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Outbox:
    """Events waiting for their time."""

    def __init__(self, faults: FaultBook) -> None:
        self.targets: list[WebhookTarget] = []
        self._faults = faults
        self._waiting: list[Webhook] = []

    def batch_event(self, batch_id: str, status: str, at: float, event_id: str) -> None:
        """A batch has reached `status`; one event per target, bent by the active webhook faults."""
        document = {
            "id": event_id,
            "object": "event",
            "created_at": int(at),
            "type": f"batch.{status}",
            "data": {"id": batch_id},
        }
        body = msgspec.json.encode(document)
        for number, target in enumerate(self.targets):
            about = f"{event_id}:{number}"
            if self._faults.strike("webhook-lost", "openai", about):
                continue
            late = self._faults.strike("webhook-late", "openai", about)
            due = at + (late.number("seconds") if late else 0.0)
            if self._faults.strike("webhook-bad-signature", "openai", about):
                target = WebhookTarget(target.url, "not the secret")  # noqa: PLW2901 - wrong on purpose
            self._waiting.append(_signed(target, event_id, body, due, due))
            if self._faults.strike("webhook-duplicate", "openai", about):
                self._waiting.append(_signed(target, event_id, body, due, due))
            replay = self._faults.strike("webhook-replay", "openai", about)
            if replay:
                signed_at = due - replay.number("seconds")
                self._waiting.append(_signed(target, event_id, body, signed_at, due))

    def due(self, now: float) -> list[Webhook]:
        """The deliveries whose time has come; each is handed out once."""
        ready = [webhook for webhook in self._waiting if webhook.due_at <= now]
        self._waiting = [webhook for webhook in self._waiting if webhook.due_at > now]
        return ready


def _signed(target: WebhookTarget, event_id: str, body: bytes, signed_at: float, due: float) -> Webhook:
    timestamp, secret = int(signed_at), target.secret
    headers = {
        "content-type": "application/json",
        "user-agent": "OpenAI/1.0 (+https://platform.openai.com/docs/webhooks)",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, event_id, timestamp, body),
    }
    return Webhook(target.url, body, headers, due)

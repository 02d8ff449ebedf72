"""Who is told of the ends of batches, jobs and calls, and what is on its way to them. Every method is one transaction.

What is to be told is recorded in the transaction that records the end itself, and sent afterwards by whoever finds it
there: no kill comes between the two, and what ended before somebody wanted to be told is not told.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from halfrate.base.ids import new_id
from halfrate.core.job import Job, JobState
from halfrate.core.webhooks import NO_TEAM, Delivery, DeliveryState, Event, Webhook
from halfrate.store import webhook_sql as sql
from halfrate.store.connector import Connector, Params, Row, Transaction, Value

if TYPE_CHECKING:
    from halfrate.core.deferral import Deferred
    from halfrate.core.surface import SurfaceBatch


class Claimed(msgspec.Struct, frozen=True):
    """A delivery as one process holds it: `version` is the fence."""

    webhook: Webhook
    delivery: Delivery
    version: int


def tell_of_job(transaction: Transaction, job: Job, at: float) -> None:
    """A job is about to be saved: tell of it if it comes to another state by that. To be called before it is saved."""
    if job.state is JobState.OPEN:
        return
    row = transaction.fetch_one(sql.JOB_STATE, {"id": job.id})
    # A job's end may be recorded more than once; it is told once, and again after it was taken up again.
    if row is not None and row[0] != job.state.value:
        _tell(transaction, job.team or NO_TEAM, f"job.{job.state.value}", job.id, at)


def tell_of_batch(transaction: Transaction, batch: "SurfaceBatch") -> None:
    """A batch of the gateway has ended."""
    at = batch.times[batch.state.value]
    _tell(transaction, batch.team, f"batch.{batch.state.value}", batch.id, at)


def tell_of_call(transaction: Transaction, call: "Deferred") -> None:
    """A call that nobody waits for on the line has ended."""
    kind = "response" if call.endpoint == "responses" else "call"
    how = "cancelled" if call.cancelled else "failed" if call.failed else "completed"
    _tell(transaction, call.team, f"{kind}.{how}", call.id, call.ended_at or call.created_at)


def _tell(transaction: Transaction, team: str, kind: str, subject: str, at: float) -> None:
    rows = transaction.fetch_all(sql.WEBHOOKS_OF_TEAM, {"team": team})
    told = [webhook for webhook in map(_webhook, rows) if webhook.wants(kind)]
    if not told:
        return
    event = Event(new_id("evt_"), kind, subject, at)
    for webhook in told:
        delivery = Delivery(
            webhook_id=webhook.id,
            event_id=event.id,
            type=kind,
            subject=subject,
            body=event.body(),
            created_at=at,
        )
        params: Params = {
            "event_id": event.id,
            "webhook_id": webhook.id,
            "created_at": at,
            "record": _text(delivery),
        }
        transaction.execute(sql.ADD_DELIVERY, params)


class WebhookStore:
    """See `Store.webhooks`."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    # ------------------------------------------------------------ who is told

    def add(self, webhook: Webhook) -> None:
        params: Params = {
            "id": webhook.id,
            "team": webhook.team,
            "created_at": webhook.created_at,
            "record": _text(webhook),
        }
        with self._connector.writing() as transaction:
            transaction.execute(sql.ADD_WEBHOOK, params)

    def get(self, webhook_id: str) -> Webhook | None:
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.WEBHOOK, {"id": webhook_id})
        return None if row is None else _webhook(row)

    def all(self) -> list[Webhook]:
        """All webhooks, the oldest first."""
        with self._connector.reading() as transaction:
            return [_webhook(row) for row in transaction.fetch_all(sql.WEBHOOKS)]

    def change(self, webhook_id: str, change: Callable[[Webhook], Webhook]) -> Webhook | None:
        """Apply `change` to a webhook; the webhook as it is now, None if there is none."""
        with self._connector.writing() as transaction:
            row = transaction.fetch_one(sql.WEBHOOK_TO_CHANGE, {"id": webhook_id})
            if row is None:
                return None
            changed = change(_webhook(row))
            transaction.execute(sql.SAVE_WEBHOOK, {"id": webhook_id, "record": _text(changed)})
            return changed

    def drop(self, webhook_id: str) -> bool:
        """Forget a webhook and all that was for it; whether there was one."""
        with self._connector.writing() as transaction:
            # Whoever is about to record something for it does so before this, or finds it gone.
            if transaction.fetch_one(sql.WEBHOOK_TO_CHANGE, {"id": webhook_id}) is None:
                return False
            transaction.execute(sql.DROP_DELIVERIES, {"id": webhook_id})
            return transaction.execute(sql.DROP_WEBHOOK, {"id": webhook_id}) > 0

    # ------------------------------------------------------------ what is on its way

    def next_due(self) -> float | None:
        """When the next delivery is due, or a lease ends; None where nothing is on its way."""
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.NEXT_DELIVERY)
        return None if row is None else row[0]

    def due_webhooks(self, now: float) -> list[str]:
        """The webhooks for which something is due."""
        with self._connector.reading() as transaction:
            return sorted(
                webhook_id for (webhook_id,) in transaction.fetch_all(sql.DUE_WEBHOOKS, {"now": now})
            )

    def claim(self, owner: str, now: float, lease: float, slots: Mapping[str, int]) -> list[Claimed]:
        """Take what is due, for each webhook as many as it has slots, and count that as a try of each.

        What another holds may be taken when its lease ends.
        """
        claimed: list[Claimed] = []
        with self._connector.writing() as transaction:
            for webhook_id, slot in sorted(slots.items()):
                row = transaction.fetch_one(sql.WEBHOOK, {"id": webhook_id})
                if row is None:
                    continue
                params: Params = {
                    "webhook_id": webhook_id,
                    "owner": owner,
                    "now": now,
                    "lease_until": now + lease,
                    "limit": slot,
                }
                rows = transaction.fetch_all(sql.CLAIM_DELIVERIES, params)
                claimed += [Claimed(_webhook(row), _delivery(one), one[3]) for one in rows]
        return sorted(claimed, key=lambda one: (one.delivery.created_at, one.delivery.event_id))

    def save(self, claimed: Claimed, owner: str, delivery: Delivery) -> bool:
        """Commit how a try ended, and let go of the delivery; whether it was still the owner's."""
        params: dict[str, Value] = {
            "event_id": delivery.event_id,
            "webhook_id": delivery.webhook_id,
            "version": claimed.version,
            "owner": owner,
            "state": delivery.state.value,
            "next_at": delivery.next_at,
            "record": _text(delivery),
        }
        with self._connector.writing() as transaction:
            return transaction.execute(sql.SAVE_DELIVERY, params) == 1

    def deliveries(
        self,
        *,
        since: float = 0.0,
        webhook_id: str = "",
        state: DeliveryState | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        """What was sent or is to be, the newest first."""
        params: Params = {
            "since": since,
            "webhook_id": webhook_id,
            "state": state.value if state is not None else "",
            "limit": limit,
        }
        with self._connector.reading() as transaction:
            return [_delivery(row) for row in transaction.fetch_all(sql.DELIVERIES, params)]

    def replay(
        self,
        now: float,
        *,
        event_id: str = "",
        since: float = 0.0,
        webhook_id: str = "",
        state: DeliveryState | None = None,
    ) -> int:
        """Have an event, or all since a moment, sent again from the first try on; how many deliveries that are.

        What is just being sent is left alone.
        """
        params: dict[str, Value] = {
            "now": now,
            "webhook_id": webhook_id,
            "state": state.value if state is not None else "",
        }
        statement = sql.REPLAY_EVENT if event_id else sql.REPLAY_SINCE
        params |= {"event_id": event_id} if event_id else {"since": since}
        with self._connector.writing() as transaction:
            return transaction.execute(statement, params)

    def sweep(self, before: float) -> int:
        """Forget what was over before a moment; how many deliveries that were."""
        with self._connector.writing() as transaction:
            return transaction.execute(sql.SWEEP_DELIVERIES, {"before": before})


def _text(record: msgspec.Struct) -> str:
    return msgspec.json.encode(record).decode()


def _webhook(row: Row) -> Webhook:
    return msgspec.json.decode(row[0], type=Webhook)


def _delivery(row: Row) -> Delivery:
    """A claim, and a replay, change the columns alone: they are what counts."""
    record, tries, next_at, *_ = row
    found = msgspec.json.decode(record, type=Delivery)
    state = found.state if next_at is None else DeliveryState.WAITING
    return msgspec.structs.replace(found, tries=tries, next_at=next_at, state=state)

"""Statements about webhooks; the rules are those of `sql`."""

from typing import Final

# ---------------------------------------------------------------- who is told

ADD_WEBHOOK: Final = """
INSERT INTO webhook (id, team, created_at, record) VALUES (:id, :team, :created_at, :record)
"""
"""Records a webhook."""

WEBHOOK: Final = "SELECT record FROM webhook WHERE id = :id"
"""One webhook."""

WEBHOOK_TO_CHANGE: Final = "SELECT record FROM webhook WHERE id = :id {for_update}"
"""One webhook, which stays as it is until this transaction ends."""

WEBHOOKS: Final = "SELECT record FROM webhook ORDER BY created_at, id"
"""All webhooks, the oldest first."""

WEBHOOKS_OF_TEAM: Final = "SELECT record FROM webhook WHERE team = :team ORDER BY id {for_update}"
"""The webhooks of a team, none of which goes away until this transaction ends."""

SAVE_WEBHOOK: Final = "UPDATE webhook SET record = :record WHERE id = :id"
"""Overwrites a webhook's record."""

DROP_WEBHOOK: Final = "DELETE FROM webhook WHERE id = :id"
"""Forgets a webhook."""

DROP_DELIVERIES: Final = "DELETE FROM delivery WHERE webhook_id = :id"
"""Forgets all that was for a webhook."""

# ---------------------------------------------------------------- what is on its way

JOB_STATE: Final = "SELECT state FROM job WHERE id = :id {for_update}"
"""How a job stands, which stays so until this transaction ends."""

ADD_DELIVERY: Final = """
INSERT INTO delivery (event_id, webhook_id, created_at, state, tries, version, next_at, record)
VALUES (:event_id, :webhook_id, :created_at, 'waiting', 0, 0, :created_at, :record)
"""
"""Records what is to be sent, at once."""

NEXT_DELIVERY: Final = "SELECT next_at FROM delivery WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1"
"""When the next is due."""

DUE_WEBHOOKS: Final = """
SELECT id FROM webhook
WHERE EXISTS (
    SELECT 1 FROM delivery
    WHERE delivery.webhook_id = webhook.id AND delivery.next_at IS NOT NULL AND delivery.next_at <= :now
)
"""
"""Webhooks for which something is due."""

CLAIM_DELIVERIES: Final = """
WITH due AS (
    SELECT event_id FROM delivery
    WHERE webhook_id = :webhook_id AND next_at IS NOT NULL AND next_at <= :now
    ORDER BY next_at, event_id
    LIMIT :limit
    {skip_locked}
)
UPDATE delivery SET owner = :owner, next_at = :lease_until, version = version + 1, tries = tries + 1
WHERE webhook_id = :webhook_id AND event_id IN (SELECT event_id FROM due)
RETURNING record, tries, next_at, version
"""
"""Takes what is due for a webhook, the longest due first, and counts that as a try."""

SAVE_DELIVERY: Final = """
UPDATE delivery SET owner = NULL, state = :state, next_at = :next_at, version = version + 1, record = :record
WHERE event_id = :event_id AND webhook_id = :webhook_id AND version = :version AND owner = :owner
"""
"""Commits how a try ended, if the record is still the one that was claimed, and lets go of it."""

DELIVERIES: Final = """
SELECT record, tries, next_at FROM delivery
WHERE created_at >= :since AND (:webhook_id = '' OR webhook_id = :webhook_id) AND (:state = '' OR state = :state)
ORDER BY created_at DESC, event_id DESC, webhook_id DESC LIMIT :limit
"""
"""What was sent or is to be, the newest first."""

_REPLAY = """
UPDATE delivery SET state = 'waiting', tries = 0, next_at = :now, version = version + 1
WHERE owner IS NULL AND {which} AND (:webhook_id = '' OR webhook_id = :webhook_id) AND (:state = '' OR state = :state)
"""

REPLAY_EVENT: Final = _REPLAY.replace("{which}", "event_id = :event_id")
"""Has one event sent again, now, but for what is just being sent."""

REPLAY_SINCE: Final = _REPLAY.replace("{which}", "created_at >= :since")
"""The same of all events since a moment."""

SWEEP_DELIVERIES: Final = "DELETE FROM delivery WHERE created_at < :before AND next_at IS NULL"
"""Forgets what is over for long."""

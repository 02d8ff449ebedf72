"""Statements about calls that can wait; the rules are those of `sql`."""

from typing import Final

ADD_GATHERING: Final = """
INSERT INTO surface_batch (id, team, surface, digest, created_at, version, owner, next_at, record)
VALUES (:id, :team, 'calls', '', :created_at, 0, NULL, :next_at, :record)
"""
"""Records a batch that calls are gathered into. Nobody holds it; the keepers take it when it is due."""

GATHERING_TO_CHANGE: Final = "SELECT record, owner FROM surface_batch WHERE id = :id {for_update}"
"""A batch and who holds it, which stays as it is until this transaction ends."""

SAVE_GATHERING: Final = "UPDATE surface_batch SET next_at = :next_at, record = :record WHERE id = :id"
"""Commits what was gathered into a batch that nobody holds."""

FENCE_GATHERING: Final = """
UPDATE surface_batch SET version = version + 1, owner = NULL,
    next_at = CASE WHEN owner IS NULL THEN next_at ELSE :now END
WHERE id = :id
"""
"""Has whoever is at work on a batch begin again."""

ADD_CALL: Final = """
INSERT INTO deferred_call (id, team, mark, digest, batch_id, created_at, ended_at, record)
VALUES (:id, :team, :mark, :digest, :batch_id, :created_at, NULL, :record)
ON CONFLICT DO NOTHING
"""
"""Records a call, unless its caller's key for it is that of another."""

CALL: Final = "SELECT record FROM deferred_call WHERE id = :id AND team = :team"
"""One call of a team."""

CALL_TO_CHANGE: Final = "SELECT record FROM deferred_call WHERE id = :id AND team = :team {for_update}"
"""The same, which stays as it is until this transaction ends."""

MARKED_CALL: Final = "SELECT record FROM deferred_call WHERE team = :team AND mark = :mark"
"""The call of a team by its caller's own key."""

TWIN_CALLS: Final = """
SELECT record FROM deferred_call
WHERE team = :team AND digest = :digest AND (ended_at IS NULL OR ended_at >= :since) ORDER BY created_at, id
"""
"""Calls that ask the same and have not ended before a moment, the oldest first."""

OPEN_CALLS: Final = "SELECT record FROM deferred_call WHERE batch_id = :batch_id AND ended_at IS NULL"
"""Calls of a batch that wait for their answers."""

COUNT_OPEN: Final = "SELECT count(*) FROM deferred_call WHERE ended_at IS NULL"
"""How many calls wait for their answers."""

END_CALL: Final = """
UPDATE deferred_call SET ended_at = :ended_at, record = :record WHERE id = :id AND ended_at IS NULL
"""
"""Records what a call came to, once."""

ENDED_SINCE: Final = "SELECT id FROM deferred_call WHERE ended_at >= :since"
"""Calls that have come to their end since a moment."""

LEFT_RUNNING: Final = """
SELECT record FROM deferred_call WHERE batch_id = '' AND ended_at IS NULL ORDER BY id LIMIT :limit
"""
"""Calls that run in real time, or did when their process died."""

DROP_CALL: Final = "DELETE FROM deferred_call WHERE id = :id AND team = :team AND ended_at IS NOT NULL"
"""Forgets a call that has ended."""

DROP_OLD_CALLS: Final = "DELETE FROM deferred_call WHERE ended_at IS NOT NULL AND ended_at < :before"
"""Forgets calls that ended long ago."""

ANY_CALL: Final = "SELECT 1 FROM deferred_call WHERE batch_id = :batch_id LIMIT 1"
"""Whether anything is known of a batch's calls."""

KNOWN_CALL: Final = "SELECT 1 FROM deferred_call WHERE id = :id"
"""Whether there is a call of that id, whosever it is."""

"""Statements about the gateway's keys, files and batches; the rules are those of `sql`."""

from typing import Final

# ---------------------------------------------------------------- keys

ADD_KEY: Final = "INSERT INTO api_key (id, created_at, record) VALUES (:id, :created_at, :record)"
"""Records a key."""

SAVE_KEY: Final = "UPDATE api_key SET record = :record WHERE id = :id"
"""Overwrites a key's record."""

KEY: Final = "SELECT record FROM api_key WHERE id = :id"
"""One key."""

KEYS: Final = "SELECT record FROM api_key ORDER BY created_at, id"
"""All keys, the oldest first."""

# ---------------------------------------------------------------- files

ADD_FILE: Final = """
INSERT INTO stored_file (id, team, purpose, created_at, expires_at, record)
VALUES (:id, :team, :purpose, :created_at, :expires_at, :record)
ON CONFLICT (id) DO NOTHING
"""
"""Records a file, once."""

FILE: Final = """
SELECT record FROM stored_file WHERE id = :id AND team = :team AND purpose <> 'message_batch_results'
"""
"""One file of a team that it sees as such: the results of Anthropic batches are not among them."""

RESULTS_FILE: Final = """
SELECT record FROM stored_file WHERE id = :id AND team = :team AND purpose = 'message_batch_results'
"""
"""The results of an Anthropic batch of a team."""

ANY_FILE: Final = "SELECT 1 FROM stored_file WHERE id = :id"
"""Whether there is a file, whosever it is."""

_FILES = """
SELECT record FROM stored_file
WHERE team = :team AND (:purpose = '' OR purpose = :purpose) AND purpose <> 'message_batch_results'
  AND (created_at, id) {beyond} (:created_at, :id)
ORDER BY created_at {order}, id {order} LIMIT :limit
"""

FILES_NEWEST: Final = _FILES.replace("{beyond}", "<").replace("{order}", "DESC")
"""Files of a team that are older than a place in the list, the newest first."""

FILES_OLDEST: Final = _FILES.replace("{beyond}", ">").replace("{order}", "ASC")
"""Files of a team that are newer than a place in the list, the oldest first."""

DROP_FILE: Final = "DELETE FROM stored_file WHERE id = :id AND team = :team"
"""Forgets a file of a team."""

EXPIRED_FILES: Final = """
SELECT record FROM stored_file WHERE expires_at IS NOT NULL AND expires_at <= :now ORDER BY expires_at LIMIT :limit
"""
"""Files whose life is over."""

# ---------------------------------------------------------------- uploads in parts

ADD_UPLOAD: Final = """
INSERT INTO upload (id, team, created_at, record) VALUES (:id, :team, :created_at, :record)
"""
"""Records an upload."""

UPLOAD: Final = "SELECT record FROM upload WHERE id = :id AND team = :team"
"""One upload of a team."""

UPLOAD_TO_CHANGE: Final = "SELECT record FROM upload WHERE id = :id AND team = :team {for_update}"
"""One upload of a team, which stays as it is until this transaction ends."""

SAVE_UPLOAD: Final = "UPDATE upload SET record = :record WHERE id = :id"
"""Overwrites an upload's record."""

OLD_UPLOADS: Final = "SELECT record FROM upload WHERE created_at <= :before ORDER BY created_at LIMIT :limit"
"""Uploads that were begun before a moment."""

DROP_UPLOAD: Final = "DELETE FROM upload WHERE id = :id"
"""Forgets an upload."""

# ---------------------------------------------------------------- batches

ADD_SURFACE_BATCH: Final = """
INSERT INTO surface_batch (id, team, surface, digest, created_at, version, next_at, record)
VALUES (:id, :team, :surface, :digest, :created_at, 0, :next_at, :record)
"""
"""Records a batch that nobody holds."""

SURFACE_BATCH: Final = """
SELECT record FROM surface_batch WHERE id = :id AND team = :team AND surface = :surface
"""
"""One batch of a team."""

GATHERED_BATCH: Final = "SELECT record FROM surface_batch WHERE id = :id AND surface = 'calls'"
"""One batch that calls were gathered into."""

SURFACE_BATCHES: Final = """
SELECT record FROM surface_batch
WHERE team = :team AND surface = :surface AND (created_at, id) < (:created_at, :id)
ORDER BY created_at DESC, id DESC LIMIT :limit
"""
"""Batches of a team that are older than a place in the list, the newest first."""

SURFACE_BATCHES_BEFORE: Final = """
SELECT record FROM surface_batch
WHERE team = :team AND surface = :surface AND (created_at, id) > (:created_at, :id)
ORDER BY created_at, id LIMIT :limit
"""
"""Batches of a team that are newer than a place in the list, the oldest first."""

SURFACE_TWINS: Final = """
SELECT record FROM surface_batch
WHERE team = :team AND digest = :digest AND created_at >= :since ORDER BY created_at DESC
"""
"""Batches that ask the same and were made since a moment, the newest first."""

CLAIM_SURFACE_BATCHES: Final = """
WITH due AS (
    SELECT id FROM surface_batch WHERE next_at IS NOT NULL AND next_at <= :now ORDER BY next_at, id
    LIMIT :limit
    {skip_locked}
)
UPDATE surface_batch SET owner = :owner, next_at = :lease_until, version = version + 1
WHERE id IN (SELECT id FROM due)
RETURNING record, version
"""
"""Takes batches that should be looked at, the longest due first."""

OPEN_SURFACE_BATCH: Final = "SELECT 1 FROM surface_batch WHERE id = :id AND next_at IS NOT NULL"
"""Whether a batch, whosever it is, is still to come to its end."""

OPEN_SURFACE_BATCHES: Final = "SELECT record FROM surface_batch WHERE next_at IS NOT NULL"
"""Batches of all teams that are still to come to their ends."""

NEXT_SURFACE_BATCH: Final = """
SELECT next_at FROM surface_batch WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1
"""
"""When the next batch should be looked at."""

SAVE_SURFACE_BATCH: Final = """
UPDATE surface_batch SET owner = NULL, next_at = :next_at, version = version + 1, record = :record
WHERE id = :id AND version = :version AND owner = :owner
"""
"""Commits a step, if the record is still the one that was claimed, and lets go of it."""

EXTEND_SURFACE_BATCH: Final = """
UPDATE surface_batch SET next_at = :lease_until WHERE id = :id AND version = :version AND owner = :owner
"""
"""Keeps a batch for whoever holds it."""

STILL_HELD: Final = """
SELECT 1 FROM surface_batch WHERE id = :id AND version = :version AND owner = :owner {for_update}
"""
"""Whether a batch is as it was claimed, which it stays until this transaction ends."""

SURFACE_BATCH_TO_CHANGE: Final = """
SELECT record FROM surface_batch WHERE id = :id AND team = :team AND surface = :surface {for_update}
"""
"""One batch of a team, which stays as it is until this transaction ends."""

CHANGE_SURFACE_BATCH: Final = """
UPDATE surface_batch SET owner = NULL, next_at = :next_at, version = version + 1, record = :record WHERE id = :id
"""
"""Overwrites a batch's record whoever holds it; whoever does is fenced by the new version."""

WAKE_SURFACE_BATCH: Final = """
UPDATE surface_batch SET next_at = :now WHERE id = :id AND owner IS NULL AND next_at > :now
"""
"""Has a batch that nobody holds looked at now."""

DROP_SURFACE_BATCH: Final = """
DELETE FROM surface_batch WHERE id = :id AND team = :team AND surface = :surface AND next_at IS NULL
"""
"""Forgets a batch that has come to its end."""

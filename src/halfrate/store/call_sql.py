"""Statements about calls in real time; the rules are those of `sql`."""

from typing import Final

from halfrate.store import sql

LOGS: Final = "SELECT id, booked, closed FROM call_log"
"""How far every log is in the ledger."""

BOOKED: Final = "SELECT booked, closed FROM call_log WHERE id = :id"
"""How far a log is in the ledger."""

SET_BOOKED: Final = """
INSERT INTO call_log (id, booked, closed) VALUES (:id, :booked, :closed)
ON CONFLICT (id) DO UPDATE SET booked = excluded.booked, closed = excluded.closed
"""
"""Records how far a log is in the ledger, and whether that is all there will ever be of it."""

DROP_LOG: Final = "DELETE FROM call_log WHERE id = :id"
"""Forgets a log."""

_ONCE = "ON CONFLICT (id) DO NOTHING\n"

ADD_CALLS_JOB: Final = sql.ADD_JOB + _ONCE
"""Records what calls of one kind are booked on, once."""

ADD_CALLS_SHARD: Final = sql.ADD_SHARD + _ONCE
"""The same of its only shard."""

NEXT_ENTRY: Final = "SELECT coalesce(max(attempt), 0) + 1 FROM ledger WHERE shard_id = :shard_id"
"""The number of the next entry."""

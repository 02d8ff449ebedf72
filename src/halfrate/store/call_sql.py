"""Statements about calls in real time; the rules are those of `sql`."""

from typing import Final

from halfrate.store import sql

BOOKED: Final = "SELECT booked FROM call_log WHERE id = :id"
"""How far a log is in the ledger."""

SET_BOOKED: Final = """
INSERT INTO call_log (id, booked) VALUES (:id, :booked)
ON CONFLICT (id) DO UPDATE SET booked = excluded.booked
"""
"""Records how far a log is in the ledger."""

DROP_LOG: Final = "DELETE FROM call_log WHERE id = :id"
"""Forgets a log."""

_ONCE = "ON CONFLICT (id) DO NOTHING\n"

ADD_CALLS_JOB: Final = sql.ADD_JOB + _ONCE
"""Records what calls of one kind are booked on, once."""

ADD_CALLS_SHARD: Final = sql.ADD_SHARD + _ONCE
"""The same of its only shard."""

NEXT_ENTRY: Final = "SELECT coalesce(max(attempt), 0) + 1 FROM ledger WHERE shard_id = :shard_id"
"""The number of the next entry."""

"""Statements about calls in real time; the rules are those of `sql`."""

from typing import Final

BOOKED: Final = "SELECT booked FROM call_log WHERE id = :id"
"""How far a log is in the ledger."""

SET_BOOKED: Final = """
INSERT INTO call_log (id, booked) VALUES (:id, :booked)
ON CONFLICT (id) DO UPDATE SET booked = excluded.booked
"""
"""Records how far a log is in the ledger."""

DROP_LOG: Final = "DELETE FROM call_log WHERE id = :id"
"""Forgets a log."""

ADD_CALLS_JOB: Final = """
INSERT INTO job (id, created_at, state, account, spec_hash, input_size, finished_at, team, priority, deadline, record)
VALUES (:id, :created_at, :state, :account, :spec_hash, :input_size, :finished_at, :team, :priority, :deadline, :record)
ON CONFLICT (id) DO NOTHING
"""
"""Records what calls of one kind are booked on, once."""

ADD_CALLS_SHARD: Final = """
INSERT INTO shard (id, job_id, number, account, model, state, version, next_at, stake, record)
VALUES (:id, :job_id, :number, :account, :model, :state, :version, :next_at, :stake, :record)
ON CONFLICT (id) DO NOTHING
"""
"""The same of its only shard."""

NEXT_ENTRY: Final = "SELECT coalesce(max(attempt), 0) + 1 FROM ledger WHERE shard_id = :shard_id"
"""The number of the next entry."""

"""Every statement, under a name, in the SQL that SQLite (from 3.35) and PostgreSQL share.

Parameters are named (`:name`), never pasted in. Where the dialects differ there is a placeholder that the
connector fills: `{for_update}` locks the row that was read, `{skip_locked}` as well, passing over rows that
another transaction has locked. Columns come back in the order in which a statement names them.
"""

from typing import Final

from halfrate.core.job import JobState

# ---------------------------------------------------------------- migrations

MIGRATIONS: Final = "SELECT number FROM migration"
"""Numbers of the migrations that a database has had."""

ADD_MIGRATION: Final = """
INSERT INTO migration (number, name, applied_at)
VALUES (:number, :name, CAST(CURRENT_TIMESTAMP AS TEXT))
"""
"""Records that a migration was run."""

# ---------------------------------------------------------------- jobs

ADD_JOB: Final = """
INSERT INTO job (id, created_at, state, account, spec_hash, input_size, finished_at, record)
VALUES (:id, :created_at, :state, :account, :spec_hash, :input_size, :finished_at, :record)
"""
"""Records a job."""

SAVE_JOB: Final = """
UPDATE job
SET created_at = :created_at, state = :state, account = :account, spec_hash = :spec_hash,
    input_size = :input_size, finished_at = :finished_at, record = :record
WHERE id = :id
"""
"""Overwrites a job's record."""

JOB: Final = "SELECT record FROM job WHERE id = :id"
"""One job."""

JOBS: Final = "SELECT record FROM job ORDER BY created_at DESC, id LIMIT :limit"
"""Jobs, the newest first."""

STATE_PARAMETERS: Final = tuple(f"state_{number}" for number in range(len(JobState)))
"""The parameters of JOBS_IN_STATES; what is not needed repeats a state."""

JOBS_IN_STATES: Final = """
SELECT record FROM job WHERE state IN ({states}) ORDER BY created_at DESC, id LIMIT :limit
""".replace("{states}", ", ".join(f":{name}" for name in STATE_PARAMETERS))
"""Jobs in certain states, the newest first."""

JOBS_STARTING: Final = """
SELECT id FROM job WHERE substr(lower(id), 1, :length) = :prefix ORDER BY id LIMIT 10
"""
"""Ids that begin with a prefix in lower case."""

TWINS: Final = """
SELECT record FROM job
WHERE spec_hash = :spec_hash AND input_size = :input_size AND state IN ('open', 'stopped')
ORDER BY created_at DESC, id
"""
"""Unfinished jobs that ask the same of an input of the same size."""

# ---------------------------------------------------------------- shards

ADD_SHARD: Final = """
INSERT INTO shard (id, job_id, number, account, state, version, next_at, record)
VALUES (:id, :job_id, :number, :account, :state, :version, :next_at, :record)
"""
"""Records a shard that nobody holds."""

SHARDS: Final = "SELECT record, version FROM shard WHERE job_id = :job_id ORDER BY number"
"""The shards of a job, in row order."""

SHARD_TO_CHANGE: Final = "SELECT record, version FROM shard WHERE id = :id {for_update}"
"""One shard, which stays as it is until this transaction ends."""

_CLAIM = """
WITH due AS (
    SELECT id FROM shard
    WHERE {which} AND next_at <= :now
    ORDER BY next_at, id
    LIMIT :limit
    {skip_locked}
)
UPDATE shard
SET owner = :owner, next_at = :lease_until, version = version + 1
WHERE id IN (SELECT id FROM due)
RETURNING record, version
"""

_NEXT_DUE = "SELECT next_at FROM shard WHERE {which} ORDER BY next_at LIMIT 1"

# Word for word the condition of the indexes `shard_due` and `shard_due_of_job`, or they are not used.
_LIVE = "state NOT IN ('done', 'stopped')"
_LIVE_OF_JOB = f"job_id = :job_id AND {_LIVE}"

CLAIM: Final = _CLAIM.replace("{which}", _LIVE)
"""Takes due shards of every job, the longest due first."""

CLAIM_OF_JOB: Final = _CLAIM.replace("{which}", _LIVE_OF_JOB)
"""Takes due shards of one job, the longest due first."""

NEXT_DUE: Final = _NEXT_DUE.replace("{which}", _LIVE)
"""When the next live shard is due."""

NEXT_DUE_OF_JOB: Final = _NEXT_DUE.replace("{which}", _LIVE_OF_JOB)
"""When the next live shard of a job is due."""

SAVE_SHARD: Final = """
UPDATE shard
SET account = :account, state = :state, version = :version + 1, owner = :next_owner, next_at = :next_at,
    record = :record
WHERE id = :id AND version = :version AND owner = :owner
"""
"""Commits a step, if the record is still the one that was claimed."""

CHANGE_SHARD: Final = """
UPDATE shard
SET account = :account, state = :state, version = :version + 1, next_at = :next_at, record = :record
WHERE id = :id
"""
"""Overwrites a shard's record whoever holds it; whoever does is fenced by the new version."""

RELEASE: Final = """
UPDATE shard SET owner = NULL, next_at = :next_at, version = version + 1 WHERE id = :id AND owner = :owner
"""
"""Gives a shard back."""

OTHER_INTENTS: Final = """
SELECT id FROM shard WHERE account = :account AND state = 'submitting' AND id <> :id LIMIT 1
"""
"""Another shard of an account with an open intent."""

OWNERS: Final = "SELECT DISTINCT owner FROM shard WHERE owner IS NOT NULL ORDER BY owner"
"""Everyone who holds a shard."""

TAKE_OVER: Final = """
UPDATE shard
SET owner = :owner, next_at = :lease_until, version = version + 1
WHERE owner = :dead
RETURNING record, version
"""
"""Takes everything that one owner holds."""

# ---------------------------------------------------------------- batches and money

NOTE_BATCH: Final = """
INSERT INTO batch (account, batch_id, job_id, shard_id, attempt, rows, created_at)
VALUES (:account, :batch_id, :job_id, :shard_id, :attempt, :rows, :created_at)
ON CONFLICT (account, batch_id) DO NOTHING
"""
"""Records a batch, once."""

END_BATCHES: Final = """
UPDATE batch SET ended_at = :ended_at, summary = :summary WHERE shard_id = :shard_id AND attempt = :attempt
"""
"""Records what an attempt gave."""

KNOWN_BATCHES: Final = """
SELECT batch_id FROM batch WHERE account = :account AND shard_id <> :besides ORDER BY created_at, batch_id
"""
"""Batches of an account that belong to shards other than one."""

COLLECTIONS: Final = """
SELECT shard_id, attempt, summary FROM batch
WHERE job_id = :job_id AND summary IS NOT NULL
ORDER BY ended_at, shard_id, attempt, batch_id
"""
"""What the attempts of a job gave, the oldest first; once for each batch of an attempt."""

PAID: Final = "SELECT kind FROM ledger WHERE shard_id = :shard_id AND attempt = :attempt LIMIT 1"
"""Whether an attempt is in the ledger."""

ADD_PAYMENT: Final = """
INSERT INTO ledger (shard_id, attempt, model, kind, at, job_id, account, tier, rows, input, cached, write_5m,
    write_1h, output, reasoning, cost, realtime_cost)
VALUES (:shard_id, :attempt, :model, :kind, :at, :job_id, :account, :tier, :rows, :input, :cached, :write_5m,
    :write_1h, :output, :reasoning, :cost, :realtime_cost)
"""
"""Records what an attempt cost with one model."""

SPLIT: Final = 10**12
"""Money is summed as multiples of this and what is left over: a sum of picodollars passes 64 bits at 9.2
million dollars."""


def _sums(amount: str, counted: str) -> str:
    """How many amounts are unknown, and the sum of the others in two parts."""
    unknown = f"count(CASE WHEN {counted} AND {amount} IS NULL THEN 1 END)"
    parts = (f"{amount} / {SPLIT}", f"{amount} - {amount} / {SPLIT} * {SPLIT}")
    return ", ".join((unknown, *(f"sum(CASE WHEN {counted} THEN {part} END)" for part in parts)))


_LEDGER = (
    """
SELECT {key}, sum(rows), sum(input), sum(cached), sum(write_5m), sum(write_1h), sum(output), sum(reasoning),
    {cost}, {realtime_cost}, {waste}
FROM ledger {where} GROUP BY {key} ORDER BY {key}
""".replace("{cost}", _sums("cost", "1 = 1"))
    .replace("{realtime_cost}", _sums("realtime_cost", "1 = 1"))
    .replace("{waste}", _sums("cost", "kind = 'waste'"))
)

_KEYS = {"job": "job_id", "model": "model", "account": "account", "tier": "tier", "kind": "kind"}

LEDGER: Final = {
    name: _LEDGER.replace("{key}", column).replace("{where}", "") for name, column in _KEYS.items()
}
"""Payments added up, by what they are grouped by."""

LEDGER_OF_JOB: Final = {
    name: _LEDGER.replace("{key}", column).replace("{where}", "WHERE job_id = :job_id")
    for name, column in _KEYS.items()
}
"""Payments for one job added up, by what they are grouped by."""

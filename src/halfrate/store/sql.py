"""Every statement, under a name, in the SQL that SQLite (from 3.35) and PostgreSQL share.

Parameters are named (`:name`), never pasted in. Where the dialects differ there is a placeholder that the
connector fills: `{for_update}` locks the row that was read, `{skip_locked}` as well, passing over rows that
another transaction has locked; `{day}` is the number of a payment's day. Columns come back in the order in which a
statement names them.
"""

from typing import Final

from halfrate.base.types import Usage
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
INSERT INTO job (id, created_at, state, account, spec_hash, input_size, finished_at, team, priority, deadline, record)
VALUES (:id, :created_at, :state, :account, :spec_hash, :input_size, :finished_at, :team, :priority, :deadline, :record)
"""
"""Records a job."""

SAVE_JOB: Final = """
UPDATE job
SET created_at = :created_at, state = :state, account = :account, spec_hash = :spec_hash,
    input_size = :input_size, finished_at = :finished_at, team = :team, priority = :priority, deadline = :deadline,
    record = :record
WHERE id = :id
"""
"""Overwrites a job's record."""

JOB: Final = "SELECT record FROM job WHERE id = :id"
"""One job."""

JOB_IDS: Final = "SELECT id FROM job"
"""Ids of all jobs."""

JOBS: Final = """
SELECT record FROM job WHERE substr(id, 1, 6) <> 'calls-' ORDER BY created_at DESC, id LIMIT :limit
"""
"""Jobs, the newest first, without those that only stand for calls in real time."""

PAID_JOBS: Final = "SELECT record FROM job ORDER BY created_at DESC, id"
"""All that payments can be for."""

STATE_PARAMETERS: Final = tuple(f"state_{number}" for number in range(len(JobState)))
"""The parameters of JOBS_IN_STATES; what is not needed repeats a state."""

JOBS_IN_STATES: Final = """
SELECT record FROM job WHERE state IN ({states}) ORDER BY created_at DESC, id LIMIT :limit
""".replace("{states}", ", ".join(f":{name}" for name in STATE_PARAMETERS))
"""Jobs in certain states, the newest first."""

SETTLED_JOBS: Final = """
SELECT id FROM job
WHERE state = 'open' AND NOT EXISTS (
    SELECT 1 FROM shard WHERE shard.job_id = job.id AND shard.state NOT IN ('done', 'stopped', 'paused')
)
ORDER BY id
"""
"""Jobs of which nothing goes on, and of whose end nobody has said so."""

JOBS_STARTING: Final = """
SELECT id FROM job WHERE substr(lower(id), 1, :length) = :prefix ORDER BY id LIMIT 10
"""
"""Ids that begin with a prefix in lower case."""

TWINS: Final = """
SELECT record FROM job
WHERE spec_hash = :spec_hash AND input_size = :input_size AND state IN ('open', 'stopped', 'paused')
ORDER BY created_at DESC, id
"""
"""Unfinished jobs that ask the same of an input of the same size."""

# ---------------------------------------------------------------- shards

ADD_SHARD: Final = """
INSERT INTO shard (id, job_id, number, account, model, state, version, next_at, stake, record)
VALUES (:id, :job_id, :number, :account, :model, :state, :version, :next_at, :stake, :record)
"""
"""Records a shard that nobody holds."""

SHARDS: Final = "SELECT record, version FROM shard WHERE job_id = :job_id ORDER BY number"
"""The shards of a job, in row order."""

SHARD_TO_CHANGE: Final = "SELECT record, version FROM shard WHERE id = :id {for_update}"
"""One shard, which stays as it is until this transaction ends."""

_CLAIM = """
WITH due AS (
    SELECT id FROM shard
    WHERE {which} AND next_at <= :now AND {needs_no_room}
    ORDER BY next_at, id
    LIMIT :limit
    {skip_locked}
)
UPDATE shard
SET owner = :owner, next_at = :lease_until, version = version + 1
WHERE id IN (SELECT id FROM due)
RETURNING record, version
"""

# What is sent next was admitted, or nothing is sent.
_NEEDS_NO_ROOM = "(state NOT IN ('planned', 'uploaded') OR id IN (SELECT shard_id FROM reservation))"

_NEXT_DUE = "SELECT next_at FROM shard WHERE {which} AND {needs_no_room} ORDER BY next_at LIMIT 1"

_NEXT_WAITING = """
SELECT next_at FROM shard
WHERE {which} AND state IN ('planned', 'uploaded') AND id NOT IN (SELECT shard_id FROM reservation)
ORDER BY next_at LIMIT 1
"""

# Word for word the condition of the indexes `shard_due` and `shard_due_of_job`, or they are not used.
_LIVE = "state NOT IN ('done', 'stopped', 'paused')"
_LIVE_OF_JOB = f"job_id = :job_id AND {_LIVE}"


def _filled(statement: str, which: str) -> str:
    return statement.replace("{which}", which).replace("{needs_no_room}", _NEEDS_NO_ROOM)


CLAIM: Final = _filled(_CLAIM, _LIVE)
"""Takes due shards of every job that need no room in a queue, the longest due first."""

CLAIM_OF_JOB: Final = _filled(_CLAIM, _LIVE_OF_JOB)
"""Takes due shards of one job that need no room in a queue, the longest due first."""

NEXT_DUE: Final = _filled(_NEXT_DUE, _LIVE)
"""When the next shard is due that needs no room."""

NEXT_DUE_OF_JOB: Final = _filled(_NEXT_DUE, _LIVE_OF_JOB)
"""When the next shard of a job is due that needs no room."""

NEXT_WAITING: Final = _filled(_NEXT_WAITING, _LIVE)
"""When the next shard is due that has to be admitted."""

NEXT_WAITING_OF_JOB: Final = _filled(_NEXT_WAITING, _LIVE_OF_JOB)
"""When the next shard of a job is due that has to be admitted."""

# ---------------------------------------------------------------- admission

_TO_ADMIT = """shard.state IN ('planned', 'uploaded') AND shard.next_at <= :now
    AND shard.id NOT IN (SELECT shard_id FROM reservation)"""

_WAITING_CLASSES = """
SELECT DISTINCT shard.account, shard.model, job.team, job.priority
FROM shard JOIN job ON job.id = shard.job_id
WHERE {which}
"""

WAITING_CLASSES: Final = _WAITING_CLASSES.replace("{which}", _TO_ADMIT)
"""Accounts, models, teams and priorities that have shards to be admitted."""

WAITING_CLASSES_OF_JOB: Final = _WAITING_CLASSES.replace("{which}", f"shard.job_id = :job_id AND {_TO_ADMIT}")
"""The same for one job."""

WAITING_JOBS: Final = """
SELECT shard.job_id, min(shard.stake) FROM shard WHERE {which} GROUP BY shard.job_id
""".replace("{which}", _TO_ADMIT)
"""Jobs that have shards to be admitted, and what the cheapest of them should cost."""

_CANDIDATES = """
SELECT shard.record, shard.version, shard.next_at, job.team, job.priority, job.deadline
FROM shard JOIN job ON job.id = shard.job_id
WHERE {which} AND shard.account = :account AND shard.model = :model AND job.team = :team
    AND job.priority = :priority
ORDER BY CASE WHEN job.deadline IS NULL THEN 1 ELSE 0 END, job.deadline, shard.next_at, shard.id
LIMIT :limit
"""

CANDIDATES: Final = _CANDIDATES.replace("{which}", _TO_ADMIT)
"""The most urgent shards of a class that have to be admitted."""

CANDIDATES_OF_JOB: Final = _CANDIDATES.replace("{which}", f"shard.job_id = :job_id AND {_TO_ADMIT}")
"""The same for one job."""

TAKE: Final = """
UPDATE shard SET owner = :owner, next_at = :lease_until, version = version + 1 WHERE id = :id AND version = :version
"""
"""Takes one shard that nobody has touched since it was read."""

RESERVE: Final = """
INSERT INTO reservation (shard_id, account, model, team, tokens, rows)
VALUES (:shard_id, :account, :model, :team, :tokens, :rows)
"""
"""Records what an admitted shard takes of a queue."""

UNRESERVE: Final = "DELETE FROM reservation WHERE shard_id = :shard_id"
"""Gives room back."""

HELD: Final = """
SELECT account, model, team, sum(tokens), sum(rows), count(*), sum(accepted) FROM reservation
GROUP BY account, model, team
"""
"""What is held of the queues."""

IN_USE: Final = """
SELECT coalesce(sum(tokens), 0) FROM reservation
WHERE account = :account AND model = :model AND shard_id <> :besides AND accepted = 1
"""
"""Tokens of a model that are in its queue, those of one shard left out."""

BESIDE: Final = """
SELECT 1 FROM reservation WHERE account = :account AND model = :model AND shard_id <> :besides LIMIT 1
"""
"""Whether any batch of a model is, or may be, in its queue beside that of a shard."""

ACCEPTED: Final = "UPDATE reservation SET accepted = 1 WHERE shard_id = :shard_id AND accepted = 0"
"""Records that the provider has taken a shard's batch into its queue."""

CREATES: Final = "SELECT account, count(*) FROM batch WHERE created_at > :since GROUP BY account"
"""Batches that each account made since a moment."""

ADD_SPAN: Final = """
INSERT INTO span (account, model, kind, at, seconds, rows, over)
VALUES (:account, :model, :kind, :at, :seconds, :rows, :over)
"""
"""Records how long something took."""

SPANS: Final = """
SELECT seconds, rows, over FROM span
WHERE account = :account AND model = :model AND kind = :kind
ORDER BY at DESC LIMIT :limit
"""
"""How long the newest of a kind took, the newest first."""

QUOTAS: Final = "SELECT account, model, kind, most, source FROM quota ORDER BY account, model, kind"
"""All limits that are known."""

SET_QUOTA: Final = """
INSERT INTO quota (account, model, kind, most, source, at)
VALUES (:account, :model, :kind, :most, :source, :at)
ON CONFLICT (account, model, kind) DO UPDATE
SET most = excluded.most, source = excluded.source, at = excluded.at
WHERE quota.source <> 'set' OR excluded.source = 'set'
"""
"""Records a limit. What a person has set is not overwritten by what a provider says."""

DROP_QUOTA: Final = "DELETE FROM quota WHERE account = :account AND model = :model AND kind = :kind"
"""Forgets a limit."""

QUEUES: Final = "SELECT record FROM queue"
"""What refusals have taught, of every queue."""

QUEUE: Final = "SELECT record FROM queue WHERE account = :account AND model = :model"
"""What refusals have taught about one queue."""

SAVE_QUEUE: Final = """
INSERT INTO queue (account, model, record) VALUES (:account, :model, :record)
ON CONFLICT (account, model) DO UPDATE SET record = excluded.record
"""
"""Records what refusals have taught about one queue."""

DROP_QUEUE: Final = "DELETE FROM queue WHERE account = :account AND model = :model"
"""Forgets it."""

# ---------------------------------------------------------------- steps

SAVE_SHARD: Final = """
UPDATE shard
SET account = :account, model = :model, state = :state, version = :version + 1, owner = :next_owner, next_at = :next_at,
    stake = :stake, record = :record
WHERE id = :id AND version = :version AND owner = :owner
"""
"""Commits a step, if the record is still the one that was claimed."""

CHANGE_SHARD: Final = """
UPDATE shard
SET account = :account, model = :model, state = :state, version = :version + 1, next_at = :next_at, stake = :stake,
    record = :record
WHERE id = :id
"""
"""Overwrites a shard's record whoever holds it; whoever does is fenced by the new version."""

EXTEND: Final = """
UPDATE shard SET next_at = :lease_until WHERE id = :id AND version = :version AND owner = :owner
"""
"""Keeps a shard for whoever holds it."""

RELEASE: Final = """
UPDATE shard SET owner = NULL, next_at = :next_at, version = version + 1 WHERE id = :id AND owner = :owner
"""
"""Gives a shard back."""

HINT: Final = """
UPDATE shard SET next_at = :now
WHERE owner IS NULL AND state IN ('running', 'cancelling') AND next_at > :now
    AND id IN (SELECT shard_id FROM batch WHERE account = :account AND batch_id = :batch_id)
"""
"""Makes the shard of a batch due. Its version stays: nothing of its record is changed by it."""

OTHER_INTENTS: Final = """
SELECT id FROM shard WHERE account = :account AND state = 'submitting' AND id <> :id LIMIT 1
"""
"""Another shard of an account with an open intent."""

OPEN_INTENT: Final = (
    "SELECT record, version FROM shard WHERE account = :account AND state = 'submitting' LIMIT 1"
)
"""A shard of an account with an open intent."""

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

TOKENS: Final = Usage.__struct_fields__
"""Columns of the ledger that count tokens, each as the field of Usage that it keeps."""

ADD_PAYMENT: Final = """
INSERT INTO ledger (shard_id, attempt, model, kind, at, job_id, account, tier, rows, {columns}, cost, realtime_cost,
    uncached_cost)
VALUES (:shard_id, :attempt, :model, :kind, :at, :job_id, :account, :tier, :rows, {values}, :cost, :realtime_cost,
    :uncached_cost)
""".replace("{columns}", ", ".join(TOKENS)).replace("{values}", ", ".join(f":{name}" for name in TOKENS))
"""Records what an attempt cost with one model."""

SPLIT: Final = 10**12
"""Money is summed as multiples of this and what is left over: a sum of picodollars passes 64 bits at 9.2
million dollars."""

_TOKEN_SUMS = ", ".join(f"sum({name})" for name in TOKENS)


def _sums(amount: str, counted: str) -> str:
    """How many amounts are unknown, and the sum of the others in two parts."""
    unknown = f"count(CASE WHEN {counted} AND {amount} IS NULL THEN 1 END)"
    parts = (f"{amount} / {SPLIT}", f"{amount} - {amount} / {SPLIT} * {SPLIT}")
    return ", ".join((unknown, *(f"sum(CASE WHEN {counted} THEN {part} END)" for part in parts)))


# Where nothing was cached it is what was paid, also in payments from before the column.
_UNCACHED = "(CASE WHEN cached + write_5m + write_1h = 0 THEN cost ELSE uncached_cost END)"

_LEDGER = (
    """
SELECT {key}, sum(CASE WHEN kind <> 'doubt' THEN rows ELSE 0 END), {tokens}, {cost}, {realtime_cost},
    {uncached_cost}, {waste}, sum(CASE WHEN kind = 'doubt' THEN rows ELSE 0 END)
FROM ledger {where} GROUP BY {key} ORDER BY {key}
""".replace("{tokens}", _TOKEN_SUMS)
    .replace("{cost}", _sums("cost", "kind <> 'doubt'"))
    .replace("{realtime_cost}", _sums("realtime_cost", "kind <> 'doubt'"))
    .replace("{uncached_cost}", _sums(_UNCACHED, "kind <> 'doubt'"))
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

_SPENT = (
    """
SELECT job_id, model, account, tier, kind, {day}, sum(rows), {tokens}, {cost}, {realtime_cost}, {uncached_cost}
FROM ledger WHERE at >= :since AND at < :until{which}
GROUP BY job_id, model, account, tier, kind, {day} ORDER BY 6, 1, 2, 3, 4, 5
""".replace("{tokens}", _TOKEN_SUMS)
    .replace("{cost}", _sums("cost", "1 = 1"))
    .replace("{realtime_cost}", _sums("realtime_cost", "1 = 1"))
    .replace("{uncached_cost}", _sums(_UNCACHED, "1 = 1"))
)

SPENT: Final = _SPENT.replace("{which}", "")
"""Payments in a span of time, by all that they can be told apart by."""

SPENT_OF_JOB: Final = _SPENT.replace("{which}", " AND job_id = :job_id")
"""The same of one job."""

# ---------------------------------------------------------------- budgets

BUDGETS: Final = "SELECT record FROM budget ORDER BY name, value, period"
"""All budgets."""

SET_BUDGET: Final = """
INSERT INTO budget (name, value, period, record) VALUES (:name, :value, :period, :record)
ON CONFLICT (name, value, period) DO UPDATE SET record = excluded.record
"""
"""Records a budget."""

DROP_BUDGET: Final = "DELETE FROM budget WHERE name = :name AND value = :value AND period = :period"
"""Forgets a budget."""

PAID_SINCE: Final = """
SELECT job_id, {cost} FROM ledger WHERE at >= :since AND kind <> 'doubt' GROUP BY job_id
""".replace("{cost}", _sums("cost", "1 = 1"))
"""What was paid since a moment, by job."""

_STAKES = """
SELECT job_id, {stake} FROM shard WHERE state NOT IN ('done', 'stopped'){which} GROUP BY job_id
""".replace("{stake}", _sums("stake", "1 = 1"))

PROMISED: Final = _STAKES.replace("{which}", "")
"""What rows should cost that are still to be paid for, by job."""

AT_WORK: Final = _STAKES.replace(
    "{which}",
    """
    AND (state IN ('submitting', 'running', 'cancelling', 'answering', 'collecting')
        OR state IN ('planned', 'uploaded') AND id IN (SELECT shard_id FROM reservation))""",
)
"""The same of rows alone that are, or are about to be, at work at a provider."""

UNSENT_STAKES: Final = """
SELECT stake FROM shard
WHERE job_id = :job_id AND state IN ('planned', 'uploaded') AND id NOT IN (SELECT shard_id FROM reservation)
"""
"""What the shards of a job that wait to be admitted should cost."""

-- Admission to the providers' queues: what is known of their limits, and who holds how much of them.

ALTER TABLE job ADD COLUMN team TEXT NOT NULL DEFAULT '';

ALTER TABLE job ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;

ALTER TABLE job ADD COLUMN deadline DOUBLE PRECISION;

-- Empty in records from before this column; it is filled in when they are saved next.
ALTER TABLE shard ADD COLUMN model TEXT NOT NULL DEFAULT '';

-- A shard that was paused is not due either.
DROP INDEX shard_due;

DROP INDEX shard_due_of_job;

CREATE INDEX shard_due ON shard (next_at, id) WHERE state NOT IN ('done', 'stopped', 'paused');

CREATE INDEX shard_due_of_job ON shard (job_id, next_at, id) WHERE state NOT IN ('done', 'stopped', 'paused');

CREATE INDEX shard_waiting ON shard (account, model, next_at) WHERE state IN ('planned', 'uploaded');

-- What a shard takes of its model's queue, from before its upload until its batch has left the queue.
CREATE TABLE reservation (
    shard_id TEXT NOT NULL PRIMARY KEY REFERENCES shard (id),
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    team TEXT NOT NULL,
    tokens BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    -- 1 once the provider has taken the batch into its queue.
    accepted BIGINT NOT NULL DEFAULT 0
);

-- Limits that a person has set, or a provider has named. An empty model stands for all of an account's.
CREATE TABLE quota (
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    most BIGINT NOT NULL,
    -- 'set' by a person, or 'told' by the provider: what a person has set stays.
    source TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (account, model, kind)
);

-- What refusals have taught about a queue, as JSON.
CREATE TABLE queue (
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (account, model)
);

-- The rows of one attempt in real time may be billed in several tiers.
CREATE TABLE ledger_by_tier (
    shard_id TEXT NOT NULL REFERENCES shard (id),
    attempt BIGINT NOT NULL,
    model TEXT NOT NULL,
    -- 'rows', 'waste': paid for and of no use, or 'doubt': calls that may have been billed unseen.
    kind TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    job_id TEXT NOT NULL REFERENCES job (id),
    account TEXT NOT NULL,
    tier TEXT NOT NULL,
    rows BIGINT NOT NULL,
    input BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    write_5m BIGINT NOT NULL,
    write_1h BIGINT NOT NULL,
    output BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    -- NULL: the price is unknown, which is not zero.
    cost BIGINT,
    realtime_cost BIGINT,
    PRIMARY KEY (shard_id, attempt, model, kind, tier)
);

INSERT INTO ledger_by_tier (shard_id, attempt, model, kind, at, job_id, account, tier, rows, input, cached, write_5m,
    write_1h, output, reasoning, cost, realtime_cost)
SELECT shard_id, attempt, model, kind, at, job_id, account, tier, rows, input, cached, write_5m,
    write_1h, output, reasoning, cost, realtime_cost
FROM ledger;

DROP INDEX ledger_of_job;

DROP TABLE ledger;

ALTER TABLE ledger_by_tier RENAME TO ledger;

CREATE INDEX ledger_of_job ON ledger (job_id);

-- How long things took: what forecasts are learned from. `rows`: how many they took it for. `over`: 0 where it was
-- broken off, so that only a least time is known.
CREATE TABLE span (
    account TEXT NOT NULL,
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    rows BIGINT NOT NULL,
    over BIGINT NOT NULL
);

CREATE INDEX span_newest ON span (account, model, kind, at);

CREATE INDEX batch_newest ON batch (account, created_at);

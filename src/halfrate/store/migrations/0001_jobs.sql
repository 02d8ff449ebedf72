-- Rows of jobs are in files; here is a record a shard, a batch and a payment, never one a row.
--
-- Written in what SQLite and PostgreSQL share. No semicolon and no double dash inside a literal: the text is
-- cut at them. `record` and `summary` are JSON, whole; the columns beside them are what is searched for.
-- Times are seconds since 1970 UTC. Money is picodollars.

CREATE TABLE migration (
    number BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL
);

CREATE TABLE job (
    id TEXT NOT NULL PRIMARY KEY,
    created_at DOUBLE PRECISION NOT NULL,
    state TEXT NOT NULL,
    account TEXT NOT NULL,
    spec_hash TEXT NOT NULL,
    input_size BIGINT NOT NULL,
    finished_at DOUBLE PRECISION,
    record TEXT NOT NULL
);

CREATE INDEX job_newest ON job (created_at DESC, id);

CREATE INDEX job_twins ON job (spec_hash, input_size);

CREATE TABLE shard (
    id TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES job (id),
    number BIGINT NOT NULL,
    account TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Rises with every step: the fence that keeps a worker that froze from overwriting its successor.
    version BIGINT NOT NULL,
    owner TEXT,
    -- When the shard is due; while it has an owner, when that owner's lease ends.
    next_at DOUBLE PRECISION NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (job_id, number)
);

-- A database keeps every finished shard; what workers ask for must not slow down with them. A statement has to
-- repeat the condition word for word to be answered from these.
CREATE INDEX shard_due ON shard (next_at, id) WHERE state NOT IN ('done', 'stopped');

CREATE INDEX shard_due_of_job ON shard (job_id, next_at, id) WHERE state NOT IN ('done', 'stopped');

CREATE INDEX shard_intents ON shard (account) WHERE state = 'submitting';

CREATE INDEX shard_owner ON shard (owner) WHERE owner IS NOT NULL;

CREATE TABLE batch (
    account TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES job (id),
    shard_id TEXT NOT NULL REFERENCES shard (id),
    attempt BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION,
    -- What was collected: counts, odd lines, errors grouped.
    summary TEXT,
    PRIMARY KEY (account, batch_id)
);

CREATE INDEX batch_of_shard ON batch (shard_id, attempt);

CREATE INDEX batch_of_job ON batch (job_id);

CREATE TABLE ledger (
    shard_id TEXT NOT NULL REFERENCES shard (id),
    attempt BIGINT NOT NULL,
    model TEXT NOT NULL,
    -- 'rows', or 'waste': paid for and of no use.
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
    PRIMARY KEY (shard_id, attempt, model, kind)
);

CREATE INDEX ledger_of_job ON ledger (job_id);

-- Budgets: limits on money that people have set, and what is promised of it.

-- `record` is JSON, whole. `name` and `value`: whose money; both empty for everybody's.
CREATE TABLE budget (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    period TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (name, value, period)
);

-- What the shard's rows that are still to be settled should cost, picodollars; NULL: nobody knows. A record from before
-- this column counts nothing until it is saved next.
ALTER TABLE shard ADD COLUMN stake BIGINT DEFAULT 0;

-- Answers what is promised without a look at the records.
CREATE INDEX shard_stakes ON shard (job_id, state, id, stake) WHERE state NOT IN ('done', 'stopped');

CREATE INDEX ledger_newest ON ledger (at);

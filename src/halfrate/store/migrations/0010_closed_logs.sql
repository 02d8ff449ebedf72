-- A log of calls that nobody writes any more, and all of which is in the ledger: 1, else 0.

ALTER TABLE call_log ADD COLUMN closed BIGINT NOT NULL DEFAULT 0;

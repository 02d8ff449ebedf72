-- Prompt caches: batches that wait for the one that warms the cache, and what caching saved.

ALTER TABLE shard ADD COLUMN follows TEXT NOT NULL DEFAULT '';

-- What the same rows would have cost in the same tier without a cache. NULL: nobody knows, or nothing was cached and it
-- is what they cost.
ALTER TABLE ledger ADD COLUMN uncached_cost BIGINT;

-- Calls that can wait. Unlike a row of a job each has a record: whoever made it may ask for it by its id, or by a key of its
-- own. They are removed some days after their end. `record` is JSON, whole.

CREATE TABLE deferred_call (
    id TEXT NOT NULL PRIMARY KEY,
    team TEXT NOT NULL,
    -- Names the key by which its caller knows it again. NULL: there is none.
    mark TEXT,
    -- Names what was asked, and by whom.
    digest TEXT NOT NULL,
    -- The batch that it was gathered into, or empty.
    batch_id TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION,
    record TEXT NOT NULL
);

CREATE UNIQUE INDEX deferred_mark ON deferred_call (team, mark) WHERE mark IS NOT NULL;

CREATE INDEX deferred_twins ON deferred_call (team, digest, created_at);

CREATE INDEX deferred_of_batch ON deferred_call (batch_id, id);

CREATE INDEX deferred_ended ON deferred_call (ended_at, id) WHERE ended_at IS NOT NULL;

CREATE INDEX deferred_open ON deferred_call (id) WHERE ended_at IS NULL;

-- The gateway: who may call it, and what callers see instead of jobs. `record` is JSON, whole.

CREATE TABLE api_key (
    id TEXT NOT NULL PRIMARY KEY,
    created_at DOUBLE PRECISION NOT NULL,
    record TEXT NOT NULL
);

-- What a file holds lies on the disk, under its id.
CREATE TABLE stored_file (
    id TEXT NOT NULL PRIMARY KEY,
    team TEXT NOT NULL,
    purpose TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION,
    record TEXT NOT NULL
);

CREATE INDEX stored_file_of_team ON stored_file (team, created_at, id);

CREATE INDEX stored_file_life ON stored_file (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE upload (
    id TEXT NOT NULL PRIMARY KEY,
    team TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    record TEXT NOT NULL
);

CREATE INDEX upload_oldest ON upload (created_at);

CREATE TABLE surface_batch (
    id TEXT NOT NULL PRIMARY KEY,
    team TEXT NOT NULL,
    surface TEXT NOT NULL,
    -- Names what was asked: a call that is repeated can be told from a second batch.
    digest TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    version BIGINT NOT NULL,
    owner TEXT,
    -- When somebody should look at it; while it has an owner, when that lease ends. NULL: it has come to its end.
    next_at DOUBLE PRECISION,
    record TEXT NOT NULL
);

CREATE INDEX surface_batch_of_team ON surface_batch (team, surface, created_at, id);

CREATE INDEX surface_batch_due ON surface_batch (next_at, id) WHERE next_at IS NOT NULL;

CREATE INDEX surface_batch_twins ON surface_batch (team, digest, created_at);

-- Webhooks: who is told of the ends of batches and jobs, and what is on its way to them. `record` is JSON, whole.

CREATE TABLE webhook (
    id TEXT NOT NULL PRIMARY KEY,
    team TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    record TEXT NOT NULL
);

CREATE INDEX webhook_of_team ON webhook (team, id);

CREATE TABLE delivery (
    event_id TEXT NOT NULL,
    webhook_id TEXT NOT NULL REFERENCES webhook (id),
    created_at DOUBLE PRECISION NOT NULL,
    state TEXT NOT NULL,
    -- Counted before anything is sent: whoever dies in the middle, however often, sends no more copies than the schedule has.
    tries BIGINT NOT NULL,
    version BIGINT NOT NULL,
    owner TEXT,
    -- When it is to be sent; while it has an owner, when that lease ends. NULL: it is over.
    next_at DOUBLE PRECISION,
    record TEXT NOT NULL,
    PRIMARY KEY (event_id, webhook_id)
);

CREATE INDEX delivery_due ON delivery (next_at) WHERE next_at IS NOT NULL;

CREATE INDEX delivery_due_of_webhook ON delivery (webhook_id, next_at, event_id) WHERE next_at IS NOT NULL;

CREATE INDEX delivery_newest ON delivery (created_at, event_id, webhook_id);

-- Calls in real time through the gateway: how far each log of them is in the ledger, in bytes.

CREATE TABLE call_log (
    id TEXT NOT NULL PRIMARY KEY,
    booked BIGINT NOT NULL
);

-- The rows that warm a cache go first in every batch for itself: no batch waits for another any more.

ALTER TABLE shard DROP COLUMN follows;

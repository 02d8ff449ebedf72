-- Tokens that are no text, where a price list tells them apart: parts of input, cached and output.

ALTER TABLE ledger ADD COLUMN audio_input BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN audio_cached BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN audio_output BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN image_output BIGINT NOT NULL DEFAULT 0;

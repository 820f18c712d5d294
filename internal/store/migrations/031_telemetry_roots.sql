-- What was sealed into the ledger of the batches of epoch files: for each
-- minute and file the batches up to one, and the chain over all of them. The
-- ledger holds the same; a difference is a finding.
CREATE TABLE telemetry_root (
	keep_s      BIGINT NOT NULL, -- [plain] the epoch, see telemetry_epoch
	start_s     BIGINT NOT NULL, -- [plain] the epoch, see telemetry_epoch
	last_batch  BIGINT NOT NULL, -- [plain] last batch of this entry
	first_batch BIGINT NOT NULL, -- [plain] its first batch: one after the entry before
	rows        BIGINT NOT NULL, -- [plain] rows of the file up to the last batch
	chain       BLOB NOT NULL,   -- [plain] chain over the roots up to the last batch
	sealed_us   BIGINT NOT NULL, -- [plain] time of the ledger record, Unix microseconds
	PRIMARY KEY (keep_s, start_s, last_batch)
);

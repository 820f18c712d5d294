-- Samples that assessors draw: what could be drawn is
-- kept before the nonce is known, and what was drawn after.
CREATE TABLE assurance_sampling (
	id         TEXT NOT NULL PRIMARY KEY, -- [plain] random
	begun_us   BIGINT NOT NULL,           -- [plain] Unix microseconds
	body       BLOB NOT NULL,             -- [plain] the sampling without its population, JSON; it names people by pseudonym
	population BLOB NOT NULL              -- [plain] deflated lines: places in the ledger, or names made for this sample alone, which lead to no device
);
CREATE INDEX assurance_sampling_begun ON assurance_sampling (begun_us);

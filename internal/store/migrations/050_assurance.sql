-- What was observed, as it waits for its round. Nothing in it is personal:
-- findings name pseudonyms, addresses and words of declarations.
CREATE TABLE assurance_pending (
	id   INTEGER PRIMARY KEY AUTOINCREMENT, -- [plain] order of arrival
	line BLOB NOT NULL                      -- [plain] an observation or a proof, JSON
);
-- Closed rounds. Their digests stand in the ledger.
CREATE TABLE assurance_round (
	number      BIGINT NOT NULL PRIMARY KEY, -- [plain] from 1 without gaps
	closed_us   BIGINT NOT NULL, -- [plain] when it was closed, Unix microseconds
	digest      BLOB NOT NULL,   -- [plain] SHA-256 of the encoded round
	ledger_from BIGINT NOT NULL, -- [plain] a position of the ledger at or before the record of the round
	body        BLOB NOT NULL    -- [plain] the encoded round, deflated (RFC 1951)
);
CREATE INDEX assurance_round_closed ON assurance_round (closed_us);
-- The newest observation of each check and the newest proof of each violation.
CREATE TABLE assurance_latest (
	key   TEXT NOT NULL PRIMARY KEY, -- [plain] o/CHECK or p/CHECK/VIOLATION
	round BIGINT NOT NULL, -- [plain] the round it came with
	line  BLOB NOT NULL    -- [plain] the observation or proof, JSON
);
CREATE TABLE assurance_waiver (
	id   TEXT NOT NULL PRIMARY KEY, -- [plain] random
	body BLOB NOT NULL              -- [plain] the waiver, JSON; its reason names nobody
);

-- Every published version of every product's declaration, for ever: readings
-- and ledger entries name the one in force by its hash (rows 1.17, 7.10).
CREATE TABLE declaration (
	product      TEXT NOT NULL,        -- [plain] product id
	version      INTEGER NOT NULL,     -- [plain] number of the version, growing
	hash         BLOB NOT NULL UNIQUE, -- [plain] SHA-256 of canonical, 32 bytes
	canonical    BLOB NOT NULL,        -- [plain] the declaration as canonical JSON; it is published
	published_us BIGINT NOT NULL,      -- [plain] Unix microseconds
	PRIMARY KEY (product, version)
);

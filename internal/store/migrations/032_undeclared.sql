-- Streams whose devices sent fields that the declaration does not name: one row
-- for each declaration and stream, made the first time, together with the
-- ledger's record of it.
CREATE TABLE undeclared_stream (
	policy   BLOB NOT NULL,   -- [plain] hash of the declaration that was in force
	stream   TEXT NOT NULL,   -- [plain] name of the stream
	product  TEXT NOT NULL,   -- [plain] product id
	first_us BIGINT NOT NULL, -- [plain] when it was seen first, Unix microseconds
	PRIMARY KEY (policy, stream)
);
-- The first few of those names. A device makes names up, and one can say
-- something of a person, so each is sealed for the one it came from.
CREATE TABLE undeclared_name (
	policy   BLOB NOT NULL,   -- [plain] see undeclared_stream
	stream   TEXT NOT NULL,   -- [plain] see undeclared_stream
	place    INTEGER NOT NULL, -- [plain] one of the places that a stream has
	subject  BLOB NOT NULL,   -- [pseudonym; eraser=counts] from whose device it came first
	name     BLOB NOT NULL,   -- [sealed; eraser=key] the name: short, digits and other signs replaced
	first_us BIGINT NOT NULL, -- [plain] when it was seen first, Unix microseconds
	PRIMARY KEY (policy, stream, place)
);
CREATE INDEX undeclared_name_subject ON undeclared_name (subject);

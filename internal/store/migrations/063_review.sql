-- Versions of declarations that widen something, and who decided (row 4.12).
CREATE TABLE declaration_review (
	id        TEXT NOT NULL PRIMARY KEY, -- [plain] random
	asked_us  BIGINT NOT NULL,           -- [plain] Unix microseconds
	canonical BLOB NOT NULL,             -- [plain] the version that waits, canonical JSON; it is meant to be published
	body      BLOB NOT NULL              -- [plain] the review, JSON; it names people by pseudonym
);
CREATE INDEX declaration_review_asked ON declaration_review (asked_us);

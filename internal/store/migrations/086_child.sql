-- Children: units without a certificate, for which a hub speaks (decision 015).
ALTER TABLE device ADD COLUMN child INTEGER NOT NULL DEFAULT 0; -- [plain] 1: it has no certificate and never will; a hub speaks for it

-- Which hub speaks for which child. A row lasts as long as both ownerships do:
-- with either it is deleted.
CREATE TABLE child_link (
	child    TEXT PRIMARY KEY REFERENCES device (id),  -- [device; eraser=ownership] for whom
	hub      TEXT NOT NULL REFERENCES device (id),     -- [device; eraser=ownership] who speaks for it
	series   BLOB NOT NULL UNIQUE,                     -- [plain] 16 bytes, random: what a hub counts, it counts for this link alone
	since_us BIGINT NOT NULL                           -- [plain] Unix microseconds
);
CREATE INDEX child_link_hub ON child_link (hub);

-- Whom a hub proposes as its child, a few of each hub: ids that it made up, for
-- all that anybody knows.
CREATE TABLE child_proposal (
	hub      TEXT NOT NULL REFERENCES device (id), -- [device; eraser=ownership] who proposes
	child    TEXT NOT NULL,                        -- [device; eraser=ownership] whom; perhaps nobody
	first_us BIGINT NOT NULL,                      -- [plain] Unix microseconds
	last_us  BIGINT NOT NULL,                      -- [plain] Unix microseconds
	PRIMARY KEY (hub, child)
);

-- What stands in a service's stream besides readings: orders, and readings that
-- nobody sent, made up to see whether a service erases.
CREATE TABLE reader_event (
	reader      TEXT NOT NULL,   -- [plain] the service
	number      BIGINT NOT NULL, -- [plain] grows with every event of the service
	product     TEXT NOT NULL,   -- [plain] product id
	id          TEXT NOT NULL,   -- [plain] random; what the service answers with
	kind        TEXT NOT NULL,   -- [plain] erase, expire, tell, or reading
	alias       BLOB NOT NULL,   -- [pseudonym; eraser=kept] what the service knew a subject by, linked to nobody any more; empty: nobody
	keep_s      BIGINT NOT NULL, -- [plain] expire: keep-time of the epoch, in seconds
	start_s     BIGINT NOT NULL, -- [plain] expire: first instant of the epoch, Unix seconds
	length_s    BIGINT NOT NULL, -- [plain] expire: length of the epoch, in seconds
	body        BLOB NOT NULL,   -- [plain] reading: the line of the stream; nobody's, made up by the program
	made_us     BIGINT NOT NULL, -- [plain] Unix microseconds
	due_us      BIGINT NOT NULL, -- [plain] when it must be answered, Unix microseconds; 0: no answer is wanted
	answered_us BIGINT NOT NULL, -- [plain] Unix microseconds; 0: it was not
	held        BIGINT NOT NULL, -- [plain] tell: 1 it has something, 2 it has nothing; else 0
	receipt     BLOB,            -- [plain] the answer, as it came
	signature   BLOB,            -- [plain] of the answer, ECDSA in ASN.1
	certificate BLOB,            -- [plain] number of the certificate whose key signed it
	PRIMARY KEY (reader, number)
);
CREATE UNIQUE INDEX reader_event_id ON reader_event (id);
CREATE INDEX reader_event_open ON reader_event (due_us) WHERE due_us > 0 AND answered_us = 0;
CREATE INDEX reader_event_alias ON reader_event (alias);

-- Canaries: subjects that never were, of which a service was given readings.
CREATE TABLE reader_canary (
	alias      BLOB NOT NULL PRIMARY KEY, -- [pseudonym; eraser=kept] what the service knows it by; nobody's
	reader     TEXT NOT NULL,   -- [plain] the service
	product    TEXT NOT NULL,   -- [plain] product id
	state      TEXT NOT NULL,   -- [plain] planted, asked, erasing, asked-again, proved, not-kept, still-held or unanswered
	event      BIGINT NOT NULL, -- [plain] number of the event that the state waits for
	changed_us BIGINT NOT NULL  -- [plain] Unix microseconds
);
CREATE INDEX reader_canary_reader ON reader_canary (reader, product, changed_us);

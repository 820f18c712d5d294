-- Answers to batches of readings that brought an Idempotency-Key, for a day, so
-- that the same request gets the same answer.
CREATE TABLE ingest_answer (
	key     BLOB NOT NULL PRIMARY KEY, -- [plain] SHA-256 of device and Idempotency-Key
	subject BLOB NOT NULL,             -- [pseudonym; eraser=counts] whose readings they were; empty: nobody's
	body    BLOB NOT NULL,             -- [plain] HMAC of the request under the Idempotency-Key, which is not kept
	answer  BLOB NOT NULL,             -- [plain] the answer: counts and reasons, JSON; nothing of a reading
	at_us   BIGINT NOT NULL            -- [plain] when it was given, Unix microseconds
);
CREATE INDEX ingest_answer_subject ON ingest_answer (subject, at_us);
CREATE INDEX ingest_answer_at ON ingest_answer (at_us);

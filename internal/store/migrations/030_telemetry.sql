-- What the control database knows of epochs: one row for each from its first
-- reading until 90 days after its end.
CREATE TABLE telemetry_epoch (
	keep_s       BIGINT NOT NULL, -- [plain] keep-time of its readings, in seconds
	start_s      BIGINT NOT NULL, -- [plain] first instant, Unix seconds
	length_s     BIGINT NOT NULL, -- [plain] length in seconds
	state        TEXT NOT NULL,   -- [plain] live, damaged, ending or ended
	batches      BIGINT NOT NULL, -- [plain] last batch of its file that is durable and counted
	rows         BIGINT NOT NULL, -- [plain] rows up to that batch
	wrong_clock  BIGINT NOT NULL, -- [plain] how many of them are filed by time of receipt
	chain        BLOB NOT NULL,   -- [plain] chain over the roots up to that batch
	late_counted BIGINT NOT NULL, -- [plain] last row of the late lane whose fate is counted
	detail       TEXT NOT NULL,   -- [plain] damaged: what is wrong and where the file lies
	changed_us   BIGINT NOT NULL, -- [plain] when the state last changed, Unix microseconds
	PRIMARY KEY (keep_s, start_s)
);
CREATE INDEX telemetry_epoch_state ON telemetry_epoch (state);

-- How far readers of the journal have come, in the transaction of what they
-- made of it.
CREATE TABLE telemetry_mark (
	reader  TEXT PRIMARY KEY, -- [plain] who reads: projector
	journal TEXT NOT NULL,    -- [plain] incarnation of the journal
	seq     BIGINT NOT NULL   -- [plain] last batch that is done
);

-- What happened to messages, by minute, for 90 days. What is usual (accepted,
-- stored) is counted without its subject; what is not, one row for each
-- subject, reason and minute.
CREATE TABLE telemetry_count (
	minute  BIGINT NOT NULL, -- [plain] Unix minute of receipt
	product TEXT NOT NULL,   -- [plain] product id
	subject BLOB NOT NULL,   -- [pseudonym; eraser=counts] whose messages; empty: nobody's in particular
	kind    TEXT NOT NULL,   -- [plain] accepted, stored, duplicate, dropped-field, refused, expired
	reason  TEXT NOT NULL,   -- [plain] why, for refused; else empty
	n       BIGINT NOT NULL, -- [plain] how many
	PRIMARY KEY (minute, product, subject, kind, reason)
);
CREATE INDEX telemetry_count_subject ON telemetry_count (subject, minute);

-- The same since the beginning, never pruned.
CREATE TABLE telemetry_total (
	product TEXT NOT NULL,   -- [plain] product id
	kind    TEXT NOT NULL,   -- [plain] as in telemetry_count
	reason  TEXT NOT NULL,   -- [plain] as in telemetry_count
	n       BIGINT NOT NULL, -- [plain] how many
	PRIMARY KEY (product, kind, reason)
);

-- Running figures of each subject.
CREATE TABLE telemetry_subject (
	subject        BLOB NOT NULL,   -- [pseudonym; eraser=counts] whose messages
	product        TEXT NOT NULL,   -- [plain] product id
	accepted       BIGINT NOT NULL, -- [plain] messages accepted
	stored         BIGINT NOT NULL, -- [plain] readings stored
	duplicates     BIGINT NOT NULL, -- [plain] readings that were stored before
	dropped_fields BIGINT NOT NULL, -- [plain] fields dropped from accepted messages
	refused        BIGINT NOT NULL, -- [plain] messages refused
	last_ms        BIGINT NOT NULL, -- [plain] latest receipt, Unix milliseconds
	PRIMARY KEY (subject, product)
);

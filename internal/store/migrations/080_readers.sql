-- The maker's own services that read (CC 1.6), each with its own certificate.
CREATE TABLE reader (
	name       TEXT NOT NULL PRIMARY KEY, -- [plain] as under services: in a declaration
	added_us   BIGINT NOT NULL,           -- [plain] Unix microseconds
	revoked_us BIGINT NOT NULL,           -- [plain] Unix microseconds; 0: it is good
	answer_s   BIGINT NOT NULL,           -- [plain] how long it may take to answer an order, in seconds
	cursor_key BLOB NOT NULL,             -- [plain] key of its cursors: it keeps their content from the service, and guards nothing of anybody
	events     BIGINT NOT NULL            -- [plain] number of the last event of its streams
);

-- Certificates of services, until a while after their end.
CREATE TABLE reader_certificate (
	number       BLOB NOT NULL PRIMARY KEY, -- [plain] the certificate's number, 16 bytes
	reader       TEXT NOT NULL,             -- [plain] whose
	der          BLOB NOT NULL,             -- [plain] the certificate: receipts are verified with it
	issued_us    BIGINT NOT NULL,           -- [plain] Unix microseconds
	not_after_us BIGINT NOT NULL,           -- [plain] Unix microseconds
	ended_us     BIGINT NOT NULL            -- [plain] when it was revoked, Unix microseconds; 0: it was not
);
CREATE INDEX reader_certificate_reader ON reader_certificate (reader, issued_us);

-- Whose readings a service was given, and under which pseudonym of its own.
CREATE TABLE reader_subject (
	reader   TEXT NOT NULL,   -- [plain] the service
	subject  BLOB NOT NULL,   -- [pseudonym; eraser=readers] whom readings are about
	alias    BLOB NOT NULL,   -- [pseudonym; eraser=readers] random; what the service knows the subject by, and no other service
	product  TEXT NOT NULL,   -- [plain] product id
	since_us BIGINT NOT NULL, -- [plain] before the first reading went out, Unix microseconds
	PRIMARY KEY (reader, subject)
);
CREATE UNIQUE INDEX reader_subject_alias ON reader_subject (alias);
CREATE INDEX reader_subject_subject ON reader_subject (subject);

-- Of which epochs a service was given readings.
CREATE TABLE reader_epoch (
	reader   TEXT NOT NULL,   -- [plain] the service
	product  TEXT NOT NULL,   -- [plain] product id
	keep_s   BIGINT NOT NULL, -- [plain] keep-time in seconds
	start_s  BIGINT NOT NULL, -- [plain] first instant, Unix seconds
	length_s BIGINT NOT NULL, -- [plain] length in seconds
	PRIMARY KEY (reader, product, keep_s, start_s)
);

-- The read session that is open for a service and product: one for each hour.
CREATE TABLE reader_session (
	reader    TEXT NOT NULL,   -- [plain] the service
	product   TEXT NOT NULL,   -- [plain] product id
	session   TEXT NOT NULL,   -- [plain] its name in the ledger
	opened_us BIGINT NOT NULL, -- [plain] Unix microseconds
	readings  BIGINT NOT NULL, -- [plain] parts of readings handed out in it
	gaps      BIGINT NOT NULL, -- [plain] gaps told in it
	PRIMARY KEY (reader, product)
);

-- How far a service has come: what it asked on with, and so has.
CREATE TABLE reader_position (
	reader  TEXT NOT NULL,   -- [plain] the service
	product TEXT NOT NULL,   -- [plain] product id
	cursor  TEXT NOT NULL,   -- [plain] the cursor that it came with, sealed
	made_us BIGINT NOT NULL, -- [plain] when that cursor was made, Unix microseconds
	seen_us BIGINT NOT NULL, -- [plain] when it came with it, Unix microseconds
	PRIMARY KEY (reader, product)
);

-- Devices in the field that prove themselves with what the maker gave them, not
-- with a certificate of this installation, until the door for them closes.

-- Authorities of the maker's whose certificates are let in, each only with the
-- certificates that were registered under it.
CREATE TABLE legacy_ca (
	id        BLOB PRIMARY KEY,         -- [plain] SHA-256 of its certificate
	name      TEXT NOT NULL UNIQUE,     -- [plain] a word
	der       BLOB NOT NULL,            -- [plain] its certificate
	product   TEXT NOT NULL,            -- [plain] product id
	reason    TEXT NOT NULL,            -- [plain] a word: what the operator gave as the reason
	operator  TEXT NOT NULL,            -- [pseudonym; eraser=kept] staff id of who added it
	added_us  BIGINT NOT NULL,          -- [plain] Unix microseconds
	ended_us  BIGINT                    -- [plain] NULL: not; its certificates open nothing any more
);

-- The credential of each such device. A row stays after its end, so that a use
-- of it is seen.
CREATE TABLE legacy_credential (
	id        BLOB PRIMARY KEY,         -- [plain] 16 random bytes; the readings that came with it name it
	device    TEXT NOT NULL REFERENCES device (id), -- [device; eraser=kept] whose
	kind      TEXT NOT NULL,            -- [plain] device-token, own-ca
	proof     BLOB NOT NULL,            -- [hash] of a token: HMAC over device and token; of a certificate: SHA-256
	alone     BLOB NOT NULL UNIQUE,     -- [hash] of a token: HMAC over it alone; of a certificate: SHA-256 of its public key. No two devices share one
	key_id    BLOB NOT NULL,            -- [hash] names the key of the HMAC, 8 bytes; empty for a certificate
	ca        BLOB REFERENCES legacy_ca (id), -- [plain] under which the certificate was registered; NULL for a token
	not_after_us BIGINT,                -- [plain] end of the certificate; NULL for a token
	operator  TEXT NOT NULL,            -- [pseudonym; eraser=kept] staff id of who added it
	added_us  BIGINT NOT NULL,          -- [plain] Unix microseconds
	seen_us   BIGINT,                   -- [plain] last use, within the hour; NULL: never
	ended_us  BIGINT,                   -- [plain] NULL: not
	why       TEXT NOT NULL             -- [plain] why it ended: enrolled, revoked, withdrawn; '' while it has not
);
CREATE UNIQUE INDEX legacy_credential_live ON legacy_credential (device) WHERE ended_us IS NULL;
CREATE INDEX legacy_credential_device ON legacy_credential (device, added_us);

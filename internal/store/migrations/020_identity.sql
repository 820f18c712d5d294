-- The maker's register of units, their certificates, and whose they are.

-- One row per unit. Its id is the maker's own number; who owns the unit stands
-- only in `ownership`.
CREATE TABLE device (
	id           TEXT PRIMARY KEY,           -- [device; eraser=kept] serial number, as on the unit
	product      TEXT NOT NULL,              -- [plain] product id
	unit         BLOB NOT NULL UNIQUE,       -- [pseudonym; eraser=kept] names the unit in ledger records that have no subject
	revision     BIGINT NOT NULL,            -- [plain] grows with every change to the unit, its certificates or ownership
	added_us     BIGINT NOT NULL,            -- [plain] Unix microseconds
	code         BLOB,                       -- [hash] of the open enrolment code; NULL when there is none
	code_until_us BIGINT,                    -- [plain] when the code ends unspent; NULL: never
	spent        BLOB,                       -- [hash] of the last code that was spent or withdrawn
	ownerships   INTEGER NOT NULL,           -- [plain] how many ownerships were ever opened
	revoked_us   BIGINT,                     -- [plain] Unix microseconds; NULL: not revoked
	suspect_us   BIGINT,                     -- [plain] in quarantine since; NULL: not
	suspicion    TEXT NOT NULL               -- [plain] reason of the quarantine, a word
);

-- Certificates of devices. Rows leave some time after they ended or ran out.
CREATE TABLE certificate (
	serial       BLOB PRIMARY KEY,           -- [device; eraser=kept] 16 bytes
	device       TEXT NOT NULL REFERENCES device (id), -- [device; eraser=kept] whose
	spki         BLOB NOT NULL,              -- [device; eraser=kept] SHA-256 of its public key
	fingerprint  BLOB NOT NULL,              -- [device; eraser=kept] SHA-256 of its DER
	not_before_us BIGINT NOT NULL,           -- [plain] Unix microseconds
	not_after_us BIGINT NOT NULL,            -- [plain] Unix microseconds
	state        TEXT NOT NULL,              -- [plain] issued, confirmed, superseded, revoked
	door         TEXT NOT NULL,              -- [plain] enrolment-code, renewal
	code         BLOB,                       -- [hash] of the code it was issued to; NULL for a renewal
	issued_us    BIGINT NOT NULL,            -- [plain] Unix microseconds
	confirmed_us BIGINT,                     -- [plain] first handshake; NULL: none yet
	ended_us     BIGINT,                     -- [plain] superseded or revoked; NULL: neither
	der          BLOB                        -- [device; eraser=kept] until its first handshake, then NULL
);
CREATE INDEX certificate_device ON certificate (device, issued_us);
CREATE INDEX certificate_end ON certificate (not_after_us);

-- Every public key that was ever certified, and for which unit: no key serves
-- twice, whatever became of its certificate.
CREATE TABLE device_key (
	spki         BLOB PRIMARY KEY,           -- [device; eraser=kept] SHA-256 of the public key
	device       TEXT NOT NULL,              -- [device; eraser=kept] whose
	first_us     BIGINT NOT NULL             -- [plain] Unix microseconds
);

-- Whose a unit is. The only row that has a unit and a subject side by side: the
-- eraser deletes it. Rows of readings lead there through `certificate`; see the
-- table `erasure`.
CREATE TABLE ownership (
	subject      BLOB PRIMARY KEY,           -- [pseudonym; eraser=ownership] of the owner
	device       TEXT NOT NULL UNIQUE REFERENCES device (id), -- [device; eraser=ownership] whose
	actor_kind   TEXT NOT NULL,              -- [plain] who opened it
	actor_id     TEXT NOT NULL,              -- [pseudonym; eraser=ownership] who opened it
	opened_us    BIGINT NOT NULL,            -- [plain] Unix microseconds
	done         INTEGER NOT NULL            -- [plain] 0: an intent; the key may not exist yet
);
CREATE INDEX ownership_intent ON ownership (done) WHERE done = 0;

-- Where a unit comes from.
CREATE TABLE device_birth (
	device       TEXT PRIMARY KEY REFERENCES device (id), -- [device; eraser=kept] whose
	station      TEXT NOT NULL,              -- [plain] where it was registered
	operator     TEXT NOT NULL,              -- [pseudonym; eraser=kept] staff id
	time_us      BIGINT NOT NULL,            -- [plain] Unix microseconds
	code_bits    INTEGER NOT NULL,           -- [plain] strength of its enrolment code
	key_origin   TEXT NOT NULL,              -- [plain] '' until enrolled; device: made on the device
	spki         BLOB,                       -- [device; eraser=kept] SHA-256 of its first public key; NULL until enrolled
	enrolled_us  BIGINT                      -- [plain] first handshake; NULL: none yet
);

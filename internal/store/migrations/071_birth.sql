-- What a unit was born with, written once with its registration. Its digest
-- stands in the ledger. NULL in salt: registered by a version that kept less.
ALTER TABLE device_birth ADD COLUMN door TEXT NOT NULL DEFAULT ''; -- [plain] enrolment-code, factory-list, factory-ca: how it first gets a certificate
ALTER TABLE device_birth ADD COLUMN hardware TEXT NOT NULL DEFAULT ''; -- [plain] revision, a word; '' when not given
ALTER TABLE device_birth ADD COLUMN batch TEXT NOT NULL DEFAULT ''; -- [plain] a word; '' when not given
ALTER TABLE device_birth ADD COLUMN source BLOB; -- [plain] SHA-256 of the factory's list or authority that it came by; NULL: by hand
ALTER TABLE device_birth ADD COLUMN salt BLOB; -- [plain] 16 bytes, makes the digest in the ledger one that nobody looks up

-- What a session keeps of messages at QoS 2, so that each is stored once.
ALTER TABLE device_session ADD COLUMN inbox BLOB; -- [plain] packet identifiers under way and random numbers, none of them of a person; NULL: none ever came

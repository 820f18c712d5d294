-- What the checks of the register look for every few seconds, without reading
-- the whole of it.

CREATE INDEX certificate_over ON certificate (not_after_us, serial, device, state) WHERE state IN ('revoked', 'superseded');
CREATE INDEX device_revoked ON device (id) WHERE revoked_us IS NOT NULL;

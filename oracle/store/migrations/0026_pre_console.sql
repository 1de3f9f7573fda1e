-- What the console needs to know of sessions, and how each person wants to read it.

-- A session of a key ends with that secret of the key, so the session knows its hash.  `browser` and `address` are for the
-- person, who must recognise a session that is not theirs.
ALTER TABLE console_sessions
    ADD COLUMN session_id uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN secret_sha256 bytea CHECK (length(secret_sha256) = 32),  -- NULL: no key signed in
    ADD COLUMN rest_s float8 NOT NULL DEFAULT 1800 CHECK (rest_s > 0),
    ADD COLUMN browser text NOT NULL DEFAULT '' CHECK (length(browser) <= 200),
    ADD COLUMN address text NOT NULL DEFAULT '' CHECK (length(address) <= 64);

-- No part of the directory, so no events.  NULL: as the browser says.
CREATE TABLE console_preferences (
    actor      text COLLATE "C" PRIMARY KEY CHECK (length(actor) BETWEEN 1 AND 320),
    language   text COLLATE "C" CHECK (language ~ '^[a-z]{2,3}$'),
    time_zone  text COLLATE "C" CHECK (time_zone ~ '^[A-Za-z0-9_+/-]{1,64}$')
);

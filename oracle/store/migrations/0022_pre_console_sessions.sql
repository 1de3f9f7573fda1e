-- Sessions of people who signed in with a browser (oracle/identity/sessions.py).  They are no part of the directory, so
-- they have no events: what a person does in a session has.
--
-- A token is 256 random bits, so that a plain hash of it reveals nothing.

CREATE TABLE console_sessions (
    token_sha256  bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
    actor         text COLLATE "C" NOT NULL CHECK (length(actor) BETWEEN 1 AND 320),
    role          credential_role NOT NULL,
    fsp_ids       text[] COLLATE "C",  -- NULL: every FSP
    person        text COLLATE "C",
    started_at    timestamptz NOT NULL DEFAULT now(),
    seen_at       timestamptz NOT NULL DEFAULT now(),
    ends_at       timestamptz NOT NULL,
    CHECK (CASE WHEN role IN ('dfsp-maker', 'dfsp-checker') THEN fsp_ids IS NOT NULL AND cardinality(fsp_ids) > 0
                WHEN role IN ('operator', 'auditor') THEN fsp_ids IS NULL ELSE true END)
);
CREATE INDEX console_sessions_by_actor ON console_sessions (actor, started_at);
CREATE INDEX console_sessions_by_end ON console_sessions (ends_at);

-- Administration: details and permissions of FSPs, credentials, idempotent calls, batches, and the index that lists the
-- aliases of one FSP.

-- FSPs ---------------------------------------------------------------------------------------------------------

-- kinds, currencies: what the FSP may register; NULL means everything.  two_persons: its files wait for a checker.
-- fsp_logos holds the picture itself: history keeps its digest, not 100 kB at every change of a telephone number.
ALTER TABLE fsps
    ADD COLUMN locale_name      text CHECK (length(locale_name) BETWEEN 1 AND 128),
    ADD COLUMN dfsp_type        text CHECK (length(dfsp_type) BETWEEN 1 AND 64),
    ADD COLUMN additional_info  text CHECK (length(additional_info) BETWEEN 1 AND 1024),
    ADD COLUMN kinds            text[],
    ADD COLUMN currencies       text[],
    ADD COLUMN use_cases        text[] NOT NULL DEFAULT '{}',
    ADD COLUMN contact          jsonb,
    ADD COLUMN two_persons      boolean NOT NULL DEFAULT false,
    ADD COLUMN logo_data_type   text,
    ADD COLUMN logo_sha256      bytea,
    ADD COLUMN version          bigint NOT NULL DEFAULT 1;

CREATE TABLE fsp_logos (
    fsp_id  text COLLATE "C" PRIMARY KEY REFERENCES fsps,
    data    bytea NOT NULL CHECK (length(data) BETWEEN 1 AND 262144)
);

-- The version of a row is its ETag: two writers who read the same one cannot both write.
CREATE FUNCTION next_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER fsps_version BEFORE UPDATE ON fsps FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION next_version();

-- Routes -------------------------------------------------------------------------------------------------------

ALTER TABLE routes
    ADD COLUMN created_at  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN changed_at  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN version     bigint NOT NULL DEFAULT 1,
    ADD CONSTRAINT routes_note CHECK (length(note) <= 256);
CREATE INDEX routes_by_fsp ON routes (fsp_id, route_id);
CREATE TRIGGER routes_version BEFORE UPDATE ON routes FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION next_version();

-- Aliases of one FSP -------------------------------------------------------------------------------------------

-- Listed by type and time of the last change.  A row that changes moves to the end of its type, never to a position
-- that a reader has passed, so no reader misses a row that existed throughout.  Times are distinct within a statement
-- (not now(), which 10,000 rows of a bulk would share): a page is one range of the index.  New rows go to the right
-- end of it, so that an import into 100 M aliases does not touch the whole index.
ALTER TABLE aliases ALTER COLUMN changed_at SET DEFAULT clock_timestamp();
ALTER TABLE alias_currencies ALTER COLUMN changed_at SET DEFAULT clock_timestamp();
CREATE INDEX aliases_by_fsp ON aliases (fsp_id, party_id_type, changed_at);
CREATE INDEX alias_currencies_by_fsp ON alias_currencies (fsp_id, party_id_type, changed_at);

-- Credentials --------------------------------------------------------------------------------------------------

CREATE TYPE credential_role AS ENUM ('operator', 'dfsp-maker', 'dfsp-checker', 'auditor', 'reader');

CREATE TABLE credentials (
    credential_id  text COLLATE "C" PRIMARY KEY CHECK (credential_id ~ '^[a-z2-7]{12}$'),
    role           credential_role NOT NULL,
    fsp_id         text COLLATE "C" REFERENCES fsps,
    label          text NOT NULL CHECK (length(label) BETWEEN 1 AND 128),
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text NOT NULL,
    changed_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL DEFAULT 'infinity',
    revoked_at     timestamptz NOT NULL DEFAULT 'infinity',
    version        bigint NOT NULL DEFAULT 1,
    CHECK (CASE WHEN role IN ('dfsp-maker', 'dfsp-checker') THEN fsp_id IS NOT NULL
                WHEN role IN ('operator', 'auditor') THEN fsp_id IS NULL ELSE true END)
);
CREATE INDEX credentials_by_fsp ON credentials (fsp_id, credential_id);
CREATE TRIGGER credentials_version BEFORE UPDATE ON credentials FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION next_version();

-- Up to two secrets of a credential are valid at once, while its holder changes from one to the next.  A secret is 256
-- random bits, so that a plain hash of it reveals nothing.
CREATE TABLE credential_secrets (
    credential_id  text COLLATE "C" NOT NULL REFERENCES credentials,
    secret_sha256  bytea NOT NULL CHECK (length(secret_sha256) = 32),
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (credential_id, secret_sha256)
);

-- Separate from credentials: a use does not change the credential.
CREATE TABLE credential_uses (
    credential_id  text COLLATE "C" PRIMARY KEY REFERENCES credentials,
    last_used_at   timestamptz NOT NULL
);

CREATE FUNCTION credentials_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
        SELECT 'credential', 'registered', c.channel, c.actor, c.role, fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n;
    ELSE
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, after, reason, request_id, trace_id)
        SELECT 'credential', 'changed', c.channel, c.actor, c.role, n.fsp_id, to_jsonb(o), to_jsonb(n),
               c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN old_rows o USING (credential_id) WHERE to_jsonb(n) <> to_jsonb(o);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER credentials_inserted AFTER INSERT ON credentials
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION credentials_written();
CREATE TRIGGER credentials_updated AFTER UPDATE ON credentials
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION credentials_written();
CREATE TRIGGER credentials_stay BEFORE DELETE OR TRUNCATE ON credentials
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Refused calls: who tried what.  The limit on failed calls bounds them, see api/admin/access.py.
CREATE TABLE access_refusals (
    at             timestamptz NOT NULL DEFAULT now(),
    credential_id  text,
    address        text,
    method         text NOT NULL,
    route          text NOT NULL,
    status         smallint NOT NULL,
    reason         text NOT NULL
);
CREATE INDEX access_refusals_by_time ON access_refusals (at);

-- Idempotent calls --------------------------------------------------------------------------------------------

-- The answer to a call with an Idempotency-Key, committed together with the changes of the call.  Encrypted under the
-- secret of the caller: it can hold a new credential's secret, which nobody else may read.
CREATE TABLE idempotency (
    credential_id    text COLLATE "C" NOT NULL,
    idempotency_key  text COLLATE "C" NOT NULL,
    call_sha256      bytea NOT NULL,
    answer           bytea,
    made_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (credential_id, idempotency_key)
);
CREATE INDEX idempotency_by_time ON idempotency (made_at);

-- Bulk files ---------------------------------------------------------------------------------------------------

CREATE TYPE batch_state AS ENUM
    ('validating', 'waiting', 'applying', 'done', 'rejected', 'cancelled', 'failed');

-- One uploaded file.  waiting: for a second person.  The counters count the committed chunks.
-- Its number comes from the sequence before its parts are stored, and its row after them (see batch_uploads).
CREATE TABLE batches (
    batch_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fsp_id           text COLLATE "C" NOT NULL REFERENCES fsps,
    state            batch_state NOT NULL DEFAULT 'validating',
    file_name        text NOT NULL CHECK (length(file_name) BETWEEN 1 AND 255),
    file_format      text NOT NULL CHECK (file_format IN ('csv', 'ndjson')),
    file_bytes       bigint NOT NULL,
    file_sha256      bytea NOT NULL,
    note             text CHECK (length(note) <= 256),
    uploaded_by      text NOT NULL,
    uploaded_role    text NOT NULL,
    uploaded_at      timestamptz NOT NULL DEFAULT now(),
    needs_approval   boolean NOT NULL,
    decided_by       text,
    decided_at       timestamptz,
    decision_reason  text CHECK (length(decision_reason) <= 256),
    cancelled_by     text,
    bytes_read       bigint NOT NULL DEFAULT 0,
    rows_read        bigint NOT NULL DEFAULT 0,
    rows_valid       bigint NOT NULL DEFAULT 0,
    rows_applied     bigint NOT NULL DEFAULT 0,  -- in force now, whether they changed anything or stood before
    rows_changed     bigint NOT NULL DEFAULT 0,
    rows_failed      bigint NOT NULL DEFAULT 0,  -- invalid, or refused when they were applied
    chunks           int NOT NULL DEFAULT 0,
    chunks_applied   int NOT NULL DEFAULT 0,
    rows_per_s       float8,  -- of late, in the phase it is in
    validated_at     timestamptz,
    started_at       timestamptz,  -- when it became free to be applied; the order of an FSP's files
    finished_at      timestamptz,
    error_code       text,
    error_message    text,
    changed_at       timestamptz NOT NULL DEFAULT now(),
    version          bigint NOT NULL DEFAULT 1
);
CREATE INDEX batches_by_fsp ON batches (fsp_id, batch_id);
CREATE INDEX batches_unfinished ON batches (batch_id) WHERE state IN ('validating', 'applying');
CREATE TRIGGER batches_version BEFORE UPDATE ON batches FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION next_version();

-- Files during their upload.  The transaction that adds the row in batches deletes this one.  A row without a new part
-- for a long time is of a broken upload; its parts are removed.
CREATE TABLE batch_uploads (
    batch_id  bigint PRIMARY KEY,
    seen_at   timestamptz NOT NULL DEFAULT now()
);

-- The uploaded file, compressed, in parts; kept to show later where an alias came from.
-- No foreign key: the parts exist before the batch.
CREATE TABLE batch_files (
    batch_id  bigint NOT NULL,
    part      int NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (batch_id, part)
);
ALTER TABLE batch_files ALTER COLUMN data SET STORAGE EXTERNAL;

-- Its rows as they were read, thousands to a chunk (see imports/chunks.py), and their results: one byte a row, written in
-- the transaction that applied the row.  A row without a result has not been applied.
-- xacts: those transactions.  Their events name them as well, which leads from an event to a line of a file.
CREATE TABLE batch_chunks (
    batch_id    bigint NOT NULL REFERENCES batches,
    chunk       int NOT NULL,
    first_line  bigint NOT NULL,
    row_count   int NOT NULL,
    rows        bytea NOT NULL,
    results     bytea NOT NULL DEFAULT '',
    xacts       xid8[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (batch_id, chunk)
);
ALTER TABLE batch_chunks ALTER COLUMN rows SET STORAGE EXTERNAL;

-- History ------------------------------------------------------------------------------------------------------

-- NOT VALID: no existing event breaks the wider rule, so the 100 million events need not be read.
ALTER TABLE events DROP CONSTRAINT events_entity_check;
ALTER TABLE events ADD CONSTRAINT events_entity_check
    CHECK (entity IN ('alias', 'fsp', 'route', 'policy', 'credential', 'batch')) NOT VALID;

-- Who uploaded a file, who approved it, how it ended.  Progress is not an event.
CREATE FUNCTION batches_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
        SELECT 'batch', 'registered', c.channel, c.actor, c.role, fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n;
    ELSE
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, after, reason, request_id, trace_id)
        SELECT 'batch', 'changed', c.channel, c.actor, c.role, n.fsp_id, to_jsonb(o), to_jsonb(n),
               c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN old_rows o USING (batch_id) WHERE n.state <> o.state OR n.decided_by IS DISTINCT FROM o.decided_by;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER batches_inserted AFTER INSERT ON batches
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION batches_written();
CREATE TRIGGER batches_updated AFTER UPDATE ON batches
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION batches_written();
CREATE TRIGGER batches_stay BEFORE DELETE OR TRUNCATE ON batches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

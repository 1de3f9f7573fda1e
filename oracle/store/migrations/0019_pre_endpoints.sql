-- Where each FSP is called, and the public keys that verify its signatures: for the account lookup service.
--
-- Tables of their own: history then keeps the two apart from the other data of an FSP.

-- base_url: the paths of the FSPIOP API are below it.  urls: the URL of single types of endpoints, with placeholders
-- ({{partyIdType}}); they come before the base URL.  is_proxy: it forwards to FSPs of another scheme.
-- The host has no placeholder and no password: nothing that a caller sends can choose where a call goes.
CREATE TABLE fsp_endpoints (
    fsp_id      text COLLATE "C" PRIMARY KEY REFERENCES fsps,
    base_url    text CHECK (length(base_url) <= 1024 AND base_url ~ '^https?://[][A-Za-z0-9._:-]+(/[!-~]*)?$'),
    urls        jsonb NOT NULL DEFAULT '{}' CHECK (
        jsonb_typeof(urls) = 'object' AND length(urls::text) <= 20000 AND NOT jsonb_path_exists(urls, '$.keyvalue() ? (
            !(@.key like_regex "^FSPIOP_CALLBACK_URL_[A-Z_]+$") || @.value.type() != "string"
            || !(@.value like_regex "^https?://[\\[\\]A-Za-z0-9._:-]+([/?][!-~]*)?$"))')),
    is_proxy    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    version     bigint NOT NULL DEFAULT 1
);
CREATE TRIGGER fsp_endpoints_version BEFORE UPDATE ON fsp_endpoints FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION next_version();

-- Several keys of one FSP are valid at once, while it changes from one to the next.
CREATE TABLE fsp_jws_keys (
    key_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fsp_id      text COLLATE "C" NOT NULL REFERENCES fsps,
    label       text NOT NULL CHECK (length(label) BETWEEN 1 AND 128),
    pem         text NOT NULL CHECK (length(pem) <= 4096 AND pem ~ '^-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+-----END PUBLIC KEY-----\n$'),
    sha256      text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (fsp_id, sha256)
);

-- How often somebody asked all processes to read the endpoints of a central ledger again.  No data of the directory.
CREATE TABLE endpoint_cache (
    forgotten  bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX endpoint_cache_has_one_row ON endpoint_cache ((true));
INSERT INTO endpoint_cache DEFAULT VALUES;

-- Their kinds of events beside those that exist.  Not checked against existing events: so nobody waits for that.
DO $$
DECLARE rule text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'events'::regclass AND conname = 'events_entity_check');
BEGIN
    ALTER TABLE events DROP CONSTRAINT events_entity_check;
    EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_entity_check CHECK (entity IN (%s, ''endpoints'', ''jws-key'')) NOT VALID',
                   (SELECT string_agg(quote_literal(m[1]), ', ') FROM regexp_matches(rule, '''([^'']+)''::text', 'g') AS m));
END $$;

-- As for entries: an FSP that acts for itself changes only what is its own.
CREATE FUNCTION fsp_endpoints_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    PERFORM refuse_foreign(ARRAY(SELECT fsp_id FROM new_rows));
    IF TG_OP = 'INSERT' THEN
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
        SELECT 'endpoints', 'registered', c.channel, c.actor, c.role, n.fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n;
    ELSE
        PERFORM refuse_foreign(ARRAY(SELECT fsp_id FROM old_rows));
        IF EXISTS (SELECT fsp_id FROM old_rows EXCEPT SELECT fsp_id FROM new_rows) THEN
            RAISE EXCEPTION 'the id of an FSP does not change' USING ERRCODE = 'OR004';
        END IF;
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, after, reason, request_id, trace_id)
        SELECT 'endpoints', 'changed', c.channel, c.actor, c.role, n.fsp_id, to_jsonb(o), to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN old_rows o USING (fsp_id) WHERE to_jsonb(n) <> to_jsonb(o);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fsp_endpoints_inserted AFTER INSERT ON fsp_endpoints
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fsp_endpoints_written();
CREATE TRIGGER fsp_endpoints_updated AFTER UPDATE ON fsp_endpoints
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fsp_endpoints_written();
CREATE TRIGGER fsp_endpoints_stay BEFORE DELETE OR TRUNCATE ON fsp_endpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION fsp_jws_keys_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM refuse_foreign(ARRAY(SELECT fsp_id FROM new_rows));
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
        SELECT 'jws-key', 'registered', c.channel, c.actor, c.role, n.fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n;
    ELSE
        PERFORM refuse_foreign(ARRAY(SELECT fsp_id FROM old_rows));
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, reason, request_id, trace_id)
        SELECT 'jws-key', 'removed', c.channel, c.actor, c.role, o.fsp_id, to_jsonb(o), c.reason, c.request_id, c.trace_id
        FROM old_rows o;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fsp_jws_keys_inserted AFTER INSERT ON fsp_jws_keys
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fsp_jws_keys_written();
CREATE TRIGGER fsp_jws_keys_deleted AFTER DELETE ON fsp_jws_keys
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION fsp_jws_keys_written();
CREATE TRIGGER fsp_jws_keys_fixed BEFORE UPDATE OR TRUNCATE ON fsp_jws_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

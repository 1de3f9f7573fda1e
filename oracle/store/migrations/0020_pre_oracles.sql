-- The registered oracles: which oracle answers for a party id type and a currency (docs/account-lookup.md, "Admin API
-- /oracles").  A type without a row is answered by this directory.
--
-- The types are text, not party_id_type: hubs register oracles for CONSENT and THIRD_PARTY_LINK as well, and this
-- directory holds no aliases of those.

CREATE TABLE oracles (
    oracle_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    party_id_type  text COLLATE "C" NOT NULL CHECK (party_id_type IN
        ('MSISDN', 'EMAIL', 'PERSONAL_ID', 'BUSINESS', 'DEVICE', 'ACCOUNT_ID', 'IBAN', 'ALIAS', 'CONSENT', 'THIRD_PARTY_LINK')),
    currency       text COLLATE "C" NOT NULL DEFAULT '' CHECK (currency ~ '^([A-Z]{3})?$'),
    url            text NOT NULL CHECK (length(url) <= 1024 AND url ~ '^https?://[!-~]+$'),
    is_default     boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    changed_at     timestamptz NOT NULL DEFAULT now(),
    version        bigint NOT NULL DEFAULT 1,
    UNIQUE (party_id_type, currency)
);
CREATE TRIGGER oracles_version BEFORE UPDATE ON oracles FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION next_version();

-- Its kind of event beside those that exist.  Not checked against existing events: so nobody waits for that.
DO $$
DECLARE rule text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'events'::regclass AND conname = 'events_entity_check');
BEGIN
    ALTER TABLE events DROP CONSTRAINT events_entity_check;
    EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_entity_check CHECK (entity IN (%s, ''oracle'')) NOT VALID',
                   (SELECT string_agg(quote_literal(m[1]), ', ') FROM regexp_matches(rule, '''([^'']+)''::text', 'g') AS m));
END $$;

CREATE FUNCTION oracles_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO events (entity, action, channel, actor, role, after, reason, request_id, trace_id)
        SELECT 'oracle', 'registered', c.channel, c.actor, c.role, to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO events (entity, action, channel, actor, role, before, after, reason, request_id, trace_id)
        SELECT 'oracle', 'changed', c.channel, c.actor, c.role, to_jsonb(o), to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN old_rows o USING (oracle_id) WHERE to_jsonb(n) <> to_jsonb(o);
    ELSE
        INSERT INTO events (entity, action, channel, actor, role, before, reason, request_id, trace_id)
        SELECT 'oracle', 'removed', c.channel, c.actor, c.role, to_jsonb(o), c.reason, c.request_id, c.trace_id
        FROM old_rows o;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER oracles_inserted AFTER INSERT ON oracles
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION oracles_written();
CREATE TRIGGER oracles_updated AFTER UPDATE ON oracles
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION oracles_written();
CREATE TRIGGER oracles_deleted AFTER DELETE ON oracles
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION oracles_written();
CREATE TRIGGER oracles_not_truncated BEFORE TRUNCATE ON oracles
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

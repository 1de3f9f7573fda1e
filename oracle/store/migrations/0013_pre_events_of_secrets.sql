-- Each new secret of a credential is an event, and so is each earlier end of one.  Before, a row that somebody wrote with
-- the application's password took over a credential unseen.  The event never holds the hash.
--
-- The constraint is not checked against existing events, which satisfy the narrower one: so nobody waits for that.

ALTER TABLE events DROP CONSTRAINT events_entity_check;
ALTER TABLE events ADD CONSTRAINT events_entity_check
    CHECK (entity IN ('alias', 'fsp', 'route', 'policy', 'credential', 'batch', 'audit-key', 'secret')) NOT VALID;

CREATE FUNCTION credential_secrets_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
        SELECT 'secret', 'registered', c.channel, c.actor, c.role, k.fsp_id, to_jsonb(n) - 'secret_sha256',
               c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN credentials k USING (credential_id);
    ELSE
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, after, reason, request_id, trace_id)
        SELECT 'secret', 'changed', c.channel, c.actor, c.role, k.fsp_id, to_jsonb(o) - 'secret_sha256',
               to_jsonb(n) - 'secret_sha256', c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN old_rows o USING (credential_id, secret_sha256) JOIN credentials k USING (credential_id)
        WHERE n.expires_at <> o.expires_at;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER credential_secrets_inserted AFTER INSERT ON credential_secrets
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION credential_secrets_written();
CREATE TRIGGER credential_secrets_updated AFTER UPDATE ON credential_secrets
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION credential_secrets_written();

-- A secret can only end earlier: nobody brings an old one back.
CREATE FUNCTION credential_secrets_only_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.credential_id, NEW.secret_sha256, NEW.created_at) IS DISTINCT FROM (OLD.credential_id, OLD.secret_sha256, OLD.created_at)
       OR NEW.expires_at > OLD.expires_at THEN
        RAISE EXCEPTION 'a secret can only end earlier' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER credential_secrets_only_end BEFORE UPDATE ON credential_secrets
    FOR EACH ROW EXECUTE FUNCTION credential_secrets_only_end();
CREATE TRIGGER credential_secrets_stay BEFORE DELETE OR TRUNCATE ON credential_secrets
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A refused call stays on record for 90 days at least.  The application deletes older records (oracle/run/housekeeping.py).
CREATE FUNCTION access_refusals_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' OR OLD.at > now() - interval '90 days' THEN
        RAISE EXCEPTION 'refused calls stay on record for 90 days' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER access_refusals_stay BEFORE UPDATE OR DELETE ON access_refusals
    FOR EACH ROW EXECUTE FUNCTION access_refusals_stay();

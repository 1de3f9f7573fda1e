-- A new key of the log is an event: its rotation, and its replacement after a loss.  The first key has none: it comes
-- before the first event is sealed, and nobody could change it for another one unseen.
--
-- The constraint is not checked against existing events, which satisfy the narrower one: so nobody waits for that.

ALTER TABLE events DROP CONSTRAINT events_entity_check;
ALTER TABLE events ADD CONSTRAINT events_entity_check
    CHECK (entity IN ('alias', 'fsp', 'route', 'policy', 'credential', 'batch', 'audit-key')) NOT VALID;

CREATE FUNCTION audit_keys_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, after, reason, request_id, trace_id)
    SELECT 'audit-key', 'registered', c.channel, c.actor, c.role,
           jsonb_build_object('number', number, 'vkey', vkey, 'from_size', from_size, 'introduced', statement IS NOT NULL),
           c.reason, c.request_id, c.trace_id
    FROM new_rows WHERE number > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_keys_inserted AFTER INSERT ON audit_keys
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit_keys_inserted();

-- An operator who ends a session of the console makes an event: who did it, whose session it was, and why.  A session that
-- ends by itself, or by its own person, has none.

-- A list shows the newest first, and names each by its id.
CREATE UNIQUE INDEX console_sessions_by_id ON console_sessions (session_id);
CREATE INDEX console_sessions_by_start ON console_sessions (started_at, session_id);

-- Its kind of event beside those that exist.  Not checked against existing events: so nobody waits for that.
DO $$
DECLARE rule text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'events'::regclass AND conname = 'events_entity_check');
BEGIN
    ALTER TABLE events DROP CONSTRAINT events_entity_check;
    EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_entity_check CHECK (entity IN (%s, ''session'')) NOT VALID',
                   (SELECT string_agg(quote_literal(m[1]), ', ') FROM regexp_matches(rule, '''([^'']+)''::text', 'g') AS m));
END $$;

-- The event has neither a hash nor the browser and the address of the person: history keeps it forever.  Without a channel
-- nobody decided it: a person signs out, or the background deletes what has ended.
CREATE FUNCTION console_sessions_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    IF said('channel') IS NULL THEN RETURN NULL; END IF;
    INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, reason, request_id, trace_id)
    SELECT 'session', 'removed', c.channel, c.actor, c.role, CASE cardinality(o.fsp_ids) WHEN 1 THEN o.fsp_ids[1] END,
           jsonb_build_object('session_id', o.session_id, 'actor', o.actor, 'role', o.role, 'fsp_ids', o.fsp_ids,
                              'person', o.person, 'started_at', o.started_at, 'ends_at', o.ends_at),
           c.reason, c.request_id, c.trace_id
    FROM old_rows o WHERE o.ends_at > now() AND o.seen_at > now() - make_interval(secs => o.rest_s);
    RETURN NULL;
END $$;
CREATE TRIGGER console_sessions_deleted AFTER DELETE ON console_sessions
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION console_sessions_deleted();

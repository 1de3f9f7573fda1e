-- What this service changes at the Account Lookup Service of a hub is an event: entity als-oracle.  No table holds those
-- rows: ALS does (oracle/registration).
--
-- Not checked against existing events: all of them fit the narrower rule, and so nobody waits for that.
DO $$
DECLARE rule text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'events'::regclass AND conname = 'events_entity_check');
BEGIN
    ALTER TABLE events DROP CONSTRAINT events_entity_check;
    EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_entity_check CHECK (entity IN (%s, ''als-oracle'')) NOT VALID',
                   (SELECT string_agg(quote_literal(m[1]), ', ') FROM regexp_matches(rule, '''([^'']+)''::text', 'g') AS m));
END $$;

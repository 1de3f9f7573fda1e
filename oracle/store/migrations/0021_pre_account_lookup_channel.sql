-- Changes that DFSPs make through the account lookup service have a channel of their own in history: account-lookup.

-- Not checked against existing events: all of them fit the narrower rule, and so nobody waits for that.
DO $$
DECLARE rule text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'events'::regclass AND conname = 'events_channel_check');
BEGIN
    ALTER TABLE events DROP CONSTRAINT events_channel_check;
    EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_channel_check CHECK (channel IN (%s, ''account-lookup'')) NOT VALID',
                   (SELECT string_agg(quote_literal(m[1]), ', ') FROM regexp_matches(rule, '''([^'']+)''::text', 'g') AS m));
END $$;

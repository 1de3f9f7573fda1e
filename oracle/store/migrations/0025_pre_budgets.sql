-- FSPs whose budget against scans stayed empty (docs/operate.md, "Budgets against scans"): history has an event of each,
-- at most one an hour, however many processes notice it.
--
-- No foreign key: 'unknown FSPs' is the bucket of all sources that the directory does not know.

CREATE TABLE empty_budgets (
    fsp_id       text COLLATE "C" PRIMARY KEY CHECK (fsp_id ~ '^[!-~]{1,32}$' OR fsp_id = 'unknown FSPs'),
    fsp_class    text NOT NULL,
    size         bigint NOT NULL,
    refill       bigint NOT NULL,  -- tokens a minute
    mode         text NOT NULL CHECK (mode IN ('observe', 'enforce')),
    noticed_at   timestamptz NOT NULL DEFAULT now()
);

-- Its kind of event beside those that exist.  Not checked against existing events: so nobody waits for that.
DO $$
DECLARE rule text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'events'::regclass AND conname = 'events_entity_check');
BEGIN
    ALTER TABLE events DROP CONSTRAINT events_entity_check;
    EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_entity_check CHECK (entity IN (%s, ''budget'')) NOT VALID',
                   (SELECT string_agg(quote_literal(m[1]), ', ') FROM regexp_matches(rule, '''([^'']+)''::text', 'g') AS m));
END $$;

CREATE FUNCTION empty_budgets_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason)
    SELECT 'budget', 'changed', c.channel, c.actor, c.role, nullif(n.fsp_id, 'unknown FSPs'), to_jsonb(n), c.reason
    FROM new_rows n;
    RETURN NULL;
END $$;
CREATE TRIGGER empty_budgets_inserted AFTER INSERT ON empty_budgets
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION empty_budgets_written();
CREATE TRIGGER empty_budgets_updated AFTER UPDATE ON empty_budgets
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION empty_budgets_written();

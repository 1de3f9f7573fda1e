-- Hints: what the hub's ALS has found in another scheme and stores here for the next lookup (docs/als-contract.md,
-- section 5).  A hint answers like an entry, and is no registration: ALS removes it when it was wrong, a newer hint
-- replaces it, and so does the registration of any FSP.
--
-- A hint is a default entry with is_hint; its key has no further currencies.  Aliases that exist become registrations,
-- also those that ALS has stored: see alias_hints_mark below.  The default is constant, so no row is rewritten.
--
-- The version before this one runs on beside it.  For that version a hint is an entry like any other, as before.
ALTER TABLE aliases ADD COLUMN is_hint boolean NOT NULL DEFAULT false;

-- A default entry as events describe it: `hint` only where it is one, so that all other events have their old form.
-- A plain SQL function, which the planner writes into the query: an import of 10,000 rows makes no 10,000 calls.
CREATE FUNCTION default_entry_state(fsp_id text, currency text, is_hint boolean) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN is_hint
                THEN jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', true, 'hint', true)
                ELSE jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', true) END
$$;

-- The triggers of migrations/0001, with hints ------------------------------------------------------------------

CREATE OR REPLACE FUNCTION aliases_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named text[] := ARRAY(SELECT DISTINCT fsp_id FROM new_rows);
    c event_context := event_context();
BEGIN
    IF named = '{}' THEN RETURN NULL; END IF;
    PERFORM refuse_foreign(named);
    PERFORM refuse_unknown_fsps(named);
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
                        after, reason, request_id, trace_id)
    SELECT 'alias', 'registered', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, fsp_id,
           default_entry_state(fsp_id, currency, is_hint), c.reason, c.request_id, c.trace_id
    FROM new_rows;
    IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION aliases_updated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- A hint belongs to nobody: any FSP replaces it by an entry of its own.
    named text[] := ARRAY(SELECT fsp_id FROM old_rows WHERE NOT is_hint UNION SELECT fsp_id FROM new_rows);
    c event_context := event_context();
BEGIN
    IF named = '{}' THEN RETURN NULL; END IF;
    PERFORM refuse_old_snapshot();
    PERFORM refuse_foreign(named);
    PERFORM refuse_unknown_fsps(named);
    -- A key that changes would be one alias gone and another come; said as a change, history could not be replayed.
    IF EXISTS (SELECT identifier, party_id_type, sub_id FROM old_rows
               EXCEPT SELECT identifier, party_id_type, sub_id FROM new_rows) THEN
        RAISE EXCEPTION 'the key of an alias does not change' USING ERRCODE = 'OR004';
    END IF;
    IF EXISTS (SELECT FROM new_rows a JOIN alias_currencies x USING (identifier, party_id_type, sub_id)
               JOIN key_policies p USING (party_id_type)
               WHERE a.is_hint OR a.currency = x.currency OR (p.policy = 'unique' AND a.fsp_id <> x.fsp_id)) THEN
        RAISE EXCEPTION 'the entries of a key contradict each other' USING ERRCODE = 'OR003';
    END IF;
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
                        before, after, reason, request_id, trace_id)
    SELECT 'alias', 'changed', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, n.fsp_id,
           default_entry_state(o.fsp_id, o.currency, o.is_hint),
           default_entry_state(n.fsp_id, n.currency, n.is_hint),
           c.reason, c.request_id, c.trace_id
    FROM new_rows n JOIN old_rows o USING (identifier, party_id_type, sub_id)
    WHERE (o.fsp_id, o.currency, o.is_hint) <> (n.fsp_id, n.currency, n.is_hint);
    IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION aliases_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named text[] := ARRAY(SELECT DISTINCT fsp_id FROM old_rows);
    c event_context := event_context();
BEGIN
    IF named = '{}' THEN RETURN NULL; END IF;
    PERFORM refuse_old_snapshot();
    -- The hub's own removals take hints, of any FSP, and nothing else.
    PERFORM refuse_foreign(ARRAY(SELECT fsp_id FROM old_rows WHERE NOT is_hint OR c.channel <> 'self-heal'));
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
                        before, reason, request_id, trace_id)
    SELECT 'alias', 'removed', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, fsp_id,
           default_entry_state(fsp_id, currency, is_hint), c.reason, c.request_id, c.trace_id
    FROM old_rows;
    -- A key that has entries has a default one: the first of its other currencies takes the place of the one gone.
    WITH heirs AS (
        SELECT DISTINCT ON (identifier, party_id_type, sub_id) identifier, party_id_type, sub_id, x.currency
        FROM old_rows JOIN alias_currencies x USING (identifier, party_id_type, sub_id)
        ORDER BY identifier, party_id_type, sub_id, x.currency
    ), moved AS (
        DELETE FROM alias_currencies x USING heirs h
        WHERE (x.identifier, x.party_id_type, x.sub_id, x.currency) = (h.identifier, h.party_id_type, h.sub_id, h.currency)
        RETURNING x.identifier, x.party_id_type, x.sub_id, x.currency, x.fsp_id
    )
    INSERT INTO aliases (identifier, party_id_type, sub_id, currency, fsp_id) SELECT * FROM moved;
    IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION alias_currencies_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named text[] := ARRAY(SELECT DISTINCT fsp_id FROM new_rows);
    c event_context := event_context();
    held bigint;
BEGIN
    IF named = '{}' THEN RETURN NULL; END IF;
    PERFORM refuse_old_snapshot();
    PERFORM refuse_foreign(named);
    PERFORM refuse_unknown_fsps(named);
    -- Locked first, read after: a default entry that another transaction is removing or changing at this moment is
    -- waited for, and the check below sees what became of it.
    -- Again until every entry is locked: the entry that this waited for can be deleted by now, with a new default
    -- entry in its place that is not locked yet.
    LOOP
        PERFORM FROM aliases a JOIN new_rows n USING (identifier, party_id_type, sub_id)
            ORDER BY identifier, party_id_type, sub_id FOR NO KEY UPDATE OF a;
        GET DIAGNOSTICS held = ROW_COUNT;
        EXIT WHEN held = (SELECT count(*) FROM aliases JOIN new_rows USING (identifier, party_id_type, sub_id));
    END LOOP;
    -- A hint has nothing beside it.  The application replaces hints before it adds currencies; for other writers (the
    -- version before this one, a person) the hint becomes a registration, which it was for them.
    UPDATE aliases a SET is_hint = false, changed_at = clock_timestamp() FROM new_rows n
    WHERE (a.identifier, a.party_id_type, a.sub_id) = (n.identifier, n.party_id_type, n.sub_id) AND a.is_hint;
    IF EXISTS (SELECT FROM new_rows x LEFT JOIN aliases a USING (identifier, party_id_type, sub_id)
               JOIN key_policies p USING (party_id_type)
               WHERE a.fsp_id IS NULL OR a.currency = x.currency OR (p.policy = 'unique' AND a.fsp_id <> x.fsp_id)) THEN
        RAISE EXCEPTION 'the entries of a key contradict each other' USING ERRCODE = 'OR003';
    END IF;
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
                        after, reason, request_id, trace_id)
    SELECT 'alias', 'registered', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, fsp_id,
           jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', false), c.reason, c.request_id, c.trace_id
    FROM new_rows;
    IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
    RETURN NULL;
END $$;

-- Hints from before this migration ------------------------------------------------------------------------------

-- Makes the entries of one FSP hints that ALS stored and nobody has changed since; returns how many.  A row cannot show
-- where it came from, but history can.  Not done by the migration, for two reasons.  An FSP that registered what ALS had
-- stored before was answered "it is registered already", without an event.  And 100 million events would be read.  An
-- operator knows which FSPs belong to other schemes, and calls this for each of them (docs/administer.md).
-- Served by aliases_by_fsp and events_by_identifier.
CREATE FUNCTION alias_hints_mark(remote_fsp_id text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE marked bigint;
BEGIN
    UPDATE aliases a SET is_hint = true, changed_at = clock_timestamp()
    WHERE a.fsp_id = remote_fsp_id AND NOT a.is_hint
      AND NOT EXISTS (SELECT FROM alias_currencies x
                      WHERE (x.identifier, x.party_id_type, x.sub_id) = (a.identifier, a.party_id_type, a.sub_id))
      AND (SELECT e.channel = 'self-heal' AND e.action = 'registered' FROM events e
           WHERE e.party_identifier = a.identifier AND e.party_id_type = a.party_id_type AND e.sub_id = a.sub_id
             AND e.entity = 'alias' AND e.action <> 'ignored'
           ORDER BY e.event_id DESC LIMIT 1);
    GET DIAGNOSTICS marked = ROW_COUNT;
    RETURN marked;
END $$;

-- Registrations of several FSPs in one transaction: each new entry has its own context in history.
--
-- oracle.contexts is a JSON array with one object for each key that the transaction can add: the key (party_id_type,
-- identifier, sub_id) and who adds it (channel, actor, role, fsp_id, reason, request_id, trace_id).  Without it the
-- settings of the whole transaction count as before, so the version before this one runs on beside it.

CREATE OR REPLACE FUNCTION aliases_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named text[] := ARRAY(SELECT DISTINCT fsp_id FROM new_rows);
    c event_context := event_context();
    contexts jsonb;
    written bigint;
    keys bigint;
BEGIN
    IF named = '{}' THEN RETURN NULL; END IF;
    -- Inside a trigger of a trigger the directory acts: an heir of a default entry is nobody's registration.
    contexts := CASE WHEN pg_trigger_depth() < 2 THEN said('contexts') END;
    IF contexts IS NULL THEN PERFORM refuse_foreign(named); END IF;
    PERFORM refuse_unknown_fsps(named);
    IF contexts IS NULL THEN
        INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
                            after, reason, request_id, trace_id)
        SELECT 'alias', 'registered', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, fsp_id,
               default_entry_state(fsp_id, currency, is_hint), c.reason, c.request_id, c.trace_id
        FROM new_rows;
    ELSE
        WITH registered AS (
            INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
                                after, reason, request_id, trace_id)
            SELECT 'alias', 'registered', r.channel, r.actor, r.role, party_id_type, identifier, sub_id, n.fsp_id,
                   default_entry_state(n.fsp_id, n.currency, n.is_hint), r.reason, r.request_id, r.trace_id
            FROM new_rows n
            JOIN jsonb_to_recordset(contexts) AS r (party_id_type party_id_type, identifier text, sub_id text, channel text,
                 actor text, role text, fsp_id text, reason text, request_id text, trace_id text)
                 USING (identifier, party_id_type, sub_id)
            WHERE coalesce(r.fsp_id, n.fsp_id) = n.fsp_id AND r.channel <> '' AND r.actor <> ''
            RETURNING party_identifier, party_id_type, sub_id
        )
        SELECT count(*), count(DISTINCT registered) INTO written, keys FROM registered;
        IF written <> keys OR written <> (SELECT count(*) FROM new_rows) THEN
            RAISE EXCEPTION 'each entry needs one context, of its own FSP' USING ERRCODE = 'OR001';
        END IF;
    END IF;
    IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
    RETURN NULL;
END $$;

-- Only new entries find their contexts.  A transaction with contexts makes no other change of an alias.
CREATE OR REPLACE FUNCTION refuse_foreign(touched text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() > 1 THEN RETURN; END IF;
    IF said('contexts') IS NOT NULL THEN
        RAISE EXCEPTION 'a transaction with a context for each entry only adds entries' USING ERRCODE = 'OR001';
    END IF;
    IF EXISTS (SELECT FROM unnest(touched) AS t WHERE t <> said('fsp_id')) THEN
        RAISE EXCEPTION 'the entry belongs to another FSP' USING ERRCODE = 'OR001';
    END IF;
END $$;

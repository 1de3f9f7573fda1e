-- The schema that the migrations make, as pg_dump shows it.  For reading; nothing executes it.
-- The migrations hold the reasons.  A test compares the two.  After a new migration, write this file again:
--
--     python tests/store/test_migrate.py --write

CREATE TYPE public.batch_state AS ENUM (
    'validating',
    'waiting',
    'applying',
    'done',
    'rejected',
    'cancelled',
    'failed'
);

CREATE TYPE public.credential_role AS ENUM (
    'operator',
    'dfsp-maker',
    'dfsp-checker',
    'auditor',
    'reader'
);

CREATE TYPE public.event_context AS (
	channel text,
	actor text,
	role text,
	fsp_id text,
	cache text,
	reason text,
	request_id text,
	trace_id text
);

CREATE TYPE public.fsp_status AS ENUM (
    'provisional',
    'active',
    'suspended',
    'closed'
);

CREATE TYPE public.key_policy AS ENUM (
    'unique',
    'per-currency'
);

CREATE TYPE public.party_id_type AS ENUM (
    'MSISDN',
    'EMAIL',
    'PERSONAL_ID',
    'BUSINESS',
    'DEVICE',
    'ACCOUNT_ID',
    'IBAN',
    'ALIAS'
);

CREATE FUNCTION public.access_refusals_stay() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'UPDATE' OR OLD.at > now() - interval '90 days' THEN
        RAISE EXCEPTION 'refused calls stay on record for 90 days' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION public.alias_currencies_deleted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    named text[] := ARRAY(SELECT DISTINCT fsp_id FROM old_rows);
    c event_context := event_context();
BEGIN
    IF named = '{}' THEN RETURN NULL; END IF;
    PERFORM refuse_foreign(named);
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
                        before, reason, request_id, trace_id)
    SELECT 'alias', 'removed', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, fsp_id,
           jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', false), c.reason, c.request_id, c.trace_id
    FROM old_rows;
    IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.alias_currencies_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.alias_hints_mark(remote_fsp_id text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.aliases_deleted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.aliases_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.aliases_updated() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.application_grants(application name) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    each record;
    given text;
BEGIN
    -- Up to PostgreSQL 14 anybody may put functions beside ours, in front of them even.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), application);
    -- Ours alone: somebody else can have made a copy of a table beside it.
    FOR each IN SELECT oid, relname, relkind FROM pg_class
                WHERE relnamespace = current_schema()::regnamespace AND NOT relispartition AND relkind IN ('r', 'p', 'S')
                  AND relowner = (SELECT relowner FROM pg_class WHERE oid = 'events'::regclass)
    LOOP
        EXECUTE format('REVOKE ALL ON %s %I FROM %I',
                       CASE each.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, each.relname, application);
        given := CASE
            WHEN each.relkind = 'S' THEN 'USAGE, SELECT ON SEQUENCE'
            WHEN each.relname = 'migrations' THEN 'SELECT ON'
            WHEN each.relname IN ('events', 'audit_reads') THEN
                (SELECT format('SELECT, INSERT (%s) ON', string_agg(quote_ident(attname), ', ')) FROM pg_attribute
                 WHERE attrelid = each.oid AND attnum > 0 AND NOT attisdropped
                   AND attname NOT IN ('event_id', 'xact', 'at', 'read_id'))
            WHEN each.relname LIKE 'audit\_%' THEN 'SELECT, INSERT ON'
            ELSE 'SELECT, INSERT, UPDATE, DELETE ON'
        END;
        EXECUTE format('GRANT %s %I TO %I', given, each.relname, application);
    END LOOP;
    EXECUTE format('REVOKE INSERT ON audit_eras FROM %I', application);
    EXECUTE format('GRANT EXECUTE ON FUNCTION events_partitions_ahead(int), audit_reads_partitions_ahead(int), audit_era_begin()'
                   ' TO %I', application);
END $$;

CREATE FUNCTION public.audit_cluster() RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN (SELECT system_identifier::text FROM pg_control_system());
EXCEPTION WHEN insufficient_privilege THEN
    RETURN '';
END $$;

CREATE FUNCTION public.audit_era_begin() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '60s'
    AS $$
DECLARE
    era_now audit_eras;
    last audit_batches;
    sealed_max bigint;
    line bigint;
BEGIN
    SELECT * INTO era_now FROM audit_eras ORDER BY era DESC LIMIT 1;
    SELECT * INTO last FROM audit_batches WHERE era = era_now.era ORDER BY first_leaf DESC LIMIT 1;
    IF era_now.system_identifier = audit_cluster()
        AND (last.xact IS NULL OR last.xact < pg_snapshot_xmax(pg_current_snapshot())) THEN
        RETURN era_now.era;
    END IF;
    LOCK TABLE audit_eras IN EXCLUSIVE MODE;
    LOCK TABLE events IN SHARE MODE;
    IF era_now.era < (SELECT max(era) FROM audit_eras) THEN
        RETURN (SELECT max(era) FROM audit_eras);
    END IF;
    SELECT coalesce(max(event_id_max), era_now.after_event_id) INTO sealed_max FROM audit_batches WHERE era = era_now.era;
    SELECT coalesce(min(event_id) - 1, (SELECT coalesce(max(event_id), 0) FROM events)) INTO line FROM events
    WHERE event_id > sealed_max AND (xact < last.xact OR (xact = last.xact AND event_id <= last.event_id));
    INSERT INTO audit_eras (era, after_event_id, system_identifier)
    VALUES (era_now.era + 1, greatest(line, era_now.after_event_id), audit_cluster());
    RETURN era_now.era + 1;
END $$;

CREATE FUNCTION public.audit_keys_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, after, reason, request_id, trace_id)
    SELECT 'audit-key', 'registered', c.channel, c.actor, c.role,
           jsonb_build_object('number', number, 'vkey', vkey, 'from_size', from_size, 'introduced', statement IS NOT NULL),
           c.reason, c.request_id, c.trace_id
    FROM new_rows WHERE number > 0;
    RETURN NULL;
END $$;

CREATE FUNCTION public.audit_reads_drop(days integer) RETURNS TABLE(dropped text, records bigint)
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
DECLARE
    c event_context := event_context();
    cut timestamptz;
    month record;
BEGIN
    IF days IS NULL OR days < 365 THEN
        RAISE EXCEPTION 'records of who asked stay for 365 days' USING ERRCODE = 'insufficient_privilege';
    END IF;
    cut := now() - make_interval(days => days);
    PERFORM pg_advisory_xact_lock(hashtext('audit_reads_partitions_ahead'));
    FOR month IN SELECT * FROM audit_reads_months() m WHERE m.until <= cut LOOP
        dropped := month.name;
        EXECUTE format('SELECT count(*) FROM %I', dropped) INTO records;
        EXECUTE format('DROP TABLE %I', dropped);
        INSERT INTO events (entity, action, channel, actor, role, before, reason, request_id, trace_id)
        VALUES ('audit-reads', 'removed', c.channel, c.actor, c.role,
                jsonb_build_object('partition', dropped, 'from', month.since, 'until', month.until, 'records', records),
                c.reason, c.request_id, c.trace_id);
        RETURN NEXT;
    END LOOP;
    SELECT count(*) INTO records FROM audit_reads_default WHERE at < cut;
    IF records > 0 THEN
        dropped := 'audit_reads_default';
        ALTER TABLE audit_reads_default DISABLE TRIGGER audit_reads_fixed;
        DELETE FROM audit_reads_default WHERE at < cut;
        ALTER TABLE audit_reads_default ENABLE TRIGGER audit_reads_fixed;
        INSERT INTO events (entity, action, channel, actor, role, before, reason, request_id, trace_id)
        VALUES ('audit-reads', 'removed', c.channel, c.actor, c.role,
                jsonb_build_object('partition', dropped, 'until', cut, 'records', records),
                c.reason, c.request_id, c.trace_id);
        RETURN NEXT;
    END IF;
END $$;

CREATE FUNCTION public.audit_reads_months(OUT name text, OUT since timestamp with time zone, OUT until timestamp with time zone) RETURNS SETOF record
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    SELECT c.relname::text, substring(bound FROM 'FROM \(''(.*?)''\)')::timestamptz,
           substring(bound FROM 'TO \(''(.*?)''\)')::timestamptz AS until
    FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid, pg_get_expr(c.relpartbound, c.oid) AS bound
    WHERE inhparent = 'audit_reads'::regclass AND bound LIKE '%TO (%' ORDER BY until
$$;

CREATE FUNCTION public.audit_reads_partitions_ahead(months integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
DECLARE
    month timestamp;
    begins timestamptz;
    ends timestamptz;
    partition text;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('audit_reads_partitions_ahead'));
    FOR n IN 0..least(months, 120) LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month';
        begins := month AT TIME ZONE 'UTC';
        ends := (month + interval '1 month') AT TIME ZONE 'UTC';
        partition := 'audit_reads_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL
            OR EXISTS (SELECT FROM audit_reads_default WHERE at >= begins AND at < ends)
            OR EXISTS (SELECT FROM audit_reads_months() m WHERE m.since IS NULL AND m.until > begins);
        EXECUTE format('CREATE TABLE %I (LIKE audit_reads INCLUDING DEFAULTS, PRIMARY KEY (read_id))', partition);
        EXECUTE format('CREATE TRIGGER audit_reads_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', partition);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', partition);
        EXECUTE format('ALTER TABLE audit_reads ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition, begins, ends);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION public.batches_written() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
        SELECT 'batch', 'registered', c.channel, c.actor, c.role, fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n;
    ELSE
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, after, reason, request_id, trace_id)
        SELECT 'batch', 'changed', c.channel, c.actor, c.role, n.fsp_id, to_jsonb(o), to_jsonb(n),
               c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN old_rows o USING (batch_id) WHERE n.state <> o.state OR n.decided_by IS DISTINCT FROM o.decided_by;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.cache_generation_bump() RETURNS bigint
    LANGUAGE sql
    AS $$
    UPDATE cache_generation SET generation = generation + 1 RETURNING generation
$$;

CREATE FUNCTION public.cache_generation_tell() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('oracle_cache', '');
    RETURN NULL;
END $$;

CREATE FUNCTION public.console_sessions_deleted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.credential_secrets_only_end() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (NEW.credential_id, NEW.secret_sha256, NEW.created_at) IS DISTINCT FROM (OLD.credential_id, OLD.secret_sha256, OLD.created_at)
       OR NEW.expires_at > OLD.expires_at THEN
        RAISE EXCEPTION 'a secret can only end earlier' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.credential_secrets_written() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.credentials_written() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
        SELECT 'credential', 'registered', c.channel, c.actor, c.role, fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
        FROM new_rows n;
    ELSE
        INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, after, reason, request_id, trace_id)
        SELECT 'credential', 'changed', c.channel, c.actor, c.role, n.fsp_id, to_jsonb(o), to_jsonb(n),
               c.reason, c.request_id, c.trace_id
        FROM new_rows n JOIN old_rows o USING (credential_id) WHERE to_jsonb(n) <> to_jsonb(o);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.default_entry_state(fsp_id text, currency text, is_hint boolean) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
    SELECT CASE WHEN is_hint
                THEN jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', true, 'hint', true)
                ELSE jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', true) END
$$;

CREATE FUNCTION public.empty_budgets_written() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason)
    SELECT 'budget', 'changed', c.channel, c.actor, c.role, nullif(n.fsp_id, 'unknown FSPs'), to_jsonb(n), c.reason
    FROM new_rows n;
    RETURN NULL;
END $$;

CREATE FUNCTION public.event_context() RETURNS public.event_context
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(said('channel'), 'sql'), coalesce(said('actor'), session_user::text), said('role'), said('fsp_id'),
           said('cache'), said('reason'), said('request_id'), said('trace_id')
$$;

CREATE FUNCTION public.events_partitions_ahead(months integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
DECLARE
    month timestamp;
    since timestamptz;
    until timestamptz;
    name text;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('events_partitions_ahead'));
    FOR n IN 0..least(months, 120) LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month';
        since := month AT TIME ZONE 'UTC';
        until := (month + interval '1 month') AT TIME ZONE 'UTC';
        name := 'events_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass(name) IS NOT NULL
            OR EXISTS (SELECT FROM events_default WHERE at >= since AND at < until)
            OR EXISTS (SELECT FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
                       WHERE inhparent = 'events'::regclass AND c.relname = 'events_before'
                         AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''(.*)''\)')::timestamptz > since);
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (event_id))', name);
        EXECUTE format('CREATE TRIGGER events_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', name);
        EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, since, until);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION public.fsp_endpoints_written() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.fsp_jws_keys_written() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.fsps_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
    SELECT 'fsp', 'registered', c.channel, c.actor, c.role, fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
    FROM new_rows n;
    RETURN NULL;
END $$;

CREATE FUNCTION public.fsps_updated() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    IF EXISTS (SELECT fsp_id FROM old_rows EXCEPT SELECT fsp_id FROM new_rows) THEN
        RAISE EXCEPTION 'the id of an FSP does not change' USING ERRCODE = 'OR004';
    END IF;
    INSERT INTO events (entity, action, channel, actor, role, fsp_id, before, after, reason, request_id, trace_id)
    SELECT 'fsp', 'changed', c.channel, c.actor, c.role, fsp_id, to_jsonb(o), to_jsonb(n), c.reason, c.request_id, c.trace_id
    FROM new_rows n JOIN old_rows o USING (fsp_id) WHERE to_jsonb(n) <> to_jsonb(o);
    -- Whether an FSP is answered is part of every cached copy and of every compiled route.
    IF EXISTS (SELECT FROM new_rows n JOIN old_rows o USING (fsp_id) WHERE n.status <> o.status) THEN
        UPDATE cache_generation SET generation = generation + 1, routes_version = routes_version + 1;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.key_policies_updated() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    PERFORM refuse_old_snapshot();
    -- No alias may come or go between this look and the commit.
    LOCK TABLE aliases, alias_currencies IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM new_rows p JOIN alias_currencies x USING (party_id_type)
               JOIN aliases a USING (identifier, party_id_type, sub_id)
               WHERE p.policy = 'unique' AND a.fsp_id <> x.fsp_id) THEN
        RAISE EXCEPTION 'there are keys with several owners' USING ERRCODE = 'OR003';
    END IF;
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, before, after, reason, request_id, trace_id)
    SELECT 'policy', 'changed', c.channel, c.actor, c.role, party_id_type, jsonb_build_object('policy', o.policy),
           jsonb_build_object('policy', n.policy), c.reason, c.request_id, c.trace_id
    FROM new_rows n JOIN old_rows o USING (party_id_type) WHERE n.policy <> o.policy;
    RETURN NULL;
END $$;

CREATE FUNCTION public.next_version() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE FUNCTION public.oracles_written() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% of % is not allowed', lower(TG_OP), TG_TABLE_NAME USING ERRCODE = 'OR004';
END $$;

CREATE FUNCTION public.refuse_foreign(touched text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF pg_trigger_depth() > 1 THEN RETURN; END IF;
    IF said('contexts') IS NOT NULL THEN
        RAISE EXCEPTION 'a transaction with a context for each entry only adds entries' USING ERRCODE = 'OR001';
    END IF;
    IF EXISTS (SELECT FROM unnest(touched) AS t WHERE t <> said('fsp_id')) THEN
        RAISE EXCEPTION 'the entry belongs to another FSP' USING ERRCODE = 'OR001';
    END IF;
END $$;

CREATE FUNCTION public.refuse_old_snapshot() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'aliases change under READ COMMITTED only' USING ERRCODE = 'OR006';
    END IF;
END $$;

CREATE FUNCTION public.refuse_route_overlaps(written bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM routes n JOIN routes r USING (party_id_type, kind, prefix)
               WHERE n.route_id = ANY (written) AND n.route_id <> r.route_id
                 AND n.valid_from < r.valid_to AND r.valid_from < n.valid_to) THEN
        RAISE EXCEPTION 'another route has this prefix at that time' USING ERRCODE = 'OR005';
    END IF;
    UPDATE cache_generation SET routes_version = routes_version + 1;
END $$;

CREATE FUNCTION public.refuse_unknown_fsps(named text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(named) AS n WHERE NOT EXISTS (SELECT FROM fsps WHERE fsp_id = n)) THEN
        RAISE EXCEPTION 'no such FSP' USING ERRCODE = 'OR002';
    END IF;
END $$;

CREATE FUNCTION public.route_kind(party_id_type public.party_id_type, prefix text) RETURNS text
    LANGUAGE sql STABLE
    AS $_$
    SELECT CASE
        WHEN party_id_type = 'ACCOUNT_ID' AND prefix = ANY ('{
            001, 002, 006, 009, 012, 014, 019, 021, 022, 030, 032, 036, 037, 042, 044, 058, 059, 060, 062,
            072, 102, 103, 106, 108, 110, 112, 113, 116, 124, 126, 127, 128, 129, 130, 131, 132, 133, 134,
            135, 136, 137, 138, 139, 140, 141, 143, 145, 147, 148, 150, 151, 152, 154, 155, 156, 157, 158,
            159, 160, 166, 167, 168, 600, 601, 602, 604, 605, 606, 607, 608, 610, 611, 613, 614, 615, 616,
            617, 618, 619, 620, 621, 622, 623, 624, 626, 627, 628, 629, 630, 631, 632, 633, 634, 636, 637,
            638, 640, 642, 646, 647, 648, 649, 651, 652, 653, 655, 656, 659, 661, 670, 674, 677, 679, 680,
            683, 684, 685, 686, 688, 689, 699, 703, 706, 710, 714, 715, 720, 721, 722, 723, 725, 727, 728,
            729, 730, 732, 734, 738, 812, 814, 821, 846, 901, 902, 903
        }'::text[]) THEN 'CLABE'
        WHEN party_id_type = 'PERSONAL_ID' AND prefix ~
            '^([1-9]|1[0-4])-((?!09)([01][0-9A-F]|2[015])){3}-([NEPTYS]-[0-9]{0,5})?$' THEN 'NRC'
        ELSE party_id_type::text
    END
$_$;

CREATE FUNCTION public.routes_deleted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, fsp_id, before, reason, request_id, trace_id)
    SELECT 'route', 'removed', c.channel, c.actor, c.role, party_id_type, fsp_id, to_jsonb(o),
           c.reason, c.request_id, c.trace_id
    FROM old_rows o;
    UPDATE cache_generation SET routes_version = routes_version + 1;
    RETURN NULL;
END $$;

CREATE FUNCTION public.routes_in_turn() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM cache_generation FOR NO KEY UPDATE;
    RETURN NULL;
END $$;

CREATE FUNCTION public.routes_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    PERFORM refuse_route_overlaps(ARRAY(SELECT route_id FROM new_rows));
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, fsp_id, after, reason, request_id, trace_id)
    SELECT 'route', 'registered', c.channel, c.actor, c.role, party_id_type, fsp_id, to_jsonb(n),
           c.reason, c.request_id, c.trace_id
    FROM new_rows n;
    RETURN NULL;
END $$;

CREATE FUNCTION public.routes_kind() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.kind := route_kind(NEW.party_id_type, NEW.prefix);
    RETURN NEW;
END $$;

CREATE FUNCTION public.routes_updated() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE c event_context := event_context();
BEGIN
    PERFORM refuse_route_overlaps(ARRAY(SELECT route_id FROM new_rows));
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, fsp_id, before, after, reason, request_id, trace_id)
    SELECT 'route', 'changed', c.channel, c.actor, c.role, n.party_id_type, n.fsp_id, to_jsonb(o), to_jsonb(n),
           c.reason, c.request_id, c.trace_id
    FROM new_rows n JOIN old_rows o USING (route_id) WHERE to_jsonb(n) <> to_jsonb(o);
    RETURN NULL;
END $$;

CREATE FUNCTION public.said(name text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT nullif(current_setting('oracle.' || name, true), '')
$$;

CREATE TABLE public.access_refusals (
    at timestamp with time zone DEFAULT now() NOT NULL,
    credential_id text,
    address text,
    method text NOT NULL,
    route text NOT NULL,
    status smallint NOT NULL,
    reason text NOT NULL
);

CREATE TABLE public.alias_currencies (
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    party_id_type public.party_id_type NOT NULL,
    identifier text NOT NULL COLLATE pg_catalog."C",
    sub_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    currency text NOT NULL,
    CONSTRAINT alias_currencies_currency_check CHECK ((currency ~ '^([A-Z]{3})?$'::text))
);

CREATE TABLE public.aliases (
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    party_id_type public.party_id_type NOT NULL,
    identifier text NOT NULL COLLATE pg_catalog."C",
    sub_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    currency text DEFAULT ''::text NOT NULL,
    is_hint boolean DEFAULT false NOT NULL,
    CONSTRAINT aliases_currency_check CHECK ((currency ~ '^([A-Z]{3})?$'::text)),
    CONSTRAINT aliases_iban CHECK (((party_id_type <> 'IBAN'::public.party_id_type) OR (identifier ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$'::text))),
    CONSTRAINT aliases_identifier_check CHECK ((((length(identifier) >= 1) AND (length(identifier) <= 128)) AND (identifier !~ '[[:space:][:cntrl:]&<>"''/=?#%{}\\`]'::text))),
    CONSTRAINT aliases_msisdn CHECK (((party_id_type <> 'MSISDN'::public.party_id_type) OR (identifier ~ '^[1-9][0-9]{6,14}$'::text))),
    CONSTRAINT aliases_sub_id_check CHECK ((length(sub_id) <= 128))
);

CREATE TABLE public.audit_batches (
    first_leaf bigint NOT NULL,
    leaves integer NOT NULL,
    era integer NOT NULL,
    xact xid8 NOT NULL,
    event_id bigint NOT NULL,
    event_id_max bigint NOT NULL,
    sealed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT audit_batches_first_leaf_check CHECK ((first_leaf >= 0)),
    CONSTRAINT audit_batches_leaves_check CHECK ((leaves > 0))
);

CREATE TABLE public.audit_checkpoints (
    size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    signed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT audit_checkpoints_root_check CHECK ((length(root) = 32)),
    CONSTRAINT audit_checkpoints_size_check CHECK ((size > 0))
);

CREATE TABLE public.audit_eras (
    era integer NOT NULL,
    after_event_id bigint NOT NULL,
    system_identifier text NOT NULL,
    began_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.audit_keys (
    number integer NOT NULL,
    vkey text NOT NULL,
    from_size bigint NOT NULL,
    statement text,
    added_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.audit_reads (
    read_id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    credential_id text NOT NULL COLLATE pg_catalog."C",
    role text NOT NULL,
    caller_fsp_id text,
    asked text NOT NULL,
    party_id_type public.party_id_type,
    party_identifier text COLLATE pg_catalog."C",
    sub_id text,
    fsp_id text COLLATE pg_catalog."C",
    details jsonb DEFAULT '{}'::jsonb NOT NULL,
    request_id text,
    trace_id text
)
PARTITION BY RANGE (at);

CREATE SEQUENCE public.audit_reads_read_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.audit_reads_read_id_seq OWNED BY public.audit_reads.read_id;

CREATE TABLE public.audit_reads_default (
    read_id bigint DEFAULT nextval('public.audit_reads_read_id_seq'::regclass) NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT audit_reads_at_not_null NOT NULL,
    credential_id text CONSTRAINT audit_reads_credential_id_not_null NOT NULL COLLATE pg_catalog."C",
    role text CONSTRAINT audit_reads_role_not_null NOT NULL,
    caller_fsp_id text,
    asked text CONSTRAINT audit_reads_asked_not_null NOT NULL,
    party_id_type public.party_id_type,
    party_identifier text COLLATE pg_catalog."C",
    sub_id text,
    fsp_id text COLLATE pg_catalog."C",
    details jsonb DEFAULT '{}'::jsonb CONSTRAINT audit_reads_details_not_null NOT NULL,
    request_id text,
    trace_id text
);

CREATE TABLE public.audit_tiles (
    tile_level smallint NOT NULL,
    first bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT audit_tiles_first_check CHECK ((first >= 0)),
    CONSTRAINT audit_tiles_hashes_check CHECK (((length(hashes) > 0) AND ((length(hashes) % 32) = 0))),
    CONSTRAINT audit_tiles_tile_level_check CHECK ((tile_level >= 0))
);
ALTER TABLE ONLY public.audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE public.batch_changes (
    batch_id bigint NOT NULL,
    action text NOT NULL,
    version text,
    CONSTRAINT batch_changes_action_check CHECK ((action = ANY (ARRAY['add'::text, 'update'::text, 'remove'::text]))),
    CONSTRAINT batch_changes_version_check CHECK (((length(version) >= 1) AND (length(version) <= 64)))
);

CREATE TABLE public.batch_chunks (
    batch_id bigint NOT NULL,
    chunk integer NOT NULL,
    first_line bigint NOT NULL,
    row_count integer NOT NULL,
    rows bytea NOT NULL,
    results bytea DEFAULT '\x'::bytea NOT NULL,
    xacts xid8[] DEFAULT '{}'::xid8[] NOT NULL
);
ALTER TABLE ONLY public.batch_chunks ALTER COLUMN rows SET STORAGE EXTERNAL;

CREATE TABLE public.batch_countries (
    batch_id bigint NOT NULL,
    country text NOT NULL,
    CONSTRAINT batch_countries_country_check CHECK ((country ~ '^[A-Z]{2}$'::text))
);

CREATE TABLE public.batch_deletions (
    batch_id bigint NOT NULL,
    deleted_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone
);

CREATE TABLE public.batch_files (
    batch_id bigint NOT NULL,
    part integer NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE ONLY public.batch_files ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE public.batch_persons (
    batch_id bigint NOT NULL,
    person text NOT NULL COLLATE pg_catalog."C"
);

CREATE TABLE public.batch_uploads (
    batch_id bigint NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    fsp_id text COLLATE pg_catalog."C",
    bytes bigint DEFAULT 0 NOT NULL
);

CREATE TABLE public.batches (
    batch_id bigint NOT NULL,
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    state public.batch_state DEFAULT 'validating'::public.batch_state NOT NULL,
    file_name text NOT NULL,
    file_format text NOT NULL,
    file_bytes bigint NOT NULL,
    file_sha256 bytea NOT NULL,
    note text,
    uploaded_by text NOT NULL,
    uploaded_role text NOT NULL,
    uploaded_at timestamp with time zone DEFAULT now() NOT NULL,
    needs_approval boolean NOT NULL,
    decided_by text,
    decided_at timestamp with time zone,
    decision_reason text,
    cancelled_by text,
    bytes_read bigint DEFAULT 0 NOT NULL,
    rows_read bigint DEFAULT 0 NOT NULL,
    rows_valid bigint DEFAULT 0 NOT NULL,
    rows_applied bigint DEFAULT 0 NOT NULL,
    rows_changed bigint DEFAULT 0 NOT NULL,
    rows_failed bigint DEFAULT 0 NOT NULL,
    chunks integer DEFAULT 0 NOT NULL,
    chunks_applied integer DEFAULT 0 NOT NULL,
    rows_per_s double precision,
    validated_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    error_code text,
    error_message text,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT batches_decision_reason_check CHECK ((length(decision_reason) <= 256)),
    CONSTRAINT batches_file_format_check CHECK ((file_format = ANY (ARRAY['csv'::text, 'ndjson'::text]))),
    CONSTRAINT batches_file_name_check CHECK (((length(file_name) >= 1) AND (length(file_name) <= 255))),
    CONSTRAINT batches_note_check CHECK ((length(note) <= 256))
);

ALTER TABLE public.batches ALTER COLUMN batch_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.batches_batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.cache_generation (
    only_row boolean DEFAULT true NOT NULL,
    directory_id uuid DEFAULT gen_random_uuid() NOT NULL,
    generation bigint DEFAULT 1 NOT NULL,
    run_ids text[] DEFAULT '{}'::text[] NOT NULL,
    run_ids_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    routes_version bigint DEFAULT 1 NOT NULL,
    system_identifier text DEFAULT ''::text NOT NULL,
    timeline integer DEFAULT 0 NOT NULL,
    unfenced_since timestamp with time zone DEFAULT '2000-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    CONSTRAINT cache_generation_only_row_check CHECK (only_row)
);

CREATE TABLE public.caller_secret (
    only_one boolean DEFAULT true NOT NULL,
    secret bytea DEFAULT (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) NOT NULL,
    CONSTRAINT caller_secret_only_one_check CHECK (only_one)
);

CREATE TABLE public.console_preferences (
    actor text NOT NULL COLLATE pg_catalog."C",
    language text COLLATE pg_catalog."C",
    time_zone text COLLATE pg_catalog."C",
    CONSTRAINT console_preferences_actor_check CHECK (((length(actor) >= 1) AND (length(actor) <= 320))),
    CONSTRAINT console_preferences_language_check CHECK ((language ~ '^[a-z]{2,3}$'::text)),
    CONSTRAINT console_preferences_time_zone_check CHECK ((time_zone ~ '^[A-Za-z0-9_+/-]{1,64}$'::text))
);

CREATE TABLE public.console_sessions (
    token_sha256 bytea NOT NULL,
    actor text NOT NULL COLLATE pg_catalog."C",
    role public.credential_role NOT NULL,
    fsp_ids text[] COLLATE pg_catalog."C",
    person text COLLATE pg_catalog."C",
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    session_id uuid DEFAULT gen_random_uuid() NOT NULL,
    secret_sha256 bytea,
    rest_s double precision DEFAULT 1800 NOT NULL,
    browser text DEFAULT ''::text NOT NULL,
    address text DEFAULT ''::text NOT NULL,
    CONSTRAINT console_sessions_actor_check CHECK (((length(actor) >= 1) AND (length(actor) <= 320))),
    CONSTRAINT console_sessions_address_check CHECK ((length(address) <= 64)),
    CONSTRAINT console_sessions_browser_check CHECK ((length(browser) <= 200)),
    CONSTRAINT console_sessions_check CHECK (
CASE
    WHEN (role = ANY (ARRAY['dfsp-maker'::public.credential_role, 'dfsp-checker'::public.credential_role])) THEN ((fsp_ids IS NOT NULL) AND (cardinality(fsp_ids) > 0))
    WHEN (role = ANY (ARRAY['operator'::public.credential_role, 'auditor'::public.credential_role])) THEN (fsp_ids IS NULL)
    ELSE true
END),
    CONSTRAINT console_sessions_rest_s_check CHECK ((rest_s > (0)::double precision)),
    CONSTRAINT console_sessions_secret_sha256_check CHECK ((length(secret_sha256) = 32)),
    CONSTRAINT console_sessions_token_sha256_check CHECK ((length(token_sha256) = 32))
);

CREATE TABLE public.credential_secrets (
    credential_id text NOT NULL COLLATE pg_catalog."C",
    secret_sha256 bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT credential_secrets_secret_sha256_check CHECK ((length(secret_sha256) = 32))
);

CREATE TABLE public.credential_uses (
    credential_id text NOT NULL COLLATE pg_catalog."C",
    last_used_at timestamp with time zone NOT NULL
);

CREATE TABLE public.credentials (
    credential_id text NOT NULL COLLATE pg_catalog."C",
    role public.credential_role NOT NULL,
    fsp_id text COLLATE pg_catalog."C",
    label text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by text NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    person text COLLATE pg_catalog."C",
    CONSTRAINT credentials_check CHECK (
CASE
    WHEN (role = ANY (ARRAY['dfsp-maker'::public.credential_role, 'dfsp-checker'::public.credential_role])) THEN (fsp_id IS NOT NULL)
    WHEN (role = ANY (ARRAY['operator'::public.credential_role, 'auditor'::public.credential_role])) THEN (fsp_id IS NULL)
    ELSE true
END),
    CONSTRAINT credentials_credential_id_check CHECK ((credential_id ~ '^[a-z2-7]{12}$'::text)),
    CONSTRAINT credentials_label_check CHECK (((length(label) >= 1) AND (length(label) <= 128))),
    CONSTRAINT credentials_person_check CHECK ((person ~ '^oidc:[a-z0-9-]{1,32}:[!-~]{1,255}$'::text))
);

CREATE TABLE public.empty_budgets (
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    fsp_class text NOT NULL,
    size bigint NOT NULL,
    refill bigint NOT NULL,
    mode text NOT NULL,
    noticed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT empty_budgets_fsp_id_check CHECK (((fsp_id ~ '^[!-~]{1,32}$'::text) OR (fsp_id = 'unknown FSPs'::text))),
    CONSTRAINT empty_budgets_mode_check CHECK ((mode = ANY (ARRAY['observe'::text, 'enforce'::text])))
);

CREATE TABLE public.endpoint_cache (
    forgotten bigint DEFAULT 0 NOT NULL
);

CREATE TABLE public.events (
    event_id bigint NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    entity text NOT NULL,
    action text NOT NULL,
    channel text NOT NULL,
    actor text NOT NULL,
    role text,
    party_id_type public.party_id_type,
    party_identifier text COLLATE pg_catalog."C",
    sub_id text,
    fsp_id text,
    before jsonb,
    after jsonb,
    reason text,
    request_id text,
    trace_id text,
    CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
    CONSTRAINT events_at_check CHECK (isfinite(at))
)
PARTITION BY RANGE (at);

CREATE SEQUENCE public.events_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.events_event_id_seq OWNED BY public.events.event_id;

CREATE TABLE public.events_default (
    event_id bigint DEFAULT nextval('public.events_event_id_seq'::regclass) NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() CONSTRAINT events_xact_not_null NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT events_at_not_null NOT NULL,
    entity text CONSTRAINT events_entity_not_null NOT NULL,
    action text CONSTRAINT events_action_not_null NOT NULL,
    channel text CONSTRAINT events_channel_not_null NOT NULL,
    actor text CONSTRAINT events_actor_not_null NOT NULL,
    role text,
    party_id_type public.party_id_type,
    party_identifier text COLLATE pg_catalog."C",
    sub_id text,
    fsp_id text,
    before jsonb,
    after jsonb,
    reason text,
    request_id text,
    trace_id text,
    CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
    CONSTRAINT events_at_check CHECK (isfinite(at))
);

CREATE TABLE public.fsp_endpoints (
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    base_url text,
    urls jsonb DEFAULT '{}'::jsonb NOT NULL,
    is_proxy boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT fsp_endpoints_base_url_check CHECK (((length(base_url) <= 1024) AND (base_url ~ '^https?://[][A-Za-z0-9._:-]+(/[!-~]*)?$'::text))),
    CONSTRAINT fsp_endpoints_urls_check CHECK (((jsonb_typeof(urls) = 'object'::text) AND (length((urls)::text) <= 20000) AND (NOT jsonb_path_exists(urls, '$.keyvalue()?((!(@."key" like_regex "^FSPIOP_CALLBACK_URL_[A-Z_]+$") || @."value".type() != "string") || !(@."value" like_regex "^https?://[\\[\\]A-Za-z0-9._:-]+([/?][!-~]*)?$"))'::jsonpath))))
);

CREATE TABLE public.fsp_jws_keys (
    key_id bigint NOT NULL,
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    label text NOT NULL,
    pem text NOT NULL,
    sha256 text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT fsp_jws_keys_label_check CHECK (((length(label) >= 1) AND (length(label) <= 128))),
    CONSTRAINT fsp_jws_keys_pem_check CHECK (((length(pem) <= 4096) AND (pem ~ '^-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+-----END PUBLIC KEY-----\n$'::text))),
    CONSTRAINT fsp_jws_keys_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

ALTER TABLE public.fsp_jws_keys ALTER COLUMN key_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.fsp_jws_keys_key_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.fsp_logos (
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    data bytea NOT NULL,
    CONSTRAINT fsp_logos_data_check CHECK (((length(data) >= 1) AND (length(data) <= 262144)))
);

CREATE TABLE public.fsps (
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    status public.fsp_status DEFAULT 'active'::public.fsp_status NOT NULL,
    name text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    locale_name text,
    dfsp_type text,
    additional_info text,
    kinds text[],
    currencies text[],
    use_cases text[] DEFAULT '{}'::text[] NOT NULL,
    contact jsonb,
    two_persons boolean DEFAULT false NOT NULL,
    logo_data_type text,
    logo_sha256 bytea,
    version bigint DEFAULT 1 NOT NULL,
    default_country text,
    hub_changes boolean DEFAULT true NOT NULL,
    CONSTRAINT fsps_additional_info_check CHECK (((length(additional_info) >= 1) AND (length(additional_info) <= 1024))),
    CONSTRAINT fsps_default_country_check CHECK ((default_country ~ '^[A-Z]{2}$'::text)),
    CONSTRAINT fsps_dfsp_type_check CHECK (((length(dfsp_type) >= 1) AND (length(dfsp_type) <= 64))),
    CONSTRAINT fsps_fsp_id_check CHECK ((fsp_id ~ '^[!-~]{1,32}$'::text)),
    CONSTRAINT fsps_locale_name_check CHECK (((length(locale_name) >= 1) AND (length(locale_name) <= 128))),
    CONSTRAINT fsps_name_check CHECK (((length(name) >= 1) AND (length(name) <= 128)))
);

CREATE TABLE public.idempotency (
    credential_id text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    call_sha256 bytea NOT NULL,
    answer bytea,
    made_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.key_policies (
    party_id_type public.party_id_type NOT NULL,
    policy public.key_policy DEFAULT 'unique'::public.key_policy NOT NULL
);

CREATE TABLE public.migrations (
    number integer NOT NULL,
    stage text NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.oracles (
    oracle_id bigint NOT NULL,
    party_id_type text NOT NULL COLLATE pg_catalog."C",
    currency text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL,
    is_default boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT oracles_currency_check CHECK ((currency ~ '^([A-Z]{3})?$'::text)),
    CONSTRAINT oracles_party_id_type_check CHECK ((party_id_type = ANY (ARRAY['MSISDN'::text, 'EMAIL'::text, 'PERSONAL_ID'::text, 'BUSINESS'::text, 'DEVICE'::text, 'ACCOUNT_ID'::text, 'IBAN'::text, 'ALIAS'::text, 'CONSENT'::text, 'THIRD_PARTY_LINK'::text]))),
    CONSTRAINT oracles_url_check CHECK (((length(url) <= 1024) AND (url ~ '^https?://[!-~]+$'::text)))
);

ALTER TABLE public.oracles ALTER COLUMN oracle_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.oracles_oracle_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.routes (
    route_id bigint NOT NULL,
    party_id_type public.party_id_type NOT NULL,
    prefix text NOT NULL COLLATE pg_catalog."C",
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    valid_from timestamp with time zone DEFAULT now() NOT NULL,
    valid_to timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    note text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT routes_check CHECK ((valid_from < valid_to)),
    CONSTRAINT routes_kind CHECK ((kind ~ '^[A-Z][A-Z_]{0,31}$'::text)),
    CONSTRAINT routes_note CHECK ((length(note) <= 256)),
    CONSTRAINT routes_prefix_check CHECK (((length(prefix) >= 1) AND (length(prefix) <= 128)))
);

ALTER TABLE public.routes ALTER COLUMN route_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.routes_route_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.uploads_broken_off (
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    hour timestamp with time zone NOT NULL,
    bytes bigint NOT NULL,
    CONSTRAINT uploads_broken_off_bytes_check CHECK ((bytes >= 0))
);

CREATE TABLE public.verifications (
    verification_id bigint NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL COLLATE pg_catalog."C",
    directory boolean NOT NULL,
    asked_by text NOT NULL COLLATE pg_catalog."C",
    asked_at timestamp with time zone DEFAULT now() NOT NULL,
    begun_at timestamp with time zone,
    seen_at timestamp with time zone,
    ended_at timestamp with time zone,
    stopped_by text COLLATE pg_catalog."C",
    runner uuid,
    leaves bigint DEFAULT 0 NOT NULL,
    leaves_read bigint DEFAULT 0 NOT NULL,
    rows_read bigint DEFAULT 0 NOT NULL,
    findings bigint DEFAULT 0 NOT NULL,
    listed jsonb DEFAULT '[]'::jsonb NOT NULL,
    CONSTRAINT verifications_listed_check CHECK ((jsonb_typeof(listed) = 'array'::text)),
    CONSTRAINT verifications_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'running'::text, 'done'::text, 'stopped'::text, 'failed'::text])))
);

ALTER TABLE public.verifications ALTER COLUMN verification_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.verifications_verification_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY public.audit_reads ATTACH PARTITION public.audit_reads_default DEFAULT;

ALTER TABLE ONLY public.events ATTACH PARTITION public.events_default DEFAULT;

ALTER TABLE ONLY public.audit_reads ALTER COLUMN read_id SET DEFAULT nextval('public.audit_reads_read_id_seq'::regclass);

ALTER TABLE ONLY public.events ALTER COLUMN event_id SET DEFAULT nextval('public.events_event_id_seq'::regclass);

ALTER TABLE ONLY public.alias_currencies
    ADD CONSTRAINT alias_currencies_pkey PRIMARY KEY (identifier, party_id_type, sub_id, currency);

ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT aliases_pkey PRIMARY KEY (identifier, party_id_type, sub_id);

ALTER TABLE ONLY public.audit_batches
    ADD CONSTRAINT audit_batches_pkey PRIMARY KEY (first_leaf);

ALTER TABLE ONLY public.audit_checkpoints
    ADD CONSTRAINT audit_checkpoints_pkey PRIMARY KEY (size);

ALTER TABLE ONLY public.audit_eras
    ADD CONSTRAINT audit_eras_pkey PRIMARY KEY (era);

ALTER TABLE ONLY public.audit_keys
    ADD CONSTRAINT audit_keys_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.audit_keys
    ADD CONSTRAINT audit_keys_vkey_key UNIQUE (vkey);

ALTER TABLE ONLY public.audit_reads_default
    ADD CONSTRAINT audit_reads_default_pkey PRIMARY KEY (read_id);

ALTER TABLE ONLY public.audit_tiles
    ADD CONSTRAINT audit_tiles_pkey PRIMARY KEY (tile_level, first);

ALTER TABLE ONLY public.batch_changes
    ADD CONSTRAINT batch_changes_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY public.batch_chunks
    ADD CONSTRAINT batch_chunks_pkey PRIMARY KEY (batch_id, chunk);

ALTER TABLE ONLY public.batch_countries
    ADD CONSTRAINT batch_countries_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY public.batch_deletions
    ADD CONSTRAINT batch_deletions_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY public.batch_files
    ADD CONSTRAINT batch_files_pkey PRIMARY KEY (batch_id, part);

ALTER TABLE ONLY public.batch_persons
    ADD CONSTRAINT batch_persons_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY public.batch_uploads
    ADD CONSTRAINT batch_uploads_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY public.cache_generation
    ADD CONSTRAINT cache_generation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.caller_secret
    ADD CONSTRAINT caller_secret_pkey PRIMARY KEY (only_one);

ALTER TABLE ONLY public.console_preferences
    ADD CONSTRAINT console_preferences_pkey PRIMARY KEY (actor);

ALTER TABLE ONLY public.console_sessions
    ADD CONSTRAINT console_sessions_pkey PRIMARY KEY (token_sha256);

ALTER TABLE ONLY public.credential_secrets
    ADD CONSTRAINT credential_secrets_pkey PRIMARY KEY (credential_id, secret_sha256);

ALTER TABLE ONLY public.credential_uses
    ADD CONSTRAINT credential_uses_pkey PRIMARY KEY (credential_id);

ALTER TABLE ONLY public.credentials
    ADD CONSTRAINT credentials_pkey PRIMARY KEY (credential_id);

ALTER TABLE ONLY public.empty_budgets
    ADD CONSTRAINT empty_budgets_pkey PRIMARY KEY (fsp_id);

ALTER TABLE public.events
    ADD CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text, 'account-lookup'::text]))) NOT VALID;

ALTER TABLE ONLY public.events_default
    ADD CONSTRAINT events_default_pkey PRIMARY KEY (event_id);

ALTER TABLE public.events
    ADD CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text, 'batch'::text, 'audit-key'::text, 'secret'::text, 'audit-reads'::text, 'endpoints'::text, 'jws-key'::text, 'oracle'::text, 'als-oracle'::text, 'budget'::text, 'session'::text]))) NOT VALID;

ALTER TABLE ONLY public.fsp_endpoints
    ADD CONSTRAINT fsp_endpoints_pkey PRIMARY KEY (fsp_id);

ALTER TABLE ONLY public.fsp_jws_keys
    ADD CONSTRAINT fsp_jws_keys_fsp_id_sha256_key UNIQUE (fsp_id, sha256);

ALTER TABLE ONLY public.fsp_jws_keys
    ADD CONSTRAINT fsp_jws_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY public.fsp_logos
    ADD CONSTRAINT fsp_logos_pkey PRIMARY KEY (fsp_id);

ALTER TABLE ONLY public.fsps
    ADD CONSTRAINT fsps_pkey PRIMARY KEY (fsp_id);

ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (credential_id, idempotency_key);

ALTER TABLE ONLY public.key_policies
    ADD CONSTRAINT key_policies_pkey PRIMARY KEY (party_id_type);

ALTER TABLE ONLY public.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (number, stage);

ALTER TABLE ONLY public.oracles
    ADD CONSTRAINT oracles_party_id_type_currency_key UNIQUE (party_id_type, currency);

ALTER TABLE ONLY public.oracles
    ADD CONSTRAINT oracles_pkey PRIMARY KEY (oracle_id);

ALTER TABLE ONLY public.routes
    ADD CONSTRAINT routes_pkey PRIMARY KEY (route_id);

ALTER TABLE ONLY public.uploads_broken_off
    ADD CONSTRAINT uploads_broken_off_pkey PRIMARY KEY (fsp_id, hour);

ALTER TABLE ONLY public.verifications
    ADD CONSTRAINT verifications_pkey PRIMARY KEY (verification_id);

CREATE INDEX access_refusals_by_time ON public.access_refusals USING btree (at);

CREATE INDEX alias_currencies_by_currency ON public.alias_currencies USING btree (fsp_id, party_id_type, currency, changed_at);

CREATE INDEX alias_currencies_by_fsp ON public.alias_currencies USING btree (fsp_id, party_id_type, changed_at);

CREATE INDEX alias_currencies_by_identifier ON public.alias_currencies USING btree (fsp_id, party_id_type, identifier COLLATE "POSIX", sub_id);

CREATE INDEX aliases_by_currency ON public.aliases USING btree (fsp_id, party_id_type, currency, changed_at);

CREATE INDEX aliases_by_fsp ON public.aliases USING btree (fsp_id, party_id_type, changed_at);

CREATE INDEX aliases_by_identifier ON public.aliases USING btree (fsp_id, party_id_type, identifier COLLATE "POSIX", sub_id);

CREATE INDEX audit_batches_by_bound ON public.audit_batches USING btree (era, xact, event_id);

CREATE INDEX audit_reads_by_credential ON ONLY public.audit_reads USING btree (credential_id, read_id);

CREATE INDEX audit_reads_by_identifier ON ONLY public.audit_reads USING btree (party_identifier, read_id) WHERE (party_identifier IS NOT NULL);

CREATE INDEX audit_reads_default_credential_id_read_id_idx ON public.audit_reads_default USING btree (credential_id, read_id);

CREATE INDEX audit_reads_default_party_identifier_read_id_idx ON public.audit_reads_default USING btree (party_identifier, read_id) WHERE (party_identifier IS NOT NULL);

CREATE INDEX batch_deletions_unfinished ON public.batch_deletions USING btree (batch_id) WHERE (ended_at IS NULL);

CREATE INDEX batches_by_canceller ON public.batches USING btree (cancelled_by, batch_id) WHERE (cancelled_by IS NOT NULL);

CREATE INDEX batches_by_decider ON public.batches USING btree (decided_by, batch_id) WHERE (decided_by IS NOT NULL);

CREATE INDEX batches_by_end ON public.batches USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE INDEX batches_by_fsp ON public.batches USING btree (fsp_id, batch_id);

CREATE INDEX batches_by_state ON public.batches USING btree (state, batch_id);

CREATE INDEX batches_by_time ON public.batches USING btree (uploaded_at);

CREATE INDEX batches_by_uploader ON public.batches USING btree (uploaded_by, batch_id);

CREATE INDEX batches_decided ON public.batches USING btree (decided_at, batch_id) WHERE (decided_at IS NOT NULL);

CREATE INDEX batches_unfinished ON public.batches USING btree (batch_id) WHERE (state = ANY (ARRAY['validating'::public.batch_state, 'applying'::public.batch_state]));

CREATE INDEX batches_waiting ON public.batches USING btree (fsp_id) WHERE (state = 'waiting'::public.batch_state);

CREATE INDEX console_sessions_by_actor ON public.console_sessions USING btree (actor, started_at);

CREATE INDEX console_sessions_by_end ON public.console_sessions USING btree (ends_at);

CREATE UNIQUE INDEX console_sessions_by_id ON public.console_sessions USING btree (session_id);

CREATE INDEX console_sessions_by_start ON public.console_sessions USING btree (started_at, session_id);

CREATE INDEX credentials_by_fsp ON public.credentials USING btree (fsp_id, credential_id);

CREATE INDEX credentials_by_person ON public.credentials USING btree (person) WHERE (person IS NOT NULL);

CREATE UNIQUE INDEX endpoint_cache_has_one_row ON public.endpoint_cache USING btree ((true));

CREATE INDEX events_by_former_fsp ON ONLY public.events USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));

CREATE INDEX events_by_former_prefix ON ONLY public.events USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));

CREATE INDEX events_by_fsp_in_order ON ONLY public.events USING btree (fsp_id, event_id) WHERE (fsp_id IS NOT NULL);

CREATE INDEX events_by_identifier ON ONLY public.events USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);

CREATE INDEX events_by_prefix ON ONLY public.events USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);

CREATE INDEX events_by_time ON ONLY public.events USING brin (at) WITH (autosummarize='on');

CREATE INDEX events_by_xact_in_order ON ONLY public.events USING btree (xact, event_id);

CREATE INDEX events_default_at_idx ON public.events_default USING brin (at) WITH (autosummarize='on');

CREATE INDEX events_of_administration ON ONLY public.events USING btree (entity, event_id) WHERE (entity <> 'alias'::text);

CREATE INDEX events_default_entity_event_id_idx ON public.events_default USING btree (entity, event_id) WHERE (entity <> 'alias'::text);

CREATE INDEX events_default_expr_event_id_idx ON public.events_default USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));

CREATE INDEX events_default_expr_idx ON public.events_default USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);

CREATE INDEX events_default_expr_idx1 ON public.events_default USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));

CREATE INDEX events_of_fsps ON ONLY public.events USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);

CREATE INDEX events_default_fsp_id_event_id_idx ON public.events_default USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);

CREATE INDEX events_default_fsp_id_event_id_idx1 ON public.events_default USING btree (fsp_id, event_id) WHERE (fsp_id IS NOT NULL);

CREATE INDEX events_default_party_identifier_party_id_type_event_id_idx ON public.events_default USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);

CREATE INDEX events_default_xact_event_id_idx ON public.events_default USING btree (xact, event_id);

CREATE INDEX idempotency_by_time ON public.idempotency USING btree (made_at);

CREATE INDEX idempotency_in_clear ON public.idempotency USING btree (made_at) WHERE (substr(answer, 1, 1) = '\x00'::bytea);

CREATE INDEX routes_by_fsp ON public.routes USING btree (fsp_id, route_id);

CREATE INDEX routes_by_prefix ON public.routes USING btree (party_id_type, prefix);

CREATE UNIQUE INDEX verifications_one_at_a_time ON public.verifications USING btree ((true)) WHERE (state = ANY (ARRAY['waiting'::text, 'running'::text]));

ALTER INDEX public.audit_reads_by_credential ATTACH PARTITION public.audit_reads_default_credential_id_read_id_idx;

ALTER INDEX public.audit_reads_by_identifier ATTACH PARTITION public.audit_reads_default_party_identifier_read_id_idx;

ALTER INDEX public.events_by_time ATTACH PARTITION public.events_default_at_idx;

ALTER INDEX public.events_of_administration ATTACH PARTITION public.events_default_entity_event_id_idx;

ALTER INDEX public.events_by_former_fsp ATTACH PARTITION public.events_default_expr_event_id_idx;

ALTER INDEX public.events_by_prefix ATTACH PARTITION public.events_default_expr_idx;

ALTER INDEX public.events_by_former_prefix ATTACH PARTITION public.events_default_expr_idx1;

ALTER INDEX public.events_of_fsps ATTACH PARTITION public.events_default_fsp_id_event_id_idx;

ALTER INDEX public.events_by_fsp_in_order ATTACH PARTITION public.events_default_fsp_id_event_id_idx1;

ALTER INDEX public.events_by_identifier ATTACH PARTITION public.events_default_party_identifier_party_id_type_event_id_idx;

ALTER INDEX public.events_by_xact_in_order ATTACH PARTITION public.events_default_xact_event_id_idx;

CREATE TRIGGER access_refusals_stay BEFORE DELETE OR UPDATE ON public.access_refusals FOR EACH ROW EXECUTE FUNCTION public.access_refusals_stay();

CREATE TRIGGER alias_currencies_deleted AFTER DELETE ON public.alias_currencies REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.alias_currencies_deleted();

CREATE TRIGGER alias_currencies_fixed BEFORE UPDATE ON public.alias_currencies FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER alias_currencies_inserted AFTER INSERT ON public.alias_currencies REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.alias_currencies_inserted();

CREATE TRIGGER alias_currencies_not_truncated BEFORE TRUNCATE ON public.alias_currencies FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER aliases_deleted AFTER DELETE ON public.aliases REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.aliases_deleted();

CREATE TRIGGER aliases_inserted AFTER INSERT ON public.aliases REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.aliases_inserted();

CREATE TRIGGER aliases_not_truncated BEFORE TRUNCATE ON public.aliases FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER aliases_updated AFTER UPDATE ON public.aliases REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.aliases_updated();

CREATE TRIGGER audit_batches_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_batches FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER audit_checkpoints_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_checkpoints FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER audit_eras_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_eras FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER audit_keys_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_keys FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER audit_keys_inserted AFTER INSERT ON public.audit_keys REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.audit_keys_inserted();

CREATE TRIGGER audit_reads_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_reads FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER audit_reads_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_reads_default FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER audit_tiles_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_tiles FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER batch_changes_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON public.batch_changes FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER batch_countries_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON public.batch_countries FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER batch_persons_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON public.batch_persons FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER batches_inserted AFTER INSERT ON public.batches REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.batches_written();

CREATE TRIGGER batches_stay BEFORE DELETE OR TRUNCATE ON public.batches FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER batches_updated AFTER UPDATE ON public.batches REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.batches_written();

CREATE TRIGGER batches_version BEFORE UPDATE ON public.batches FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.next_version();

CREATE TRIGGER cache_generation_stays BEFORE INSERT OR DELETE OR TRUNCATE ON public.cache_generation FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER cache_generation_tell AFTER UPDATE ON public.cache_generation FOR EACH STATEMENT EXECUTE FUNCTION public.cache_generation_tell();

CREATE TRIGGER caller_secret_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON public.caller_secret FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER console_sessions_deleted AFTER DELETE ON public.console_sessions REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.console_sessions_deleted();

CREATE TRIGGER credential_secrets_inserted AFTER INSERT ON public.credential_secrets REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.credential_secrets_written();

CREATE TRIGGER credential_secrets_only_end BEFORE UPDATE ON public.credential_secrets FOR EACH ROW EXECUTE FUNCTION public.credential_secrets_only_end();

CREATE TRIGGER credential_secrets_stay BEFORE DELETE OR TRUNCATE ON public.credential_secrets FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER credential_secrets_updated AFTER UPDATE ON public.credential_secrets REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.credential_secrets_written();

CREATE TRIGGER credentials_inserted AFTER INSERT ON public.credentials REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.credentials_written();

CREATE TRIGGER credentials_stay BEFORE DELETE OR TRUNCATE ON public.credentials FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER credentials_updated AFTER UPDATE ON public.credentials REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.credentials_written();

CREATE TRIGGER credentials_version BEFORE UPDATE ON public.credentials FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.next_version();

CREATE TRIGGER empty_budgets_inserted AFTER INSERT ON public.empty_budgets REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.empty_budgets_written();

CREATE TRIGGER empty_budgets_updated AFTER UPDATE ON public.empty_budgets REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.empty_budgets_written();

CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.events_default FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER fsp_endpoints_inserted AFTER INSERT ON public.fsp_endpoints REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsp_endpoints_written();

CREATE TRIGGER fsp_endpoints_stay BEFORE DELETE OR TRUNCATE ON public.fsp_endpoints FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER fsp_endpoints_updated AFTER UPDATE ON public.fsp_endpoints REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsp_endpoints_written();

CREATE TRIGGER fsp_endpoints_version BEFORE UPDATE ON public.fsp_endpoints FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.next_version();

CREATE TRIGGER fsp_jws_keys_deleted AFTER DELETE ON public.fsp_jws_keys REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsp_jws_keys_written();

CREATE TRIGGER fsp_jws_keys_fixed BEFORE UPDATE OR TRUNCATE ON public.fsp_jws_keys FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER fsp_jws_keys_inserted AFTER INSERT ON public.fsp_jws_keys REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsp_jws_keys_written();

CREATE TRIGGER fsps_inserted AFTER INSERT ON public.fsps REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsps_inserted();

CREATE TRIGGER fsps_stay BEFORE DELETE OR TRUNCATE ON public.fsps FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER fsps_updated AFTER UPDATE ON public.fsps REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsps_updated();

CREATE TRIGGER fsps_version BEFORE UPDATE ON public.fsps FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.next_version();

CREATE TRIGGER key_policies_stay BEFORE INSERT OR DELETE OR TRUNCATE ON public.key_policies FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER key_policies_updated AFTER UPDATE ON public.key_policies REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.key_policies_updated();

CREATE TRIGGER oracles_deleted AFTER DELETE ON public.oracles REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.oracles_written();

CREATE TRIGGER oracles_inserted AFTER INSERT ON public.oracles REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.oracles_written();

CREATE TRIGGER oracles_not_truncated BEFORE TRUNCATE ON public.oracles FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER oracles_updated AFTER UPDATE ON public.oracles REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.oracles_written();

CREATE TRIGGER oracles_version BEFORE UPDATE ON public.oracles FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.next_version();

CREATE TRIGGER routes_deleted AFTER DELETE ON public.routes REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.routes_deleted();

CREATE TRIGGER routes_in_turn BEFORE INSERT OR UPDATE ON public.routes FOR EACH STATEMENT EXECUTE FUNCTION public.routes_in_turn();

CREATE TRIGGER routes_inserted AFTER INSERT ON public.routes REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.routes_inserted();

CREATE TRIGGER routes_kind_inserted BEFORE INSERT ON public.routes FOR EACH ROW WHEN ((new.kind IS NULL)) EXECUTE FUNCTION public.routes_kind();

CREATE TRIGGER routes_kind_updated BEFORE UPDATE ON public.routes FOR EACH ROW WHEN (((new.party_id_type <> old.party_id_type) AND (new.kind = old.kind))) EXECUTE FUNCTION public.routes_kind();

CREATE TRIGGER routes_not_truncated BEFORE TRUNCATE ON public.routes FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER routes_updated AFTER UPDATE ON public.routes REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.routes_updated();

CREATE TRIGGER routes_version BEFORE UPDATE ON public.routes FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.next_version();

ALTER TABLE ONLY public.audit_batches
    ADD CONSTRAINT audit_batches_era_fkey FOREIGN KEY (era) REFERENCES public.audit_eras(era);

ALTER TABLE ONLY public.batch_changes
    ADD CONSTRAINT batch_changes_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batches(batch_id);

ALTER TABLE ONLY public.batch_chunks
    ADD CONSTRAINT batch_chunks_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batches(batch_id);

ALTER TABLE ONLY public.batch_countries
    ADD CONSTRAINT batch_countries_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batches(batch_id);

ALTER TABLE ONLY public.batch_deletions
    ADD CONSTRAINT batch_deletions_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batches(batch_id);

ALTER TABLE ONLY public.batch_persons
    ADD CONSTRAINT batch_persons_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES public.batches(batch_id);

ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES public.fsps(fsp_id);

ALTER TABLE ONLY public.credential_secrets
    ADD CONSTRAINT credential_secrets_credential_id_fkey FOREIGN KEY (credential_id) REFERENCES public.credentials(credential_id);

ALTER TABLE ONLY public.credential_uses
    ADD CONSTRAINT credential_uses_credential_id_fkey FOREIGN KEY (credential_id) REFERENCES public.credentials(credential_id);

ALTER TABLE ONLY public.credentials
    ADD CONSTRAINT credentials_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES public.fsps(fsp_id);

ALTER TABLE ONLY public.fsp_endpoints
    ADD CONSTRAINT fsp_endpoints_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES public.fsps(fsp_id);

ALTER TABLE ONLY public.fsp_jws_keys
    ADD CONSTRAINT fsp_jws_keys_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES public.fsps(fsp_id);

ALTER TABLE ONLY public.fsp_logos
    ADD CONSTRAINT fsp_logos_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES public.fsps(fsp_id);

ALTER TABLE ONLY public.routes
    ADD CONSTRAINT routes_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES public.fsps(fsp_id);

GRANT USAGE ON SCHEMA public TO oracle_app;

REVOKE ALL ON FUNCTION public.audit_era_begin() FROM PUBLIC;
GRANT ALL ON FUNCTION public.audit_era_begin() TO oracle_app;

REVOKE ALL ON FUNCTION public.audit_reads_drop(days integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.audit_reads_months(OUT name text, OUT since timestamp with time zone, OUT until timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.audit_reads_partitions_ahead(months integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.audit_reads_partitions_ahead(months integer) TO oracle_app;

REVOKE ALL ON FUNCTION public.events_partitions_ahead(months integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.events_partitions_ahead(months integer) TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.access_refusals TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.alias_currencies TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.aliases TO oracle_app;

GRANT SELECT,INSERT ON TABLE public.audit_batches TO oracle_app;

GRANT SELECT,INSERT ON TABLE public.audit_checkpoints TO oracle_app;

GRANT SELECT ON TABLE public.audit_eras TO oracle_app;

GRANT SELECT,INSERT ON TABLE public.audit_keys TO oracle_app;

GRANT SELECT ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(credential_id) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(role) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(caller_fsp_id) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(asked) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(party_id_type) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(party_identifier) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(sub_id) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(fsp_id) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(details) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(request_id) ON TABLE public.audit_reads TO oracle_app;

GRANT INSERT(trace_id) ON TABLE public.audit_reads TO oracle_app;

GRANT SELECT,USAGE ON SEQUENCE public.audit_reads_read_id_seq TO oracle_app;

GRANT SELECT,INSERT ON TABLE public.audit_tiles TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batch_changes TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batch_chunks TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batch_countries TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batch_deletions TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batch_files TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batch_persons TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batch_uploads TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.batches TO oracle_app;

GRANT SELECT,USAGE ON SEQUENCE public.batches_batch_id_seq TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cache_generation TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.caller_secret TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.console_preferences TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.console_sessions TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.credential_secrets TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.credential_uses TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.credentials TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.empty_budgets TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.endpoint_cache TO oracle_app;

GRANT SELECT ON TABLE public.events TO oracle_app;

GRANT INSERT(entity) ON TABLE public.events TO oracle_app;

GRANT INSERT(action) ON TABLE public.events TO oracle_app;

GRANT INSERT(channel) ON TABLE public.events TO oracle_app;

GRANT INSERT(actor) ON TABLE public.events TO oracle_app;

GRANT INSERT(role) ON TABLE public.events TO oracle_app;

GRANT INSERT(party_id_type) ON TABLE public.events TO oracle_app;

GRANT INSERT(party_identifier) ON TABLE public.events TO oracle_app;

GRANT INSERT(sub_id) ON TABLE public.events TO oracle_app;

GRANT INSERT(fsp_id) ON TABLE public.events TO oracle_app;

GRANT INSERT(before) ON TABLE public.events TO oracle_app;

GRANT INSERT(after) ON TABLE public.events TO oracle_app;

GRANT INSERT(reason) ON TABLE public.events TO oracle_app;

GRANT INSERT(request_id) ON TABLE public.events TO oracle_app;

GRANT INSERT(trace_id) ON TABLE public.events TO oracle_app;

GRANT SELECT,USAGE ON SEQUENCE public.events_event_id_seq TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.fsp_endpoints TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.fsp_jws_keys TO oracle_app;

GRANT SELECT,USAGE ON SEQUENCE public.fsp_jws_keys_key_id_seq TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.fsp_logos TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.fsps TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.idempotency TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.key_policies TO oracle_app;

GRANT SELECT ON TABLE public.migrations TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.oracles TO oracle_app;

GRANT SELECT,USAGE ON SEQUENCE public.oracles_oracle_id_seq TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.routes TO oracle_app;

GRANT SELECT,USAGE ON SEQUENCE public.routes_route_id_seq TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.uploads_broken_off TO oracle_app;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.verifications TO oracle_app;

GRANT SELECT,USAGE ON SEQUENCE public.verifications_verification_id_seq TO oracle_app;

SET check_function_bodies = false;
CREATE TYPE batch_state AS ENUM (
 'validating',
 'waiting',
 'applying',
 'done',
 'rejected',
 'cancelled',
 'failed'
);
CREATE TYPE credential_role AS ENUM (
 'operator',
 'dfsp-maker',
 'dfsp-checker',
 'auditor',
 'reader'
);
CREATE TYPE event_context AS (
	channel text,
	actor text,
	role text,
	fsp_id text,
	cache text,
	reason text,
	request_id text,
	trace_id text
);
CREATE TYPE fsp_status AS ENUM (
 'provisional',
 'active',
 'suspended',
 'closed'
);
CREATE TYPE key_policy AS ENUM (
 'unique',
 'per-currency'
);
CREATE TYPE party_id_type AS ENUM (
 'MSISDN',
 'EMAIL',
 'PERSONAL_ID',
 'BUSINESS',
 'DEVICE',
 'ACCOUNT_ID',
 'IBAN',
 'ALIAS'
);
CREATE FUNCTION alias_currencies_deleted() RETURNS trigger
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
CREATE FUNCTION alias_currencies_inserted() RETURNS trigger
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
CREATE FUNCTION aliases_deleted() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
DECLARE
 named text[] := ARRAY(SELECT DISTINCT fsp_id FROM old_rows);
 c event_context := event_context();
BEGIN
 IF named = '{}' THEN RETURN NULL; END IF;
 PERFORM refuse_old_snapshot();
 PERFORM refuse_foreign(named);
 INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
 before, reason, request_id, trace_id)
 SELECT 'alias', 'removed', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, fsp_id,
 jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', true), c.reason, c.request_id, c.trace_id
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
CREATE FUNCTION aliases_inserted() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
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
 jsonb_build_object('fsp_id', fsp_id, 'currency', currency, 'default', true), c.reason, c.request_id, c.trace_id
 FROM new_rows;
 IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
 RETURN NULL;
END $$;
CREATE FUNCTION aliases_updated() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
DECLARE
 named text[] := ARRAY(SELECT fsp_id FROM old_rows UNION SELECT fsp_id FROM new_rows);
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
 WHERE a.currency = x.currency OR (p.policy = 'unique' AND a.fsp_id <> x.fsp_id)) THEN
 RAISE EXCEPTION 'the entries of a key contradict each other' USING ERRCODE = 'OR003';
 END IF;
 INSERT INTO events (entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id,
 before, after, reason, request_id, trace_id)
 SELECT 'alias', 'changed', c.channel, c.actor, c.role, party_id_type, identifier, sub_id, n.fsp_id,
 jsonb_build_object('fsp_id', o.fsp_id, 'currency', o.currency, 'default', true),
 jsonb_build_object('fsp_id', n.fsp_id, 'currency', n.currency, 'default', true),
 c.reason, c.request_id, c.trace_id
 FROM new_rows n JOIN old_rows o USING (identifier, party_id_type, sub_id)
 WHERE (o.fsp_id, o.currency) <> (n.fsp_id, n.currency);
 IF c.cache IS NULL THEN PERFORM cache_generation_bump(); END IF;
 RETURN NULL;
END $$;
CREATE FUNCTION application_grants(application name) RETURNS void
 LANGUAGE plpgsql
 AS $$
DECLARE
 each record;
 given text;
BEGIN
 -- Up to PostgreSQL 14 anybody may put functions beside ours, in front of them even.
 EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
 EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), application);
 FOR each IN SELECT oid, relname, relkind FROM pg_class
 WHERE relnamespace = current_schema()::regnamespace AND NOT relispartition AND relkind IN ('r', 'p', 'S')
 LOOP
 EXECUTE format('REVOKE ALL ON %s %I FROM %I',
 CASE each.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, each.relname, application);
 given := CASE
 WHEN each.relkind = 'S' THEN 'USAGE, SELECT ON SEQUENCE'
 WHEN each.relname = 'migrations' THEN 'SELECT ON'
 WHEN each.relname = 'events' THEN
 (SELECT format('SELECT, INSERT (%s) ON', string_agg(quote_ident(attname), ', ')) FROM pg_attribute
 WHERE attrelid = each.oid AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('event_id', 'xact', 'at'))
 WHEN each.relname LIKE 'audit\_%' THEN 'SELECT, INSERT ON'
 ELSE 'SELECT, INSERT, UPDATE, DELETE ON'
 END;
 EXECUTE format('GRANT %s %I TO %I', given, each.relname, application);
 END LOOP;
 EXECUTE format('REVOKE INSERT ON audit_eras FROM %I', application);
 EXECUTE format('GRANT EXECUTE ON FUNCTION events_partitions_ahead(int), audit_era_begin() TO %I', application);
END $$;
CREATE FUNCTION audit_cluster() RETURNS text
 LANGUAGE plpgsql STABLE
 AS $$
BEGIN
 RETURN (SELECT system_identifier::text FROM pg_control_system());
EXCEPTION WHEN insufficient_privilege THEN
 RETURN '';
END $$;
CREATE FUNCTION audit_era_begin() RETURNS integer
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
CREATE FUNCTION batches_written() RETURNS trigger
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
CREATE FUNCTION cache_generation_bump() RETURNS bigint
 LANGUAGE sql
 AS $$
 UPDATE cache_generation SET generation = generation + 1 RETURNING generation
$$;
CREATE FUNCTION cache_generation_tell() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
BEGIN
 PERFORM pg_notify('oracle_cache', '');
 RETURN NULL;
END $$;
CREATE FUNCTION credentials_written() RETURNS trigger
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
CREATE FUNCTION event_context() RETURNS event_context
 LANGUAGE sql STABLE
 AS $$
 SELECT coalesce(said('channel'), 'sql'), coalesce(said('actor'), session_user::text), said('role'), said('fsp_id'),
 said('cache'), said('reason'), said('request_id'), said('trace_id')
$$;
CREATE FUNCTION events_partitions_ahead(months integer DEFAULT 3) RETURNS integer
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
CREATE FUNCTION fsps_inserted() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
DECLARE c event_context := event_context();
BEGIN
 INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
 SELECT 'fsp', 'registered', c.channel, c.actor, c.role, fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
 FROM new_rows n;
 RETURN NULL;
END $$;
CREATE FUNCTION fsps_updated() RETURNS trigger
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
CREATE FUNCTION key_policies_updated() RETURNS trigger
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
CREATE FUNCTION next_version() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
BEGIN
 NEW.version := OLD.version + 1;
 NEW.changed_at := clock_timestamp();
 RETURN NEW;
END $$;
CREATE FUNCTION refuse_change() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
BEGIN
 RAISE EXCEPTION '% of % is not allowed', lower(TG_OP), TG_TABLE_NAME USING ERRCODE = 'OR004';
END $$;
CREATE FUNCTION refuse_foreign(touched text[]) RETURNS void
 LANGUAGE plpgsql
 AS $$
BEGIN
 IF pg_trigger_depth() < 2 AND EXISTS (SELECT FROM unnest(touched) AS t WHERE t <> said('fsp_id')) THEN
 RAISE EXCEPTION 'the entry belongs to another FSP' USING ERRCODE = 'OR001';
 END IF;
END $$;
CREATE FUNCTION refuse_old_snapshot() RETURNS void
 LANGUAGE plpgsql
 AS $$
BEGIN
 IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
 RAISE EXCEPTION 'aliases change under READ COMMITTED only' USING ERRCODE = 'OR006';
 END IF;
END $$;
CREATE FUNCTION refuse_route_overlaps(written bigint[]) RETURNS void
 LANGUAGE plpgsql
 AS $$
BEGIN
 IF EXISTS (SELECT FROM routes n JOIN routes r USING (party_id_type, prefix)
 WHERE n.route_id = ANY (written) AND n.route_id <> r.route_id
 AND n.valid_from < r.valid_to AND r.valid_from < n.valid_to) THEN
 RAISE EXCEPTION 'another route has this prefix at that time' USING ERRCODE = 'OR005';
 END IF;
 UPDATE cache_generation SET routes_version = routes_version + 1;
END $$;
CREATE FUNCTION refuse_unknown_fsps(named text[]) RETURNS void
 LANGUAGE plpgsql
 AS $$
BEGIN
 IF EXISTS (SELECT FROM unnest(named) AS n WHERE NOT EXISTS (SELECT FROM fsps WHERE fsp_id = n)) THEN
 RAISE EXCEPTION 'no such FSP' USING ERRCODE = 'OR002';
 END IF;
END $$;
CREATE FUNCTION routes_deleted() RETURNS trigger
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
CREATE FUNCTION routes_in_turn() RETURNS trigger
 LANGUAGE plpgsql
 AS $$
BEGIN
 PERFORM FROM cache_generation FOR NO KEY UPDATE;
 RETURN NULL;
END $$;
CREATE FUNCTION routes_inserted() RETURNS trigger
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
CREATE FUNCTION routes_updated() RETURNS trigger
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
CREATE FUNCTION said(name text) RETURNS text
 LANGUAGE sql STABLE
 AS $$
 SELECT nullif(current_setting('oracle.' || name, true), '')
$$;
CREATE TABLE access_refusals (
 at timestamp with time zone DEFAULT now() NOT NULL,
 credential_id text,
 address text,
 method text NOT NULL,
 route text NOT NULL,
 status smallint NOT NULL,
 reason text NOT NULL
);
CREATE TABLE alias_currencies (
 changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
 party_id_type party_id_type NOT NULL,
 identifier text NOT NULL COLLATE pg_catalog."C",
 sub_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
 fsp_id text NOT NULL COLLATE pg_catalog."C",
 currency text NOT NULL,
 CONSTRAINT alias_currencies_currency_check CHECK ((currency ~ '^([A-Z]{3})?$'::text))
);
CREATE TABLE aliases (
 changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
 party_id_type party_id_type NOT NULL,
 identifier text NOT NULL COLLATE pg_catalog."C",
 sub_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
 fsp_id text NOT NULL COLLATE pg_catalog."C",
 currency text DEFAULT ''::text NOT NULL,
 CONSTRAINT aliases_currency_check CHECK ((currency ~ '^([A-Z]{3})?$'::text)),
 CONSTRAINT aliases_iban CHECK (((party_id_type <> 'IBAN'::public.party_id_type) OR (identifier ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$'::text))),
 CONSTRAINT aliases_identifier_check CHECK ((((length(identifier) >= 1) AND (length(identifier) <= 128)) AND (identifier !~ '[[:space:][:cntrl:]&<>"''/=?#%{}\\`]'::text))),
 CONSTRAINT aliases_msisdn CHECK (((party_id_type <> 'MSISDN'::public.party_id_type) OR (identifier ~ '^[1-9][0-9]{6,14}$'::text))),
 CONSTRAINT aliases_sub_id_check CHECK ((length(sub_id) <= 128))
);
CREATE TABLE audit_batches (
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
CREATE TABLE audit_checkpoints (
 size bigint NOT NULL,
 root bytea NOT NULL,
 note text NOT NULL,
 signed_at timestamp with time zone DEFAULT now() NOT NULL,
 CONSTRAINT audit_checkpoints_root_check CHECK ((length(root) = 32)),
 CONSTRAINT audit_checkpoints_size_check CHECK ((size > 0))
);
CREATE TABLE audit_eras (
 era integer NOT NULL,
 after_event_id bigint NOT NULL,
 system_identifier text NOT NULL,
 began_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE audit_keys (
 number integer NOT NULL,
 vkey text NOT NULL,
 from_size bigint NOT NULL,
 statement text,
 added_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE audit_reads (
 read_id bigint NOT NULL,
 at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
 credential_id text NOT NULL COLLATE pg_catalog."C",
 role text NOT NULL,
 caller_fsp_id text,
 asked text NOT NULL,
 party_id_type party_id_type,
 party_identifier text COLLATE pg_catalog."C",
 sub_id text,
 fsp_id text COLLATE pg_catalog."C",
 details jsonb DEFAULT '{}'::jsonb NOT NULL,
 request_id text,
 trace_id text
);
ALTER TABLE audit_reads ALTER COLUMN read_id ADD GENERATED ALWAYS AS IDENTITY (
 SEQUENCE NAME audit_reads_read_id_seq
 START WITH 1
 INCREMENT BY 1
 NO MINVALUE
 NO MAXVALUE
 CACHE 1
);
CREATE TABLE audit_tiles (
 tile_level smallint NOT NULL,
 first bigint NOT NULL,
 hashes bytea NOT NULL,
 CONSTRAINT audit_tiles_first_check CHECK ((first >= 0)),
 CONSTRAINT audit_tiles_hashes_check CHECK (((length(hashes) > 0) AND ((length(hashes) % 32) = 0))),
 CONSTRAINT audit_tiles_tile_level_check CHECK ((tile_level >= 0))
);
ALTER TABLE ONLY audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE TABLE batch_chunks (
 batch_id bigint NOT NULL,
 chunk integer NOT NULL,
 first_line bigint NOT NULL,
 row_count integer NOT NULL,
 rows bytea NOT NULL,
 results bytea DEFAULT '\x'::bytea NOT NULL,
 xacts xid8[] DEFAULT '{}'::xid8[] NOT NULL
);
ALTER TABLE ONLY batch_chunks ALTER COLUMN rows SET STORAGE EXTERNAL;
CREATE TABLE batch_files (
 batch_id bigint NOT NULL,
 part integer NOT NULL,
 data bytea NOT NULL
);
ALTER TABLE ONLY batch_files ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE batch_uploads (
 batch_id bigint NOT NULL,
 seen_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE batches (
 batch_id bigint NOT NULL,
 fsp_id text NOT NULL COLLATE pg_catalog."C",
 state batch_state DEFAULT 'validating'::public.batch_state NOT NULL,
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
ALTER TABLE batches ALTER COLUMN batch_id ADD GENERATED ALWAYS AS IDENTITY (
 SEQUENCE NAME batches_batch_id_seq
 START WITH 1
 INCREMENT BY 1
 NO MINVALUE
 NO MAXVALUE
 CACHE 1
);
CREATE TABLE cache_generation (
 only_row boolean DEFAULT true NOT NULL,
 directory_id uuid DEFAULT gen_random_uuid() NOT NULL,
 generation bigint DEFAULT 1 NOT NULL,
 run_ids text[] DEFAULT '{}'::text[] NOT NULL,
 run_ids_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
 routes_version bigint DEFAULT 1 NOT NULL,
 CONSTRAINT cache_generation_only_row_check CHECK (only_row)
);
CREATE TABLE credential_secrets (
 credential_id text NOT NULL COLLATE pg_catalog."C",
 secret_sha256 bytea NOT NULL,
 created_at timestamp with time zone DEFAULT now() NOT NULL,
 expires_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
 CONSTRAINT credential_secrets_secret_sha256_check CHECK ((length(secret_sha256) = 32))
);
CREATE TABLE credential_uses (
 credential_id text NOT NULL COLLATE pg_catalog."C",
 last_used_at timestamp with time zone NOT NULL
);
CREATE TABLE credentials (
 credential_id text NOT NULL COLLATE pg_catalog."C",
 role credential_role NOT NULL,
 fsp_id text COLLATE pg_catalog."C",
 label text NOT NULL,
 created_at timestamp with time zone DEFAULT now() NOT NULL,
 created_by text NOT NULL,
 changed_at timestamp with time zone DEFAULT now() NOT NULL,
 expires_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
 revoked_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
 version bigint DEFAULT 1 NOT NULL,
 CONSTRAINT credentials_check CHECK (
CASE
 WHEN (role = ANY (ARRAY['dfsp-maker'::public.credential_role, 'dfsp-checker'::public.credential_role])) THEN (fsp_id IS NOT NULL)
 WHEN (role = ANY (ARRAY['operator'::public.credential_role, 'auditor'::public.credential_role])) THEN (fsp_id IS NULL)
 ELSE true
END),
 CONSTRAINT credentials_credential_id_check CHECK ((credential_id ~ '^[a-z2-7]{12}$'::text)),
 CONSTRAINT credentials_label_check CHECK (((length(label) >= 1) AND (length(label) <= 128)))
);
CREATE TABLE events (
 event_id bigint NOT NULL,
 xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
 at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
 entity text NOT NULL,
 action text NOT NULL,
 channel text NOT NULL,
 actor text NOT NULL,
 role text,
 party_id_type party_id_type,
 party_identifier text COLLATE pg_catalog."C",
 sub_id text,
 fsp_id text,
 before jsonb,
 after jsonb,
 reason text,
 request_id text,
 trace_id text,
 CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
 CONSTRAINT events_at_check CHECK (isfinite(at)),
 CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text]))),
 CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text, 'batch'::text])))
)
PARTITION BY RANGE (at);
CREATE SEQUENCE events_event_id_seq
 START WITH 1
 INCREMENT BY 1
 NO MINVALUE
 NO MAXVALUE
 CACHE 1;
ALTER SEQUENCE events_event_id_seq OWNED BY events.event_id;
CREATE TABLE events_2026_11 (
 event_id bigint DEFAULT nextval('public.events_event_id_seq'::regclass) CONSTRAINT events_event_id_not_null NOT NULL,
 xact xid8 DEFAULT pg_current_xact_id() CONSTRAINT events_xact_not_null NOT NULL,
 at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT events_at_not_null NOT NULL,
 entity text CONSTRAINT events_entity_not_null NOT NULL,
 action text CONSTRAINT events_action_not_null NOT NULL,
 channel text CONSTRAINT events_channel_not_null NOT NULL,
 actor text CONSTRAINT events_actor_not_null NOT NULL,
 role text,
 party_id_type party_id_type,
 party_identifier text COLLATE pg_catalog."C",
 sub_id text,
 fsp_id text,
 before jsonb,
 after jsonb,
 reason text,
 request_id text,
 trace_id text,
 CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
 CONSTRAINT events_at_check CHECK (isfinite(at)),
 CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text]))),
 CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text, 'batch'::text])))
);
CREATE TABLE events_2026_12 (
 event_id bigint DEFAULT nextval('public.events_event_id_seq'::regclass) CONSTRAINT events_event_id_not_null NOT NULL,
 xact xid8 DEFAULT pg_current_xact_id() CONSTRAINT events_xact_not_null NOT NULL,
 at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT events_at_not_null NOT NULL,
 entity text CONSTRAINT events_entity_not_null NOT NULL,
 action text CONSTRAINT events_action_not_null NOT NULL,
 channel text CONSTRAINT events_channel_not_null NOT NULL,
 actor text CONSTRAINT events_actor_not_null NOT NULL,
 role text,
 party_id_type party_id_type,
 party_identifier text COLLATE pg_catalog."C",
 sub_id text,
 fsp_id text,
 before jsonb,
 after jsonb,
 reason text,
 request_id text,
 trace_id text,
 CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
 CONSTRAINT events_at_check CHECK (isfinite(at)),
 CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text]))),
 CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text, 'batch'::text])))
);
CREATE TABLE events_2027_01 (
 event_id bigint DEFAULT nextval('public.events_event_id_seq'::regclass) CONSTRAINT events_event_id_not_null NOT NULL,
 xact xid8 DEFAULT pg_current_xact_id() CONSTRAINT events_xact_not_null NOT NULL,
 at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT events_at_not_null NOT NULL,
 entity text CONSTRAINT events_entity_not_null NOT NULL,
 action text CONSTRAINT events_action_not_null NOT NULL,
 channel text CONSTRAINT events_channel_not_null NOT NULL,
 actor text CONSTRAINT events_actor_not_null NOT NULL,
 role text,
 party_id_type party_id_type,
 party_identifier text COLLATE pg_catalog."C",
 sub_id text,
 fsp_id text,
 before jsonb,
 after jsonb,
 reason text,
 request_id text,
 trace_id text,
 CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
 CONSTRAINT events_at_check CHECK (isfinite(at)),
 CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text]))),
 CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text, 'batch'::text])))
);
CREATE TABLE events_2027_02 (
 event_id bigint DEFAULT nextval('public.events_event_id_seq'::regclass) CONSTRAINT events_event_id_not_null NOT NULL,
 xact xid8 DEFAULT pg_current_xact_id() CONSTRAINT events_xact_not_null NOT NULL,
 at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT events_at_not_null NOT NULL,
 entity text CONSTRAINT events_entity_not_null NOT NULL,
 action text CONSTRAINT events_action_not_null NOT NULL,
 channel text CONSTRAINT events_channel_not_null NOT NULL,
 actor text CONSTRAINT events_actor_not_null NOT NULL,
 role text,
 party_id_type party_id_type,
 party_identifier text COLLATE pg_catalog."C",
 sub_id text,
 fsp_id text,
 before jsonb,
 after jsonb,
 reason text,
 request_id text,
 trace_id text,
 CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
 CONSTRAINT events_at_check CHECK (isfinite(at)),
 CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text]))),
 CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text, 'batch'::text])))
);
CREATE TABLE events_default (
 event_id bigint DEFAULT nextval('public.events_event_id_seq'::regclass) NOT NULL,
 xact xid8 DEFAULT pg_current_xact_id() CONSTRAINT events_xact_not_null NOT NULL,
 at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT events_at_not_null NOT NULL,
 entity text CONSTRAINT events_entity_not_null NOT NULL,
 action text CONSTRAINT events_action_not_null NOT NULL,
 channel text CONSTRAINT events_channel_not_null NOT NULL,
 actor text CONSTRAINT events_actor_not_null NOT NULL,
 role text,
 party_id_type party_id_type,
 party_identifier text COLLATE pg_catalog."C",
 sub_id text,
 fsp_id text,
 before jsonb,
 after jsonb,
 reason text,
 request_id text,
 trace_id text,
 CONSTRAINT events_action_check CHECK ((action = ANY (ARRAY['registered'::text, 'changed'::text, 'removed'::text, 'ignored'::text]))),
 CONSTRAINT events_at_check CHECK (isfinite(at)),
 CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text]))),
 CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text, 'batch'::text])))
);
CREATE TABLE fsp_logos (
 fsp_id text NOT NULL COLLATE pg_catalog."C",
 data bytea NOT NULL,
 CONSTRAINT fsp_logos_data_check CHECK (((length(data) >= 1) AND (length(data) <= 262144)))
);
CREATE TABLE fsps (
 fsp_id text NOT NULL COLLATE pg_catalog."C",
 status fsp_status DEFAULT 'active'::public.fsp_status NOT NULL,
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
 CONSTRAINT fsps_additional_info_check CHECK (((length(additional_info) >= 1) AND (length(additional_info) <= 1024))),
 CONSTRAINT fsps_dfsp_type_check CHECK (((length(dfsp_type) >= 1) AND (length(dfsp_type) <= 64))),
 CONSTRAINT fsps_fsp_id_check CHECK ((fsp_id ~ '^[!-~]{1,32}$'::text)),
 CONSTRAINT fsps_locale_name_check CHECK (((length(locale_name) >= 1) AND (length(locale_name) <= 128))),
 CONSTRAINT fsps_name_check CHECK (((length(name) >= 1) AND (length(name) <= 128)))
);
CREATE TABLE idempotency (
 credential_id text NOT NULL COLLATE pg_catalog."C",
 idempotency_key text NOT NULL COLLATE pg_catalog."C",
 call_sha256 bytea NOT NULL,
 answer bytea,
 made_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE key_policies (
 party_id_type party_id_type NOT NULL,
 policy key_policy DEFAULT 'unique'::public.key_policy NOT NULL
);
CREATE TABLE migrations (
 number integer NOT NULL,
 stage text NOT NULL,
 name text NOT NULL,
 applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE routes (
 route_id bigint NOT NULL,
 party_id_type party_id_type NOT NULL,
 prefix text NOT NULL COLLATE pg_catalog."C",
 fsp_id text NOT NULL COLLATE pg_catalog."C",
 valid_from timestamp with time zone DEFAULT now() NOT NULL,
 valid_to timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
 note text,
 created_at timestamp with time zone DEFAULT now() NOT NULL,
 changed_at timestamp with time zone DEFAULT now() NOT NULL,
 version bigint DEFAULT 1 NOT NULL,
 CONSTRAINT routes_check CHECK ((valid_from < valid_to)),
 CONSTRAINT routes_note CHECK ((length(note) <= 256)),
 CONSTRAINT routes_prefix_check CHECK (((length(prefix) >= 1) AND (length(prefix) <= 128)))
);
ALTER TABLE routes ALTER COLUMN route_id ADD GENERATED ALWAYS AS IDENTITY (
 SEQUENCE NAME routes_route_id_seq
 START WITH 1
 INCREMENT BY 1
 NO MINVALUE
 NO MAXVALUE
 CACHE 1
);
ALTER TABLE ONLY events ATTACH PARTITION events_2026_11 FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00');
ALTER TABLE ONLY events ATTACH PARTITION events_2026_12 FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00');
ALTER TABLE ONLY events ATTACH PARTITION events_2027_01 FOR VALUES FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00');
ALTER TABLE ONLY events ATTACH PARTITION events_2027_02 FOR VALUES FROM ('2027-02-01 00:00:00+00') TO ('2027-03-01 00:00:00+00');
ALTER TABLE ONLY events ATTACH PARTITION events_default DEFAULT;
ALTER TABLE ONLY events ALTER COLUMN event_id SET DEFAULT nextval('public.events_event_id_seq'::regclass);
COPY access_refusals (at, credential_id, address, method, route, status, reason) FROM stdin;
\.
COPY alias_currencies (changed_at, party_id_type, identifier, sub_id, fsp_id, currency) FROM stdin;
2026-11-28 09:35:07.138924+00	MSISDN	525512340002		bluebank	ZZZ
2026-11-28 09:35:07.190726+00	MSISDN	525512340002		bluebank	USD
2026-11-28 09:35:07.226555+00	MSISDN	525512340003		bluebank	MXN
2026-11-28 09:35:07.278429+00	IBAN	GB82WEST12345698765432		whitebank	NAN
2026-11-28 09:35:07.34399+00	ALIAS	shared		whitebank	ZZZ
\.
COPY aliases (changed_at, party_id_type, identifier, sub_id, fsp_id, currency) FROM stdin;
2026-11-28 09:35:06.678747+00	MSISDN	525512340001		bluebank	MXN
2026-11-28 09:35:06.716761+00	MSISDN	525588887777		bluebank	MXN
2026-11-28 09:35:06.73912+00	MSISDN	5588887777		whitebank	MXN
2026-11-28 09:35:06.771152+00	MSISDN	3312340006		whitebank	
2026-11-28 09:35:06.793756+00	MSISDN	9250000012		mangobank	MMK
2026-11-28 09:35:06.815283+00	MSISDN	959250000013		mangobank	MMK
2026-11-28 09:35:06.82693+00	MSISDN	123456789		mangobank	
2026-11-28 09:35:06.847638+00	PERSONAL_ID	12-250019-N-654321		mangobank	MMK
2026-11-28 09:35:06.855668+00	PERSONAL_ID	12	OUKAMA(N)654321	farfsp	MMK
2026-11-28 09:35:06.87095+00	PERSONAL_ID	9	ဥကမ(နိုင်)654322	farfsp	MMK
2026-11-28 09:35:06.882489+00	ACCOUNT_ID	000000356		bluebank	MXN
2026-11-28 09:35:06.89938+00	ACCOUNT_ID	000000356	savings	bluebank	ZZZ
2026-11-28 09:35:06.907674+00	EMAIL	ana@example.org		bluebank	NAN
2026-11-28 09:35:06.923615+00	ALIAS	tía-lupe		bluebank	
2026-11-28 09:35:06.930717+00	DEVICE	till-1		bluebank	MXX
2026-11-28 09:35:06.945554+00	BUSINESS	shop-7		bluebank	CUC
2026-11-28 09:35:06.956316+00	MSISDN	254700000001		farfsp	KES
2026-11-28 09:35:06.97719+00	MSISDN	254700000002		farfsp	
2026-11-28 09:35:07.066343+00	MSISDN	525512340002		bluebank	MXN
2026-11-28 09:35:07.206192+00	MSISDN	525512340003		bluebank	MXX
2026-11-28 09:35:07.249187+00	ACCOUNT_ID	032180000118359719		whitebank	MXN
2026-11-28 09:35:07.267867+00	IBAN	GB82WEST12345698765432		whitebank	GBP
2026-11-28 09:35:07.298939+00	PERSONAL_ID	12-250019-N-123456		mangobank	
2026-11-28 09:35:07.308302+00	PERSONAL_ID	G20012345		mangobank	MMK
2026-11-28 09:35:07.322942+00	ALIAS	shared		bluebank	MXN
2026-11-28 09:35:18.075797+00	ACCOUNT_ID	1.23457e17		bluebank	MXN
2026-11-28 09:35:18.076105+00	ACCOUNT_ID	3.4e5		bluebank	
2026-11-28 09:35:18.076127+00	MSISDN	525512340101		bluebank	NAN
2026-11-28 09:35:18.076182+00	MSISDN	525512340102	nan	bluebank	MXN
2026-11-28 09:35:18.076218+00	MSISDN	5588887778		bluebank	
2026-11-28 09:35:18.076239+00	ALIAS	None		bluebank	MXN
\.
COPY audit_batches (first_leaf, leaves, era, xact, event_id, event_id_max, sealed_at) FROM stdin;
0	39	0	805	39	39	2026-11-28 09:35:10.003434+00
39	1	0	808	40	40	2026-11-28 09:35:11.037659+00
40	1	0	810	41	41	2026-11-28 09:35:12.069764+00
41	1	0	812	42	42	2026-11-28 09:35:13.110831+00
42	1	0	814	43	43	2026-11-28 09:35:14.149939+00
43	1	0	816	44	44	2026-11-28 09:35:15.171803+00
44	1	0	818	45	45	2026-11-28 09:35:16.213261+00
45	1	0	820	46	46	2026-11-28 09:35:17.24578+00
46	13	0	830	59	59	2026-11-28 09:35:19.798054+00
\.
COPY audit_checkpoints (size, root, note, signed_at) FROM stdin;
39	\\xb8a941585a6ebdc714cca77527d78b9877e75d20975f171b30120ad33004d1d6	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n39\nuKlBWFpuvccUzKd1J9eLmHfnXSCXXxcbMBIK0zAE0dY=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuLBjH5mivYmUprjam1iBgSN2PtdIJMCL2Wj4ybEpsKJBTaWGfupukJK8eQ/XJhk2F7Be835fXrkZt47PwIoXTQU=\n	2026-11-28 09:35:10.003434+00
40	\\xcea0e15b0159df9c7972cf66259ef4cfbf62c66dacbde80196113ae0c327efb6	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n40\nzqDhWwFZ35x5cs9mJZ70z79ixm2svegBlhE64MMn77Y=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuM62aUVkvZmA8RlLQYjz+7hNz5McSUpciXsVRQrRaj4duzeuVTIMFZihZVc+jYB0UbNvADIAXzQp1m8pZNGysQ4=\n	2026-11-28 09:35:11.037659+00
41	\\xa2b8905a1a58ebbc1b9952ace206a935656be2257905b9ca05712ba0d65913f8	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n41\noriQWhpY67wbmVKs4gapNWVr4iV5BbnKBXEroNZZE/g=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuCwueNX6a8NHJhNZQIOTT4AxuO6G+Vp/0y0lNqAczAXHiW4Gmd3qTSCocbfUQ254LJYlZlYqMw4DreQP6Y+4RwM=\n	2026-11-28 09:35:12.069764+00
42	\\x6ca177c13da9b20fa4bb88a7a2c8d67b4951c23da56d6ece49420bf98b556255	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n42\nbKF3wT2psg+ku4inosjWe0lRwj2lbW7OSUIL+YtVYlU=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuH0ijC0LkauH21Tbl5Wm8sUb5fzyI+Qc+jxcCL2MdS9vLQgplwnGipMKir0rRvYqwsVFOI8smxTGbp30tZS5uQc=\n	2026-11-28 09:35:13.110831+00
43	\\xf63988c6078cfc916cf0357daa7fd8056d9922a5ee0e70828c70f89426d9b055	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n43\n9jmIxgeM/JFs8DV9qn/YBW2ZIqXuDnCCjHD4lCbZsFU=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuHYUwBTjG/bNHoPowaukBUjWGKaN2bdzwzBoHX/LcUvcnFgSlmxoa3G27KtuaK78PMzTLVNKS2p/8eCWAH5ffgA=\n	2026-11-28 09:35:14.149939+00
44	\\x6472d3ba0792324369e0002402344a351116d4a1c422d744e0da342c88749266	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n44\nZHLTugeSMkNp4AAkAjRKNREW1KHEItdE4No0LIh0kmY=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuPRH+let6UCGMSPAcanbq99gUK32AZHxJ2d3TyC8WR3G96wQQfGy6swJwhl7QUF9c+xV4FZusCiUOWQ8x/AKWQw=\n	2026-11-28 09:35:15.171803+00
45	\\xa4a3afed1987f0238928d9a51c54a8a5613b1f1963eb590725c4484b6c8d6cdd	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n45\npKOv7RmH8COJKNmlHFSopWE7Hxlj61kHJcRIS2yNbN0=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuKq9mhhNMEeqZfLkqfAYMPa1cfa2TKTfV4X6XDNoOY8h2XaLzaLLAMDkPxLmKyLpg3E8KFh99R2zW0skIORMxAc=\n	2026-11-28 09:35:16.213261+00
46	\\xbb6772dfdd4e24c43cf1c00e111cadcc12d1ac17cbcba345264f756dd4443724	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n46\nu2dy391OJMQ88cAOERytzBLRrBfLy6NFJk91bdRENyQ=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuJlXF435726tHj7S0PZnWj4Y7YMrXiRcLjDhAMe+B34RkK9rw6tPE8OBfbhXnjFq9+Y6R2iVNFqzEOUEZ6G7IQ4=\n	2026-11-28 09:35:17.24578+00
59	\\x302f698a08a2ca09085a6000a3a5a064e812ba5ddd927ea335524ecce8f52adc	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840\n59\nMC9pigiiygkIWmAAo6WgZOgSul3dkn6jNVJOzOj1Ktw=\n\n— alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840 wIMhuBdN9y9l7vWrfNb9lo/7zs8hRE78Y8Bt7/McHG1rgI/q0KNIBhyKD6CSuMeVDPGFL56JbtsnKcXGflI2ZAjeTg8=\n	2026-11-28 09:35:19.798054+00
\.
COPY audit_eras (era, after_event_id, system_identifier, began_at) FROM stdin;
0	-9223372036854775808	7713153477161734926	2026-11-28 09:34:52.498797+00
\.
COPY audit_keys (number, vkey, from_size, statement, added_at) FROM stdin;
0	alias-oracle/0d87e492-5d67-454d-b6b2-5081432b7840+c08321b8+AWSt7YM/8FgsuwPuVgOmVxbmZPXm6i5fMZqo5rkSZ//P	0	\N	2026-11-28 09:35:09.930336+00
\.
COPY audit_reads (read_id, at, credential_id, role, caller_fsp_id, asked, party_id_type, party_identifier, sub_id, fsp_id, details, request_id, trace_id) FROM stdin;
\.
COPY audit_tiles (tile_level, first, hashes) FROM stdin;
0	0	\\x139779c9da0c676cac128505eb4bcb01468536147f711495ba60b6e36326470a211d35905a8b2454f72b9f7994ef91c968d6cf4763323b587010c2ce9540a4a7457110be075501fbf803a2ec61f2989f12ab3aee9a054147e42560fa53f9fb3f1ff4c50f5951e93365424d74cd9d9e8556ffb2faea33bbfcc1349d50bceaae40ec8c5cea94106a591f505ed781293639c88c0ec2c91e972abc8beb44b171a816240ffb5e3f71d144fb70d8319cd54a535f6c7558e7396ebbd9e826f70e347fa6483f15dc0a83529e3567f221ee1743f8741d9046af7934cd5f595314facc79571e179fc48ff1eb2f8ad047e7579d8218fa67eea84f06976bac1e5c40c25cb4257ec1ecd3389bbfe28b52869f669f469d5235c8cc0c1e02e6a2792fa4c40311fb0ae4e8959954b0e13a6c7b8a198e97a2e520e303354c174d64b09162cce67344be95813065abb0881403eebffc8b9cd793746e9202d48a1858677fefdf551567fedb6907b60d50ab5a31f0bb05610abb529d4790ddf9ae041515c3b7ad74d5d1af2a47e73b8dac4d6756f21301e77341e0cd839139bd2060b9f3466b7a3b93af6b904475f7a428cb00accd4dc06e866683e43b3f0220383dfad01c029142065433ccd88f7d36ec88b0bd9e8c65b691eb50b74b134f58ad654cef13865df36a753d47990691fb742c46806104fbcb302cb429c2698d79ee5f63e1f6f4c7bfc9b13bbe2c1bb8f68fef6ae821225b5e2bd6ba4773ecfcb563d8b3e0c6ec0aeab9147f96859b0a3bb6f6c911ddff7f8441b8ada7421435126224c89e3f9ba84290546ceb5e882af10c9231a4ab7d65a48de9d9f605c1b9c763a73f15001c22aee9cdf38f0e46953663fb91b892819435c416fce71b343eda678b9180b3fbdcf58d1922cf9ab41bb19765e93e9dd887f5216d21eb2d25d20cb0b50cd00716fecd55852f72ca37c774155f4161697661f5922ed4303d3cb7a6d6ca1128152e18d6867941a520546e20e6ebba9cc96cab8c765e9a4bb14c72edc53b10bb5a38c78134c31f16fff798ac09184849767b7429b582646c798361c656cd14a363ac3773c47073687e099c9564d755e9491bf630e88fc0f0ddeddf5c657aa23fb0e1310c029510d7dbe30420334dcba11cc5e4583a95ff89ab86d71775b7d53884ad825f0e004872f5e4066afbc3abda36e3e9405aa92aadf3d830d33990fae79109326e4b4d899e4213ec8b2995be93fa6f981647d2cfe62c51251307fbca72feefdd473254ea7ae0d7e45ada17905cb19161ad9f1fac35520f6915b1c43d0a77e79e521c71cd55778789cd5ba9ef3139349144218d8a9582e1bd7f97f964d6b6bb83177c85ca6cb78d502910fc7d821b19b22b80dd916f0e0c71962190c316baf5d466cb074b7230fb8604000adf476b4b92596455689dd9425ccb1441773113bbc32d41d6997a6628d8dbf69cfaa4cacfb6e5242853a3dd1a730b005a99e99cac8c49d4ec6980982876010aca23e6e642171e321b53a1b6db98618a2114ead8c2d12b587c40a08fe54483f1c239d51ca9a3d81d1c410d842aaae66c10229c579295fb29f00b52bef89655200f9806623d69710149036e9f031b69c4a5259b28a69941cac80fa31afd10f71a40a927ee4a19f6569f219ec093f326844f030b1a0c39690299c4777b567aabe439710e560e2c25ae2965645476e3f3ea0c18b26ee305d255192dfac11a3ebd36cff000c4afee9ba7c3d3b974dd5da50fa1c876f62e88dfb081
0	39	\\xf401d6b622ce1d6daea92ccc930c7d6299aa6cf66de9d0b15587caa1aa13098c
0	40	\\xefe3016be548e60078a49a802f592afc158d8eddc670743826de46849006ec05
0	41	\\x13b7fa074338e758795103f4f7fae18006e1ac4ebcf7074811d3b810e7d4b774
0	42	\\xcc72c587fdb1bf7cc038c24996b928819ec1c15fb8426aee9e6ffef228a1e053
0	43	\\x3bc1de405be36aa7b142a9ffd9cec9f810344561e0807f627b4ec1aee8493592
0	44	\\x0c042935aacb2965944a607b60fbf961c5520165b85665502db4805c0225522b
0	45	\\x8b4cc6a0326326b3a4438ec9a1ec06ee25c3dab153bfd5e3a24ac4105066de92
0	46	\\x815b15ed8de2b949d2ad39609fc57c749a7a45dd48bbc1bd1b29fbdf9eda0be4ca05a9c1f80b82d1fab6a65d06833923083e51307d2bf805d8cc7d7ec28861d1357e3c95fec62da7861f86cc7700be667e27a568dd42c43b75668bb2f83b56ab488501f38a09b4db166a7236595222fd2fa079dba0fdec3287fd6b51e0a0b8d14f359c8895bca9e3f6f2eefb55734c06cea0a7f346cf20d82440b905f6cd6ac7fcc16d8511bf3d9be974dfbabb4746471de6dae1e8414b9800a2d0bba887d21604b05520d0fa5860a8bdee4f1daa31b51d8b6299860c36fb913b1e655e1c8ab3fa58abf5c5a202ac3ef83de1339fefc430fc49e9c39c4515646e71b5ff1e68428c51faedfdc040caa3fc00c209aadbb2930df21f9cdc90244761c166a51c7605af2c92afa6ef1170696581f1f9dfcb357676ef7653142c3177d0167b4e277c170819623c5aed96beeeb982704fcaf613c628d87ad79db40c42b3d8e0bdd74fb65e3ad770e22f656eb7b99d304ca7ad4993ed11054f7d27f756a8a60bd352b592c53bea432a6fe827caa70a693d5fd35160de2d359399d91270d39e1b49e3689a
\.
COPY batch_chunks (batch_id, chunk, first_line, row_count, rows, results, xacts) FROM stdin;
1	0	2	7	\\x78019b3e936971624aca32df60cf60173f28b5cad4d40208cccdcd2d1600c14c664c256b4c8d4c4d0d8d8c4d0c0c0d0c172cf673f403aa63c1afce68715e62de62df0890525690d2a58e3e9e8ec11072895f7e5eea02a82c1b487695a3b3b37fa85f48bca70b32d3500f68aba979aaa1394c353b6ed54b8df54c524dc19ee0c0ef3853a869008ff26214	\\x00000000000000	{826}
\.
COPY batch_files (batch_id, part, data) FROM stdin;
1	0	\\x78017dce310bc2301005e0dd5fd1dd4769d21ee95adaa560e35005b752930841b8426c87fe7b83a22eea1bef7b3ceeead9c25bc7b3bf7817705bce83b7304b088ecd0a332d3c8715a399fdc49bae6ffb468328296312a5548998d1da176d491209991799c804c023ff64f9d0eea49f8d6ad7563df4c40ef81ceb7a7fd487a16d20d2b84aca09f5ddf3b470f4e79b68efd93b7faa445a
\.
COPY batch_uploads (batch_id, seen_at) FROM stdin;
\.
COPY batches (batch_id, fsp_id, state, file_name, file_format, file_bytes, file_sha256, note, uploaded_by, uploaded_role, uploaded_at, needs_approval, decided_by, decided_at, decision_reason, cancelled_by, bytes_read, rows_read, rows_valid, rows_applied, rows_changed, rows_failed, chunks, chunks_applied, rows_per_s, validated_at, started_at, finished_at, error_code, error_message, changed_at, version) FROM stdin;
1	bluebank	done	e.csv	csv	247	\\x3f77076232ee313713fed36f71a5fc069bd2c75e9773676662419401e6f61604	\N	juxmfiiiqj6x	operator	2026-11-28 09:35:17.731399+00	f	\N	\N	\N	\N	247	7	7	7	7	0	1	1	\N	2026-11-28 09:35:18.010916+00	2026-11-28 09:35:18.010916+00	2026-11-28 09:35:18.096088+00	\N	\N	2026-11-28 09:35:18.09615+00	5
\.
COPY cache_generation (only_row, directory_id, generation, run_ids, run_ids_since, routes_version) FROM stdin;
t	0d87e492-5d67-454d-b6b2-5081432b7840	2	{7be44f1b0aec55e38959d60a4743603dd12555e1}	2026-11-28 09:35:03.275374+00	11
\.
COPY credential_secrets (credential_id, secret_sha256, created_at, expires_at) FROM stdin;
juxmfiiiqj6x	\\x4728b9859b65b86159384a327ee7c27bdc824bbb51ad8622569e6227f566d856	2026-11-28 09:34:52.831591+00	infinity
\.
COPY credential_uses (credential_id, last_used_at) FROM stdin;
juxmfiiiqj6x	2026-11-28 09:35:06.237773+00
\.
COPY credentials (credential_id, role, fsp_id, label, created_at, created_by, changed_at, expires_at, revoked_at, version) FROM stdin;
juxmfiiiqj6x	operator	\N	bootstrap	2026-11-28 09:34:52.809803+00	bootstrap	2026-11-28 09:35:19.696886+00	2026-12-05 09:34:52.818832+00	2026-11-28 09:35:19.694461+00	2
\.
COPY events_2026_11 (event_id, xact, at, entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id, before, after, reason, request_id, trace_id) FROM stdin;
1	764	2026-11-28 09:34:52.789846+00	policy	changed	sql	oracle	\N	ALIAS	\N	\N	\N	{"policy": "unique"}	{"policy": "per-currency"}	\N	\N	\N
2	765	2026-11-28 09:34:52.821503+00	credential	registered	admin	bootstrap	operator	\N	\N	\N	\N	\N	{"role": "operator", "label": "bootstrap", "fsp_id": null, "version": 1, "changed_at": "2026-11-28T09:34:52.809803+00:00", "created_at": "2026-11-28T09:34:52.809803+00:00", "created_by": "bootstrap", "expires_at": "2026-12-05T09:34:52.818832+00:00", "revoked_at": "infinity", "credential_id": "juxmfiiiqj6x"}	the first key	\N	\N
3	769	2026-11-28 09:35:06.308179+00	fsp	registered	admin	juxmfiiiqj6x	operator	\N	\N	\N	bluebank	\N	{"name": "Bluebank", "kinds": null, "fsp_id": "bluebank", "status": "active", "contact": null, "version": 1, "dfsp_type": null, "use_cases": [], "changed_at": "2026-11-28T09:35:06.289775+00:00", "created_at": "2026-11-28T09:35:06.289775+00:00", "currencies": null, "locale_name": null, "logo_sha256": null, "two_persons": false, "logo_data_type": null, "additional_info": null}	\N	80a71b297ffb42c3acc2f338055b8c78	\N
4	770	2026-11-28 09:35:06.36282+00	fsp	registered	admin	juxmfiiiqj6x	operator	\N	\N	\N	whitebank	\N	{"name": "Whitebank", "kinds": null, "fsp_id": "whitebank", "status": "active", "contact": null, "version": 1, "dfsp_type": null, "use_cases": [], "changed_at": "2026-11-28T09:35:06.35639+00:00", "created_at": "2026-11-28T09:35:06.35639+00:00", "currencies": null, "locale_name": null, "logo_sha256": null, "two_persons": false, "logo_data_type": null, "additional_info": null}	\N	ddef392f60034a3badc764a941aa9074	\N
5	771	2026-11-28 09:35:06.397901+00	fsp	registered	admin	juxmfiiiqj6x	operator	\N	\N	\N	mangobank	\N	{"name": "Mangobank", "kinds": null, "fsp_id": "mangobank", "status": "active", "contact": null, "version": 1, "dfsp_type": null, "use_cases": [], "changed_at": "2026-11-28T09:35:06.396956+00:00", "created_at": "2026-11-28T09:35:06.396956+00:00", "currencies": null, "locale_name": null, "logo_sha256": null, "two_persons": false, "logo_data_type": null, "additional_info": null}	\N	011761a3311b43458a95b41dce4db8df	\N
6	772	2026-11-28 09:35:06.406976+00	fsp	registered	admin	juxmfiiiqj6x	operator	\N	\N	\N	farfsp	\N	{"name": "Farfsp", "kinds": null, "fsp_id": "farfsp", "status": "active", "contact": null, "version": 1, "dfsp_type": null, "use_cases": [], "changed_at": "2026-11-28T09:35:06.404201+00:00", "created_at": "2026-11-28T09:35:06.404201+00:00", "currencies": null, "locale_name": null, "logo_sha256": null, "two_persons": false, "logo_data_type": null, "additional_info": null}	\N	d59a982b607b44ac844617b5f835ae04	\N
7	773	2026-11-28 09:35:06.686256+00	alias	registered	hub	bluebank	fsp	MSISDN	525512340001		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	\N	\N	\N
8	774	2026-11-28 09:35:06.717371+00	alias	registered	hub	bluebank	fsp	MSISDN	525588887777		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	\N	\N	\N
9	775	2026-11-28 09:35:06.739704+00	alias	registered	hub	whitebank	fsp	MSISDN	5588887777		whitebank	\N	{"fsp_id": "whitebank", "default": true, "currency": "MXN"}	\N	\N	\N
10	776	2026-11-28 09:35:06.771776+00	alias	registered	hub	whitebank	fsp	MSISDN	3312340006		whitebank	\N	{"fsp_id": "whitebank", "default": true, "currency": ""}	\N	\N	\N
11	777	2026-11-28 09:35:06.79435+00	alias	registered	hub	mangobank	fsp	MSISDN	9250000012		mangobank	\N	{"fsp_id": "mangobank", "default": true, "currency": "MMK"}	\N	\N	\N
12	778	2026-11-28 09:35:06.816009+00	alias	registered	hub	mangobank	fsp	MSISDN	959250000013		mangobank	\N	{"fsp_id": "mangobank", "default": true, "currency": "MMK"}	\N	\N	\N
13	779	2026-11-28 09:35:06.827262+00	alias	registered	hub	mangobank	fsp	MSISDN	123456789		mangobank	\N	{"fsp_id": "mangobank", "default": true, "currency": ""}	\N	\N	\N
14	780	2026-11-28 09:35:06.84794+00	alias	registered	hub	mangobank	fsp	PERSONAL_ID	12-250019-N-654321		mangobank	\N	{"fsp_id": "mangobank", "default": true, "currency": "MMK"}	\N	\N	\N
15	781	2026-11-28 09:35:06.855975+00	alias	registered	hub	farfsp	fsp	PERSONAL_ID	12	OUKAMA(N)654321	farfsp	\N	{"fsp_id": "farfsp", "default": true, "currency": "MMK"}	\N	\N	\N
16	782	2026-11-28 09:35:06.871271+00	alias	registered	hub	farfsp	fsp	PERSONAL_ID	9	ဥကမ(နိုင်)654322	farfsp	\N	{"fsp_id": "farfsp", "default": true, "currency": "MMK"}	\N	\N	\N
17	783	2026-11-28 09:35:06.882818+00	alias	registered	hub	bluebank	fsp	ACCOUNT_ID	000000356		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	\N	\N	\N
18	784	2026-11-28 09:35:06.899721+00	alias	registered	hub	bluebank	fsp	ACCOUNT_ID	000000356	savings	bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "ZZZ"}	\N	\N	\N
19	785	2026-11-28 09:35:06.907962+00	alias	registered	hub	bluebank	fsp	EMAIL	ana@example.org		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "NAN"}	\N	\N	\N
20	786	2026-11-28 09:35:06.92392+00	alias	registered	hub	bluebank	fsp	ALIAS	tía-lupe		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": ""}	\N	\N	\N
21	787	2026-11-28 09:35:06.931018+00	alias	registered	hub	bluebank	fsp	DEVICE	till-1		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXX"}	\N	\N	\N
22	788	2026-11-28 09:35:06.945909+00	alias	registered	hub	bluebank	fsp	BUSINESS	shop-7		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "CUC"}	\N	\N	\N
23	789	2026-11-28 09:35:06.95668+00	alias	registered	self-heal	farfsp	fsp	MSISDN	254700000001		farfsp	\N	{"fsp_id": "farfsp", "default": true, "currency": "KES"}	\N	\N	\N
24	790	2026-11-28 09:35:06.977564+00	alias	registered	self-heal	farfsp	fsp	MSISDN	254700000002		farfsp	\N	{"fsp_id": "farfsp", "default": true, "currency": ""}	\N	\N	\N
25	791	2026-11-28 09:35:07.068164+00	alias	registered	admin	juxmfiiiqj6x	operator	MSISDN	525512340002		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	an example	368f0e35a3964fd9ae76d2e8cfbeb2fc	\N
26	792	2026-11-28 09:35:07.141204+00	alias	registered	admin	juxmfiiiqj6x	operator	MSISDN	525512340002		bluebank	\N	{"fsp_id": "bluebank", "default": false, "currency": "ZZZ"}	an example	2a928052ed2a4b9f984c8974ac5e67c2	\N
27	793	2026-11-28 09:35:07.191514+00	alias	registered	admin	juxmfiiiqj6x	operator	MSISDN	525512340002		bluebank	\N	{"fsp_id": "bluebank", "default": false, "currency": "USD"}	an example	0d1249d2591f47f2b2eba99a94ae2061	\N
28	794	2026-11-28 09:35:07.206805+00	alias	registered	admin	juxmfiiiqj6x	operator	MSISDN	525512340003		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXX"}	an example	53d1095d6faa452cbb79f969ada18444	\N
29	795	2026-11-28 09:35:07.227331+00	alias	registered	admin	juxmfiiiqj6x	operator	MSISDN	525512340003		bluebank	\N	{"fsp_id": "bluebank", "default": false, "currency": "MXN"}	an example	229034361cec4b78b825d1f1a6bb7ebe	\N
30	796	2026-11-28 09:35:07.249959+00	alias	registered	admin	juxmfiiiqj6x	operator	ACCOUNT_ID	032180000118359719		whitebank	\N	{"fsp_id": "whitebank", "default": true, "currency": "MXN"}	an example	f34501c435554f14addb1956ddb0da59	\N
31	797	2026-11-28 09:35:07.26836+00	alias	registered	admin	juxmfiiiqj6x	operator	IBAN	GB82WEST12345698765432		whitebank	\N	{"fsp_id": "whitebank", "default": true, "currency": "GBP"}	an example	629e7d0c96a64b058a65b09fce64d650	\N
32	798	2026-11-28 09:35:07.279039+00	alias	registered	admin	juxmfiiiqj6x	operator	IBAN	GB82WEST12345698765432		whitebank	\N	{"fsp_id": "whitebank", "default": false, "currency": "NAN"}	an example	05496b171bde48ed92cab906e9824033	\N
33	799	2026-11-28 09:35:07.29936+00	alias	registered	admin	juxmfiiiqj6x	operator	PERSONAL_ID	12-250019-N-123456		mangobank	\N	{"fsp_id": "mangobank", "default": true, "currency": ""}	an example	438ed07c8b98482b8819e1ed950eecba	\N
34	800	2026-11-28 09:35:07.308748+00	alias	registered	admin	juxmfiiiqj6x	operator	PERSONAL_ID	G20012345		mangobank	\N	{"fsp_id": "mangobank", "default": true, "currency": "MMK"}	an example	ab27d4b3d7134785a70f9693755a302f	\N
35	801	2026-11-28 09:35:07.323256+00	alias	registered	admin	juxmfiiiqj6x	operator	ALIAS	shared		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	an example	8f10b9b2c23c40bc82ac7ed14579e2ad	\N
36	802	2026-11-28 09:35:07.344543+00	alias	registered	admin	juxmfiiiqj6x	operator	ALIAS	shared		whitebank	\N	{"fsp_id": "whitebank", "default": false, "currency": "ZZZ"}	an example	cf6a72ea1cb347a697a0043765a0e919	\N
37	803	2026-11-28 09:35:07.368306+00	route	registered	admin	juxmfiiiqj6x	operator	ACCOUNT_ID	\N	\N	bluebank	\N	{"note": null, "fsp_id": "bluebank", "prefix": "012", "version": 1, "route_id": 1, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:07.357985+00:00", "created_at": "2026-11-28T09:35:07.357985+00:00", "valid_from": "2026-11-28T09:35:07.357985+00:00", "party_id_type": "ACCOUNT_ID"}	an example	5b1a427f772e483299c81a0277b82544	\N
38	804	2026-11-28 09:35:08.403004+00	route	registered	admin	juxmfiiiqj6x	operator	ACCOUNT_ID	\N	\N	whitebank	\N	{"note": null, "fsp_id": "whitebank", "prefix": "646", "version": 1, "route_id": 2, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:08.400699+00:00", "created_at": "2026-11-28T09:35:08.400699+00:00", "valid_from": "2026-11-28T09:35:08.400699+00:00", "party_id_type": "ACCOUNT_ID"}	an example	0cfd9c68b3384a51ad66fe3c437c2836	\N
39	805	2026-11-28 09:35:09.445825+00	route	registered	admin	juxmfiiiqj6x	operator	ACCOUNT_ID	\N	\N	bluebank	\N	{"note": null, "fsp_id": "bluebank", "prefix": "6461570", "version": 1, "route_id": 3, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:09.44289+00:00", "created_at": "2026-11-28T09:35:09.44289+00:00", "valid_from": "2026-11-28T09:35:09.44289+00:00", "party_id_type": "ACCOUNT_ID"}	an example	b0c80937dffe4211bf181a968089808f	\N
40	808	2026-11-28 09:35:10.469642+00	route	registered	admin	juxmfiiiqj6x	operator	ACCOUNT_ID	\N	\N	whitebank	\N	{"note": null, "fsp_id": "whitebank", "prefix": "0123", "version": 1, "route_id": 4, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:10.467378+00:00", "created_at": "2026-11-28T09:35:10.467378+00:00", "valid_from": "2026-11-28T09:35:10.467378+00:00", "party_id_type": "ACCOUNT_ID"}	an example	281931edb39448dbb8eba0cef691f930	\N
41	810	2026-11-28 09:35:11.497094+00	route	registered	admin	juxmfiiiqj6x	operator	ACCOUNT_ID	\N	\N	mangobank	\N	{"note": null, "fsp_id": "mangobank", "prefix": "55", "version": 1, "route_id": 5, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:11.494923+00:00", "created_at": "2026-11-28T09:35:11.494923+00:00", "valid_from": "2026-11-28T09:35:11.494923+00:00", "party_id_type": "ACCOUNT_ID"}	an example	fa13022294ba4167b6daf877c4da54e0	\N
42	812	2026-11-28 09:35:12.532793+00	route	registered	admin	juxmfiiiqj6x	operator	ACCOUNT_ID	\N	\N	whitebank	\N	{"note": null, "fsp_id": "whitebank", "prefix": "021", "version": 1, "route_id": 6, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:12.525577+00:00", "created_at": "2026-11-28T09:35:12.525577+00:00", "valid_from": "2026-11-28T09:35:12.525577+00:00", "party_id_type": "ACCOUNT_ID"}	an example	51ca4ebf7e7949cba5727d8a6948a3f2	\N
43	814	2026-11-28 09:35:13.577678+00	route	registered	admin	juxmfiiiqj6x	operator	MSISDN	\N	\N	bluebank	\N	{"note": null, "fsp_id": "bluebank", "prefix": "52155", "version": 1, "route_id": 7, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:13.574061+00:00", "created_at": "2026-11-28T09:35:13.574061+00:00", "valid_from": "2026-11-28T09:35:13.574061+00:00", "party_id_type": "MSISDN"}	an example	1ba9024ff3d94acc9a36184db4a0461c	\N
44	816	2026-11-28 09:35:14.611588+00	route	registered	admin	juxmfiiiqj6x	operator	MSISDN	\N	\N	mangobank	\N	{"note": null, "fsp_id": "mangobank", "prefix": "9509", "version": 1, "route_id": 8, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:14.60631+00:00", "created_at": "2026-11-28T09:35:14.60631+00:00", "valid_from": "2026-11-28T09:35:14.60631+00:00", "party_id_type": "MSISDN"}	an example	ee7d28cad0994d9ca35212447c9d3666	\N
45	818	2026-11-28 09:35:15.641104+00	route	registered	admin	juxmfiiiqj6x	operator	MSISDN	\N	\N	mangobank	\N	{"note": null, "fsp_id": "mangobank", "prefix": "95979", "version": 1, "route_id": 9, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:15.639169+00:00", "created_at": "2026-11-28T09:35:15.639169+00:00", "valid_from": "2026-11-28T09:35:15.639169+00:00", "party_id_type": "MSISDN"}	an example	5d038ee3dad240549ebd1f05b206990e	\N
46	820	2026-11-28 09:35:16.667576+00	route	registered	admin	juxmfiiiqj6x	operator	EMAIL	\N	\N	bluebank	\N	{"note": null, "fsp_id": "bluebank", "prefix": "info@", "version": 1, "route_id": 10, "valid_to": "infinity", "changed_at": "2026-11-28T09:35:16.658997+00:00", "created_at": "2026-11-28T09:35:16.658997+00:00", "valid_from": "2026-11-28T09:35:16.658997+00:00", "party_id_type": "EMAIL"}	an example	828142e5c3054298985c25e0340d352a	\N
47	824	2026-11-28 09:35:17.769438+00	batch	registered	admin	juxmfiiiqj6x	operator	\N	\N	\N	bluebank	\N	{"note": null, "state": "validating", "chunks": 0, "fsp_id": "bluebank", "version": 1, "batch_id": 1, "file_name": "e.csv", "rows_read": 0, "bytes_read": 0, "changed_at": "2026-11-28T09:35:17.731399+00:00", "decided_at": null, "decided_by": null, "error_code": null, "file_bytes": 247, "rows_per_s": null, "rows_valid": 0, "started_at": null, "file_format": "csv", "file_sha256": "\\\\x3f77076232ee313713fed36f71a5fc069bd2c75e9773676662419401e6f61604", "finished_at": null, "rows_failed": 0, "uploaded_at": "2026-11-28T09:35:17.731399+00:00", "uploaded_by": "juxmfiiiqj6x", "cancelled_by": null, "rows_applied": 0, "rows_changed": 0, "validated_at": null, "error_message": null, "uploaded_role": "operator", "chunks_applied": 0, "needs_approval": false, "decision_reason": null}	e.csv	e2765d079072486ea759c3cc08634e3c	\N
57	828	2026-11-28 09:35:18.13247+00	fsp	changed	admin	juxmfiiiqj6x	operator	\N	\N	\N	whitebank	{"name": "Whitebank", "kinds": null, "fsp_id": "whitebank", "status": "active", "contact": null, "version": 1, "dfsp_type": null, "use_cases": [], "changed_at": "2026-11-28T09:35:06.35639+00:00", "created_at": "2026-11-28T09:35:06.35639+00:00", "currencies": null, "locale_name": null, "logo_sha256": null, "two_persons": false, "logo_data_type": null, "additional_info": null}	{"name": "Whitebank", "kinds": null, "fsp_id": "whitebank", "status": "active", "contact": null, "version": 2, "dfsp_type": null, "use_cases": [], "changed_at": "2026-11-28T09:35:18.131428+00:00", "created_at": "2026-11-28T09:35:06.35639+00:00", "currencies": ["MXN", "GBP"], "locale_name": null, "logo_sha256": null, "two_persons": false, "logo_data_type": null, "additional_info": null}	\N	71a017aa921f499c8579e26d90b1c32c	\N
58	829	2026-11-28 09:35:18.161114+00	alias	removed	admin	juxmfiiiqj6x	operator	MSISDN	525512340105		bluebank	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	\N	correction: an example	cfffc9cf63f14bd681d4b97d470855f2	\N
48	825	2026-11-28 09:35:18.011486+00	batch	changed	import	juxmfiiiqj6x	operator	\N	\N	\N	bluebank	{"note": null, "state": "validating", "chunks": 1, "fsp_id": "bluebank", "version": 2, "batch_id": 1, "file_name": "e.csv", "rows_read": 7, "bytes_read": 247, "changed_at": "2026-11-28T09:35:18.001604+00:00", "decided_at": null, "decided_by": null, "error_code": null, "file_bytes": 247, "rows_per_s": 0, "rows_valid": 7, "started_at": null, "file_format": "csv", "file_sha256": "\\\\x3f77076232ee313713fed36f71a5fc069bd2c75e9773676662419401e6f61604", "finished_at": null, "rows_failed": 0, "uploaded_at": "2026-11-28T09:35:17.731399+00:00", "uploaded_by": "juxmfiiiqj6x", "cancelled_by": null, "rows_applied": 0, "rows_changed": 0, "validated_at": null, "error_message": null, "uploaded_role": "operator", "chunks_applied": 0, "needs_approval": false, "decision_reason": null}	{"note": null, "state": "applying", "chunks": 1, "fsp_id": "bluebank", "version": 3, "batch_id": 1, "file_name": "e.csv", "rows_read": 7, "bytes_read": 247, "changed_at": "2026-11-28T09:35:18.010978+00:00", "decided_at": null, "decided_by": null, "error_code": null, "file_bytes": 247, "rows_per_s": null, "rows_valid": 7, "started_at": "2026-11-28T09:35:18.010916+00:00", "file_format": "csv", "file_sha256": "\\\\x3f77076232ee313713fed36f71a5fc069bd2c75e9773676662419401e6f61604", "finished_at": null, "rows_failed": 0, "uploaded_at": "2026-11-28T09:35:17.731399+00:00", "uploaded_by": "juxmfiiiqj6x", "cancelled_by": null, "rows_applied": 0, "rows_changed": 0, "validated_at": "2026-11-28T09:35:18.010916+00:00", "error_message": null, "uploaded_role": "operator", "chunks_applied": 0, "needs_approval": false, "decision_reason": null}	e.csv	batch:1	\N
49	826	2026-11-28 09:35:18.077605+00	alias	registered	import	juxmfiiiqj6x	operator	ACCOUNT_ID	1.23457e17		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	e.csv	batch:1	\N
50	826	2026-11-28 09:35:18.081124+00	alias	registered	import	juxmfiiiqj6x	operator	ACCOUNT_ID	3.4e5		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": ""}	e.csv	batch:1	\N
51	826	2026-11-28 09:35:18.081156+00	alias	registered	import	juxmfiiiqj6x	operator	MSISDN	525512340101		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "NAN"}	e.csv	batch:1	\N
52	826	2026-11-28 09:35:18.081173+00	alias	registered	import	juxmfiiiqj6x	operator	MSISDN	525512340102	nan	bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	e.csv	batch:1	\N
53	826	2026-11-28 09:35:18.081187+00	alias	registered	import	juxmfiiiqj6x	operator	MSISDN	525512340105		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	e.csv	batch:1	\N
54	826	2026-11-28 09:35:18.0812+00	alias	registered	import	juxmfiiiqj6x	operator	MSISDN	5588887778		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": ""}	e.csv	batch:1	\N
55	826	2026-11-28 09:35:18.08123+00	alias	registered	import	juxmfiiiqj6x	operator	ALIAS	None		bluebank	\N	{"fsp_id": "bluebank", "default": true, "currency": "MXN"}	e.csv	batch:1	\N
56	827	2026-11-28 09:35:18.096488+00	batch	changed	import	juxmfiiiqj6x	operator	\N	\N	\N	bluebank	{"note": null, "state": "applying", "chunks": 1, "fsp_id": "bluebank", "version": 4, "batch_id": 1, "file_name": "e.csv", "rows_read": 7, "bytes_read": 247, "changed_at": "2026-11-28T09:35:18.082931+00:00", "decided_at": null, "decided_by": null, "error_code": null, "file_bytes": 247, "rows_per_s": null, "rows_valid": 7, "started_at": "2026-11-28T09:35:18.010916+00:00", "file_format": "csv", "file_sha256": "\\\\x3f77076232ee313713fed36f71a5fc069bd2c75e9773676662419401e6f61604", "finished_at": null, "rows_failed": 0, "uploaded_at": "2026-11-28T09:35:17.731399+00:00", "uploaded_by": "juxmfiiiqj6x", "cancelled_by": null, "rows_applied": 7, "rows_changed": 7, "validated_at": "2026-11-28T09:35:18.010916+00:00", "error_message": null, "uploaded_role": "operator", "chunks_applied": 1, "needs_approval": false, "decision_reason": null}	{"note": null, "state": "done", "chunks": 1, "fsp_id": "bluebank", "version": 5, "batch_id": 1, "file_name": "e.csv", "rows_read": 7, "bytes_read": 247, "changed_at": "2026-11-28T09:35:18.09615+00:00", "decided_at": null, "decided_by": null, "error_code": null, "file_bytes": 247, "rows_per_s": null, "rows_valid": 7, "started_at": "2026-11-28T09:35:18.010916+00:00", "file_format": "csv", "file_sha256": "\\\\x3f77076232ee313713fed36f71a5fc069bd2c75e9773676662419401e6f61604", "finished_at": "2026-11-28T09:35:18.096088+00:00", "rows_failed": 0, "uploaded_at": "2026-11-28T09:35:17.731399+00:00", "uploaded_by": "juxmfiiiqj6x", "cancelled_by": null, "rows_applied": 7, "rows_changed": 7, "validated_at": "2026-11-28T09:35:18.010916+00:00", "error_message": null, "uploaded_role": "operator", "chunks_applied": 1, "needs_approval": false, "decision_reason": null}	e.csv	batch:1	\N
59	830	2026-11-28 09:35:19.709971+00	credential	changed	sql	oracle	\N	\N	\N	\N	\N	{"role": "operator", "label": "bootstrap", "fsp_id": null, "version": 1, "changed_at": "2026-11-28T09:34:52.809803+00:00", "created_at": "2026-11-28T09:34:52.809803+00:00", "created_by": "bootstrap", "expires_at": "2026-12-05T09:34:52.818832+00:00", "revoked_at": "infinity", "credential_id": "juxmfiiiqj6x"}	{"role": "operator", "label": "bootstrap", "fsp_id": null, "version": 2, "changed_at": "2026-11-28T09:35:19.696886+00:00", "created_at": "2026-11-28T09:34:52.809803+00:00", "created_by": "bootstrap", "expires_at": "2026-12-05T09:34:52.818832+00:00", "revoked_at": "2026-11-28T09:35:19.694461+00:00", "credential_id": "juxmfiiiqj6x"}	\N	\N	\N
\.
COPY events_2026_12 (event_id, xact, at, entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id, before, after, reason, request_id, trace_id) FROM stdin;
\.
COPY events_2027_01 (event_id, xact, at, entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id, before, after, reason, request_id, trace_id) FROM stdin;
\.
COPY events_2027_02 (event_id, xact, at, entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id, before, after, reason, request_id, trace_id) FROM stdin;
\.
COPY events_default (event_id, xact, at, entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id, before, after, reason, request_id, trace_id) FROM stdin;
\.
COPY fsp_logos (fsp_id, data) FROM stdin;
\.
COPY fsps (fsp_id, status, name, created_at, changed_at, locale_name, dfsp_type, additional_info, kinds, currencies, use_cases, contact, two_persons, logo_data_type, logo_sha256, version) FROM stdin;
bluebank	active	Bluebank	2026-11-28 09:35:06.289775+00	2026-11-28 09:35:06.289775+00	\N	\N	\N	\N	\N	{}	\N	f	\N	\N	1
mangobank	active	Mangobank	2026-11-28 09:35:06.396956+00	2026-11-28 09:35:06.396956+00	\N	\N	\N	\N	\N	{}	\N	f	\N	\N	1
farfsp	active	Farfsp	2026-11-28 09:35:06.404201+00	2026-11-28 09:35:06.404201+00	\N	\N	\N	\N	\N	{}	\N	f	\N	\N	1
whitebank	active	Whitebank	2026-11-28 09:35:06.35639+00	2026-11-28 09:35:18.131428+00	\N	\N	\N	\N	{MXN,GBP}	{}	\N	f	\N	\N	2
\.
COPY idempotency (credential_id, idempotency_key, call_sha256, answer, made_at) FROM stdin;
\.
COPY key_policies (party_id_type, policy) FROM stdin;
MSISDN	unique
EMAIL	unique
PERSONAL_ID	unique
BUSINESS	unique
DEVICE	unique
ACCOUNT_ID	unique
IBAN	unique
ALIAS	per-currency
\.
COPY migrations (number, stage, name, applied_at) FROM stdin;
1	pre	directory	2026-11-28 09:34:52.321902+00
2	pre	administration	2026-11-28 09:34:52.399655+00
3	pre	history	2026-11-28 09:34:52.498797+00
4	pre	questions	2026-11-28 09:34:52.578011+00
\.
COPY routes (route_id, party_id_type, prefix, fsp_id, valid_from, valid_to, note, created_at, changed_at, version) FROM stdin;
1	ACCOUNT_ID	012	bluebank	2026-11-28 09:35:07.357985+00	infinity	\N	2026-11-28 09:35:07.357985+00	2026-11-28 09:35:07.357985+00	1
2	ACCOUNT_ID	646	whitebank	2026-11-28 09:35:08.400699+00	infinity	\N	2026-11-28 09:35:08.400699+00	2026-11-28 09:35:08.400699+00	1
3	ACCOUNT_ID	6461570	bluebank	2026-11-28 09:35:09.44289+00	infinity	\N	2026-11-28 09:35:09.44289+00	2026-11-28 09:35:09.44289+00	1
4	ACCOUNT_ID	0123	whitebank	2026-11-28 09:35:10.467378+00	infinity	\N	2026-11-28 09:35:10.467378+00	2026-11-28 09:35:10.467378+00	1
5	ACCOUNT_ID	55	mangobank	2026-11-28 09:35:11.494923+00	infinity	\N	2026-11-28 09:35:11.494923+00	2026-11-28 09:35:11.494923+00	1
6	ACCOUNT_ID	021	whitebank	2026-11-28 09:35:12.525577+00	infinity	\N	2026-11-28 09:35:12.525577+00	2026-11-28 09:35:12.525577+00	1
7	MSISDN	52155	bluebank	2026-11-28 09:35:13.574061+00	infinity	\N	2026-11-28 09:35:13.574061+00	2026-11-28 09:35:13.574061+00	1
8	MSISDN	9509	mangobank	2026-11-28 09:35:14.60631+00	infinity	\N	2026-11-28 09:35:14.60631+00	2026-11-28 09:35:14.60631+00	1
9	MSISDN	95979	mangobank	2026-11-28 09:35:15.639169+00	infinity	\N	2026-11-28 09:35:15.639169+00	2026-11-28 09:35:15.639169+00	1
10	EMAIL	info@	bluebank	2026-11-28 09:35:16.658997+00	infinity	\N	2026-11-28 09:35:16.658997+00	2026-11-28 09:35:16.658997+00	1
\.
SELECT pg_catalog.setval('public.audit_reads_read_id_seq', 1, false);
SELECT pg_catalog.setval('public.batches_batch_id_seq', 1, true);
SELECT pg_catalog.setval('public.events_event_id_seq', 59, true);
SELECT pg_catalog.setval('public.routes_route_id_seq', 10, true);
ALTER TABLE ONLY alias_currencies
 ADD CONSTRAINT alias_currencies_pkey PRIMARY KEY (identifier, party_id_type, sub_id, currency);
ALTER TABLE ONLY aliases
 ADD CONSTRAINT aliases_pkey PRIMARY KEY (identifier, party_id_type, sub_id);
ALTER TABLE ONLY audit_batches
 ADD CONSTRAINT audit_batches_pkey PRIMARY KEY (first_leaf);
ALTER TABLE ONLY audit_checkpoints
 ADD CONSTRAINT audit_checkpoints_pkey PRIMARY KEY (size);
ALTER TABLE ONLY audit_eras
 ADD CONSTRAINT audit_eras_pkey PRIMARY KEY (era);
ALTER TABLE ONLY audit_keys
 ADD CONSTRAINT audit_keys_pkey PRIMARY KEY (number);
ALTER TABLE ONLY audit_keys
 ADD CONSTRAINT audit_keys_vkey_key UNIQUE (vkey);
ALTER TABLE ONLY audit_reads
 ADD CONSTRAINT audit_reads_pkey PRIMARY KEY (read_id);
ALTER TABLE ONLY audit_tiles
 ADD CONSTRAINT audit_tiles_pkey PRIMARY KEY (tile_level, first);
ALTER TABLE ONLY batch_chunks
 ADD CONSTRAINT batch_chunks_pkey PRIMARY KEY (batch_id, chunk);
ALTER TABLE ONLY batch_files
 ADD CONSTRAINT batch_files_pkey PRIMARY KEY (batch_id, part);
ALTER TABLE ONLY batch_uploads
 ADD CONSTRAINT batch_uploads_pkey PRIMARY KEY (batch_id);
ALTER TABLE ONLY batches
 ADD CONSTRAINT batches_pkey PRIMARY KEY (batch_id);
ALTER TABLE ONLY cache_generation
 ADD CONSTRAINT cache_generation_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY credential_secrets
 ADD CONSTRAINT credential_secrets_pkey PRIMARY KEY (credential_id, secret_sha256);
ALTER TABLE ONLY credential_uses
 ADD CONSTRAINT credential_uses_pkey PRIMARY KEY (credential_id);
ALTER TABLE ONLY credentials
 ADD CONSTRAINT credentials_pkey PRIMARY KEY (credential_id);
ALTER TABLE ONLY events_2026_11
 ADD CONSTRAINT events_2026_11_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY events_2026_12
 ADD CONSTRAINT events_2026_12_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY events_2027_01
 ADD CONSTRAINT events_2027_01_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY events_2027_02
 ADD CONSTRAINT events_2027_02_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY events_default
 ADD CONSTRAINT events_default_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY fsp_logos
 ADD CONSTRAINT fsp_logos_pkey PRIMARY KEY (fsp_id);
ALTER TABLE ONLY fsps
 ADD CONSTRAINT fsps_pkey PRIMARY KEY (fsp_id);
ALTER TABLE ONLY idempotency
 ADD CONSTRAINT idempotency_pkey PRIMARY KEY (credential_id, idempotency_key);
ALTER TABLE ONLY key_policies
 ADD CONSTRAINT key_policies_pkey PRIMARY KEY (party_id_type);
ALTER TABLE ONLY migrations
 ADD CONSTRAINT migrations_pkey PRIMARY KEY (number, stage);
ALTER TABLE ONLY routes
 ADD CONSTRAINT routes_pkey PRIMARY KEY (route_id);
CREATE INDEX access_refusals_by_time ON access_refusals USING btree (at);
CREATE INDEX alias_currencies_by_fsp ON alias_currencies USING btree (fsp_id, party_id_type, changed_at);
CREATE INDEX aliases_by_fsp ON aliases USING btree (fsp_id, party_id_type, changed_at);
CREATE INDEX audit_batches_by_bound ON audit_batches USING btree (era, xact, event_id);
CREATE INDEX audit_reads_by_credential ON audit_reads USING btree (credential_id, read_id);
CREATE INDEX audit_reads_by_identifier ON audit_reads USING btree (party_identifier, read_id) WHERE (party_identifier IS NOT NULL);
CREATE INDEX batches_by_fsp ON batches USING btree (fsp_id, batch_id);
CREATE INDEX batches_unfinished ON batches USING btree (batch_id) WHERE (state = ANY (ARRAY['validating'::public.batch_state, 'applying'::public.batch_state]));
CREATE INDEX credentials_by_fsp ON credentials USING btree (fsp_id, credential_id);
CREATE INDEX events_by_time ON ONLY events USING brin (at) WITH (autosummarize='on');
CREATE INDEX events_2026_11_at_idx ON events_2026_11 USING brin (at) WITH (autosummarize='on');
CREATE INDEX events_of_administration ON ONLY events USING btree (entity, event_id) WHERE (entity <> 'alias'::text);
CREATE INDEX events_2026_11_entity_event_id_idx ON events_2026_11 USING btree (entity, event_id) WHERE (entity <> 'alias'::text);
CREATE INDEX events_by_former_fsp ON ONLY events USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));
CREATE INDEX events_2026_11_expr_event_id_idx ON events_2026_11 USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));
CREATE INDEX events_by_prefix ON ONLY events USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);
CREATE INDEX events_2026_11_expr_idx ON events_2026_11 USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);
CREATE INDEX events_by_former_prefix ON ONLY events USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));
CREATE INDEX events_2026_11_expr_idx1 ON events_2026_11 USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));
CREATE INDEX events_of_fsps ON ONLY events USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);
CREATE INDEX events_2026_11_fsp_id_event_id_idx ON events_2026_11 USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);
CREATE INDEX events_by_fsp ON ONLY events USING btree (fsp_id) WHERE (fsp_id IS NOT NULL);
CREATE INDEX events_2026_11_fsp_id_idx ON events_2026_11 USING btree (fsp_id) WHERE (fsp_id IS NOT NULL);
CREATE INDEX events_by_identifier ON ONLY events USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);
CREATE INDEX events_2026_11_party_identifier_party_id_type_event_id_idx ON events_2026_11 USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);
CREATE INDEX events_by_xact ON ONLY events USING btree (xact);
CREATE INDEX events_2026_11_xact_idx ON events_2026_11 USING btree (xact);
CREATE INDEX events_2026_12_at_idx ON events_2026_12 USING brin (at) WITH (autosummarize='on');
CREATE INDEX events_2026_12_entity_event_id_idx ON events_2026_12 USING btree (entity, event_id) WHERE (entity <> 'alias'::text);
CREATE INDEX events_2026_12_expr_event_id_idx ON events_2026_12 USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));
CREATE INDEX events_2026_12_expr_idx ON events_2026_12 USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);
CREATE INDEX events_2026_12_expr_idx1 ON events_2026_12 USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));
CREATE INDEX events_2026_12_fsp_id_event_id_idx ON events_2026_12 USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);
CREATE INDEX events_2026_12_fsp_id_idx ON events_2026_12 USING btree (fsp_id) WHERE (fsp_id IS NOT NULL);
CREATE INDEX events_2026_12_party_identifier_party_id_type_event_id_idx ON events_2026_12 USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);
CREATE INDEX events_2026_12_xact_idx ON events_2026_12 USING btree (xact);
CREATE INDEX events_2027_01_at_idx ON events_2027_01 USING brin (at) WITH (autosummarize='on');
CREATE INDEX events_2027_01_entity_event_id_idx ON events_2027_01 USING btree (entity, event_id) WHERE (entity <> 'alias'::text);
CREATE INDEX events_2027_01_expr_event_id_idx ON events_2027_01 USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));
CREATE INDEX events_2027_01_expr_idx ON events_2027_01 USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);
CREATE INDEX events_2027_01_expr_idx1 ON events_2027_01 USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));
CREATE INDEX events_2027_01_fsp_id_event_id_idx ON events_2027_01 USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);
CREATE INDEX events_2027_01_fsp_id_idx ON events_2027_01 USING btree (fsp_id) WHERE (fsp_id IS NOT NULL);
CREATE INDEX events_2027_01_party_identifier_party_id_type_event_id_idx ON events_2027_01 USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);
CREATE INDEX events_2027_01_xact_idx ON events_2027_01 USING btree (xact);
CREATE INDEX events_2027_02_at_idx ON events_2027_02 USING brin (at) WITH (autosummarize='on');
CREATE INDEX events_2027_02_entity_event_id_idx ON events_2027_02 USING btree (entity, event_id) WHERE (entity <> 'alias'::text);
CREATE INDEX events_2027_02_expr_event_id_idx ON events_2027_02 USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));
CREATE INDEX events_2027_02_expr_idx ON events_2027_02 USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);
CREATE INDEX events_2027_02_expr_idx1 ON events_2027_02 USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));
CREATE INDEX events_2027_02_fsp_id_event_id_idx ON events_2027_02 USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);
CREATE INDEX events_2027_02_fsp_id_idx ON events_2027_02 USING btree (fsp_id) WHERE (fsp_id IS NOT NULL);
CREATE INDEX events_2027_02_party_identifier_party_id_type_event_id_idx ON events_2027_02 USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);
CREATE INDEX events_2027_02_xact_idx ON events_2027_02 USING btree (xact);
CREATE INDEX events_default_at_idx ON events_default USING brin (at) WITH (autosummarize='on');
CREATE INDEX events_default_entity_event_id_idx ON events_default USING btree (entity, event_id) WHERE (entity <> 'alias'::text);
CREATE INDEX events_default_expr_event_id_idx ON events_default USING btree (((before ->> 'fsp_id'::text)) COLLATE "C", event_id) WHERE ((entity = 'alias'::text) AND (action = 'changed'::text) AND ((before ->> 'fsp_id'::text) <> fsp_id));
CREATE INDEX events_default_expr_idx ON events_default USING btree (((COALESCE(after, before) ->> 'prefix'::text)) COLLATE "C") WHERE (entity = 'route'::text);
CREATE INDEX events_default_expr_idx1 ON events_default USING btree (((before ->> 'prefix'::text)) COLLATE "C") WHERE ((entity = 'route'::text) AND (action = 'changed'::text) AND (((before ->> 'prefix'::text) <> (after ->> 'prefix'::text)) OR ((before ->> 'party_id_type'::text) <> (after ->> 'party_id_type'::text))));
CREATE INDEX events_default_fsp_id_event_id_idx ON events_default USING btree (fsp_id, event_id) WHERE (entity = 'fsp'::text);
CREATE INDEX events_default_fsp_id_idx ON events_default USING btree (fsp_id) WHERE (fsp_id IS NOT NULL);
CREATE INDEX events_default_party_identifier_party_id_type_event_id_idx ON events_default USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);
CREATE INDEX events_default_xact_idx ON events_default USING btree (xact);
CREATE INDEX idempotency_by_time ON idempotency USING btree (made_at);
CREATE INDEX routes_by_fsp ON routes USING btree (fsp_id, route_id);
CREATE INDEX routes_by_prefix ON routes USING btree (party_id_type, prefix);
ALTER INDEX events_by_time ATTACH PARTITION events_2026_11_at_idx;
ALTER INDEX events_of_administration ATTACH PARTITION events_2026_11_entity_event_id_idx;
ALTER INDEX events_by_former_fsp ATTACH PARTITION events_2026_11_expr_event_id_idx;
ALTER INDEX events_by_prefix ATTACH PARTITION events_2026_11_expr_idx;
ALTER INDEX events_by_former_prefix ATTACH PARTITION events_2026_11_expr_idx1;
ALTER INDEX events_of_fsps ATTACH PARTITION events_2026_11_fsp_id_event_id_idx;
ALTER INDEX events_by_fsp ATTACH PARTITION events_2026_11_fsp_id_idx;
ALTER INDEX events_by_identifier ATTACH PARTITION events_2026_11_party_identifier_party_id_type_event_id_idx;
ALTER INDEX events_by_xact ATTACH PARTITION events_2026_11_xact_idx;
ALTER INDEX events_by_time ATTACH PARTITION events_2026_12_at_idx;
ALTER INDEX events_of_administration ATTACH PARTITION events_2026_12_entity_event_id_idx;
ALTER INDEX events_by_former_fsp ATTACH PARTITION events_2026_12_expr_event_id_idx;
ALTER INDEX events_by_prefix ATTACH PARTITION events_2026_12_expr_idx;
ALTER INDEX events_by_former_prefix ATTACH PARTITION events_2026_12_expr_idx1;
ALTER INDEX events_of_fsps ATTACH PARTITION events_2026_12_fsp_id_event_id_idx;
ALTER INDEX events_by_fsp ATTACH PARTITION events_2026_12_fsp_id_idx;
ALTER INDEX events_by_identifier ATTACH PARTITION events_2026_12_party_identifier_party_id_type_event_id_idx;
ALTER INDEX events_by_xact ATTACH PARTITION events_2026_12_xact_idx;
ALTER INDEX events_by_time ATTACH PARTITION events_2027_01_at_idx;
ALTER INDEX events_of_administration ATTACH PARTITION events_2027_01_entity_event_id_idx;
ALTER INDEX events_by_former_fsp ATTACH PARTITION events_2027_01_expr_event_id_idx;
ALTER INDEX events_by_prefix ATTACH PARTITION events_2027_01_expr_idx;
ALTER INDEX events_by_former_prefix ATTACH PARTITION events_2027_01_expr_idx1;
ALTER INDEX events_of_fsps ATTACH PARTITION events_2027_01_fsp_id_event_id_idx;
ALTER INDEX events_by_fsp ATTACH PARTITION events_2027_01_fsp_id_idx;
ALTER INDEX events_by_identifier ATTACH PARTITION events_2027_01_party_identifier_party_id_type_event_id_idx;
ALTER INDEX events_by_xact ATTACH PARTITION events_2027_01_xact_idx;
ALTER INDEX events_by_time ATTACH PARTITION events_2027_02_at_idx;
ALTER INDEX events_of_administration ATTACH PARTITION events_2027_02_entity_event_id_idx;
ALTER INDEX events_by_former_fsp ATTACH PARTITION events_2027_02_expr_event_id_idx;
ALTER INDEX events_by_prefix ATTACH PARTITION events_2027_02_expr_idx;
ALTER INDEX events_by_former_prefix ATTACH PARTITION events_2027_02_expr_idx1;
ALTER INDEX events_of_fsps ATTACH PARTITION events_2027_02_fsp_id_event_id_idx;
ALTER INDEX events_by_fsp ATTACH PARTITION events_2027_02_fsp_id_idx;
ALTER INDEX events_by_identifier ATTACH PARTITION events_2027_02_party_identifier_party_id_type_event_id_idx;
ALTER INDEX events_by_xact ATTACH PARTITION events_2027_02_xact_idx;
ALTER INDEX events_by_time ATTACH PARTITION events_default_at_idx;
ALTER INDEX events_of_administration ATTACH PARTITION events_default_entity_event_id_idx;
ALTER INDEX events_by_former_fsp ATTACH PARTITION events_default_expr_event_id_idx;
ALTER INDEX events_by_prefix ATTACH PARTITION events_default_expr_idx;
ALTER INDEX events_by_former_prefix ATTACH PARTITION events_default_expr_idx1;
ALTER INDEX events_of_fsps ATTACH PARTITION events_default_fsp_id_event_id_idx;
ALTER INDEX events_by_fsp ATTACH PARTITION events_default_fsp_id_idx;
ALTER INDEX events_by_identifier ATTACH PARTITION events_default_party_identifier_party_id_type_event_id_idx;
ALTER INDEX events_by_xact ATTACH PARTITION events_default_xact_idx;
CREATE TRIGGER alias_currencies_deleted AFTER DELETE ON alias_currencies REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION alias_currencies_deleted();
CREATE TRIGGER alias_currencies_fixed BEFORE UPDATE ON alias_currencies FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER alias_currencies_inserted AFTER INSERT ON alias_currencies REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION alias_currencies_inserted();
CREATE TRIGGER alias_currencies_not_truncated BEFORE TRUNCATE ON alias_currencies FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER aliases_deleted AFTER DELETE ON aliases REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION aliases_deleted();
CREATE TRIGGER aliases_inserted AFTER INSERT ON aliases REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION aliases_inserted();
CREATE TRIGGER aliases_not_truncated BEFORE TRUNCATE ON aliases FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER aliases_updated AFTER UPDATE ON aliases REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION aliases_updated();
CREATE TRIGGER audit_batches_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_batches FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_checkpoints_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_checkpoints FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_eras_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_eras FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_keys_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_keys FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_reads_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_reads FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_tiles_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_tiles FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER batches_inserted AFTER INSERT ON batches REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION batches_written();
CREATE TRIGGER batches_stay BEFORE DELETE OR TRUNCATE ON batches FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER batches_updated AFTER UPDATE ON batches REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION batches_written();
CREATE TRIGGER batches_version BEFORE UPDATE ON batches FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION next_version();
CREATE TRIGGER cache_generation_stays BEFORE INSERT OR DELETE OR TRUNCATE ON cache_generation FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER cache_generation_tell AFTER UPDATE ON cache_generation FOR EACH STATEMENT EXECUTE FUNCTION cache_generation_tell();
CREATE TRIGGER credentials_inserted AFTER INSERT ON credentials REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION credentials_written();
CREATE TRIGGER credentials_stay BEFORE DELETE OR TRUNCATE ON credentials FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credentials_updated AFTER UPDATE ON credentials REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION credentials_written();
CREATE TRIGGER credentials_version BEFORE UPDATE ON credentials FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION next_version();
CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON events_2026_11 FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON events_2026_12 FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON events_2027_01 FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON events_2027_02 FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON events_default FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER fsps_inserted AFTER INSERT ON fsps REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fsps_inserted();
CREATE TRIGGER fsps_stay BEFORE DELETE OR TRUNCATE ON fsps FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER fsps_updated AFTER UPDATE ON fsps REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fsps_updated();
CREATE TRIGGER fsps_version BEFORE UPDATE ON fsps FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION next_version();
CREATE TRIGGER key_policies_stay BEFORE INSERT OR DELETE OR TRUNCATE ON key_policies FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER key_policies_updated AFTER UPDATE ON key_policies REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION key_policies_updated();
CREATE TRIGGER routes_deleted AFTER DELETE ON routes REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION routes_deleted();
CREATE TRIGGER routes_in_turn BEFORE INSERT OR UPDATE ON routes FOR EACH STATEMENT EXECUTE FUNCTION routes_in_turn();
CREATE TRIGGER routes_inserted AFTER INSERT ON routes REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION routes_inserted();
CREATE TRIGGER routes_not_truncated BEFORE TRUNCATE ON routes FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER routes_updated AFTER UPDATE ON routes REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION routes_updated();
CREATE TRIGGER routes_version BEFORE UPDATE ON routes FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION next_version();
ALTER TABLE ONLY audit_batches
 ADD CONSTRAINT audit_batches_era_fkey FOREIGN KEY (era) REFERENCES audit_eras(era);
ALTER TABLE ONLY batch_chunks
 ADD CONSTRAINT batch_chunks_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES batches(batch_id);
ALTER TABLE ONLY batches
 ADD CONSTRAINT batches_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES fsps(fsp_id);
ALTER TABLE ONLY credential_secrets
 ADD CONSTRAINT credential_secrets_credential_id_fkey FOREIGN KEY (credential_id) REFERENCES credentials(credential_id);
ALTER TABLE ONLY credential_uses
 ADD CONSTRAINT credential_uses_credential_id_fkey FOREIGN KEY (credential_id) REFERENCES credentials(credential_id);
ALTER TABLE ONLY credentials
 ADD CONSTRAINT credentials_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES fsps(fsp_id);
ALTER TABLE ONLY fsp_logos
 ADD CONSTRAINT fsp_logos_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES fsps(fsp_id);
ALTER TABLE ONLY routes
 ADD CONSTRAINT routes_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES fsps(fsp_id);

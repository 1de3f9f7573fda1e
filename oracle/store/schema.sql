-- The schema as it should be: what the migrations give, as pg_dump sees it.  For reading; nothing executes it.
-- The reasons stand in migrations/.  A test compares the two; after a migration it is written anew by
--
--     python tests/store/test_migrate.py --write

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
    -- Again until all that stand are held: one waited for may be gone and have left an heir, which nobody holds yet.
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

CREATE FUNCTION public.aliases_deleted() RETURNS trigger
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

CREATE FUNCTION public.aliases_inserted() RETURNS trigger
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

CREATE FUNCTION public.aliases_updated() RETURNS trigger
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

CREATE FUNCTION public.event_context() RETURNS public.event_context
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(said('channel'), 'sql'), coalesce(said('actor'), session_user::text), said('role'), said('fsp_id'),
           said('cache'), said('reason'), said('request_id'), said('trace_id')
$$;

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
    IF pg_trigger_depth() < 2 AND EXISTS (SELECT FROM unnest(touched) AS t WHERE t <> said('fsp_id')) THEN
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
    IF EXISTS (SELECT FROM routes n JOIN routes r USING (party_id_type, prefix)
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

CREATE TABLE public.alias_currencies (
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    party_id_type public.party_id_type NOT NULL,
    identifier text NOT NULL COLLATE pg_catalog."C",
    sub_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    currency text NOT NULL,
    CONSTRAINT alias_currencies_currency_check CHECK ((currency ~ '^([A-Z]{3})?$'::text))
);

CREATE TABLE public.aliases (
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    party_id_type public.party_id_type NOT NULL,
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

CREATE TABLE public.cache_generation (
    only_row boolean DEFAULT true NOT NULL,
    directory_id uuid DEFAULT gen_random_uuid() NOT NULL,
    generation bigint DEFAULT 1 NOT NULL,
    run_ids text[] DEFAULT '{}'::text[] NOT NULL,
    run_ids_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    routes_version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT cache_generation_only_row_check CHECK (only_row)
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
    CONSTRAINT events_channel_check CHECK ((channel = ANY (ARRAY['hub'::text, 'admin'::text, 'import'::text, 'self-heal'::text, 'seed'::text, 'sql'::text]))),
    CONSTRAINT events_entity_check CHECK ((entity = ANY (ARRAY['alias'::text, 'fsp'::text, 'route'::text, 'policy'::text, 'credential'::text])))
);

ALTER TABLE public.events ALTER COLUMN event_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.events_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.fsps (
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    status public.fsp_status DEFAULT 'active'::public.fsp_status NOT NULL,
    name text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT fsps_fsp_id_check CHECK ((fsp_id ~ '^[!-~]{1,32}$'::text)),
    CONSTRAINT fsps_name_check CHECK (((length(name) >= 1) AND (length(name) <= 128)))
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

CREATE TABLE public.routes (
    route_id bigint NOT NULL,
    party_id_type public.party_id_type NOT NULL,
    prefix text NOT NULL COLLATE pg_catalog."C",
    fsp_id text NOT NULL COLLATE pg_catalog."C",
    valid_from timestamp with time zone DEFAULT now() NOT NULL,
    valid_to timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    note text,
    CONSTRAINT routes_check CHECK ((valid_from < valid_to)),
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

ALTER TABLE ONLY public.alias_currencies
    ADD CONSTRAINT alias_currencies_pkey PRIMARY KEY (identifier, party_id_type, sub_id, currency);

ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT aliases_pkey PRIMARY KEY (identifier, party_id_type, sub_id);

ALTER TABLE ONLY public.cache_generation
    ADD CONSTRAINT cache_generation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.fsps
    ADD CONSTRAINT fsps_pkey PRIMARY KEY (fsp_id);

ALTER TABLE ONLY public.key_policies
    ADD CONSTRAINT key_policies_pkey PRIMARY KEY (party_id_type);

ALTER TABLE ONLY public.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (number, stage);

ALTER TABLE ONLY public.routes
    ADD CONSTRAINT routes_pkey PRIMARY KEY (route_id);

CREATE INDEX events_by_identifier ON public.events USING btree (party_identifier, party_id_type, event_id) WHERE (party_identifier IS NOT NULL);

CREATE INDEX routes_by_prefix ON public.routes USING btree (party_id_type, prefix);

CREATE TRIGGER alias_currencies_deleted AFTER DELETE ON public.alias_currencies REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.alias_currencies_deleted();

CREATE TRIGGER alias_currencies_fixed BEFORE UPDATE ON public.alias_currencies FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER alias_currencies_inserted AFTER INSERT ON public.alias_currencies REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.alias_currencies_inserted();

CREATE TRIGGER alias_currencies_not_truncated BEFORE TRUNCATE ON public.alias_currencies FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER aliases_deleted AFTER DELETE ON public.aliases REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.aliases_deleted();

CREATE TRIGGER aliases_inserted AFTER INSERT ON public.aliases REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.aliases_inserted();

CREATE TRIGGER aliases_not_truncated BEFORE TRUNCATE ON public.aliases FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER aliases_updated AFTER UPDATE ON public.aliases REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.aliases_updated();

CREATE TRIGGER cache_generation_stays BEFORE INSERT OR DELETE OR TRUNCATE ON public.cache_generation FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER cache_generation_tell AFTER UPDATE ON public.cache_generation FOR EACH STATEMENT EXECUTE FUNCTION public.cache_generation_tell();

CREATE TRIGGER events_fixed BEFORE DELETE OR UPDATE OR TRUNCATE ON public.events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER fsps_inserted AFTER INSERT ON public.fsps REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsps_inserted();

CREATE TRIGGER fsps_stay BEFORE DELETE OR TRUNCATE ON public.fsps FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER fsps_updated AFTER UPDATE ON public.fsps REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.fsps_updated();

CREATE TRIGGER key_policies_stay BEFORE INSERT OR DELETE OR TRUNCATE ON public.key_policies FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER key_policies_updated AFTER UPDATE ON public.key_policies REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.key_policies_updated();

CREATE TRIGGER routes_deleted AFTER DELETE ON public.routes REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.routes_deleted();

CREATE TRIGGER routes_in_turn BEFORE INSERT OR UPDATE ON public.routes FOR EACH STATEMENT EXECUTE FUNCTION public.routes_in_turn();

CREATE TRIGGER routes_inserted AFTER INSERT ON public.routes REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.routes_inserted();

CREATE TRIGGER routes_not_truncated BEFORE TRUNCATE ON public.routes FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER routes_updated AFTER UPDATE ON public.routes REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.routes_updated();

ALTER TABLE ONLY public.routes
    ADD CONSTRAINT routes_fsp_id_fkey FOREIGN KEY (fsp_id) REFERENCES public.fsps(fsp_id);

-- The directory: FSPs, aliases, routes, their history, and the generation of the cache.
--
-- Constraints and statement triggers enforce these rules for every writer: the application, an import, a person at a psql
-- prompt.  The triggers are set-based: a bulk of 10,000 rows costs each trigger one pass.
--   * one default entry per key (primary key of aliases); its other currencies are in alias_currencies;
--   * under policy 'unique' all entries of a key belong to one FSP;
--   * an FSP that acts for itself (oracle.fsp_id is set) changes only its own entries;
--   * every change appends an event in the same transaction, and events are never changed or removed;
--   * a change that did not fence its keys in the cache makes all cached copies unreachable (cache_generation).
--
-- Each transaction describes its writer by set_config(name, value, true):
--   oracle.channel     hub, admin, import, self-heal, seed; absent: sql
--   oracle.actor       the writer (an FSP id, a credential id); absent: the database user
--   oracle.role        the writer's role; oracle.reason, oracle.request_id, oracle.trace_id: why, and in which call
--   oracle.fsp_id      the FSP that acts for itself; absent: an operator
--   oracle.cache       'fenced' or 'bumped': the writer itself keeps the cache right

CREATE TYPE party_id_type AS ENUM
    ('MSISDN', 'EMAIL', 'PERSONAL_ID', 'BUSINESS', 'DEVICE', 'ACCOUNT_ID', 'IBAN', 'ALIAS');
CREATE TYPE fsp_status AS ENUM ('provisional', 'active', 'suspended', 'closed');
CREATE TYPE key_policy AS ENUM ('unique', 'per-currency');

-- FSPs ---------------------------------------------------------------------------------------------------------

CREATE TABLE fsps (
    fsp_id      text COLLATE "C" PRIMARY KEY CHECK (fsp_id ~ '^[!-~]{1,32}$'),
    status      fsp_status NOT NULL DEFAULT 'active',
    name        text CHECK (length(name) BETWEEN 1 AND 128),
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now()
);

-- Aliases ------------------------------------------------------------------------------------------------------

CREATE TABLE key_policies (
    party_id_type  party_id_type PRIMARY KEY,
    policy         key_policy NOT NULL DEFAULT 'unique'
);
INSERT INTO key_policies (party_id_type) SELECT unnest(enum_range(NULL::party_id_type));

-- Identifiers sort and compare by code point ("C"), with any locale of the database: that makes the index cheaper.

-- The default entry of each key.  Columns in this order: no padding, about 70 bytes a row.
-- currency '' means "not given": such an entry answers for every currency.
-- No foreign key to fsps: the statement trigger looks them up once per statement, and FSPs are never removed.
CREATE TABLE aliases (
    changed_at     timestamptz NOT NULL DEFAULT now(),
    party_id_type  party_id_type NOT NULL,
    identifier     text COLLATE "C" NOT NULL
        CHECK (length(identifier) BETWEEN 1 AND 128 AND identifier !~ '[[:space:][:cntrl:]&<>"''/=?#%{}\\`]'),
    sub_id         text COLLATE "C" NOT NULL DEFAULT '' CHECK (length(sub_id) <= 128),
    fsp_id         text COLLATE "C" NOT NULL,
    currency       text NOT NULL DEFAULT '' CHECK (currency ~ '^([A-Z]{3})?$'),
    PRIMARY KEY (identifier, party_id_type, sub_id),
    CONSTRAINT aliases_msisdn CHECK (party_id_type <> 'MSISDN' OR identifier ~ '^[1-9][0-9]{6,14}$'),
    CONSTRAINT aliases_iban CHECK (party_id_type <> 'IBAN' OR identifier ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$')
);

-- The entries of a key beyond its default one.
CREATE TABLE alias_currencies (
    changed_at     timestamptz NOT NULL DEFAULT now(),
    party_id_type  party_id_type NOT NULL,
    identifier     text COLLATE "C" NOT NULL,
    sub_id         text COLLATE "C" NOT NULL DEFAULT '',
    fsp_id         text COLLATE "C" NOT NULL,
    currency       text NOT NULL CHECK (currency ~ '^([A-Z]{3})?$'),
    PRIMARY KEY (identifier, party_id_type, sub_id, currency)
);

-- Routes -------------------------------------------------------------------------------------------------------

CREATE TABLE routes (
    route_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    party_id_type  party_id_type NOT NULL,
    prefix         text COLLATE "C" NOT NULL CHECK (length(prefix) BETWEEN 1 AND 128),
    fsp_id         text COLLATE "C" NOT NULL REFERENCES fsps,
    valid_from     timestamptz NOT NULL DEFAULT now(),
    valid_to       timestamptz NOT NULL DEFAULT 'infinity',
    note           text,
    CHECK (valid_from < valid_to)
);
CREATE INDEX routes_by_prefix ON routes (party_id_type, prefix);

-- History ------------------------------------------------------------------------------------------------------

-- xact: the order of event_id is not the order of commits; the sealer reads up to the horizon of xact.
CREATE TABLE events (
    event_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xact              xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    entity            text NOT NULL CHECK (entity IN ('alias', 'fsp', 'route', 'policy', 'credential')),
    action            text NOT NULL CHECK (action IN ('registered', 'changed', 'removed', 'ignored')),
    channel           text NOT NULL CHECK (channel IN ('hub', 'admin', 'import', 'self-heal', 'seed', 'sql')),
    actor             text NOT NULL,
    role              text,
    party_id_type     party_id_type,
    party_identifier  text COLLATE "C",
    sub_id            text,
    fsp_id            text,
    before            jsonb,
    after             jsonb,
    reason            text,
    request_id        text,
    trace_id          text
);
CREATE INDEX events_by_identifier ON events (party_identifier, party_id_type, event_id)
    WHERE party_identifier IS NOT NULL;

-- The generation of the cache ---------------------------------------------------------------------------------

-- directory_id keeps two directories apart that share one Redis.
-- run_ids: the Redis servers whose copies count; run_ids_age shows when all other processes know them.
CREATE TABLE cache_generation (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    directory_id    uuid NOT NULL DEFAULT gen_random_uuid(),
    generation      bigint NOT NULL DEFAULT 1,
    run_ids         text[] NOT NULL DEFAULT '{}',
    run_ids_since   timestamptz NOT NULL DEFAULT '-infinity',
    routes_version  bigint NOT NULL DEFAULT 1
);
INSERT INTO cache_generation DEFAULT VALUES;

CREATE FUNCTION cache_generation_bump() RETURNS bigint LANGUAGE sql AS $$
    UPDATE cache_generation SET generation = generation + 1 RETURNING generation
$$;

CREATE FUNCTION cache_generation_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('oracle_cache', '');
    RETURN NULL;
END $$;
CREATE TRIGGER cache_generation_tell AFTER UPDATE ON cache_generation
    FOR EACH STATEMENT EXECUTE FUNCTION cache_generation_tell();

-- The description of the writer -------------------------------------------------------------------------------

CREATE TYPE event_context AS
    (channel text, actor text, role text, fsp_id text, cache text, reason text, request_id text, trace_id text);

-- On a pooled connection a setting reads '' once an earlier transaction has set it; '' counts as absent.
CREATE FUNCTION said(name text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('oracle.' || name, true), '')
$$;

CREATE FUNCTION event_context() RETURNS event_context LANGUAGE sql STABLE AS $$
    SELECT coalesce(said('channel'), 'sql'), coalesce(said('actor'), session_user::text), said('role'), said('fsp_id'),
           said('cache'), said('reason'), said('request_id'), said('trace_id')
$$;

-- Errors raised by the rules below have SQLSTATE class OR, which the application knows:
--   OR001 another FSP's entry, OR002 no such FSP, OR003 entries of a key that contradict each other,
--   OR004 a fixed value (history, keys, FSP ids), OR005 routes that contradict each other,
--   OR006 not in this transaction isolation level

-- Inside a trigger of a trigger the directory acts, not the FSP (the heir of a default entry can be another FSP's).
CREATE FUNCTION refuse_foreign(touched text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 AND EXISTS (SELECT FROM unnest(touched) AS t WHERE t <> said('fsp_id')) THEN
        RAISE EXCEPTION 'the entry belongs to another FSP' USING ERRCODE = 'OR001';
    END IF;
END $$;

CREATE FUNCTION refuse_unknown_fsps(named text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(named) AS n WHERE NOT EXISTS (SELECT FROM fsps WHERE fsp_id = n)) THEN
        RAISE EXCEPTION 'no such FSP' USING ERRCODE = 'OR002';
    END IF;
END $$;

-- The rules compare entries with what others have just committed.  A transaction that reads one old snapshot throughout
-- (REPEATABLE READ and up) would not see a currency that was added to the key it changes.
CREATE FUNCTION refuse_old_snapshot() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'aliases change under READ COMMITTED only' USING ERRCODE = 'OR006';
    END IF;
END $$;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is not allowed', lower(TG_OP), TG_TABLE_NAME USING ERRCODE = 'OR004';
END $$;

-- Default entries ----------------------------------------------------------------------------------------------

CREATE FUNCTION aliases_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER aliases_inserted AFTER INSERT ON aliases
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION aliases_inserted();

CREATE FUNCTION aliases_updated() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER aliases_updated AFTER UPDATE ON aliases
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION aliases_updated();

CREATE FUNCTION aliases_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER aliases_deleted AFTER DELETE ON aliases
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION aliases_deleted();

-- Further currencies -------------------------------------------------------------------------------------------

CREATE FUNCTION alias_currencies_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER alias_currencies_inserted AFTER INSERT ON alias_currencies
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION alias_currencies_inserted();

CREATE FUNCTION alias_currencies_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER alias_currencies_deleted AFTER DELETE ON alias_currencies
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION alias_currencies_deleted();

-- Removed and registered anew instead: one shape of event less to replay.
CREATE TRIGGER alias_currencies_fixed BEFORE UPDATE ON alias_currencies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Policies, FSPs, routes ---------------------------------------------------------------------------------------

CREATE FUNCTION key_policies_updated() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER key_policies_updated AFTER UPDATE ON key_policies
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION key_policies_updated();

CREATE FUNCTION fsps_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, fsp_id, after, reason, request_id, trace_id)
    SELECT 'fsp', 'registered', c.channel, c.actor, c.role, fsp_id, to_jsonb(n), c.reason, c.request_id, c.trace_id
    FROM new_rows n;
    RETURN NULL;
END $$;
CREATE TRIGGER fsps_inserted AFTER INSERT ON fsps
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fsps_inserted();

CREATE FUNCTION fsps_updated() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER fsps_updated AFTER UPDATE ON fsps
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fsps_updated();

-- Writers of routes take turns, so that the check below sees all routes.  They lock the row that they all write at the
-- end, not the table: each statement holds a weak lock of the table already, and two that both wanted the strong lock
-- would wait for each other.
CREATE FUNCTION routes_in_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM cache_generation FOR NO KEY UPDATE;
    RETURN NULL;
END $$;
CREATE TRIGGER routes_in_turn BEFORE INSERT OR UPDATE ON routes
    FOR EACH STATEMENT EXECUTE FUNCTION routes_in_turn();

-- With two rules of one prefix that are valid at the same instant, the answer would be random.
CREATE FUNCTION refuse_route_overlaps(written bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM routes n JOIN routes r USING (party_id_type, prefix)
               WHERE n.route_id = ANY (written) AND n.route_id <> r.route_id
                 AND n.valid_from < r.valid_to AND r.valid_from < n.valid_to) THEN
        RAISE EXCEPTION 'another route has this prefix at that time' USING ERRCODE = 'OR005';
    END IF;
    UPDATE cache_generation SET routes_version = routes_version + 1;
END $$;

CREATE FUNCTION routes_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    PERFORM refuse_route_overlaps(ARRAY(SELECT route_id FROM new_rows));
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, fsp_id, after, reason, request_id, trace_id)
    SELECT 'route', 'registered', c.channel, c.actor, c.role, party_id_type, fsp_id, to_jsonb(n),
           c.reason, c.request_id, c.trace_id
    FROM new_rows n;
    RETURN NULL;
END $$;
CREATE TRIGGER routes_inserted AFTER INSERT ON routes
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION routes_inserted();

CREATE FUNCTION routes_updated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    PERFORM refuse_route_overlaps(ARRAY(SELECT route_id FROM new_rows));
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, fsp_id, before, after, reason, request_id, trace_id)
    SELECT 'route', 'changed', c.channel, c.actor, c.role, n.party_id_type, n.fsp_id, to_jsonb(o), to_jsonb(n),
           c.reason, c.request_id, c.trace_id
    FROM new_rows n JOIN old_rows o USING (route_id) WHERE to_jsonb(n) <> to_jsonb(o);
    RETURN NULL;
END $$;
CREATE TRIGGER routes_updated AFTER UPDATE ON routes
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION routes_updated();

CREATE FUNCTION routes_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c event_context := event_context();
BEGIN
    INSERT INTO events (entity, action, channel, actor, role, party_id_type, fsp_id, before, reason, request_id, trace_id)
    SELECT 'route', 'removed', c.channel, c.actor, c.role, party_id_type, fsp_id, to_jsonb(o),
           c.reason, c.request_id, c.trace_id
    FROM old_rows o;
    UPDATE cache_generation SET routes_version = routes_version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER routes_deleted AFTER DELETE ON routes
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION routes_deleted();

-- Forbidden changes --------------------------------------------------------------------------------------------

CREATE TRIGGER events_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER fsps_stay BEFORE DELETE OR TRUNCATE ON fsps
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER key_policies_stay BEFORE INSERT OR DELETE OR TRUNCATE ON key_policies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- TRUNCATE runs none of the triggers above: it would remove rows without an event.
CREATE TRIGGER aliases_not_truncated BEFORE TRUNCATE ON aliases
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER alias_currencies_not_truncated BEFORE TRUNCATE ON alias_currencies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER routes_not_truncated BEFORE TRUNCATE ON routes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER cache_generation_stays BEFORE INSERT OR DELETE OR TRUNCATE ON cache_generation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE ALL ON events FROM PUBLIC;

-- Provable history: events in monthly partitions, the Merkle log over them, and a role that cannot rewrite it.
--
-- Nothing is copied: an existing table of events becomes the first partition as it is.  It is read once (to check bounds
-- and rules) and gets two indexes: about two minutes at 100 million events.  Meanwhile changes are refused; lookups work.
--
-- oracle/audit/sealer.py describes the log; docs/audit.md says who could still change what.

-- Events by month ----------------------------------------------------------------------------------------------

DO $$
DECLARE rule record;
BEGIN
    FOR rule IN SELECT conname FROM pg_constraint WHERE conrelid = 'events'::regclass AND NOT convalidated LOOP
        EXECUTE format('ALTER TABLE events VALIDATE CONSTRAINT %I', rule.conname);
    END LOOP;
END $$;

ALTER TABLE events RENAME TO events_before;
ALTER TABLE events_before ALTER COLUMN event_id DROP IDENTITY;
ALTER INDEX events_pkey RENAME TO events_before_pkey;
ALTER INDEX events_by_identifier RENAME TO events_before_by_identifier;

-- A sequence, not an identity: partitioned tables have identities only from PostgreSQL 17 on.
CREATE SEQUENCE events_event_id_seq AS bigint;
SELECT setval('events_event_id_seq', coalesce(max(event_id), 0) + 1, false) FROM events_before;

CREATE TABLE events (LIKE events_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (at);
ALTER SEQUENCE events_event_id_seq OWNED BY events.event_id;
ALTER TABLE events ALTER COLUMN event_id SET DEFAULT nextval('events_event_id_seq');
-- 'infinity' would have no place in a calendar, nor in a line of an export.
ALTER TABLE events_before ADD CONSTRAINT events_at_check CHECK (isfinite(at));
ALTER TABLE events ADD CONSTRAINT events_at_check CHECK (isfinite(at));

-- Each index costs every registration.  The primary key is each partition's own (it need not hold the time then).
-- Searches for actor, channel and trace have a time span: events_by_time finds the pages, and is very small.
CREATE INDEX events_by_identifier ON events (party_identifier, party_id_type, event_id)
    WHERE party_identifier IS NOT NULL;
-- One column: equal entries share one, 7 bytes an event.  With event_id behind it that is 46, and a bulk of changes takes a
-- seventh longer; a few FSPs have most events, and theirs in order are found as well by event_id.
CREATE INDEX events_by_fsp ON events (fsp_id) WHERE fsp_id IS NOT NULL;
-- For the sealer.
CREATE INDEX events_by_xact ON events (xact);
CREATE INDEX events_by_time ON events USING brin (at) WITH (autosummarize = on);

CREATE TRIGGER events_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE ALL ON events FROM PUBLIC;

DO $$
DECLARE
    is_empty boolean := NOT EXISTS (SELECT FROM events_before);
    until timestamptz;
BEGIN
    IF is_empty THEN
        DROP TABLE events_before;
        RETURN;
    END IF;
    SELECT date_trunc('month', greatest(max(at), now()) AT TIME ZONE 'UTC') + interval '1 month' INTO until FROM events_before;
    EXECUTE format('ALTER TABLE events ATTACH PARTITION events_before FOR VALUES FROM (MINVALUE) TO (%L)',
                   to_char(until, 'YYYY-MM-DD') || ' 00:00:00+00');
END $$;

-- For wrong clocks, and for months without a partition.
CREATE TABLE events_default PARTITION OF events (PRIMARY KEY (event_id)) DEFAULT;
CREATE TRIGGER events_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON events_default
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The partitions of this month and of those to come; how many were missing.  Made beside and then attached: writers do
-- not wait for that, only readers of all history do, for an instant.  A month that has events in events_default stays there.
CREATE FUNCTION events_partitions_ahead(months int DEFAULT 3) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
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

-- The log ------------------------------------------------------------------------------------------------------

-- Each cluster counts its own transactions: in another cluster, after a restored dump, the order of xact begins again.
-- That is a new era.  An era has the events after after_event_id (up to the begin of the next era), in the order
-- (xact, event_id).
CREATE TABLE audit_eras (
    era                int PRIMARY KEY,
    after_event_id     bigint NOT NULL,
    system_identifier  text NOT NULL,
    began_at           timestamptz NOT NULL DEFAULT now()
);

-- Leaves first_leaf, first_leaf + 1, … are the events of the era behind the batch before, up to (xact, event_id).
-- event_id_max: the largest of them, which a new era needs.
CREATE TABLE audit_batches (
    first_leaf    bigint PRIMARY KEY CHECK (first_leaf >= 0),
    leaves        int NOT NULL CHECK (leaves > 0),
    era           int NOT NULL REFERENCES audit_eras,
    xact          xid8 NOT NULL,
    event_id      bigint NOT NULL,
    event_id_max  bigint NOT NULL,
    sealed_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_batches_by_bound ON audit_batches (era, xact, event_id);

-- Hashes in a row of one tile (oracle/audit/merkle.py): what one batch added to it.
CREATE TABLE audit_tiles (
    tile_level  smallint NOT NULL CHECK (tile_level >= 0),
    first       bigint NOT NULL CHECK (first >= 0),
    hashes      bytea NOT NULL CHECK (length(hashes) > 0 AND length(hashes) % 32 = 0),
    PRIMARY KEY (tile_level, first)
);
ALTER TABLE audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;  -- hashes do not compress

CREATE TABLE audit_checkpoints (
    size       bigint PRIMARY KEY CHECK (size > 0),
    root       bytea NOT NULL CHECK (length(root) = 32),
    note       text NOT NULL,
    signed_at  timestamptz NOT NULL DEFAULT now()
);

-- statement: by which an older key introduces this one; absent for the first.  It signs checkpoints larger than from_size.
CREATE TABLE audit_keys (
    number     int PRIMARY KEY,
    vkey       text NOT NULL UNIQUE,
    from_size  bigint NOT NULL,
    statement  text,
    added_at   timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_eras', 'audit_batches', 'audit_tiles', 'audit_checkpoints', 'audit_keys'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name || '_fixed', name);
    END LOOP;
END $$;

CREATE FUNCTION audit_cluster() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT system_identifier::text FROM pg_control_system());
EXCEPTION WHEN insufficient_privilege THEN
    RETURN '';
END $$;
-- From the lowest possible number: an event with a negative number belongs to an era, too.
INSERT INTO audit_eras (era, after_event_id, system_identifier) VALUES (0, -9223372036854775808, audit_cluster());

-- Begins a new era if the cluster is another one, or has gone back; the current era.
-- Nobody writes meanwhile, so all existing events are committed.  Older events keep their order.  The new era begins at
-- the first unsealed event whose xact lies among those of sealed events: this cluster made that event, after all older
-- ones (event_id continues where the dump's sequence was).
CREATE FUNCTION audit_era_begin() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
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

-- Rights -------------------------------------------------------------------------------------------------------

-- The application gets the rights that it needs, and no more: it adds to history and to the log, with numbers and times
-- of the database, and never changes them.  Run after every migration, for new tables (oracle/store/migrate.py).
CREATE FUNCTION application_grants(application name) RETURNS void LANGUAGE plpgsql AS $$
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

DO $$
DECLARE
    -- SECURITY DEFINER: what they name is found where it was made, and nowhere that others may write to.
    path text := format('%I, pg_temp', current_schema());
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['events_partitions_ahead(int)', 'audit_era_begin()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s', name, path);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
    END LOOP;
END $$;
ALTER FUNCTION events_partitions_ahead(int) SET lock_timeout = '2s';
ALTER FUNCTION audit_era_begin() SET lock_timeout = '60s';

-- Where this user cannot create roles, the administrator creates it (docs/audit.md), and the next `oracle migrate` grants.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oracle_app') THEN
        CREATE ROLE oracle_app NOLOGIN;
    END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
    RAISE NOTICE 'role oracle_app was not made';
END $$;

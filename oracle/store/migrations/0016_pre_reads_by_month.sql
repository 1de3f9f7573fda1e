-- Records of who asked (audit_reads) by month, so that the owner of the tables can drop old months: nobody else can, and
-- not the last 365 days.  Each drop is an event.
--
-- The existing table becomes the first partition, as it is.  It is read while others go on to write; then all wait for
-- an instant.

-- Records with a false time go to the default partition: with them the table could not be attached.
CREATE TABLE reads_of_the_future (LIKE audit_reads);
DO $$
DECLARE until timestamptz := (SELECT substring(pg_get_constraintdef(oid) FROM '''(.*)''')::timestamptz FROM pg_constraint
                              WHERE conrelid = 'audit_reads'::regclass AND conname = 'audit_reads_until');
BEGIN
    IF EXISTS (SELECT FROM audit_reads WHERE at >= until) THEN
        ALTER TABLE audit_reads DISABLE TRIGGER audit_reads_fixed;
        WITH moved AS (DELETE FROM audit_reads WHERE at >= until RETURNING *)
        INSERT INTO reads_of_the_future SELECT * FROM moved;
        ALTER TABLE audit_reads ENABLE TRIGGER audit_reads_fixed;
    END IF;
END $$;
ALTER TABLE audit_reads VALIDATE CONSTRAINT audit_reads_until;

ALTER TABLE audit_reads RENAME TO audit_reads_before;
ALTER INDEX audit_reads_pkey RENAME TO audit_reads_before_pkey;
ALTER INDEX audit_reads_by_credential RENAME TO audit_reads_before_by_credential;
ALTER INDEX audit_reads_by_identifier RENAME TO audit_reads_before_by_identifier;
ALTER TABLE audit_reads_before ALTER COLUMN read_id DROP IDENTITY;

-- A sequence, not an identity: partitioned tables have identities only from PostgreSQL 17 on.
CREATE SEQUENCE audit_reads_read_id_seq AS bigint;
SELECT setval('audit_reads_read_id_seq', coalesce(max(read_id), 0) + 1, false)
FROM (SELECT max(read_id) AS read_id FROM audit_reads_before UNION ALL SELECT max(read_id) FROM reads_of_the_future) AS every;

CREATE TABLE audit_reads (LIKE audit_reads_before INCLUDING DEFAULTS) PARTITION BY RANGE (at);
ALTER SEQUENCE audit_reads_read_id_seq OWNED BY audit_reads.read_id;
ALTER TABLE audit_reads ALTER COLUMN read_id SET DEFAULT nextval('audit_reads_read_id_seq');
CREATE INDEX audit_reads_by_credential ON audit_reads (credential_id, read_id);
CREATE INDEX audit_reads_by_identifier ON audit_reads (party_identifier, read_id) WHERE party_identifier IS NOT NULL;
CREATE TRIGGER audit_reads_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_reads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE ALL ON audit_reads FROM PUBLIC;

DO $$
DECLARE until text := (SELECT substring(pg_get_constraintdef(oid) FROM '''(.*)''') FROM pg_constraint
                       WHERE conrelid = 'audit_reads_before'::regclass AND conname = 'audit_reads_until');
BEGIN
    IF EXISTS (SELECT FROM audit_reads_before) THEN
        -- The application has rights to the whole alone, as in every month.
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oracle_app') THEN
            REVOKE ALL ON audit_reads_before FROM oracle_app;
        END IF;
        EXECUTE format('ALTER TABLE audit_reads ATTACH PARTITION audit_reads_before FOR VALUES FROM (MINVALUE) TO (%L)', until);
        ALTER TABLE audit_reads_before DROP CONSTRAINT audit_reads_until;
    ELSE
        DROP TABLE audit_reads_before;
    END IF;
END $$;

-- A net for months without a partition, and for wrong clocks.
CREATE TABLE audit_reads_default PARTITION OF audit_reads (PRIMARY KEY (read_id)) DEFAULT;
CREATE TRIGGER audit_reads_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_reads_default
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE ALL ON audit_reads_default FROM PUBLIC;
INSERT INTO audit_reads SELECT * FROM reads_of_the_future;
DROP TABLE reads_of_the_future;

-- The partitions with an end, oldest first; since is null for the first.
CREATE FUNCTION audit_reads_months(OUT name text, OUT since timestamptz, OUT until timestamptz) RETURNS SETOF record
    LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, substring(bound FROM 'FROM \(''(.*?)''\)')::timestamptz,
           substring(bound FROM 'TO \(''(.*?)''\)')::timestamptz AS until
    FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid, pg_get_expr(c.relpartbound, c.oid) AS bound
    WHERE inhparent = 'audit_reads'::regclass AND bound LIKE '%TO (%' ORDER BY until
$$;

-- The partitions of this month and of those to come; how many were missing.  As events_partitions_ahead (0003).
CREATE FUNCTION audit_reads_partitions_ahead(months int DEFAULT 3) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
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

-- Drops the months that ended more than so many days ago, and as old records of the default partition.  One event for
-- each.  For the owner of the tables alone.
CREATE FUNCTION audit_reads_drop(days int) RETURNS TABLE (dropped text, records bigint) LANGUAGE plpgsql AS $$
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

DO $$
DECLARE
    path text := format('%I, pg_temp', current_schema());
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_reads_partitions_ahead(int)', 'audit_reads_months()', 'audit_reads_drop(int)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s', name, path);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
    END LOOP;
END $$;
ALTER FUNCTION audit_reads_partitions_ahead(int) SET lock_timeout = '2s';
ALTER FUNCTION audit_reads_drop(int) SET lock_timeout = '2s';

-- Its kind of event beside those that exist.  Not checked against existing events: so nobody waits for that.
DO $$
DECLARE rule text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'events'::regclass AND conname = 'events_entity_check');
BEGIN
    ALTER TABLE events DROP CONSTRAINT events_entity_check;
    EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_entity_check CHECK (entity IN (%s, ''audit-reads'')) NOT VALID',
                   (SELECT string_agg(quote_literal(m[1]), ', ') FROM regexp_matches(rule, '''([^'']+)''::text', 'g') AS m));
END $$;

-- As in 0003; for records of who asked, the database sets number and time as well, and the application makes partitions.
CREATE OR REPLACE FUNCTION application_grants(application name) RETURNS void LANGUAGE plpgsql AS $$
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
SELECT audit_reads_partitions_ahead();
-- At once: the running program writes to the new table.
SELECT application_grants(rolname) FROM pg_roles WHERE rolname = 'oracle_app';

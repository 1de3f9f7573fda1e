-- Named queries of lookups, the cache and changes.  Each comment names the caller, and the index that serves the query.

-- name: entries_by_keys(text, text) -> LookupRow
-- Lookups that the cache could not answer: one call for a whole batch.
-- $1 types, $2 identifiers, equally many, joined by U+001F (postgres.join_keys): for the driver two texts are cheaper than
-- two arrays.  Served by the primary keys of aliases and alias_currencies.
-- A default entry comes before the further currencies of its key, which come in their own order: plans differ between
-- versions of PostgreSQL, answers must not.  A suspended or closed FSP comes as ''.
-- OFFSET 0 and = ANY (ARRAY[…]) make the planner use the primary key with any statistics.  While the tables
-- are new and empty, it would otherwise choose the index of one FSP's aliases, and keep that plan.
SELECT k.ord::int, CASE WHEN f.status IN ('active', 'provisional') THEN a.fsp_id ELSE '' END AS fsp_id, a.currency, a.sub_id
FROM unnest(string_to_array($1, E'\x1f')::party_id_type[], string_to_array($2, E'\x1f'))
     WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (SELECT sub_id, currency, fsp_id FROM aliases
                    WHERE identifier = k.identifier AND k.party_id_type = ANY (ARRAY[party_id_type]) OFFSET 0) AS a
JOIN fsps f USING (fsp_id)
UNION ALL
(SELECT k.ord::int, CASE WHEN f.status IN ('active', 'provisional') THEN x.fsp_id ELSE '' END, x.currency, x.sub_id
FROM unnest(string_to_array($1, E'\x1f')::party_id_type[], string_to_array($2, E'\x1f'))
     WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (SELECT sub_id, currency, fsp_id FROM alias_currencies
                    WHERE identifier = k.identifier AND k.party_id_type = ANY (ARRAY[party_id_type]) OFFSET 0) AS x
JOIN fsps f USING (fsp_id) ORDER BY k.ord, x.sub_id, x.currency)

-- name: generation() -> GenerationRow
-- The lease: every process asks several times a second which copies in the cache count.  A change asks before its
-- commit whether the generation of its fences is still the present one.  Brings the time of this server, too.
SELECT directory_id, generation, run_ids, routes_version,
       extract(epoch FROM clock_timestamp() - greatest(run_ids_since, '2000-01-01'))::float8 AS run_ids_age_s,
       extract(epoch FROM clock_timestamp())::float8 AS now_s
FROM cache_generation

-- name: generation_bump() -> ignored
-- For a change whose fences could not be verified.
SELECT cache_generation_bump()

-- name: generation_bump_unfenced(float8)
-- For a change whose keys could not be fenced.  $1 how many seconds after the last turn another one can begin.
UPDATE cache_generation SET generation = generation + 1, unfenced_since =
    CASE WHEN clock_timestamp() - unfenced_since < make_interval(secs => $1) THEN unfenced_since ELSE clock_timestamp() END

-- name: unfenced_turn(float8, float8) -> TurnRow
-- For a change whose keys could not be fenced: how long it waits for the next turn ($1 as above).  A turn lasts $2 s.
-- Nobody waits while no process uses a cache (cache_use_begin).
SELECT CASE WHEN age_s < $2 OR age_s >= $1 OR NOT EXISTS (
           SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 99 AND objid = 1633904741 AND granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
       THEN 0 ELSE $1 - age_s END::float8 AS wait_s
FROM (SELECT extract(epoch FROM clock_timestamp() - unfenced_since)::float8 AS age_s FROM cache_generation) AS turn

-- name: cache_use_begin() -> ignored
-- For a process that begins to use the cache: it shares this lock (0x6361636865) for as long as it does.  Never waits.
SELECT pg_try_advisory_lock_shared(426835667045)

-- name: cache_use_end() -> ignored
SELECT pg_advisory_unlock_shared(426835667045)

-- name: generation_raise(int8, int8)
-- For a process that knows a higher generation than the database: the database has lost commits.  $1 that generation,
-- $2 that version of the routes.
UPDATE cache_generation SET generation = greatest(generation, $1) + 1, routes_version = greatest(routes_version, $2) + 1

-- name: generation_settle_lineage(text, int4)
-- If the row is of another PostgreSQL, or of another timeline, the commits after some point can be lost.  So the
-- numbers move once, farther than those commits can have moved them: their copies stay unreachable.  A timeline that
-- was skipped can have been lost with its move, so each counts.
UPDATE cache_generation
SET generation = generation + 1048576 * CASE WHEN system_identifier = $1 THEN greatest($2 - timeline, 1) ELSE 1 END,
    routes_version = routes_version + 1048576, system_identifier = $1, timeline = $2
WHERE (system_identifier, timeline) IS DISTINCT FROM ($1, $2)

-- name: generation_open(text[])
-- For a connection to Redis servers that the directory does not know yet.  $1 their run ids, sorted.
-- Changes nothing when another process has stored them already.
UPDATE cache_generation SET generation = generation + 1, run_ids = $1, run_ids_since = clock_timestamp()
WHERE run_ids <> $1

-- name: routes_all() -> CompiledRouteRow
-- Every process compiles these when routes_version moves.  Without rules that have ended, with rules that begin later.
SELECT party_id_type::text, kind, prefix, CASE WHEN f.status IN ('active', 'provisional') THEN fsp_id ELSE '' END AS fsp_id,
       extract(epoch FROM valid_from)::float8 AS valid_from_s, extract(epoch FROM valid_to)::float8 AS valid_to_s
FROM routes JOIN fsps f USING (fsp_id) WHERE valid_to > now()

-- name: transaction_begin(text, text, text, text, text, text, text, text) -> ignored
-- The first statement of every change: who makes it, through which channel, why, and for which FSP (migrations/0001).
SELECT set_config('oracle.channel', $1, true), set_config('oracle.actor', $2, true), set_config('oracle.role', $3, true),
       set_config('oracle.fsp_id', $4, true), set_config('oracle.cache', $5, true), set_config('oracle.reason', $6, true),
       set_config('oracle.request_id', $7, true), set_config('oracle.trace_id', $8, true)

-- name: backends_end(int4[]) -> BackendRow
-- After commits without an answer: end the server processes that could still run them.  Those that are not gone yet, and
-- what each waits for: SyncRep is a synchronous standby.
SELECT pid, coalesce(wait_event, '') AS wait_event, pg_terminate_backend(pid) AS is_told FROM pg_stat_activity
WHERE pid = ANY ($1) AND application_name = 'oracle changes'

-- Servers ------------------------------------------------------------------------------------------------------

-- name: server_state(text[]) -> ServerRow
-- Each new connection: a standby is refused, a primary that a failover has replaced, and a session that is not as asked
-- for (the settings $1, the process that answers).
SELECT pg_is_in_recovery() AS in_recovery, NOT current_setting('transaction_read_only')::boolean AS can_write,
       pg_postmaster_start_time() AS started_at,
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END AS timeline,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier, pg_backend_pid() AS backend_pid,
       ARRAY(SELECT lower(name) || '=' || setting FROM pg_settings WHERE lower(name) = ANY ($1)) AS settings

-- name: server_state_of_stranger(text[]) -> ServerRow
-- The same where the role cannot execute the functions that name cluster and timeline.
SELECT pg_is_in_recovery() AS in_recovery, NOT current_setting('transaction_read_only')::boolean AS can_write,
       pg_postmaster_start_time() AS started_at, 0 AS timeline, '' AS system_identifier,
       pg_backend_pid() AS backend_pid,
       ARRAY(SELECT lower(name) || '=' || setting FROM pg_settings WHERE lower(name) = ANY ($1)) AS settings

-- name: connections_left() -> ConnectionsRow
-- The start and check-config: are there enough connections for this service?  A role sees of other users' sessions that
-- they exist, and not their kind.
SELECT current_setting('max_connections')::int AS connections_max,
       current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_max,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_max,
       (SELECT count(*)::int FROM pg_stat_activity
        WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
              AND pid <> pg_backend_pid()) AS used

-- name: sizes() -> SizesRow
-- For the metrics.  PostgreSQL estimates the aliases when it vacuums or analyses the table; -1 before that.
SELECT pg_database_size(current_database()) AS database_bytes,
       (SELECT count(*)::int FROM pg_stat_activity
        WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend') AS connections_used,
       current_setting('max_connections')::int AS connections_max,
       (SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'aliases'::regclass) AS aliases

-- Leadership ---------------------------------------------------------------------------------------------------

-- name: lead(int8) -> bool
SELECT pg_try_advisory_lock($1)

-- Named queries.  Each says who calls it and what serves it.  Read once, at import, by store/queries.py.

-- name: entries_by_keys(party_id_type[], text[]) -> LookupRow
-- The read side, for the lookups that the cache could not answer: one call for a whole batch.
-- $1 types, $2 identifiers, equally long.  Served by the primary keys of aliases and alias_currencies.
-- A default entry comes before the further currencies of its key; an FSP that is not answered comes as ''.
-- OFFSET 0, = ANY (ARRAY[…]): the entries are found by their primary key whatever the planner believes of the tables.
-- While they are new and empty it would as soon walk the index that lists the aliases of one FSP, and stay with that.
SELECT k.ord::int, a.sub_id, a.currency, CASE WHEN f.status IN ('active', 'provisional') THEN a.fsp_id ELSE '' END AS fsp_id
FROM unnest($1::party_id_type[], $2::text[]) WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (SELECT sub_id, currency, fsp_id FROM aliases
                    WHERE identifier = k.identifier AND k.party_id_type = ANY (ARRAY[party_id_type]) OFFSET 0) AS a
JOIN fsps f USING (fsp_id)
UNION ALL
SELECT k.ord::int, x.sub_id, x.currency, CASE WHEN f.status IN ('active', 'provisional') THEN x.fsp_id ELSE '' END
FROM unnest($1::party_id_type[], $2::text[]) WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (SELECT sub_id, currency, fsp_id FROM alias_currencies
                    WHERE identifier = k.identifier AND k.party_id_type = ANY (ARRAY[party_id_type]) OFFSET 0) AS x
JOIN fsps f USING (fsp_id)

-- name: generation() -> GenerationRow
-- The lease, several times a second in every process: what copies in the cache may still be believed.  And before the
-- commit of a change: whether its fences still stand under what they were set under.
SELECT directory_id, generation, run_ids, routes_version,
       extract(epoch FROM clock_timestamp() - greatest(run_ids_since, '2000-01-01'))::float8 AS run_ids_age_s
FROM cache_generation

-- name: generation_bump() -> ignored
-- A change whose keys could not be fenced, or not verified.
SELECT cache_generation_bump()

-- name: generation_raise(int8)
-- A process that knows a higher generation than the database, which has lost commits.  $1 what it knows.
UPDATE cache_generation SET generation = greatest(generation, $1) + 1

-- name: generation_open(text[])
-- A connection to Redis servers that the directory has not heard of.  $1 their run ids, sorted.
-- Nothing happens when another process has said it already.
UPDATE cache_generation SET generation = generation + 1, run_ids = $1, run_ids_since = clock_timestamp()
WHERE run_ids <> $1

-- name: routes_all() -> CompiledRouteRow
-- Compiled in every process when routes_version moves.  Rules that are over are left out, rules to come are in.
SELECT party_id_type::text, prefix, CASE WHEN f.status IN ('active', 'provisional') THEN fsp_id ELSE '' END AS fsp_id,
       extract(epoch FROM valid_from)::float8 AS valid_from_s, extract(epoch FROM valid_to)::float8 AS valid_to_s
FROM routes JOIN fsps f USING (fsp_id) WHERE valid_to > now()

-- name: transaction_begin(text, text, text, text, text, text, text, text) -> ignored
-- First in every change: who, through what, why (see migrations/0001), and for which FSP.
SELECT set_config('oracle.channel', $1, true), set_config('oracle.actor', $2, true), set_config('oracle.role', $3, true),
       set_config('oracle.fsp_id', $4, true), set_config('oracle.cache', $5, true), set_config('oracle.reason', $6, true),
       set_config('oracle.request_id', $7, true), set_config('oracle.trace_id', $8, true)

-- name: backend_end(int4) -> bool
-- After a commit without an answer: end the server process that may still carry it out.  NULL once it is gone.
SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE pid = $1 AND application_name = 'oracle changes'

-- Leadership ---------------------------------------------------------------------------------------------------

-- name: lead(int8) -> bool
SELECT pg_try_advisory_lock($1)

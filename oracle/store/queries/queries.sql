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

-- name: fsp_admit(text)
-- A registration under ORACLE_FSP_REGISTRATION=auto: an unknown FSP becomes provisional.
INSERT INTO fsps (fsp_id, status) VALUES ($1, 'provisional') ON CONFLICT DO NOTHING

-- name: fsp_status(text) -> AllowanceRow
-- Whether an FSP may register at all, and what (NULL: everything).
SELECT status::text, kinds, currencies FROM fsps WHERE fsp_id = $1

-- name: aliases_add(party_id_type[], text[], text[], text[], text)
-- Registration, step 1: take the keys that are free.  $1 types, $2 identifiers, $3 sub ids, $4 currencies, $5 FSP.
-- In key order, so that two bulks with common keys wait for each other instead of deadlocking.
INSERT INTO aliases (identifier, party_id_type, sub_id, currency, fsp_id)
SELECT DISTINCT ON (identifier, party_id_type, sub_id) identifier, party_id_type, sub_id, currency, $5
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
     WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
ORDER BY identifier, party_id_type, sub_id, ord
ON CONFLICT DO NOTHING

-- name: aliases_standing(party_id_type[], text[], text[], text[], text) -> RegistrationRow
-- Registration, step 2: who stands at each key now, whether under this currency the FSP $5 does, since this very
-- transaction, and may add it.
-- Parameters as aliases_add.  A key that is missing here was removed in between: the caller starts again.
SELECT k.ord::int, a.fsp_id = $5 AND a.currency = k.currency OR coalesce(x.fsp_id = $5, false) AS stands,
       coalesce(coalesce(x.xmin, a.xmin) = pg_current_xact_id_if_assigned()::xid, false) AS is_new,
       x.fsp_id IS NULL AND a.currency <> k.currency AND (a.fsp_id = $5 OR p.policy = 'per-currency') AS may_add
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
     WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
JOIN aliases a USING (identifier, party_id_type, sub_id)
JOIN key_policies p USING (party_id_type)
LEFT JOIN alias_currencies x ON (x.identifier, x.party_id_type, x.sub_id, x.currency)
                              = (k.identifier, k.party_id_type, k.sub_id, k.currency)

-- name: currencies_add(party_id_type[], text[], text[], text[], text)
-- Registration, step 3, seldom: further currencies of keys that stand.  Parameters as aliases_add.
-- The default entries are locked first: none of them can go or change hands until this transaction ends.
WITH standing AS (
    SELECT identifier, party_id_type, sub_id, k.currency, k.ord
    FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
         WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
    JOIN aliases a USING (identifier, party_id_type, sub_id)
    JOIN key_policies p USING (party_id_type)
    WHERE a.currency <> k.currency AND (a.fsp_id = $5 OR p.policy = 'per-currency')
    ORDER BY identifier, party_id_type, sub_id FOR NO KEY UPDATE OF a
)
INSERT INTO alias_currencies (identifier, party_id_type, sub_id, currency, fsp_id)
SELECT DISTINCT identifier, party_id_type, sub_id, currency, $5 FROM standing
ON CONFLICT DO NOTHING

-- name: entries_locked(party_id_type, text) -> LockedEntryRow
-- Removal and update: all entries of one identifier, held until the transaction ends.  Default entries first.
SELECT sub_id, currency, fsp_id, true AS is_default FROM aliases
WHERE identifier = $2 AND party_id_type = $1::party_id_type ORDER BY sub_id FOR UPDATE

-- name: currencies_of(party_id_type, text) -> LockedEntryRow
-- With entries_locked: the further currencies, which nobody can change while the default entries are held.
SELECT sub_id, currency, fsp_id, false AS is_default FROM alias_currencies
WHERE identifier = $2 AND party_id_type = $1::party_id_type ORDER BY sub_id, currency

-- name: currencies_remove(party_id_type, text, text, text, text)
-- $4 currency or NULL for all; $5 FSP.  Before default_remove: else the default's heir would be one of these.
DELETE FROM alias_currencies
WHERE identifier = $2 AND party_id_type = $1::party_id_type AND sub_id = $3 AND fsp_id = $5
  AND ($4::text IS NULL OR currency = $4)

-- name: default_remove(party_id_type, text, text, text, text)
-- $4 currency or NULL; $5 FSP.
DELETE FROM aliases
WHERE identifier = $2 AND party_id_type = $1::party_id_type AND sub_id = $3 AND fsp_id = $5
  AND ($4::text IS NULL OR currency = $4)

-- name: default_currency(party_id_type, text, text, text, text)
-- Update: the default entry of FSP $5 gets currency $4.
UPDATE aliases SET currency = $4, changed_at = clock_timestamp()
WHERE identifier = $2 AND party_id_type = $1::party_id_type AND sub_id = $3 AND fsp_id = $5 AND currency <> $4

-- name: removal_ignored(text, party_id_type, text, text, text)
-- A harmless DELETE (als-contract section 5): recorded, nothing changed.
INSERT INTO events (entity, action, channel, actor, party_id_type, party_identifier, reason, trace_id)
VALUES ('alias', 'ignored', 'self-heal', $1, $2::party_id_type, $3, $4, $5)

-- name: backend_end(int4) -> bool
-- After a commit without an answer: end the server process that may still carry it out.  NULL once it is gone.
SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE pid = $1 AND application_name = 'oracle changes'

-- Leadership ---------------------------------------------------------------------------------------------------

-- name: lead(int8) -> bool
SELECT pg_try_advisory_lock($1)

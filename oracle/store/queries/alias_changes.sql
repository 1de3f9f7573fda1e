-- The statements that change aliases: of oracle/store/aliases.py, which explains the rules around them.
--
-- Keys are columns of equal length: $1 types, $2 identifiers, $3 sub ids.  The ownership rules are the triggers' own
-- (migrations/0001).  Every statement takes its keys in the order identifier, type, sub id, so that two transactions
-- with common keys wait for each other instead of deadlocking.

-- name: plan_anew() -> ignored
-- First in a transaction that joins thousands of rows to the tables: a plan that was made while they were small would
-- walk through all of them later.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true)

-- Who may register ----------------------------------------------------------------------------------------------

-- name: fsp_status(text) -> AllowanceRow
-- Whether an FSP may register at all, what (NULL: everything), and whether through the hub.
SELECT status::text, kinds, currencies, hub_changes FROM fsps WHERE fsp_id = $1

-- name: fsp_admit(text, int8) -> AdmittedRow
-- A registration under ORACLE_FSP_REGISTRATION=auto: an unknown FSP becomes provisional, unless $2 have in 24 hours.
INSERT INTO fsps (fsp_id, status) SELECT $1, 'provisional'
WHERE (SELECT count(*) FROM fsps WHERE status = 'provisional' AND created_at > now() - interval '24 hours') < $2
ON CONFLICT DO NOTHING RETURNING fsp_id

-- Registration --------------------------------------------------------------------------------------------------

-- name: aliases_add(party_id_type[], text[], text[], text[], text)
-- Step 1: take the keys that are free.  $4 currencies, $5 FSP.  A key that comes twice is taken by the first.
INSERT INTO aliases (identifier, party_id_type, sub_id, currency, fsp_id)
SELECT DISTINCT ON (identifier, party_id_type, sub_id) identifier, party_id_type, sub_id, currency, $5
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
     WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
ORDER BY identifier, party_id_type, sub_id, ord
ON CONFLICT DO NOTHING

-- name: registrations_compare(party_id_type[], text[], text[], text[], text) -> RegistrationRow
-- Step 2: whether the FSP $5 is registered under each key in its currency, whether since this very transaction, and
-- whether it may add that currency, and whether a hint is there instead, which hints_replace replaces.  Parameters as
-- aliases_add.  A key without a row here was removed in between.
SELECT k.ord::int,
       NOT a.is_hint AND (a.fsp_id = $5 AND a.currency = k.currency OR coalesce(x.fsp_id = $5, false)) AS is_registered,
       coalesce(coalesce(x.xmin, a.xmin) = pg_current_xact_id_if_assigned()::xid, false) AS is_new,
       NOT a.is_hint AND x.fsp_id IS NULL AND a.currency <> k.currency
           AND (a.fsp_id = $5 OR p.policy = 'per-currency') AS may_add,
       a.is_hint
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
     WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
JOIN aliases a USING (identifier, party_id_type, sub_id)
JOIN key_policies p USING (party_id_type)
LEFT JOIN alias_currencies x ON (x.identifier, x.party_id_type, x.sub_id, x.currency)
                              = (k.identifier, k.party_id_type, k.sub_id, k.currency)

-- name: hints_replace(party_id_type[], text[], text[], text[], text)
-- Between steps 2 and 3, seldom: hints under these keys become entries of the FSP.  Parameters as aliases_add.
-- They are locked in the order of the keys first.
WITH wanted AS (
    SELECT DISTINCT ON (identifier, party_id_type, sub_id) identifier, party_id_type, sub_id, currency
    FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
         WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
    ORDER BY identifier, party_id_type, sub_id, ord
), present AS (
    SELECT identifier, party_id_type, sub_id, w.currency FROM wanted w JOIN aliases a USING (identifier, party_id_type, sub_id)
    WHERE a.is_hint ORDER BY identifier, party_id_type, sub_id FOR NO KEY UPDATE OF a
)
UPDATE aliases a SET fsp_id = $5, currency = p.currency, is_hint = false, changed_at = clock_timestamp() FROM present p
WHERE (a.identifier, a.party_id_type, a.sub_id) = (p.identifier, p.party_id_type, p.sub_id) AND a.is_hint

-- name: currencies_add(party_id_type[], text[], text[], text[], text)
-- Step 3, seldom: further currencies of keys that exist.  Parameters as aliases_add.
-- The default entries are locked first: none of them can go or change hands until this transaction ends.
WITH present AS (
    SELECT identifier, party_id_type, sub_id, k.currency, k.ord
    FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
         WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
    JOIN aliases a USING (identifier, party_id_type, sub_id)
    JOIN key_policies p USING (party_id_type)
    WHERE NOT a.is_hint AND a.currency <> k.currency AND (a.fsp_id = $5 OR p.policy = 'per-currency')
    ORDER BY identifier, party_id_type, sub_id FOR NO KEY UPDATE OF a
)
INSERT INTO alias_currencies (identifier, party_id_type, sub_id, currency, fsp_id)
SELECT DISTINCT identifier, party_id_type, sub_id, currency, $5 FROM present
ON CONFLICT DO NOTHING

-- name: registrations_begin(text, text, party_id_type[], text[], text[], text[], text[]) -> ExaminedRow
-- The first statement of registrations of several FSPs in one transaction.  It says who makes each of them ($1, see
-- migrations/0018), and whether their keys are fenced ($2, as transaction_begin).  $3 types, $4 identifiers, $5 sub ids,
-- $6 currencies, $7 FSPs.  It reads what each FSP may do (as fsp_status; the status is NULL for an unknown FSP), and what
-- is registered under each key (as registrations_compare).  OFFSET 0: each key is looked up in the indexes, by itself.
-- What follows soon gives up a key that is locked, and each registration goes on alone.  Not what came before: without
-- Redis all changes take turns, and a batch that gave up its turn would need one turn for each of its registrations.
SELECT k.ord::int, f.status::text, f.kinds, f.currencies, f.hub_changes, a.identifier IS NULL AS is_free, a.is_hint,
       NOT a.is_hint AND (a.fsp_id = k.fsp_id AND a.currency = k.currency OR coalesce(x.fsp_id = k.fsp_id, false))
           AS is_registered,
       NOT a.is_hint AND x.fsp_id IS NULL AND a.currency <> k.currency
           AND (a.fsp_id = k.fsp_id OR p.policy = 'per-currency') AS may_add
FROM (SELECT set_config('oracle.contexts', $1, true), set_config('oracle.cache', $2, true),
             set_config('lock_timeout', '100', true)) AS said
CROSS JOIN unnest($3::party_id_type[], $4::text[], $5::text[], $6::text[], $7::text[])
     WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, fsp_id, ord)
LEFT JOIN LATERAL (SELECT * FROM fsps WHERE fsp_id = k.fsp_id OFFSET 0) AS f ON true
LEFT JOIN LATERAL (SELECT * FROM aliases WHERE (identifier, party_id_type, sub_id)
                                             = (k.identifier, k.party_id_type, k.sub_id) OFFSET 0) AS a ON true
LEFT JOIN LATERAL (SELECT * FROM key_policies WHERE party_id_type = a.party_id_type OFFSET 0) AS p ON true
LEFT JOIN LATERAL (SELECT * FROM alias_currencies x WHERE (x.identifier, x.party_id_type, x.sub_id, x.currency)
                                             = (a.identifier, a.party_id_type, a.sub_id, k.currency) OFFSET 0) AS x ON true

-- name: registrations_add(party_id_type[], text[], text[], text[], text[])
-- Take the keys that are still free, all distinct.  $4 currencies, $5 FSPs.
INSERT INTO aliases (identifier, party_id_type, sub_id, currency, fsp_id)
SELECT identifier, party_id_type, sub_id, currency, fsp_id
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[], $5::text[])
     AS k (party_id_type, identifier, sub_id, currency, fsp_id)
ORDER BY identifier, party_id_type, sub_id
ON CONFLICT DO NOTHING

-- name: registrations_added(party_id_type[], text[], text[]) -> int
-- After registrations_add, when it took fewer: which keys it took, as positions from 1.
SELECT k.ord::int FROM unnest($1::party_id_type[], $2::text[], $3::text[])
     WITH ORDINALITY AS k (party_id_type, identifier, sub_id, ord)
JOIN aliases a USING (identifier, party_id_type, sub_id)
WHERE a.xmin = pg_current_xact_id_if_assigned()::xid

-- Replacement and removal ---------------------------------------------------------------------------------------

-- name: entries_lock(party_id_type[], text[], text[])
-- Lock the default entries of some keys, all distinct, until the transaction ends.  While they are locked nobody
-- changes the further currencies either.
SELECT FROM unnest($1::party_id_type[], $2::text[], $3::text[]) AS k (party_id_type, identifier, sub_id)
JOIN aliases a USING (identifier, party_id_type, sub_id)
ORDER BY identifier, party_id_type, sub_id FOR UPDATE OF a

-- name: entries_compare(party_id_type[], text[], text[], text) -> KeyRow
-- After entries_lock: what is registered under each key.  $4 the FSP.  is_own: the default entry is the FSP's;
-- currency: of the default entry; own, others: the further currencies of the FSP and of other FSPs, NULL for none;
-- is_shared: the key may have several owners; is_hint: the default entry is a hint, and the only entry of the key;
-- hub_changes: of the FSP $4.
SELECT k.ord::int, a.fsp_id = $4 AS is_own, a.currency, p.policy = 'per-currency' AS is_shared, a.is_hint, x.own, x.others,
       (SELECT hub_changes FROM fsps WHERE fsp_id = $4) AS hub_changes
FROM unnest($1::party_id_type[], $2::text[], $3::text[])
     WITH ORDINALITY AS k (party_id_type, identifier, sub_id, ord)
JOIN aliases a USING (identifier, party_id_type, sub_id)
JOIN key_policies p USING (party_id_type)
LEFT JOIN LATERAL (
    SELECT array_agg(c.currency) FILTER (WHERE c.fsp_id = $4) AS own,
           array_agg(c.currency) FILTER (WHERE c.fsp_id <> $4) AS others
    FROM alias_currencies c
    WHERE (c.identifier, c.party_id_type, c.sub_id) = (k.identifier, k.party_id_type, k.sub_id)) AS x ON true

-- name: currencies_drop(party_id_type[], text[], text[], text[], text)
-- Remove the further currencies of the FSP $5 under some keys, except $4 (NULL: no exception).
DELETE FROM alias_currencies c
USING unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[]) AS k (party_id_type, identifier, sub_id, kept)
WHERE (c.identifier, c.party_id_type, c.sub_id) = (k.identifier, k.party_id_type, k.sub_id) AND c.fsp_id = $5
  AND c.currency IS DISTINCT FROM k.kept

-- name: defaults_change(party_id_type[], text[], text[], text[], text)
-- The default entries of the FSP $5 under some keys get the currencies $4, and its hints become registrations.
UPDATE aliases a SET currency = k.currency, is_hint = false, changed_at = clock_timestamp()
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[]) AS k (party_id_type, identifier, sub_id, currency)
WHERE (a.identifier, a.party_id_type, a.sub_id) = (k.identifier, k.party_id_type, k.sub_id) AND a.fsp_id = $5
  AND (a.currency <> k.currency OR a.is_hint)

-- name: currencies_remove(party_id_type[], text[], text[], text[], text) -> OrdRow
-- $4 currencies (NULL: all), $5 FSP.  Before defaults_remove: else the heir of a default entry would be one of these.
DELETE FROM alias_currencies c
USING unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
      WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
WHERE (c.identifier, c.party_id_type, c.sub_id) = (k.identifier, k.party_id_type, k.sub_id) AND c.fsp_id = $5
  AND (k.currency IS NULL OR c.currency = k.currency)
RETURNING k.ord::int

-- name: defaults_remove(party_id_type[], text[], text[], text[], text) -> OrdRow
-- Parameters as currencies_remove.
DELETE FROM aliases a
USING unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[])
      WITH ORDINALITY AS k (party_id_type, identifier, sub_id, currency, ord)
WHERE (a.identifier, a.party_id_type, a.sub_id) = (k.identifier, k.party_id_type, k.sub_id) AND a.fsp_id = $5
  AND (k.currency IS NULL OR a.currency = k.currency)
RETURNING k.ord::int

-- One identifier with all its sub ids -----------------------------------------------------------------------------

-- name: identifier_lock(party_id_type, text) -> LockedOwnerRow
-- Lock and read all default entries of an identifier, until the transaction ends.  $1 type, $2 identifier.
SELECT sub_id, fsp_id, is_hint, (SELECT hub_changes FROM fsps f WHERE f.fsp_id = a.fsp_id) AS hub_changes FROM aliases a
WHERE identifier = $2 AND party_id_type = $1::party_id_type ORDER BY sub_id FOR UPDATE

-- name: identifier_currencies(party_id_type, text) -> LockedOwnerRow
-- After identifier_lock: the further currencies, which nobody can change while the default entries are locked.
SELECT sub_id, fsp_id, false AS is_hint, (SELECT hub_changes FROM fsps f WHERE f.fsp_id = x.fsp_id) AS hub_changes
FROM alias_currencies x
WHERE identifier = $2 AND party_id_type = $1::party_id_type ORDER BY sub_id, currency

-- Hints (migrations/0007) -----------------------------------------------------------------------------------------

-- name: hint_put(party_id_type, text, text, text, text)
-- Store a hint where the key is free or has another hint.  $1 type, $2 identifier, $3 sub id, $4 currency, $5 FSP.
-- Where it writes nothing, it has locked the entry that is there.
INSERT INTO aliases (party_id_type, identifier, sub_id, currency, fsp_id, is_hint)
VALUES ($1::party_id_type, $2, $3, $4, $5, true)
ON CONFLICT (identifier, party_id_type, sub_id) DO UPDATE
SET fsp_id = excluded.fsp_id, currency = excluded.currency, changed_at = clock_timestamp()
WHERE aliases.is_hint AND (aliases.fsp_id, aliases.currency) <> (excluded.fsp_id, excluded.currency)

-- name: key_holder(party_id_type, text, text) -> OwnerRow
-- After hint_put: the default entry.  $1 type, $2 identifier, $3 sub id.
SELECT sub_id, fsp_id, is_hint FROM aliases WHERE identifier = $2 AND party_id_type = $1::party_id_type AND sub_id = $3

-- name: hints_remove(party_id_type, text, text)
-- After identifier_lock: remove the hints of an identifier, of any FSP.  $1 type, $2 identifier, $3 sub id (NULL: all).
DELETE FROM aliases
WHERE identifier = $2 AND party_id_type = $1::party_id_type AND ($3::text IS NULL OR sub_id = $3) AND is_hint

-- name: call_ignored(text, party_id_type, text, text, text, text)
-- A call of ALS that changed nothing (docs/als-contract.md section 5): recorded.
-- $1 actor, $2 type, $3 identifier, $4 sub id (NULL: none named), $5 reason, $6 trace.
INSERT INTO events (entity, action, channel, actor, party_id_type, party_identifier, sub_id, reason, trace_id)
VALUES ('alias', 'ignored', 'self-heal', $1, $2::party_id_type, $3, $4, $5, $6)

-- Queries of routes: administration, which rule answers an identifier and why, the list of prefixes.
--
-- Writers of routes take turns (routes_turn, like the triggers in migrations/0001).  They take the turn after an FSP's
-- row, never before it: a change of an FSP's status locks that row first, and then waits for the turn.
--
-- A rule that has begun is never dated back (oracle/api/admin/routes.py), so the table shows the rules of any instant.
-- Only migrations/0005 changed the kind of rules that had begun; history knows when.

-- name: routes_turn() -> ignored
SELECT 1 FROM cache_generation FOR NO KEY UPDATE

-- name: route_fsps(text[]) -> FspStatusRow
-- The FSPs that get routes: locked, so that nobody closes one of them meanwhile.
SELECT fsp_id, status::text FROM fsps WHERE fsp_id = ANY ($1::text[]) ORDER BY fsp_id FOR SHARE

-- name: route(int8) -> StoredRouteRow
SELECT route_id, party_id_type::text, kind, prefix, fsp_id, nullif(valid_from, '-infinity') AS valid_from,
       nullif(valid_to, 'infinity') AS valid_to, note, created_at, changed_at, version
FROM routes WHERE route_id = $1

-- name: route_locked(int8) -> LockedRouteRow
SELECT route_id, party_id_type::text, kind, prefix, fsp_id, nullif(valid_from, '-infinity') AS valid_from,
       nullif(valid_to, 'infinity') AS valid_to, note, created_at, changed_at, version,
       valid_from <= clock_timestamp() AS has_begun, valid_to <= clock_timestamp() AS is_over
FROM routes WHERE route_id = $1 FOR UPDATE

-- name: routes_page(text, text, text[], text, text, timestamptz, party_id_type, text, int8, int8, text[], party_id_type) ->
--     StoredRouteRow
-- $1 kind, $2 FSP, $3 covering prefixes or, with $4 and $5 (from and below), covered ones, $6 instant: each can be NULL.
-- $7, $8, $9 after this type, prefix and route, or NULL; $10 limit; $11 of these FSPs alone or NULL; $12 type of the kind or
-- NULL: for routes_by_prefix, which does not know kinds.
SELECT route_id, party_id_type::text, kind, prefix, fsp_id, nullif(valid_from, '-infinity') AS valid_from,
       nullif(valid_to, 'infinity') AS valid_to, note, created_at, changed_at, version
FROM routes
WHERE ($1::text IS NULL OR kind = $1) AND ($12::party_id_type IS NULL OR routes.party_id_type = $12)
  AND ($2::text IS NULL OR fsp_id = $2) AND ($3::text[] IS NULL OR prefix = ANY ($3) OR (prefix >= $4::text AND prefix < $5::text))
  AND ($6::timestamptz IS NULL OR (valid_from <= $6 AND $6 < valid_to))
  AND ($7::party_id_type IS NULL OR (party_id_type, prefix, route_id) > ($7, $8::text, $9::bigint))
  AND ($11::text[] IS NULL OR fsp_id = ANY ($11))
ORDER BY routes.party_id_type, prefix, route_id LIMIT $10

-- name: routes_overlapping(party_id_type, text, text[], text, timestamptz, timestamptz, int8, text, int8) -> OverlapRow
-- $1 type, $2 prefix, $3 its shorter prefixes, $4 end of its longer ones, $5 from or NULL for now, $6 to or NULL,
-- $7 a route to leave out or NULL, $8 kind, $9 limit.  Rules of the same prefix and kind first: these forbid the new rule.
SELECT route_id, kind, prefix, fsp_id, status::text AS fsp_status, nullif(valid_from, '-infinity') AS valid_from,
       nullif(valid_to, 'infinity') AS valid_to, count(*) OVER () AS total
FROM routes JOIN fsps USING (fsp_id)
WHERE party_id_type = $1::party_id_type AND (prefix = ANY ($3::text[]) OR (prefix >= $2::text AND prefix < $4::text))
  AND valid_from < coalesce($6::timestamptz, 'infinity') AND valid_to > coalesce($5::timestamptz, now())
  AND ($7::bigint IS NULL OR route_id <> $7)
ORDER BY prefix <> $2 OR kind <> $8, length(prefix), prefix, routes.valid_from LIMIT $9

-- name: route_add(party_id_type, text, text, text, timestamptz, timestamptz, text) -> RouteIdRow
-- $1 type, $2 kind, $3 prefix, $4 FSP, $5 from, $6 to, $7 note.
INSERT INTO routes (party_id_type, kind, prefix, fsp_id, valid_from, valid_to, note)
VALUES ($1::party_id_type, $2, $3, $4, coalesce($5::timestamptz, now()), coalesce($6::timestamptz, 'infinity'), $7)
RETURNING route_id

-- name: route_change(int8, timestamptz, timestamptz, text)
-- $2 from, or NULL to keep it; $3 to, or NULL for no end; $4 note.
UPDATE routes SET valid_from = coalesce($2::timestamptz, valid_from), valid_to = coalesce($3::timestamptz, 'infinity'), note = $4
WHERE route_id = $1

-- name: route_end(int8, timestamptz)
-- $2 the end, or NULL for now.
UPDATE routes SET valid_to = greatest(coalesce($2::timestamptz, clock_timestamp()), valid_from + interval '1 microsecond')
WHERE route_id = $1

-- name: route_withdraw(int8)
-- Only a rule that has not begun.
DELETE FROM routes WHERE route_id = $1

-- Lists of routes ----------------------------------------------------------------------------------------------

-- name: routes_same_prefix(party_id_type[], text[], text[], timestamptz[], timestamptz[]) -> SamePrefixRow
-- Rules with the kind and the prefix of a wanted rule, valid at some time of it.  $1 types, $2 kinds, $3 prefixes, $4 from
-- (NULL: now), $5 to (NULL: no end), equally long.  covers: the rule is valid for the whole of that time.
SELECT w.ord::int, r.route_id, r.fsp_id,
       r.valid_from <= coalesce(w.valid_from, now()) AND r.valid_to >= coalesce(w.valid_to, 'infinity') AS covers
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
     WITH ORDINALITY AS w (party_id_type, kind, prefix, valid_from, valid_to, ord)
JOIN routes r USING (party_id_type, kind, prefix)
WHERE r.valid_from < coalesce(w.valid_to, 'infinity') AND r.valid_to > coalesce(w.valid_from, now())
ORDER BY w.ord, r.route_id

-- name: routes_cut(party_id_type[], text[], text[], timestamptz[], timestamptz[], int8) -> CutRow
-- Rules with a shorter or a longer prefix than a wanted rule, or with the same one for another kind, valid at some time of
-- it.  Parameters as routes_same_prefix, and $6 limit.  OFFSET 0 makes the planner look up prefix by prefix; a join of the
-- whole would compare each rule with each.
SELECT w.ord::int, r.route_id, r.kind, r.prefix, r.fsp_id, count(*) OVER () AS total
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
     WITH ORDINALITY AS w (party_id_type, kind, prefix, valid_from, valid_to, ord)
CROSS JOIN LATERAL (
    (SELECT route_id, kind, prefix, fsp_id, valid_from, valid_to FROM routes
     WHERE party_id_type = w.party_id_type AND (prefix <> w.prefix OR kind <> w.kind)
       AND prefix = ANY (ARRAY(SELECT left(w.prefix, n) FROM generate_series(1, length(w.prefix)) AS n)) OFFSET 0)
    UNION ALL
    (SELECT route_id, kind, prefix, fsp_id, valid_from, valid_to FROM routes
     WHERE party_id_type = w.party_id_type
       AND prefix > w.prefix COLLATE "C" AND prefix < (w.prefix || U&'\+10FFFF') COLLATE "C" OFFSET 0)
) AS r
WHERE r.valid_from < coalesce(w.valid_to, 'infinity') AND r.valid_to > coalesce(w.valid_from, now())
ORDER BY w.ord, length(r.prefix), r.prefix LIMIT $6

-- name: routes_add(party_id_type[], text[], text[], text[], timestamptz[], timestamptz[], text[])
-- $1 types, $2 kinds, $3 prefixes, $4 FSPs, $5 from, $6 to, $7 notes.
INSERT INTO routes (party_id_type, kind, prefix, fsp_id, valid_from, valid_to, note)
SELECT party_id_type, kind, prefix, fsp_id, coalesce(valid_from, now()), coalesce(valid_to, 'infinity'), note
FROM unnest($1::party_id_type[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[])
     WITH ORDINALITY AS w (party_id_type, kind, prefix, fsp_id, valid_from, valid_to, note, ord)
ORDER BY ord

-- name: route_fsps_add(text[], text[])
-- $1 unknown FSPs, $2 their names or NULL.
INSERT INTO fsps (fsp_id, status, name)
SELECT fsp_id, 'provisional', name FROM unnest($1::text[], $2::text[]) AS w (fsp_id, name)
ORDER BY fsp_id ON CONFLICT DO NOTHING

-- What answers an identifier -----------------------------------------------------------------------------------

-- name: alias_entries_now(party_id_type, text) -> EntryNowRow
-- All entries of an identifier, default entries first.  $1 type, $2 identifier.
SELECT sub_id, currency, fsp_id, true AS is_default, is_hint, changed_at AS since FROM aliases
WHERE identifier = $2 AND party_id_type = $1::party_id_type
UNION ALL
SELECT sub_id, currency, fsp_id, false, false, changed_at FROM alias_currencies
WHERE identifier = $2 AND party_id_type = $1::party_id_type
ORDER BY is_default DESC, sub_id, currency

-- name: fsp_status_now(text[]) -> FspStatusRow
SELECT fsp_id, status::text FROM fsps WHERE fsp_id = ANY ($1::text[])

-- name: routes_covering(party_id_type, text[], timestamptz, int8) -> CoveringRouteRow
-- The rules of any time whose prefix is one of $2 (all prefixes of the identifier).  $1 type, $3 instant or NULL for now,
-- $4 limit.  Rules that are valid at the instant come first.
SELECT route_id, kind, prefix, fsp_id, nullif(valid_from, '-infinity') AS valid_from, nullif(valid_to, 'infinity') AS valid_to,
       valid_from <= coalesce($3::timestamptz, now()) AS has_begun, valid_to <= coalesce($3::timestamptz, now()) AS is_over
FROM routes WHERE party_id_type = $1::party_id_type AND prefix = ANY ($2::text[])
ORDER BY valid_from <= coalesce($3::timestamptz, now()) AND coalesce($3::timestamptz, now()) < valid_to DESC,
         length(prefix) DESC, routes.valid_from DESC LIMIT $4

-- The list of prefixes -----------------------------------------------------------------------------------------

-- name: prefixes() -> PrefixRow
-- Rules for account numbers that are valid now and whose FSP is answered.  Only prefixes of at most 15 digits, which a
-- JSON number keeps.  Shorter prefixes first: in the order of the numbers where all are equally long.  Of two rules with
-- one prefix, the one for CLABE: readers of this list ask with a CLABE.
SELECT DISTINCT ON (length(routes.prefix), routes.prefix) route_id, prefix::bigint AS prefix, fsp_id, routes.created_at, coalesce(name, fsp_id) AS name,
       coalesce(locale_name, name, fsp_id) AS locale_name, coalesce(dfsp_type, '') AS dfsp_type,
       coalesce(additional_info, '') AS additional_info, coalesce(logo_data_type, '') AS logo_data_type, use_cases
FROM routes JOIN fsps USING (fsp_id)
WHERE party_id_type = 'ACCOUNT_ID' AND valid_from <= now() AND now() < valid_to
  AND prefix ~ '^[0-9]{1,15}$' AND status IN ('active', 'provisional')
ORDER BY length(routes.prefix), routes.prefix, kind = 'ACCOUNT_ID'

-- name: prefix_logos(text[]) -> PrefixLogoRow
SELECT fsp_id, data FROM fsp_logos WHERE fsp_id = ANY ($1::text[])

-- name: use_cases() -> UseCaseRow
SELECT DISTINCT unnest(use_cases) AS use_case FROM fsps WHERE status <> 'closed'

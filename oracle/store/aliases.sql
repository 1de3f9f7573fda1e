-- Queries of api/aliases.py: the aliases of one FSP, and whose an identifier is.
--
-- OFFSET 0 keeps conditions from moving inward, so that a key is found by the primary key whatever the planner believes of the
-- tables (see entries_by_keys).

-- name: alias_entries
-- What one FSP has under some keys, its default entries first.  $1 FSP; $2 types, $3 identifiers, $4 sub ids, equally long.
SELECT k.ord::int, e.currency, e.is_default, e.changed_at, (SELECT status::text FROM fsps WHERE fsp_id = $1) AS status
FROM unnest($2::party_id_type[], $3::text[], $4::text[]) WITH ORDINALITY AS k (party_id_type, identifier, sub_id, ord)
CROSS JOIN LATERAL (
    SELECT currency, true AS is_default, changed_at, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type, a.sub_id) = (k.identifier, k.party_id_type, k.sub_id)
    UNION ALL
    SELECT currency, false, changed_at, fsp_id FROM alias_currencies x
    WHERE (x.identifier, x.party_id_type, x.sub_id) = (k.identifier, k.party_id_type, k.sub_id)
    OFFSET 0
) AS e
WHERE e.fsp_id = $1 ORDER BY k.ord, e.is_default DESC, e.currency

-- name: alias_lock
-- Before its version is looked at: no entry of the key comes or goes until this transaction ends.  Of what another FSP
-- has alone nothing is held.  $1 FSP, $2 type, $3 identifier, $4 sub id.
SELECT 1 FROM aliases a
WHERE a.identifier = $3 AND a.party_id_type = $2::party_id_type AND a.sub_id = $4
  AND (a.fsp_id = $1 OR EXISTS (
      SELECT FROM alias_currencies x
      WHERE (x.identifier, x.party_id_type, x.sub_id) = (a.identifier, a.party_id_type, a.sub_id) AND x.fsp_id = $1))
FOR UPDATE OF a

-- name: aliases_page
-- The next entries of FSP $1 of type $2, by the time of their last change: a range of aliases_by_fsp and one of
-- alias_currencies_by_fsp, however many there are before and behind it.
-- $3 from this time, $4 before that one; behind the place ($5 time, $6 identifier, $7 sub id, $8 currency); $9 how many.
-- is_first: an alias stands in the list where its first entry since $3 does.  has_further: it may have more than this one.
(SELECT a.changed_at, a.identifier, a.sub_id, a.currency, true AS is_default, a.has_further,
        NOT a.has_further OR NOT EXISTS (
            SELECT FROM alias_currencies x
            WHERE x.identifier = a.identifier AND x.party_id_type = $2::party_id_type AND x.sub_id = a.sub_id AND x.fsp_id = $1
              AND x.changed_at >= $3 AND (x.changed_at, x.currency) < (a.changed_at, a.currency)) AS is_first
 FROM (SELECT changed_at, identifier, sub_id, currency,
              EXISTS (SELECT FROM alias_currencies x
                      WHERE x.identifier = a.identifier AND x.party_id_type = $2::party_id_type AND x.sub_id = a.sub_id
                        AND x.fsp_id = $1) AS has_further
       FROM aliases a
       WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND changed_at >= $5 AND changed_at < $4
         AND (changed_at, identifier, sub_id, currency) > ($5, $6::text, $7::text, $8::text)
       ORDER BY changed_at, identifier, sub_id, currency LIMIT $9) AS a)
UNION ALL
(SELECT e.changed_at, e.identifier, e.sub_id, e.currency, false, true,
        NOT EXISTS (
            SELECT FROM aliases a
            WHERE a.identifier = e.identifier AND a.party_id_type = $2::party_id_type AND a.sub_id = e.sub_id AND a.fsp_id = $1
              AND a.changed_at >= $3 AND (a.changed_at, a.currency) < (e.changed_at, e.currency))
        AND NOT EXISTS (
            SELECT FROM alias_currencies x
            WHERE x.identifier = e.identifier AND x.party_id_type = $2::party_id_type AND x.sub_id = e.sub_id AND x.fsp_id = $1
              AND x.changed_at >= $3 AND (x.changed_at, x.currency) < (e.changed_at, e.currency))
 FROM (SELECT changed_at, identifier, sub_id, currency FROM alias_currencies
       WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND changed_at >= $5 AND changed_at < $4
         AND (changed_at, identifier, sub_id, currency) > ($5, $6::text, $7::text, $8::text)
       ORDER BY changed_at, identifier, sub_id, currency LIMIT $9) AS e)
ORDER BY 1, 2, 3, 4 LIMIT $9

-- name: aliases_held
-- Who has some identifiers, under whatever SubId; default entries first.  $1 types, $2 identifiers, equally long.
SELECT k.ord::int, e.sub_id, e.currency, e.is_default, e.fsp_id, f.status::text
FROM unnest($1::party_id_type[], $2::text[]) WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (
    SELECT sub_id, currency, true AS is_default, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type) = (k.identifier, k.party_id_type)
    UNION ALL
    SELECT sub_id, currency, false, fsp_id FROM alias_currencies x
    WHERE (x.identifier, x.party_id_type) = (k.identifier, k.party_id_type)
    OFFSET 0
) AS e
JOIN fsps f USING (fsp_id) ORDER BY k.ord, e.sub_id, e.is_default DESC, e.currency

-- name: aliases_routed
-- The rule that decides about each identifier while nobody has it, as store/routes.py does: the longest that holds now,
-- whether its FSP is answered or not.  $1 types, $2 identifiers, equally long.  Served by routes_by_prefix.
SELECT k.ord::int, r.route_id, r.prefix, r.fsp_id, r.status
FROM unnest($1::party_id_type[], $2::text[]) WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (
    SELECT route_id, prefix, fsp_id, f.status::text FROM routes JOIN fsps f USING (fsp_id)
    WHERE party_id_type = k.party_id_type AND valid_from <= now() AND valid_to > now()
      AND prefix = ANY (ARRAY(SELECT left(k.identifier, n) FROM generate_series(1, length(k.identifier)) AS n))
    ORDER BY length(prefix) DESC LIMIT 1
) AS r

-- Queries of aliases: the aliases of one FSP, and who holds an identifier.
--
-- OFFSET 0 keeps the planner from moving conditions inward, so that it finds a key by the primary key (see
-- entries_by_keys).

-- name: alias_entries(text, party_id_type[], text[], text[]) -> OwnEntryRow
-- The entries of one FSP under some keys, its default entries first.  $1 FSP; $2 types, $3 identifiers, $4 sub ids, equally long.
SELECT k.ord::int, e.currency, e.is_default, e.is_hint, e.changed_at, (SELECT status::text FROM fsps WHERE fsp_id = $1) AS status
FROM unnest($2::party_id_type[], $3::text[], $4::text[]) WITH ORDINALITY AS k (party_id_type, identifier, sub_id, ord)
CROSS JOIN LATERAL (
    SELECT currency, true AS is_default, is_hint, changed_at, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type, a.sub_id) = (k.identifier, k.party_id_type, k.sub_id)
    UNION ALL
    SELECT currency, false, false, changed_at, fsp_id FROM alias_currencies x
    WHERE (x.identifier, x.party_id_type, x.sub_id) = (k.identifier, k.party_id_type, k.sub_id)
    OFFSET 0
) AS e
WHERE e.fsp_id = $1 ORDER BY k.ord, e.is_default DESC, e.currency

-- name: alias_lock(text, party_id_type, text, text) -> SubIdRow
-- Before a version is looked at: no entry of the key comes or goes until this transaction ends.  All of the identifier, in the
-- order in which the change itself takes them (identifier_lock), and none where the FSP has nothing.
-- $1 FSP, $2 type, $3 identifier, $4 sub id.
SELECT a.sub_id FROM aliases a
WHERE a.identifier = $3 AND a.party_id_type = $2::party_id_type AND (
    EXISTS (SELECT FROM aliases o
            WHERE o.identifier = $3 AND o.party_id_type = $2::party_id_type AND o.sub_id = $4 AND o.fsp_id = $1)
    OR EXISTS (SELECT FROM alias_currencies x
               WHERE x.identifier = $3 AND x.party_id_type = $2::party_id_type AND x.sub_id = $4 AND x.fsp_id = $1))
ORDER BY a.sub_id FOR UPDATE OF a

-- name: aliases_page(text, party_id_type, timestamptz, timestamptz, text, text, text, int8) -> ListedAliasRow
-- The next entries of FSP $1 of type $2, by the time of their last change, each with the FSP's other entries under its
-- key.  Reads one range of aliases_by_fsp and one of alias_currencies_by_fsp, for tables of any size.
-- $3 before this time; after the position ($4 time, $5 identifier, $6 sub id, $7 currency); $8 limit.
WITH entries AS MATERIALIZED (
    (SELECT changed_at, identifier, sub_id, currency, true AS is_default, is_hint FROM aliases
     WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND changed_at >= $4 AND changed_at < $3
       AND (changed_at, identifier, sub_id, currency) > ($4, $5::text, $6::text, $7::text)
     ORDER BY changed_at, identifier, sub_id, currency LIMIT $8)
    UNION ALL
    (SELECT changed_at, identifier, sub_id, currency, false, false FROM alias_currencies
     WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND changed_at >= $4 AND changed_at < $3
       AND (changed_at, identifier, sub_id, currency) > ($4, $5::text, $6::text, $7::text)
     ORDER BY changed_at, identifier, sub_id, currency LIMIT $8)
    ORDER BY changed_at, identifier, sub_id, currency LIMIT $8
)
SELECT e.*, d.currency AS default_currency, d.changed_at AS default_changed_at,
       f.currencies AS further_currencies, f.changed_at AS further_changed_at
FROM entries e
LEFT JOIN LATERAL (
    SELECT currency, changed_at, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type, a.sub_id) = (e.identifier, $2::party_id_type, e.sub_id) AND NOT e.is_default
    OFFSET 0
) AS d ON d.fsp_id = $1
CROSS JOIN LATERAL (
    SELECT array_agg(currency ORDER BY currency) AS currencies, array_agg(changed_at ORDER BY currency) AS changed_at
    FROM (SELECT currency, changed_at, fsp_id FROM alias_currencies x
          WHERE (x.identifier, x.party_id_type, x.sub_id) = (e.identifier, $2::party_id_type, e.sub_id) OFFSET 0) AS x
    WHERE fsp_id = $1
) AS f
ORDER BY e.changed_at, e.identifier, e.sub_id, e.currency

-- name: aliases_page_in_currency(text, party_id_type, timestamptz, timestamptz, text, text, int8, text) -> ListedAliasRow
-- The same for the entries in currency $8: after the position ($4 time, $5 identifier, $6 sub id); $7 limit.  Reads one range
-- of aliases_by_currency and one of alias_currencies_by_currency.
WITH entries AS MATERIALIZED (
    (SELECT changed_at, identifier, sub_id, currency, true AS is_default, is_hint FROM aliases
     WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND currency = $8 AND changed_at >= $4 AND changed_at < $3
       AND (changed_at, identifier, sub_id) > ($4, $5::text, $6::text)
     ORDER BY changed_at, identifier, sub_id LIMIT $7)
    UNION ALL
    (SELECT changed_at, identifier, sub_id, currency, false, false FROM alias_currencies
     WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND currency = $8 AND changed_at >= $4 AND changed_at < $3
       AND (changed_at, identifier, sub_id) > ($4, $5::text, $6::text)
     ORDER BY changed_at, identifier, sub_id LIMIT $7)
    ORDER BY changed_at, identifier, sub_id LIMIT $7
)
SELECT e.*, d.currency AS default_currency, d.changed_at AS default_changed_at,
       f.currencies AS further_currencies, f.changed_at AS further_changed_at
FROM entries e
LEFT JOIN LATERAL (
    SELECT currency, changed_at, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type, a.sub_id) = (e.identifier, $2::party_id_type, e.sub_id) AND NOT e.is_default
    OFFSET 0
) AS d ON d.fsp_id = $1
CROSS JOIN LATERAL (
    SELECT array_agg(currency ORDER BY currency) AS currencies, array_agg(changed_at ORDER BY currency) AS changed_at
    FROM (SELECT currency, changed_at, fsp_id FROM alias_currencies x
          WHERE (x.identifier, x.party_id_type, x.sub_id) = (e.identifier, $2::party_id_type, e.sub_id) OFFSET 0) AS x
    WHERE fsp_id = $1
) AS f
ORDER BY e.changed_at, e.identifier, e.sub_id

-- name: aliases_beginning(text, party_id_type, text, text, text, timestamptz, timestamptz, int8, text) -> ListedKeyRow
-- The next keys of FSP $1 of type $2 whose identifiers begin alike, in the order of the keys: from $3 identifier and $4 sub
-- id on, below identifier $5; $8 limit.  `fits`: an entry changed from $6 on and before $7, and is in currency $9, NULL for
-- any.  Not in WHERE: a page reads $8 keys, however few of them fit.  Reads a range of aliases_by_identifier and one of
-- alias_currencies_by_identifier.  A range and not fsp_id = $1: with that the planner may walk the primary key, through the
-- aliases of other FSPs.  One lower bound alone: with two, PostgreSQL can begin at the smaller one and read all between.
-- "POSIX" orders as "C" does.  It keeps these indexes for lists: no lookup can be planned with them (migration 0031).
SELECT identifier, sub_id, bool_or(fits) AS fits FROM (
    (SELECT identifier, sub_id, changed_at >= $6 AND changed_at < $7 AND ($9::text IS NULL OR currency = $9) AS fits FROM aliases
     WHERE (fsp_id, party_id_type, identifier COLLATE "POSIX", sub_id) >= ($1, $2::party_id_type, $3, $4)
       AND (fsp_id, party_id_type, identifier COLLATE "POSIX") < ($1, $2::party_id_type, $5)
     ORDER BY fsp_id, party_id_type, identifier COLLATE "POSIX", sub_id LIMIT $8)
    UNION ALL
    (SELECT identifier, sub_id, bool_or(changed_at >= $6 AND changed_at < $7 AND ($9::text IS NULL OR currency = $9))
     FROM alias_currencies
     WHERE (fsp_id, party_id_type, identifier COLLATE "POSIX", sub_id) >= ($1, $2::party_id_type, $3, $4)
       AND (fsp_id, party_id_type, identifier COLLATE "POSIX") < ($1, $2::party_id_type, $5)
     GROUP BY fsp_id, party_id_type, identifier COLLATE "POSIX", identifier, sub_id
     ORDER BY fsp_id, party_id_type, identifier COLLATE "POSIX", sub_id LIMIT $8)
) AS keys GROUP BY identifier, sub_id ORDER BY identifier, sub_id LIMIT $8

-- name: snapshot_time() -> SnapshotRow
-- The first statement of a transaction with a snapshot.  Not clock_timestamp(): what was committed before must be in it.
SELECT now() AS at

-- name: aliases_export(text, party_id_type, text, text) -> ExportedAliasRow
-- All aliases of FSP $1 of type $2 with its entries under each key, in no order.  $3 from this identifier, $4 below this one.
-- For a prefix that few identifiers have it reads a range of each primary key; else the indexes by FSP, or the tables
-- where this FSP has most of them.
SELECT identifier, sub_id, a.currency, a.is_hint, a.changed_at, f.further_currencies, f.further_changed_at
FROM (SELECT identifier, sub_id, currency, is_hint, changed_at FROM aliases
      WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND identifier >= $3 AND identifier < $4) AS a
FULL JOIN (SELECT identifier, sub_id, array_agg(currency ORDER BY currency) AS further_currencies,
                  array_agg(changed_at ORDER BY currency) AS further_changed_at FROM alias_currencies
           WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND identifier >= $3 AND identifier < $4
           GROUP BY identifier, sub_id) AS f
USING (identifier, sub_id)

-- name: aliases_export_changed(text, party_id_type, text, text, timestamptz, timestamptz) -> ExportedAliasRow
-- Those with an entry that changed from $5 on and before $6.  Reads one range of aliases_by_fsp and one of
-- alias_currencies_by_fsp; then the entries by the primary keys.
SELECT k.identifier, k.sub_id, d.currency, d.is_hint, d.changed_at, f.further_currencies, f.further_changed_at
FROM (SELECT identifier, sub_id FROM aliases
      WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND identifier >= $3 AND identifier < $4
        AND changed_at >= $5 AND changed_at < $6
      UNION
      SELECT identifier, sub_id FROM alias_currencies
      WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND identifier >= $3 AND identifier < $4
        AND changed_at >= $5 AND changed_at < $6) AS k
LEFT JOIN LATERAL (
    SELECT currency, is_hint, changed_at, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type, a.sub_id) = (k.identifier, $2::party_id_type, k.sub_id) OFFSET 0
) AS d ON d.fsp_id = $1
CROSS JOIN LATERAL (
    SELECT array_agg(currency ORDER BY currency) AS further_currencies,
           array_agg(changed_at ORDER BY currency) AS further_changed_at
    FROM (SELECT currency, changed_at, fsp_id FROM alias_currencies x
          WHERE (x.identifier, x.party_id_type, x.sub_id) = (k.identifier, $2::party_id_type, k.sub_id) OFFSET 0) AS x
    WHERE fsp_id = $1
) AS f

-- name: aliases_export_in_currency(text, party_id_type, text, text, timestamptz, timestamptz, text) -> ExportedAliasRow
-- The same for those whose entry in currency $7 changed then.  No key comes twice, so the first rows come at once.  Reads
-- one range of aliases_by_currency and one of alias_currencies_by_currency; then the entries by the primary keys.
SELECT k.identifier, k.sub_id, d.currency, d.is_hint, d.changed_at, f.further_currencies, f.further_changed_at
FROM (SELECT identifier, sub_id FROM aliases
      WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND identifier >= $3 AND identifier < $4
        AND changed_at >= $5 AND changed_at < $6 AND currency = $7
      UNION ALL
      SELECT identifier, sub_id FROM alias_currencies
      WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND identifier >= $3 AND identifier < $4
        AND changed_at >= $5 AND changed_at < $6 AND currency = $7) AS k
LEFT JOIN LATERAL (
    SELECT currency, is_hint, changed_at, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type, a.sub_id) = (k.identifier, $2::party_id_type, k.sub_id) OFFSET 0
) AS d ON d.fsp_id = $1
CROSS JOIN LATERAL (
    SELECT array_agg(currency ORDER BY currency) AS further_currencies,
           array_agg(changed_at ORDER BY currency) AS further_changed_at
    FROM (SELECT currency, changed_at, fsp_id FROM alias_currencies x
          WHERE (x.identifier, x.party_id_type, x.sub_id) = (k.identifier, $2::party_id_type, k.sub_id) OFFSET 0) AS x
    WHERE fsp_id = $1
) AS f

-- name: aliases_scan(text, party_id_type, timestamptz, text, text, text, int8) -> ScannedEntryRow
-- The next entries of FSP $1 of type $2, as in aliases_page but each alone: for a walk through millions of them.
-- After the position ($3 time, $4 identifier, $5 sub id, $6 currency); $7 limit.  Served by the same two indexes.
(SELECT changed_at, identifier, sub_id, currency, true AS is_default FROM aliases
 WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND changed_at >= $3
   AND (changed_at, identifier, sub_id, currency) > ($3, $4::text, $5::text, $6::text)
 ORDER BY changed_at, identifier, sub_id, currency LIMIT $7)
UNION ALL
(SELECT changed_at, identifier, sub_id, currency, false FROM alias_currencies
 WHERE fsp_id = $1 AND party_id_type = $2::party_id_type AND changed_at >= $3
   AND (changed_at, identifier, sub_id, currency) > ($3, $4::text, $5::text, $6::text)
 ORDER BY changed_at, identifier, sub_id, currency LIMIT $7)
ORDER BY changed_at, identifier, sub_id, currency LIMIT $7

-- name: aliases_of_identifiers(party_id_type[], text[]) -> HolderRow
-- Who holds some identifiers, under any SubId; default entries first.  $1 types, $2 identifiers, equally long.
SELECT k.ord::int, e.sub_id, e.currency, e.is_default, e.is_hint, e.fsp_id, f.status::text
FROM unnest($1::party_id_type[], $2::text[]) WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (
    SELECT sub_id, currency, true AS is_default, is_hint, fsp_id FROM aliases a
    WHERE (a.identifier, a.party_id_type) = (k.identifier, k.party_id_type)
    UNION ALL
    SELECT sub_id, currency, false, false, fsp_id FROM alias_currencies x
    WHERE (x.identifier, x.party_id_type) = (k.identifier, k.party_id_type)
    OFFSET 0
) AS e
JOIN fsps f USING (fsp_id) ORDER BY k.ord, e.sub_id, e.is_default DESC, e.currency

-- name: aliases_routed(party_id_type[], text[]) -> RouteDecisionRow
-- The rules that can decide about each identifier that nobody has registered: of each kind the longest prefix that is
-- valid now, whether its FSP is answered or not.  The caller chooses (store/routes.py).  $1 types, $2 identifiers, equally
-- long.  Served by routes_by_prefix.
SELECT k.ord::int, r.route_id, r.kind, r.prefix, r.fsp_id, r.status
FROM unnest($1::party_id_type[], $2::text[]) WITH ORDINALITY AS k (party_id_type, identifier, ord)
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (kind) route_id, kind, prefix, fsp_id, f.status::text FROM routes JOIN fsps f USING (fsp_id)
    WHERE party_id_type = k.party_id_type AND valid_from <= now() AND valid_to > now()
      AND prefix = ANY (ARRAY(SELECT left(k.identifier, n) FROM generate_series(1, length(k.identifier)) AS n))
    ORDER BY kind, length(prefix) DESC
) AS r
ORDER BY k.ord

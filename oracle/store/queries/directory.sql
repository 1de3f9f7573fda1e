-- Queries that compare the directory with its events (oracle/audit/directory.py).  Cursors of one snapshot read both
-- sides in the order of their first columns.

-- name: party_id_types() -> str
-- In the order in which PostgreSQL sorts them.
SELECT unnest(enum_range(NULL::party_id_type))::text

-- name: directory_alias_events(text, text) -> AliasEventRow
-- The events of aliases from the key ($1 identifier, $2 type) on.  Served by events_by_identifier: its order ends with
-- the number.  To read all of them, PostgreSQL sorts instead if they are in another order on its disk.
SELECT e.party_identifier, e.party_id_type::text, e.sub_id, e.event_id, e.entity, e.action, e.before::text, e.after::text
FROM events e
WHERE e.party_identifier IS NOT NULL AND e.party_id_type IS NOT NULL
  AND (e.party_identifier, e.party_id_type) >= ($1, $2::text::party_id_type)
  AND e.entity = 'alias' AND e.action <> 'ignored'
ORDER BY e.party_identifier, e.party_id_type, e.event_id

-- name: directory_default_entries(text, text) -> DirectoryEntryRow
-- The default entries from the key ($1 identifier, $2 type) on.  Served by the primary key.  Not in one query with the
-- further currencies: PostgreSQL would sort both.
SELECT a.identifier, a.party_id_type::text, a.sub_id, true AS is_default, a.currency, a.fsp_id, a.is_hint FROM aliases a
WHERE (a.identifier, a.party_id_type) >= ($1, $2::text::party_id_type)
ORDER BY a.identifier, a.party_id_type

-- name: directory_further_entries(text, text) -> DirectoryEntryRow
-- The same for further currencies.
SELECT x.identifier, x.party_id_type::text, x.sub_id, false AS is_default, x.currency, x.fsp_id, false AS is_hint
FROM alias_currencies x
WHERE (x.identifier, x.party_id_type) >= ($1, $2::text::party_id_type)
ORDER BY x.identifier, x.party_id_type

-- name: directory_events_of(text) -> PlacedEventRow
-- The events of one entity that is not an alias, by what they are about.  Served by events_of_administration.
SELECT e.place, e.event_id, e.before::text, e.after::text FROM (
    SELECT *, coalesce(CASE entity
        WHEN 'fsp' THEN fsp_id
        WHEN 'endpoints' THEN fsp_id
        WHEN 'jws-key' THEN coalesce(after, before) ->> 'key_id'
        WHEN 'policy' THEN party_id_type::text
        WHEN 'route' THEN coalesce(after, before) ->> 'route_id'
        WHEN 'oracle' THEN coalesce(after, before) ->> 'oracle_id'
        ELSE coalesce(after, before) ->> 'credential_id'
    END, '') COLLATE "C" AS place
    FROM events WHERE entity = $1 AND entity <> 'alias' AND action <> 'ignored'
) AS e ORDER BY e.place, e.event_id

-- name: directory_rows(text) -> PlacedStateRow
-- The rows of that entity as its events describe them.  A logo that is not the one of its row adds a column.
SELECT d.place, d.state::text FROM (
    SELECT f.fsp_id AS place, to_jsonb(f) || CASE WHEN sha256(l.data) IS DISTINCT FROM f.logo_sha256
        THEN jsonb_build_object('logo', coalesce(sha256(l.data)::text, 'no logo')) ELSE '{}' END AS state
    FROM fsps f LEFT JOIN fsp_logos l USING (fsp_id) WHERE $1 = 'fsp'
    UNION ALL SELECT route_id::text COLLATE "C", to_jsonb(r) FROM routes r WHERE $1 = 'route'
    UNION ALL SELECT fsp_id, to_jsonb(e) FROM fsp_endpoints e WHERE $1 = 'endpoints'
    UNION ALL SELECT key_id::text COLLATE "C", to_jsonb(k) FROM fsp_jws_keys k WHERE $1 = 'jws-key'
    UNION ALL SELECT oracle_id::text COLLATE "C", to_jsonb(o) FROM oracles o WHERE $1 = 'oracle'
    UNION ALL SELECT t::text COLLATE "C", jsonb_build_object('policy', p.policy)
              FROM unnest(enum_range(NULL::party_id_type)) t LEFT JOIN key_policies p ON p.party_id_type = t
              WHERE $1 = 'policy'
    UNION ALL SELECT credential_id, to_jsonb(c) FROM credentials c WHERE $1 = 'credential'
    UNION ALL SELECT credential_id, to_jsonb(s) - 'secret_sha256' FROM credential_secrets s WHERE $1 = 'secret'
) AS d ORDER BY d.place

-- name: directory_altered_tables() -> AlteredTableRow
-- Tables of the directory that somebody altered: the hub can read something else, or changes write no event.
WITH tables AS (
    SELECT unnest('{aliases, alias_currencies, fsps, fsp_logos, routes, oracles, key_policies, credentials,
                    credential_secrets, fsp_endpoints, fsp_jws_keys}'::text[]) AS name
)
SELECT t.name AS place, 'differs from the migrations: others may see other rows' AS complaint
FROM tables t JOIN pg_class c ON c.oid = to_regclass(t.name)
WHERE c.relkind NOT IN ('r', 'p') OR c.relrowsecurity OR EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid)
UNION ALL
SELECT t.name, 'has a trigger that no migration made: ' || g.tgname
FROM tables t JOIN pg_trigger g ON g.tgrelid = to_regclass(t.name)
WHERE NOT g.tgisinternal AND g.tgname NOT IN (
    'aliases_inserted', 'aliases_updated', 'aliases_deleted', 'aliases_not_truncated', 'alias_currencies_inserted',
    'alias_currencies_deleted', 'alias_currencies_fixed', 'alias_currencies_not_truncated', 'fsps_inserted',
    'fsps_updated', 'fsps_stay', 'fsps_version', 'routes_inserted', 'routes_updated', 'routes_deleted',
    'routes_in_turn', 'routes_kind_inserted', 'routes_kind_updated', 'routes_not_truncated', 'routes_version',
    'key_policies_updated', 'key_policies_stay', 'credentials_inserted', 'credentials_updated', 'credentials_stay',
    'credentials_version', 'credential_secrets_inserted', 'credential_secrets_updated',
    'credential_secrets_only_end', 'credential_secrets_stay', 'oracles_inserted', 'oracles_updated',
    'oracles_deleted', 'oracles_not_truncated', 'oracles_version', 'fsp_endpoints_inserted', 'fsp_endpoints_updated',
    'fsp_endpoints_stay', 'fsp_endpoints_version', 'fsp_jws_keys_inserted', 'fsp_jws_keys_deleted',
    'fsp_jws_keys_fixed')
UNION ALL
SELECT n.name, 'has no trigger that writes its events (' || n.trigger || '), or it is switched off'
FROM (VALUES ('aliases', 'aliases_inserted'), ('aliases', 'aliases_updated'), ('aliases', 'aliases_deleted'),
             ('alias_currencies', 'alias_currencies_inserted'), ('alias_currencies', 'alias_currencies_deleted'),
             ('fsps', 'fsps_inserted'), ('fsps', 'fsps_updated'), ('routes', 'routes_inserted'),
             ('routes', 'routes_updated'), ('routes', 'routes_deleted'), ('key_policies', 'key_policies_updated'),
             ('credentials', 'credentials_inserted'), ('credentials', 'credentials_updated'),
             ('credential_secrets', 'credential_secrets_inserted'),
             ('credential_secrets', 'credential_secrets_updated'), ('oracles', 'oracles_inserted'),
             ('oracles', 'oracles_updated'), ('oracles', 'oracles_deleted'),
             ('fsp_endpoints', 'fsp_endpoints_inserted'), ('fsp_endpoints', 'fsp_endpoints_updated'),
             ('fsp_jws_keys', 'fsp_jws_keys_inserted'), ('fsp_jws_keys', 'fsp_jws_keys_deleted')) AS n (name, trigger)
WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = to_regclass(n.name) AND g.tgname = n.trigger
                                             AND g.tgenabled IN ('O', 'A') AND g.tgqual IS NULL
                                             AND g.tgfoid::regproc::text IN (n.trigger, n.name || '_written'))
ORDER BY 1, 2

-- Queries of registered oracles: the admin API of the account lookup service, and the workers that follow its changes.
-- The table has some hundred rows at most (oracle/api/oracles).

-- name: oracles_all() -> RegisteredOracleRow
-- All of them, the oldest first.
SELECT oracle_id, party_id_type, currency, url, is_default FROM oracles ORDER BY oracle_id

-- name: oracles_listed() -> ListedOracleRow
-- All of them with their versions, the oldest first.
SELECT oracle_id, party_id_type, currency, url, is_default, version, created_at, changed_at FROM oracles
ORDER BY oracle_id

-- name: oracle_add(text, text, text, bool)
-- $1 type, $2 currency or '', $3 URL, $4 default.  Adds none if the type and the currency have one.
INSERT INTO oracles (party_id_type, currency, url, is_default) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: oracle_change(int8, text, text, text, bool)
-- As above for the oracle $1.  An equal row is not written: a repeated call makes no event.
UPDATE oracles SET party_id_type = $2, currency = $3, url = $4, is_default = $5
WHERE oracle_id = $1 AND (party_id_type, currency, url, is_default) IS DISTINCT FROM ($2, $3, $4, $5)

-- name: oracle_remove(int8)
DELETE FROM oracles WHERE oracle_id = $1

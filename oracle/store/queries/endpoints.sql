-- Queries of the endpoints and JWS keys of FSPs: administration, and the workers that follow them (oracle/scheme).

-- name: scheme_state() -> SchemeStateRow
-- Once a second in each worker of the account lookup service.  `participants` changes with each committed change of an
-- FSP, its endpoints or its keys.  No writer waits for another one, as it would with a counter.
SELECT concat_ws(' ', (SELECT count(*) || '/' || sum(version) FROM fsps),
                 (SELECT count(*) || '/' || sum(version) FROM fsp_endpoints),
                 (SELECT count(*) || '/' || max(key_id) FROM fsp_jws_keys)) AS participants,
       (SELECT forgotten FROM endpoint_cache) AS forgotten

-- name: scheme_fsps() -> SchemeFspRow
-- When the state has changed: all FSPs.
SELECT f.fsp_id, f.status::text, e.base_url, coalesce(e.urls, '{}')::text AS urls, coalesce(e.is_proxy, false) AS is_proxy
FROM fsps f LEFT JOIN fsp_endpoints e USING (fsp_id) ORDER BY f.fsp_id

-- name: scheme_jws_keys() -> SchemeJwsKeyRow
-- When the state has changed: all keys, the newest of each FSP first.
SELECT fsp_id, pem FROM fsp_jws_keys ORDER BY fsp_id, key_id DESC

-- name: endpoint_cache_forget()
UPDATE endpoint_cache SET forgotten = forgotten + 1

-- name: fsp_endpoints(text) -> FspEndpointsRow
-- By the primary keys.  An FSP without endpoints has version 0.
SELECT e.base_url, coalesce(e.urls, '{}')::text AS urls, coalesce(e.is_proxy, false) AS is_proxy, e.changed_at,
       coalesce(e.version, 0) AS version
FROM fsps f LEFT JOIN fsp_endpoints e USING (fsp_id) WHERE f.fsp_id = $1

-- name: fsp_endpoints_put(text, text, text, bool)
-- $1 FSP, $2 base URL or NULL, $3 URLs by type as JSON, $4 whether it is a proxy.  An equal row is not written: a
-- repeated call makes no event.
INSERT INTO fsp_endpoints AS e (fsp_id, base_url, urls, is_proxy) VALUES ($1, $2, $3::text::jsonb, $4)
ON CONFLICT (fsp_id) DO UPDATE SET base_url = excluded.base_url, urls = excluded.urls, is_proxy = excluded.is_proxy
WHERE (e.base_url, e.urls, e.is_proxy) IS DISTINCT FROM (excluded.base_url, excluded.urls, excluded.is_proxy)

-- name: fsp_jws_keys(text) -> FspJwsKeyRow
-- By the unique index on FSP and digest.
SELECT key_id, label, pem, sha256, created_at FROM fsp_jws_keys WHERE fsp_id = $1 ORDER BY key_id DESC

-- name: fsp_jws_key_add(text, text, text, text)
-- $1 FSP, $2 label, $3 PEM, $4 SHA-256.  Adds none if the FSP has this key.
INSERT INTO fsp_jws_keys (fsp_id, label, pem, sha256) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: fsp_jws_key_remove(text, int8)
DELETE FROM fsp_jws_keys WHERE fsp_id = $1 AND key_id = $2

-- Queries of administration: FSPs, credentials, idempotent calls.

-- name: credential_valid(text) -> CredentialCheckRow
-- Each call of the admin listener: whether the credential is valid, and which hashes are.
SELECT c.role::text, c.fsp_id, c.person, c.expires_at > now() AND c.revoked_at > now() AND f.status IS DISTINCT FROM 'closed' AS valid,
       ARRAY(SELECT secret_sha256 FROM credential_secrets s
             WHERE s.credential_id = c.credential_id AND s.expires_at > now() ORDER BY s.created_at DESC LIMIT 2) AS hashes
FROM credentials c LEFT JOIN fsps f USING (fsp_id) WHERE c.credential_id = $1

-- name: caller_secret() -> SecretRow
-- Once for each process.
SELECT secret FROM caller_secret

-- name: fsps_closed(text[]) -> FspIdRow
-- Which of these FSPs are closed.  Each call of somebody who is bound to FSPs and comes in without a key.
SELECT fsp_id FROM fsps WHERE fsp_id = ANY ($1::text[]) AND status = 'closed'

-- name: credential_used(text)
INSERT INTO credential_uses (credential_id, last_used_at) VALUES ($1, now())
ON CONFLICT (credential_id) DO UPDATE SET last_used_at = now()

-- name: refusal_record(text, text, text, text, int2, text)
INSERT INTO access_refusals (credential_id, address, method, route, status, reason) VALUES ($1, $2, $3, $4, $5, $6)

-- name: refusals(timestamptz, int8) -> RefusalRow
-- The newest first.  $1 before this time or NULL, $2 limit.
SELECT at, credential_id, address, method, route, status, reason FROM access_refusals
WHERE $1::timestamptz IS NULL OR at < $1 ORDER BY at DESC LIMIT $2

-- name: credentials_page(text, text, text, int8, text[]) -> CredentialRow
-- $1 FSP or NULL, $2 role or NULL, $3 after this id or NULL, $4 limit, $5 of these FSPs alone or NULL.
SELECT credential_id, role::text, fsp_id, label, person, created_at, created_by, version, nullif(expires_at, 'infinity') AS expires_at,
       nullif(revoked_at, 'infinity') AS revoked_at, last_used_at,
       (SELECT count(*) FROM credential_secrets s WHERE s.credential_id = c.credential_id AND s.expires_at > now()) AS secrets
FROM credentials c LEFT JOIN credential_uses USING (credential_id)
WHERE ($1::text IS NULL OR fsp_id = $1) AND ($2::text IS NULL OR role::text = $2)
  AND ($3::text IS NULL OR credential_id > $3) AND ($5::text[] IS NULL OR fsp_id = ANY ($5))
ORDER BY credential_id LIMIT $4

-- name: credential(text) -> CredentialRow
SELECT credential_id, role::text, fsp_id, label, person, created_at, created_by, version, nullif(expires_at, 'infinity') AS expires_at,
       nullif(revoked_at, 'infinity') AS revoked_at, last_used_at,
       (SELECT count(*) FROM credential_secrets s WHERE s.credential_id = c.credential_id AND s.expires_at > now()) AS secrets
FROM credentials c LEFT JOIN credential_uses USING (credential_id) WHERE credential_id = $1

-- name: credential_locked(text) -> LockedCredentialRow
-- Not now(), the begin of the transaction: it can have waited here for a transaction that revokes the credential.
SELECT version, revoked_at <= clock_timestamp() AS revoked, role::text FROM credentials WHERE credential_id = $1 FOR UPDATE

-- name: credential_add(text, text, text, text, timestamptz, text, text)
INSERT INTO credentials (credential_id, role, fsp_id, label, expires_at, person, created_by)
VALUES ($1, $2::text::credential_role, $3, $4, coalesce($5::timestamptz, 'infinity'), $6, $7)

-- name: credential_change(text, text, timestamptz, text)
UPDATE credentials SET label = $2, expires_at = coalesce($3::timestamptz, 'infinity'), person = $4 WHERE credential_id = $1

-- name: credential_touch(text)
-- A rotation changes the credential: its version moves, and history records it.
UPDATE credentials SET changed_at = clock_timestamp() WHERE credential_id = $1

-- name: secret_add(text, bytea)
-- Not now(): of two rotations that wait for each other, the one that began first can run second.
INSERT INTO credential_secrets (credential_id, secret_sha256, created_at) VALUES ($1, $2, clock_timestamp())

-- name: secrets_made(text, float8) -> SecretsMadeRow
-- How many secrets credential $1 got in the last $2 seconds.
SELECT count(*) AS secrets FROM credential_secrets
WHERE credential_id = $1 AND created_at > now() - make_interval(secs => $2)

-- name: secrets_expire(text, float8)
-- The newest secret stays valid for $2 seconds; older ones expire now.
UPDATE credential_secrets s
SET expires_at = CASE WHEN s.created_at = (SELECT max(n.created_at) FROM credential_secrets n WHERE n.credential_id = $1)
                      THEN least(s.expires_at, now() + make_interval(secs => $2)) ELSE least(s.expires_at, now()) END
WHERE s.credential_id = $1

-- name: credential_revoke(text)
UPDATE credentials SET revoked_at = now() WHERE credential_id = $1 AND revoked_at > clock_timestamp()

-- name: operators_exist() -> bool
-- Whether any valid operator key exists, with which somebody can create other keys.
SELECT EXISTS (SELECT FROM credentials JOIN credential_secrets s USING (credential_id)
               WHERE role = 'operator' AND credentials.expires_at > now() AND revoked_at > now() AND s.expires_at > now())

-- name: idempotency_claim(text, text, bytea, float8)
-- $1 credential, $2 key, $3 digest of the call.  One row if the key is new, or older than $4 seconds.
INSERT INTO idempotency (credential_id, idempotency_key, call_sha256) VALUES ($1, $2, $3)
ON CONFLICT (credential_id, idempotency_key)
DO UPDATE SET call_sha256 = excluded.call_sha256, answer = NULL, made_at = now()
WHERE idempotency.made_at < now() - make_interval(secs => $4)

-- name: idempotency_answer(text, text, float8) -> StoredAnswerRow
-- $1 credential, $2 key, $3 for how many seconds answers are kept.
SELECT call_sha256, answer FROM idempotency
WHERE credential_id = $1 AND idempotency_key = $2 AND made_at >= now() - make_interval(secs => $3)

-- name: idempotency_use(text, float8) -> KeptRow
-- What credential $1 keeps: answers of the last $2 seconds, and their bytes.
SELECT count(*) AS answers, coalesce(sum(length(answer)), 0)::bigint AS bytes FROM idempotency
WHERE credential_id = $1 AND made_at >= now() - make_interval(secs => $2)

-- name: idempotency_store(text, text, bytea)
UPDATE idempotency SET answer = $3 WHERE credential_id = $1 AND idempotency_key = $2

-- name: idempotency_delete_expired(float8)
-- In the background, a portion at a time: older than $1 seconds.
DELETE FROM idempotency WHERE ctid IN (
    SELECT ctid FROM idempotency WHERE made_at < now() - make_interval(secs => $1) LIMIT 10000 FOR UPDATE SKIP LOCKED)

-- name: idempotency_forget_clear(bytea)
-- Answers that an earlier version kept in clear become $1, which is no answer: the call is still not done twice.
-- By idempotency_in_clear.
UPDATE idempotency SET answer = $1 WHERE ctid IN (
    SELECT ctid FROM idempotency WHERE substr(answer, 1, 1) = '\x00' LIMIT 1000 FOR UPDATE SKIP LOCKED)

-- name: refusals_delete_expired(float8)
-- Older than $1 seconds, a portion at a time.
DELETE FROM access_refusals WHERE ctid IN (
    SELECT ctid FROM access_refusals WHERE at < now() - make_interval(secs => $1) LIMIT 10000 FOR UPDATE SKIP LOCKED)

-- name: fsps_page(text, text, text, int8, text[]) -> FspRow
-- $1 status or NULL, $2 use case or NULL, $3 after this id or NULL, $4 limit, $5 these FSPs alone or NULL.
SELECT fsp_id, status::text, name, locale_name, dfsp_type, additional_info, kinds, currencies, use_cases, contact,
       two_persons, hub_changes, default_country, logo_data_type, encode(logo_sha256, 'hex') AS logo_sha256, created_at, changed_at, version
FROM fsps
WHERE ($1::text IS NULL OR status::text = $1) AND ($2::text IS NULL OR $2 = ANY (use_cases))
  AND ($3::text IS NULL OR fsp_id > $3) AND ($5::text[] IS NULL OR fsp_id = ANY ($5))
ORDER BY fsp_id LIMIT $4

-- name: fsp(text) -> FspRow
SELECT fsp_id, status::text, name, locale_name, dfsp_type, additional_info, kinds, currencies, use_cases, contact,
       two_persons, hub_changes, default_country, logo_data_type, encode(logo_sha256, 'hex') AS logo_sha256, created_at, changed_at, version
FROM fsps WHERE fsp_id = $1

-- name: fsp_locked(text) -> FspRow
SELECT fsp_id, status::text, name, locale_name, dfsp_type, additional_info, kinds, currencies, use_cases, contact,
       two_persons, hub_changes, default_country, logo_data_type, encode(logo_sha256, 'hex') AS logo_sha256, created_at, changed_at, version
FROM fsps WHERE fsp_id = $1 FOR UPDATE

-- name: fsp_add(text, text, text, text, text, text[], text[], text[], text, bool, text, bool)
INSERT INTO fsps (fsp_id, status, name, locale_name, dfsp_type, additional_info, kinds, currencies, use_cases, contact,
                  two_persons, default_country, hub_changes)
VALUES ($1, 'active', $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12) ON CONFLICT DO NOTHING

-- name: fsp_change(text, text, text, text, text, text[], text[], text[], text, bool, text, bool)
UPDATE fsps SET name = $2, locale_name = $3, dfsp_type = $4, additional_info = $5, kinds = $6, currencies = $7,
                use_cases = $8, contact = $9::text::jsonb, two_persons = $10, default_country = $11,
                hub_changes = $12
WHERE fsp_id = $1

-- name: fsp_country(text) -> FspCountryRow
-- By the primary key.  For the identifiers that a person writes for this FSP.
SELECT default_country FROM fsps WHERE fsp_id = $1

-- name: fsp_set_status(text, text)
UPDATE fsps SET status = $2::text::fsp_status WHERE fsp_id = $1 AND status <> $2::text::fsp_status

-- name: fsp_impact(text, int8) -> FspImpactRow
-- What follows the status of an FSP.  $2 how many aliases are counted at most: one more means that there are more, and
-- then the planner's statistics estimate them (NULL: it has none).  By aliases_by_fsp, routes_by_fsp, batches_unfinished,
-- batches_waiting and credentials_by_fsp.
SELECT (SELECT count(*) FROM (SELECT 1 FROM aliases WHERE fsp_id = $1 LIMIT $2::bigint + 1) AS counted) AS aliases,
       (SELECT round(reltuples * frequency)::bigint
        FROM pg_class JOIN pg_stats ON attname = 'fsp_id' AND tablename = relname AND schemaname = relnamespace::regnamespace::text,
             unnest(most_common_vals::text::text[], most_common_freqs) AS common (value, frequency)
        WHERE pg_class.oid = 'aliases'::regclass AND value = $1) AS aliases_estimated,
       (SELECT count(*) FROM routes WHERE fsp_id = $1 AND valid_to > now()) AS routes,
       (SELECT count(*) FROM batches WHERE fsp_id = $1 AND state IN ('validating', 'applying'))
       + (SELECT count(*) FROM batches WHERE fsp_id = $1 AND state = 'waiting') AS open_files,
       (SELECT count(*) FROM credentials WHERE fsp_id = $1 AND revoked_at > now() AND expires_at > now()) AS keys
FROM fsps WHERE fsp_id = $1

-- name: logo(text) -> LogoRow
SELECT logo_data_type, data, encode(logo_sha256, 'hex') AS logo_sha256 FROM fsps JOIN fsp_logos USING (fsp_id)
WHERE fsp_id = $1

-- name: logo_put(text, bytea)
INSERT INTO fsp_logos (fsp_id, data) VALUES ($1, $2) ON CONFLICT (fsp_id) DO UPDATE SET data = excluded.data

-- name: logo_drop(text)
DELETE FROM fsp_logos WHERE fsp_id = $1

-- name: logo_describe(text, text, bytea)
UPDATE fsps SET logo_data_type = $2, logo_sha256 = $3 WHERE fsp_id = $1

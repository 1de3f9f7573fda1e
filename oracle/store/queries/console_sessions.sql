-- Sessions of people who signed in with a browser (oracle/identity/sessions.py), and how they want to read the console.

-- name: session_add(bytea, text, text, text[], text, float8, float8, bytea, text, text)
-- $1 hash of the token, $2 actor, $3 role, $4 FSPs or NULL, $5 person or NULL, $6 seconds until its end, $7 seconds that it
-- can rest, $8 hash of the secret of the key or NULL, $9 browser, $10 address.
INSERT INTO console_sessions (token_sha256, actor, role, fsp_ids, person, ends_at, rest_s, secret_sha256, browser, address)
VALUES ($1, $2, $3::text::credential_role, $4, $5, now() + make_interval(secs => $6), $7, $8, $9, $10)

-- name: sessions_over(text, int8)
-- Deletes the oldest sessions of $1 beyond $2.  By console_sessions_by_actor.
DELETE FROM console_sessions WHERE token_sha256 IN (
    SELECT token_sha256 FROM console_sessions WHERE actor = $1 ORDER BY started_at DESC, token_sha256 OFFSET $2)

-- name: session(bytea) -> SessionRow
-- $1 hash of the token.  Each request of a person.  By primary key.
SELECT actor, role::text, fsp_ids, person, extract(epoch FROM now() - seen_at)::float8 AS rests_s, secret_sha256, ends_at,
       language, time_zone
FROM console_sessions LEFT JOIN console_preferences USING (actor)
WHERE token_sha256 = $1 AND ends_at > now() AND seen_at > now() - make_interval(secs => rest_s)

-- name: session_seen(bytea)
UPDATE console_sessions SET seen_at = now() WHERE token_sha256 = $1

-- name: session_end(bytea)
DELETE FROM console_sessions WHERE token_sha256 = $1

-- name: session_end_by_id(text, text)
-- $1 actor, $2 the id.  By console_sessions_by_actor.
DELETE FROM console_sessions WHERE actor = $1 AND session_id::text = $2

-- name: sessions_end_of(text)
-- All of one actor.  By console_sessions_by_actor.
DELETE FROM console_sessions WHERE actor = $1

-- name: sessions_of(text, bytea) -> OwnSessionRow
-- Those of $1; $2 is the hash of the token that asks.  By console_sessions_by_actor.
SELECT session_id::text, browser, address, started_at, seen_at, ends_at, token_sha256 = $2 AS is_this
FROM console_sessions
WHERE actor = $1 AND ends_at > now() AND seen_at > now() - make_interval(secs => rest_s)
ORDER BY seen_at DESC LIMIT 100

-- name: open_sessions(text[], text, text, timestamptz, uuid, int8, text[], uuid) -> OpenSessionRow
-- Those of all people that the next request would find, the newest first: the key and its secret are valid, an FSP is open.
-- $1 actors or persons or NULL, $2 FSP or NULL, $3 role or NULL, $4 and $5 after this start and id or NULL, $6 limit, $7 of
-- these FSPs alone or NULL, $8 the id or NULL.  By console_sessions_by_start, or console_sessions_by_id.
SELECT s.session_id::text, s.actor, s.secret_sha256 IS NOT NULL AS is_of_key, w.person, s.role::text,
       CASE WHEN $7::text[] IS NULL THEN s.fsp_ids ELSE ARRAY(SELECT f FROM unnest(s.fsp_ids) f WHERE f = ANY ($7)) END AS fsp_ids,
       s.browser, s.address, s.started_at, s.seen_at, s.ends_at
FROM console_sessions s
LEFT JOIN credentials c ON s.secret_sha256 IS NOT NULL AND c.credential_id = s.actor
CROSS JOIN LATERAL (SELECT CASE WHEN s.secret_sha256 IS NULL THEN s.person ELSE c.person END AS person) w
WHERE s.ends_at > now() AND s.seen_at > now() - make_interval(secs => s.rest_s)
  AND (s.secret_sha256 IS NULL OR (c.expires_at > now() AND c.revoked_at > now() AND EXISTS (
        SELECT FROM credential_secrets x
        WHERE x.credential_id = c.credential_id AND x.secret_sha256 = s.secret_sha256 AND x.expires_at > now())))
  AND (s.fsp_ids IS NULL OR s.fsp_ids = '{}' OR EXISTS (
        SELECT FROM unnest(s.fsp_ids) f WHERE NOT EXISTS (SELECT FROM fsps WHERE fsp_id = f AND status = 'closed')))
  AND ($1::text[] IS NULL OR s.actor = ANY ($1) OR w.person = ANY ($1))
  AND ($2::text IS NULL OR $2 = ANY (s.fsp_ids)) AND ($3::text IS NULL OR s.role::text = $3)
  AND ($4::timestamptz IS NULL OR (s.started_at, s.session_id) < ($4, $5::uuid))
  AND ($7::text[] IS NULL OR (s.fsp_ids && $7 AND ($2 IS NULL OR $2 = ANY ($7))))
  AND ($8::uuid IS NULL OR s.session_id = $8)
ORDER BY s.started_at DESC, s.session_id DESC LIMIT $6

-- name: session_end_as_operator(uuid)
-- $1 the id.  By console_sessions_by_id.  Only an open one, because each row that this deletes has its event.
DELETE FROM console_sessions
WHERE session_id = $1 AND ends_at > now() AND seen_at > now() - make_interval(secs => rest_s)

-- name: sessions_end_as_operator(text[])
-- $1 actors and persons: the open sessions of each, and of the keys of each person.  Reads all rows.
DELETE FROM console_sessions s
WHERE s.ends_at > now() AND s.seen_at > now() - make_interval(secs => s.rest_s)
  AND (s.actor = ANY ($1::text[])
       OR CASE WHEN s.secret_sha256 IS NULL THEN s.person
               ELSE (SELECT c.person FROM credentials c WHERE c.credential_id = s.actor) END = ANY ($1))

-- name: sessions_delete_expired()
-- In the background, a portion at a time: those that ended, and those that rested for too long.
DELETE FROM console_sessions WHERE ctid IN (
    SELECT ctid FROM console_sessions WHERE ends_at < now() OR seen_at < now() - make_interval(secs => rest_s)
    LIMIT 10000 FOR UPDATE SKIP LOCKED)

-- name: preferences_set(text, text, text)
-- $1 actor, $2 language or NULL, $3 time zone or NULL.
INSERT INTO console_preferences (actor, language, time_zone) VALUES ($1, $2, $3)
ON CONFLICT (actor) DO UPDATE SET language = excluded.language, time_zone = excluded.time_zone
